package velocity

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestPermit(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, threeFiveEight, c)
	permit := func(kind Kind, n int, valid time.Duration) {
		t.Helper()
		if err := table.Permit(kind, numbered(n), valid); err != nil {
			t.Fatal(err)
		}
	}
	if got := allowed(table, Verification, numbered(1), 9); got != 3 {
		t.Fatalf("%d allowed", got)
	}
	permit(Verification, 1, time.Hour)
	if table.Redeem(Verification, numbered(2)) || table.Redeem(Translation, numbered(1)) || table.Redeem(7, numbered(1)) {
		t.Error("a permit that nobody gave was redeemed")
	}
	if table.Count(Verification, numbered(1)) {
		t.Error("a permit alone resets nothing")
	}
	if !table.Redeem(Verification, numbered(1)) {
		t.Error("not redeemed")
	}
	if got := allowed(table, Verification, numbered(1), 9); got != 3 {
		t.Errorf("%d allowed after the permit", got)
	}
	if table.Redeem(Verification, numbered(1)) {
		t.Error("redeemed twice")
	}
	permit(Verification, 1, time.Hour)
	c.advance(time.Hour)
	if table.Redeem(Verification, numbered(1)) {
		t.Error("redeemed after it had expired")
	}
	permit(Translation, 1, time.Minute)
	c.advance(49 * time.Second)
	if !table.Redeem(Translation, numbered(1)) {
		t.Error("not redeemed in time")
	}
	for _, valid := range []time.Duration{-time.Hour, 0, MinPermit - 1, MaxPermit + 1} {
		if err := table.Permit(Verification, numbered(1), valid); err == nil {
			t.Errorf("valid for %v", valid)
		}
	}
	if err := table.Permit(7, numbered(1), time.Hour); err == nil {
		t.Error("a permit for a kind that there is not")
	}
}

func TestPermitsTaken(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, threeFiveEight, c)
	for n := range 64 {
		if err := table.Permit(Verification, numbered(n), time.Duration(n+1)*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Permit(Verification, numbered(64), time.Hour); !errors.Is(err, ErrPermitsTaken) {
		t.Error(err)
	}
	if !table.Redeem(Verification, numbered(30)) {
		t.Error("not redeemed")
	}
	if err := table.Permit(Verification, numbered(64), time.Hour); err != nil {
		t.Error(err)
	}
	c.advance(2 * time.Hour)
	for n := range 4 { // those of subjects 0, 1 and 64 have expired
		if err := table.Permit(Verification, numbered(100+n), time.Hour); (err == nil) != (n < 3) {
			t.Errorf("permit %d of three: %v", n+1, err)
		}
	}
	// A writer that died does not keep its room for ever.
	p := &table.header.permits[40]
	p.state.Store(nextPermit(p.state.Load(), table.now(), permitWriting))
	if err := table.Permit(Verification, numbered(70), time.Hour); !errors.Is(err, ErrPermitsTaken) {
		t.Error(err)
	}
	c.advance(2 * time.Minute)
	if err := table.Permit(Verification, numbered(70), time.Hour); err != nil || p.state.Load()&3 != permitLive {
		t.Error(err)
	}
}

// After a loss of power a permit that was redeemed may be in the file again.
func TestPermitIsLostWithThePower(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	table := openTable(t, f, 1, threeFiveEight, c)
	if err := table.Permit(Verification, numbered(1), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	disk := contents(t, f)
	if !table.Redeem(Verification, numbered(1)) {
		t.Error("not redeemed")
	}
	c.reboot(time.Minute)
	if openTable(t, restored(t, disk), 2, threeFiveEight, c).Redeem(Verification, numbered(1)) {
		t.Error("redeemed twice")
	}
}

// Of 16 goroutines in each of two processes one redeems a permit.
func TestRedeemedOnce(t *testing.T) {
	f, err := Create(newPath(t), minEntries)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := openReal(int(f.Fd()), manyLimits)
	if err != nil {
		t.Fatal(err)
	}
	defer closeTable(t, table)
	cmd := again(t, "redeem", f)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(pipe)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("%q, %v", out.Text(), out.Err())
	}
	theirs := 0
	for n := range 200 {
		if err := table.Permit(Verification, numbered(n), time.Hour); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(in, n); err != nil {
			t.Fatal(err)
		}
		won := int(redeem16(table, n))
		if !out.Scan() {
			t.Fatal(out.Err(), os.ErrClosed)
		}
		var other int
		if _, err := fmt.Sscan(out.Text(), &other); err != nil {
			t.Fatal(err)
		}
		if won+other != 1 {
			t.Fatalf("permit %d was redeemed %d times", n, won+other)
		}
		theirs += other
	}
	t.Logf("the other process got %d of 200", theirs)
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}
