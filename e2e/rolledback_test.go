package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestADatabaseThatWasPutBackIsFound: keyd does not start on an older copy, in which a key
// serial number that was used is free again; with the newer one it starts.
func TestADatabaseThatWasPutBackIsFound(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	dir := filepath.Join(tempDir(t), "dev")
	out := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	d := newTerminal(t, ring, bdk, 1)
	use := func(s *service, counter uint32, want string) {
		t.Helper()
		if _, err := s.pins().TranslatePinData(s.ctx(), d.translation(counter, out)); reason(err) != want {
			t.Errorf("counter %d: %v, want %s", counter, err, want)
		}
	}
	files := func(into string) {
		t.Helper()
		for _, name := range []string{"keyd.db", "keyd.db-wal", "keyd.db-shm"} {
			from, to := filepath.Join(dir, "front", name), filepath.Join(into, name)
			if into == "" {
				if err := os.Remove(from); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				continue
			}
			content, err := os.ReadFile(from)
			if os.IsNotExist(err) {
				continue
			}
			if err == nil {
				err = os.WriteFile(to, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	back := func(from string) {
		t.Helper()
		files("")
		for _, name := range []string{"keyd.db", "keyd.db-wal"} {
			content, err := os.ReadFile(filepath.Join(from, name))
			if os.IsNotExist(err) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "front", name), content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s := startIn(t, dir, ring.keys...)
	use(s, 1, "OK")
	s.stop()
	older, newer := t.TempDir(), t.TempDir()
	files(older)
	s = startIn(t, dir)
	use(s, 2, "OK")
	s.stop()
	files(newer)

	back(older)
	refused, err := s.command("", "dev", "--dir", dir, "--listen", "127.0.0.1:0")
	if err == nil || !strings.Contains(err.Error(), "an older copy was put back") {
		t.Fatalf("keyd starts on an older copy: %v\n%s", err, refused)
	}
	back(newer)
	s = startIn(t, dir)
	out = zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_3) // another request than the one that was answered
	use(s, 2, "KSN_REPLAYED")
	use(s, 3, "OK")
}
