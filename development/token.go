package development

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keyd/config"
)

// The tokens that a development service can have.
const (
	SoftHSM = "softhsm" // SoftHSM, which is what it has unless another is asked for
	NSS     = "nss"     // NSS softokn, which has derive mechanisms that SoftHSM does not have
)

// tokenFile says which token the service in a directory has.
const tokenFile = "token.kind"

// tokenKind is how one of them is found and used.
type tokenKind struct {
	paths   []string // where its library is looked for; patterns
	missing string   // the error if it is in none of them
	folder  string   // below token: what it keeps its objects in
	uses    func(s *Service, folder string) config.Token
}

var tokenKinds = map[string]tokenKind{
	SoftHSM: {
		paths: []string{
			"/usr/lib/softhsm/libsofthsm2.so",
			"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
			"/usr/lib64/softhsm/libsofthsm2.so",
			"/usr/lib/pkcs11/libsofthsm2.so",
			"/usr/local/lib/softhsm/libsofthsm2.so",
		},
		missing: "SoftHSM is not installed: run make run, or apt-get install softhsm2",
		folder:  "tokens",
		uses: func(s *Service, _ string) config.Token {
			return config.Token{Environment: map[string]string{"SOFTHSM2_CONF": s.path("token", "softhsm2.conf")}}
		},
	},
	NSS: {
		paths:   []string{"/usr/lib/*/libsoftokn3.so", "/usr/lib/*/nss/libsoftokn3.so", "/usr/lib64/libsoftokn3.so"},
		missing: "NSS softokn is not installed: apt-get install libnss3",
		folder:  "nss",
		uses: func(_ *Service, folder string) config.Token {
			return config.Token{Parameters: fmt.Sprintf("configdir=%s certPrefix='' keyPrefix='' secmod='' flags=noModDB dbTokenDescription=%s",
				quoted("sql:"+folder), quoted(TokenLabel))}
		},
	},
}

// quoted is a value of NSS's parameters.
func quoted(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(value) + "'"
}

// FindSoftHSM returns the path of SoftHSM's library.
func FindSoftHSM() (string, error) { return tokenKinds[SoftHSM].find() }

func (k tokenKind) find() (string, error) {
	for _, pattern := range k.paths {
		if found, err := filepath.Glob(pattern); err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New(k.missing)
}

// chooseToken decides which token the service has: the one that its directory has already, or
// else the one that is asked for, or SoftHSM if none is. Another than the directory's is
// refused: its keys are sealed by the token that it has.
func (s *Service) chooseToken(asked string) error {
	if _, known := tokenKinds[asked]; !known && asked != "" {
		return fmt.Errorf("--token %q: there are %s and %s", asked, SoftHSM, NSS)
	}
	b, err := os.ReadFile(s.path(tokenFile))
	has := strings.TrimSpace(string(b))
	if errors.Is(err, fs.ErrNotExist) {
		has, err = "", nil
		if _, old := os.Stat(s.path("token", "softhsm2.conf")); old == nil {
			has = SoftHSM // made before there was another
		}
	}
	if err != nil {
		return err
	}
	if _, known := tokenKinds[has]; !known && has != "" {
		return fmt.Errorf("%s names no token of keyd dev: %q", s.path(tokenFile), has)
	}
	if asked != "" && has != "" && asked != has {
		return fmt.Errorf("--token %s: the service in %s has a token of %s: leave --token out, or use another directory", asked, s.Dir, has)
	}
	for _, kind := range []string{has, asked, SoftHSM} {
		if kind != "" {
			s.kind = kind
			return nil
		}
	}
	return nil
}

// rememberToken has the directory say which token it has.
func (s *Service) rememberToken() error {
	_, err := createFile(s.path(tokenFile), []byte(s.kind+"\n"), 0o644)
	return err
}

// tokenFolder is where the token keeps its objects.
func (s *Service) tokenFolder() string { return s.path("token", tokenKinds[s.kind].folder) }

// hasToken reports whether there is a token, or the beginning of one.
func (s *Service) hasToken() bool {
	entries, err := os.ReadDir(s.tokenFolder())
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasSuffix(e.Name(), "-journal") })
}

// token is the token's part of the configuration.
func (s *Service) token(library string) config.Token {
	t := tokenKinds[s.kind].uses(s, s.tokenFolder())
	t.Library = library
	t.Label = TokenLabel
	t.PINFile = s.path("pin")
	t.Sessions, t.CachedKeys, t.DerivedKeys = 1, 16384, 8192
	t.Directories = []string{s.path("token")}
	return t
}
