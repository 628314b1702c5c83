// Package tokentest is the conformance suite for PKCS#11 tokens and makes the fresh
// tokens it runs on. It is for tests only.
package tokentest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"keyd/hsm/module/internal/token"
)

// Fresh is a fresh token: initialised, without objects.
type Fresh struct {
	Library    *token.Library
	Path       string // of the library
	Parameters string // with which another process loads it; empty: none
	Directory  string // of its tokens
	Label      string
	PIN        []byte

	Lacks []string // the probes whose mechanisms the token is known not to have
}

// SoftHSMPath is where Debian's package puts the library.
const SoftHSMPath = "/usr/lib/softhsm/libsofthsm2.so"

var (
	loadOnce sync.Once
	library  *token.Library
	loadErr  error
	tokenDir string
)

// Run runs a package's tests, with their files in memory, and removes the tokens that they
// made. TestMain calls it.
func Run(m *testing.M) int {
	if os.Getenv(otherLibrary) != "" {
		if err := otherProcess(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if err := stayInMemory(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	for _, dir := range []string{tokenDir, nssDir} {
		if dir == "" {
			continue
		}
		if err := os.RemoveAll(dir); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// stayInMemory has temporary files made in memory, where the machine has the room and
// TMPDIR does not say where: SoftHSM and SQLite wait for a disk longer than tests compute.
func stayInMemory() error {
	const folder, room = "/dev/shm", 256 << 20
	var disk syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(folder, &disk) != nil || disk.Bavail*uint64(disk.Bsize) < room {
		return nil
	}
	return os.Setenv("TMPDIR", folder)
}

// SoftHSM returns a fresh SoftHSM token. The library of a test process is loaded once
// and keeps its token folder; each call initialises another token in it.
func SoftHSM(t testing.TB) Fresh { return softHSMAt(t, SoftHSMPath) }

// SoftHSMThrough is [SoftHSM] with another library in front, which must load SoftHSM
// itself (pkcs11-spy). One process uses one of the two.
func SoftHSMThrough(t testing.TB, path string) Fresh { return softHSMAt(t, path) }

func softHSMAt(t testing.TB, path string) Fresh {
	t.Helper()
	loadOnce.Do(func() {
		dir, err := os.MkdirTemp("", "keyd-token-")
		if err != nil {
			loadErr = err
			return
		}
		tokenDir = dir
		conf := filepath.Join(dir, "softhsm2.conf")
		loadErr = os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir), 0o600)
		if loadErr != nil {
			return
		}
		if loadErr = os.Setenv("SOFTHSM2_CONF", conf); loadErr == nil {
			library, loadErr = token.Load(path, "")
		}
	})
	if loadErr != nil {
		t.Fatalf("SoftHSM: %v (apt-get install softhsm2)", loadErr)
	}
	f := Fresh{Library: library, Directory: tokenDir, Path: path, Label: "keyd-" + random(t), PIN: []byte(random(t))}
	if err := f.Library.InitToken(f.Label, string(f.PIN)); err != nil {
		t.Fatal(err)
	}
	return f
}

// Open logs in to the token with a pool of sessions.
func (f Fresh) Open(t testing.TB, sessions int) *token.Token {
	t.Helper()
	slot, info, err := f.Library.FindToken(f.Label)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := f.Library.Open(slot, info, f.PIN, sessions)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func random(t testing.TB) string {
	t.Helper()
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}
