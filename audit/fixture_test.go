package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// ticking returns a clock that moves on by a millisecond with every look.
func ticking() func() time.Time {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))
	return func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}
}

func sample() Entry {
	return Entry{
		RequestID: "req-1", Identity: "spiffe://dev.keyd/switch", Method: "PinService/TranslatePinData",
		Decision: Allowed, Rule: "switch[0]", PAN: MaskPAN("4111111111111111"), Custody: "CUSTODY_MODULE",
		Keys: []Key{
			{Name: "bdk-1", Version: 1, Usage: "B0", KCV: "08D7B4", KSN: "FFFF9876543210E00001"},
			{Name: "zpk-1", Version: 2, Usage: "P0", KCV: "7B83F7"},
		},
	}
}

func openLog(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir, Options{Clock: ticking()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func add(t *testing.T, l *Log, e Entry) {
	t.Helper()
	if err := l.Append(context.Background(), e); err != nil {
		t.Fatal(err)
	}
}

// fill adds entries of every decision.
func fill(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		e := sample()
		switch i % 3 {
		case 1:
			e.Decision, e.Reason, e.Rule, e.Custody = Denied, "POLICY_DENIED", "", ""
		case 2:
			e.Decision, e.Reason, e.Custody = Failed, "PIN_BLOCK_INVALID", ""
		}
		add(t, l, e)
	}
}

// newDir returns where a log can be made.
func newDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "audit")
}

// write makes a closed log of the entry with which it begins and n others. It returns the
// path of its one segment.
func write(t *testing.T, n int) (path string) {
	t.Helper()
	dir := newDir(t)
	l := openLog(t, dir)
	fill(t, l, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return firstSegment(dir)
}

func firstSegment(dir string) string { return filepath.Join(dir, segmentName(1)) }

// lay writes a log of one segment with this content, without hashes or checkpoints.
func lay(t *testing.T, content []byte) (dir string) {
	t.Helper()
	dir = newDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(firstSegment(dir), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// verify verifies a log that nobody has signed.
func verify(t *testing.T, path string) *Report {
	t.Helper()
	report, err := VerifyDir(path, Trust{})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// put writes one byte in its place. (To write the whole file anew has some file systems flush
// it each time.)
func put(t *testing.T, path string, at int, b byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte{b}, int64(at))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
