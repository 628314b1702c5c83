// Package development makes a directory into a complete development service: a CA
// and client certificates, a token with known keys, a policy, and terminals that hold
// initial keys of the sample BDKs. Nothing of it is for production: every key in it
// is published.
package development

import (
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"keyd/config"
)

// SampleKeys is a file of test keys with published values, in the form that
// keyd dev --keys takes.
//
//go:embed sample-keys.json
var SampleKeys []byte

// TokenLabel is the label of a development token.
const TokenLabel = "keyd development"

// Service is a prepared directory.
type Service struct {
	Dir    string
	Config *config.Config
	Roster []byte // ceremony.Roster of the development officers, encoded
	New    bool   // it has never been ready, or lost its token: the sample keys are to be loaded

	kind string   // of its token
	lock *os.File // held while this process lives: one keyd dev to a directory
}

// Prepare makes dir into a development service that listens on listen, or brings one
// that is there up to date. What a person changed in it (the policy) stays. token is
// [SoftHSM] or [NSS], or nothing for the one that the directory has.
func Prepare(dir, listen, token string) (*Service, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, fmt.Errorf("--listen %q is not HOST:PORT", listen)
	}
	s := &Service{Dir: dir}
	if err := s.chooseToken(token); err != nil {
		return nil, err
	}
	library, err := tokenKinds[s.kind].find()
	if err != nil {
		return nil, err
	}
	if err := s.claim(); err != nil {
		return nil, err
	}
	if err := s.directories(); err != nil {
		return nil, fmt.Errorf("development directory: %w", err)
	}
	if err := s.files(host); err != nil {
		return nil, fmt.Errorf("development directory %s: %w", dir, err)
	}
	s.Config = s.config(listen, library)
	return s, nil
}

// Config returns the configuration of the development service in dir, which may be
// running.
func Config(dir string) (*config.Config, error) {
	address, err := Address(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &Service{Dir: dir}
	if err := s.chooseToken(""); err != nil {
		return nil, err
	}
	library, err := tokenKinds[s.kind].find()
	if err != nil {
		return nil, err
	}
	return s.config(address, library), nil
}

func (s *Service) config(listen, library string) *config.Config {
	return &config.Config{
		Listen: listen,
		State:  s.path("front"),
		Policy: s.path("config", "policy.yaml"),
		TLS: config.TLS{
			Certificate: s.path("config", "server.crt"),
			Key:         s.path("config", "server.key"),
			ClientCA:    s.path("certs", "ca.crt"),
		},
		Web:              s.web(),
		Token:            s.token(library),
		Modules:          2,
		KSN:              config.KSN{RetryWindow: config.Duration(time.Minute), MaxJump: 1 << 16},
		Velocity:         config.Velocity{File: s.path("velocity"), Entries: 1 << 14},
		Ledger:           s.path("ledger"),
		Audit:            config.Audit{SegmentSize: 64 << 20, SegmentAge: config.Duration(24 * time.Hour), Checkpoints: s.path("checkpoints")},
		Tracing:          config.Tracing{Sample: 1},
		OperationTimeout: config.Duration(2 * time.Second),
		DrainTimeout:     config.Duration(10 * time.Second),
	}
}

// addressFile says where the service was reached when it was last ready.
const addressFile = "address"

// Ready notes that the service can be reached at address (HOST:PORT).
func (s *Service) Ready(address string) error {
	return replaceFile(s.path(addressFile), []byte(address+"\n"), 0o644)
}

// Address returns where the service in dir was reached when it was last ready.
func Address(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, addressFile))
	if err != nil {
		return "", fmt.Errorf("no service has run in %s: start one with keyd dev --dir %s", dir, dir)
	}
	return strings.TrimSpace(string(b)), nil
}

func (s *Service) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

func (s *Service) directories() error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{s.path("certs"), 0o755},
		{s.path("config"), 0o755},
		{s.path("front"), 0o700},
		{s.path("token"), 0o700},
		{s.tokenFolder(), 0o700},
		{s.path("terminals"), 0o700},
		{s.path("officers"), 0o700},
	} {
		err := os.Mkdir(d.path, d.mode)
		if err == nil {
			err = os.Chmod(d.path, d.mode) // whatever the umask
		} else if errors.Is(err, fs.ErrExist) {
			var info fs.FileInfo
			if info, err = os.Lstat(d.path); err == nil && !info.IsDir() {
				err = fmt.Errorf("%s is not a directory", d.path)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) files(host string) error {
	if _, err := os.Stat(s.path(addressFile)); errors.Is(err, fs.ErrNotExist) {
		s.New = true
	}
	if err := s.rememberToken(); err != nil {
		return err
	}
	if !s.hasToken() {
		s.New = true
		if err := s.forget(); err != nil {
			return err
		}
	}
	pin := make([]byte, 16)
	if _, err := rand.Read(pin); err != nil {
		return err
	}
	if _, err := createFile(s.path("pin"), []byte(hex.EncodeToString(pin)+"\n"), 0o600); err != nil {
		return err
	}
	if s.kind == SoftHSM {
		conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", s.tokenFolder())
		if err := replaceFile(s.path("token", "softhsm2.conf"), []byte(conf), 0o600); err != nil {
			return err
		}
	}
	if err := s.policy(); err != nil {
		return err
	}
	if err := s.terminals(); err != nil {
		return err
	}
	ca, err := openAuthority(s.Dir)
	if err != nil {
		return err
	}
	for _, name := range Identities {
		if err := ca.client(s.path("certs"), name); err != nil {
			return err
		}
	}
	if err := s.officers(); err != nil {
		return err
	}
	// With this one a switch of the operator's own serves its terminals (examples/switch-void).
	if err := ca.server("switch", s.path("certs", SwitchServer+".crt"), s.path("certs", SwitchServer+".key"), "localhost"); err != nil {
		return err
	}
	return ca.server("keyd", s.path("config", "server.crt"), s.path("config", "server.key"), host)
}

// forget removes the database of a token that is lost: nothing unseals its keys any more, and a
// new token refuses the register of another.
func (s *Service) forget() error {
	for _, name := range []string{"keyd.db", "keyd.db-wal", "keyd.db-shm"} {
		if err := os.Remove(s.path("front", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// createFile writes a file unless it is there, and reports whether it did.
func createFile(path string, content []byte, mode fs.FileMode) (bool, error) {
	switch _, err := os.Stat(path); {
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, replaceFile(path, content, mode)
}
