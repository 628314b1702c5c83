package e2e

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestADiskThatIsFullOrReadOnly: what cannot be recorded is refused, before anything is done,
// and everything goes on by itself when it can be recorded again. The log is whole in the end,
// and no key serial number was lost.
func TestADiskThatIsFullOrReadOnly(t *testing.T) {
	if !asRoot(t) { // only root can mount
		return
	}
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	dir := filepath.Join(tempDir(t), "dev")
	startIn(t, dir, ring.keys...).stop()
	state := onSmallDisk(t, dir)
	run := func(name string, args ...string) {
		t.Helper()
		runCommand(t, name, args...)
	}

	s := startIn(t, dir)
	pins, out := s.pins(), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	d := newTerminal(t, ring, bdk, 1)
	counter, answered := uint32(0), []uint32(nil)
	next := func() string {
		counter++
		_, err := pins.TranslatePinData(s.ctx(), d.translation(counter, out))
		if err == nil {
			answered = append(answered, counter)
		}
		return reason(err)
	}
	refused := func(when string) {
		t.Helper()
		waitUntil(t, when, func() bool {
			switch got := next(); got {
			case "OK":
				return false // there was room left
			case "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE":
				return true
			default:
				t.Fatalf("%s: %s", when, got)
				return true
			}
		})
	}
	works := func(when string) {
		t.Helper()
		waitUntil(t, when, func() bool {
			switch got := next(); got {
			case "OK":
				return true
			case "AUDIT_UNAVAILABLE", "STORE_UNAVAILABLE":
				return false
			default:
				t.Fatalf("%s: %s", when, got)
				return true
			}
		})
	}
	works("at first")
	for range 2 {
		fill := filepath.Join(state, "fill")
		if err := writeUntilFull(fill); err != nil {
			t.Fatal(err)
		}
		refused("the disk is full")
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		works("there is room again")
	}
	// Nobody can make a disk read-only under a process that writes to it but its driver, after
	// an error. At a start it is found.
	s.stop()
	run("mount", "-o", "remount,ro", state)
	if said, err := s.command("", "dev", "--dir", dir, "--listen", "127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("on a read-only disk: %v\n%s", err, said)
	}
	run("mount", "-o", "remount,rw", state)
	s = startIn(t, dir)
	pins = s.pins()
	works("the disk can be written again")
	if len(answered) < 4 {
		t.Errorf("only %d answers", len(answered))
	}
	another := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_3)
	for _, used := range answered {
		if _, err := pins.TranslatePinData(s.ctx(), d.translation(used, another)); reason(err) != "KSN_REPLAYED" {
			t.Errorf("counter %d, which was answered: %v", used, err)
		}
	}
	s.stop()
	if said, err := s.command("", "audit", "verify", "--dir", dir); err != nil {
		t.Errorf("the audit log: %v\n%s", err, said)
	}
}

// onSmallDisk moves what the front of a service keeps, which is stopped, to a disk of 12 MiB, and
// returns where that is.
func onSmallDisk(t *testing.T, dir string) (state string) {
	t.Helper()
	state = filepath.Join(dir, "front")
	kept := filepath.Join(tempDir(t), "state")
	runCommand(t, "cp", "-a", state, kept)
	runCommand(t, "mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", state)
	t.Cleanup(func() {
		if err := syscall.Unmount(state, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	runCommand(t, "cp", "-a", kept+"/.", state)
	return state
}

func runCommand(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// writeUntilFull makes a file that takes all the room there is.
func writeUntilFull(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // the disk is full
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		chunk := make([]byte, size)
		for {
			if _, err := f.Write(chunk); err != nil {
				if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
					return err
				}
				break
			}
		}
	}
	return nil
}
