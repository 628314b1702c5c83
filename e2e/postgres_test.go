package e2e

import (
	"path/filepath"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/store/postgrestest"
)

// onPostgres are the flags with which keyd dev works on an empty database of a server.
func onPostgres(t *testing.T, server *postgrestest.Server) []string {
	t.Helper()
	name, err := server.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--postgres", server.Address, "--postgres-database", name, "--postgres-password-file", server.PasswordFile}
}

// startPostgres runs a server until the test ends.
func startPostgres(t *testing.T, settings ...string) *postgrestest.Server {
	t.Helper()
	server, err := postgrestest.Start(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// TestTheDatabaseGoesAndComesBack: what needs it is refused while it is away or hangs, nothing
// worse, and everything goes on by itself afterwards.
func TestTheDatabaseGoesAndComesBack(t *testing.T) {
	server := startPostgres(t)
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	s := startWith(t, filepath.Join(tempDir(t), "dev"), onPostgres(t, server), ring.keys...)
	pins, out := s.pins(), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	d := newTerminal(t, ring, bdk, 1)
	counter := uint32(0)
	next := func() string {
		counter++
		_, err := pins.TranslatePinData(s.ctx(), d.translation(counter, out))
		return reason(err)
	}
	works := func(when string) {
		t.Helper()
		waitUntil(t, when, func() bool {
			switch got := next(); got {
			case "OK":
				return true
			case "STORE_UNAVAILABLE", "MODULE_UNAVAILABLE":
				return false
			default:
				t.Fatalf("%s: %s", when, got)
				return true
			}
		})
	}
	works("at first")
	for name, away := range map[string]struct{ gone, back func() error }{
		"killed": {server.Kill, server.Launch},
		"hangs":  {server.Pause, server.Resume},
	} {
		if err := away.gone(); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if got := next(); got != "STORE_UNAVAILABLE" {
			t.Errorf("%s: %s", name, got)
		}
		t.Logf("%s: refused after %s", name, time.Since(begun).Round(time.Millisecond))
		if err := away.back(); err != nil {
			t.Fatal(err)
		}
		works(name + ", and back")
	}
}
