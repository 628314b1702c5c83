package tokentest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"keyd/hsm/module/internal/token"
)

var (
	nssOnce    sync.Once
	nssLibrary *token.Library
	nssLoadErr error
	nssDir     string
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

// NSS returns a fresh token of NSS softokn. A test process loads one library, and gets one
// such token.
func NSS(t testing.TB) Fresh { return NSSThrough(t, NSSPath(t)) }

// NSSThrough is [NSS] with another library in front, which must load softokn itself
// (pkcs11-spy).
func NSSThrough(t testing.TB, path string) Fresh {
	t.Helper()
	f := Fresh{Path: path, Label: "keyd", PIN: []byte("keyd-test-pin")}
	nssOnce.Do(func() {
		if nssDir, nssLoadErr = os.MkdirTemp("", "keyd-nss-"); nssLoadErr != nil {
			return
		}
		nssLibrary, nssLoadErr = token.Load(path, fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='' flags=noModDB dbTokenDescription='%s'", nssDir, f.Label))
		if nssLoadErr == nil {
			nssLoadErr = nssLibrary.InitUserPIN(2, string(f.PIN))
		}
	})
	if nssLoadErr != nil {
		t.Fatalf("NSS: %v", nssLoadErr)
	}
	f.Library, f.Directory = nssLibrary, nssDir
	return f
}
