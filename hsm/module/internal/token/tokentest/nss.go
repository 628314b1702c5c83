package tokentest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"keyd/hsm/module/internal/token"
)

// nssTokens is how many fresh tokens a test process has: NSS takes their folders when it is
// loaded.
const nssTokens = 16

// nssFirst is the first slot of tokens whose folders the parameters name. One and two are
// those of the library's own.
const nssFirst = 4

var (
	nssOnce    sync.Once
	nssLibrary *token.Library
	nssLoadErr error
	nssDir     string

	nssMu   sync.Mutex
	nssUsed int
)

// NSSPath finds NSS softokn where Debian's package libnss3 puts it.
func NSSPath(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/libsoftokn3.so")
	if err != nil || len(found) == 0 {
		t.Fatal("libsoftokn3.so is missing: apt-get install libnss3")
	}
	return found[0]
}

// NSS returns a fresh token of NSS softokn. A test process loads one library, and gets up to
// 16 such tokens.
func NSS(t testing.TB) Fresh { return NSSThrough(t, NSSPath(t)) }

// NSSThrough is [NSS] with another library in front, which must load softokn itself
// (pkcs11-spy).
func NSSThrough(t testing.TB, path string) Fresh {
	t.Helper()
	nssOnce.Do(func() {
		if nssDir, nssLoadErr = os.MkdirTemp("", "keyd-nss-"); nssLoadErr == nil {
			nssLibrary, nssLoadErr = loadNSS(path, nssDir)
		}
	})
	if nssLoadErr != nil {
		t.Fatalf("NSS: %v", nssLoadErr)
	}
	nssMu.Lock()
	n := nssUsed
	nssUsed++
	nssMu.Unlock()
	if n == nssTokens {
		t.Fatalf("NSS: all %d tokens of this process are used", nssTokens)
	}
	f := Fresh{
		Library: nssLibrary, Path: path, Directory: nssFolder(nssDir, n), Label: nssLabel(n), PIN: []byte(random(t)),
		Lacks: []string{"TDES-CMAC"},
	}
	f.Parameters = NSSParameters(f.Directory, f.Label)
	if err := nssLibrary.InitUserPIN(uint(nssFirst+n), string(f.PIN)); err != nil {
		t.Fatal(err)
	}
	return f
}

// NSSParameters are what another process loads NSS with to find one of the tokens.
func NSSParameters(folder, label string) string {
	return fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='' flags=noModDB dbTokenDescription='%s'", folder, label)
}

func nssFolder(dir string, n int) string { return filepath.Join(dir, fmt.Sprint(n)) }

func nssLabel(n int) string { return fmt.Sprint("keyd-", n) }

func loadNSS(path, dir string) (*token.Library, error) {
	own := filepath.Join(dir, "own")
	if err := os.Mkdir(own, 0o700); err != nil {
		return nil, err
	}
	var tokens strings.Builder
	for n := range nssTokens {
		if err := os.Mkdir(nssFolder(dir, n), 0o700); err != nil {
			return nil, err
		}
		fmt.Fprintf(&tokens, "0x%x=[configdir='sql:%s' tokenDescription='%s'] ", nssFirst+n, nssFolder(dir, n), nssLabel(n))
	}
	return token.Load(path, NSSParameters(own, "unused")+" tokens=<"+tokens.String()+">")
}
