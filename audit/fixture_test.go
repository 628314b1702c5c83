package audit

import (
	"context"
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

func openLog(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path, Options{Clock: ticking()})
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

// write makes a closed log of several entries of every decision.
func write(t *testing.T, n int) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.log")
	l := openLog(t, path)
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
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
