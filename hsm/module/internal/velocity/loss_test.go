package velocity

import (
	"os"
	"sync"
	"testing"
	"time"
)

// The table is as it was on the disk, the machine has started again, and everybody is
// presumed to have used up a minute's tries.
func TestLossOfPower(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	limits := Limits{Verification: Limit{Minute: 3, Hour: 10, Day: 12}, Translation: Limit{Hour: 4}}
	table := openTable(t, f, 1, limits, c)
	disk := contents(t, f)
	if got := allowed(table, Verification, numbered(1), 9); got != 3 { // which are lost
		t.Fatalf("%d allowed", got)
	}
	closeTable(t, table)

	f = restored(t, disk)
	c.reboot(5 * time.Second)
	table = openTable(t, f, 2, limits, c)
	step := func(d time.Duration, kind Kind, n, want int) {
		t.Helper()
		later(t, c, table, d)
		if got := allowed(table, kind, numbered(n), 20); got != want {
			t.Errorf("subject %d: %d allowed, want %d", n, got, want)
		}
	}
	step(0, Verification, 1, 0)
	step(0, Verification, 2, 0) // nobody, seen before or not
	step(0, Translation, 1, 0)  // whose only limit may be used up
	until := table.Stats().PresumedUntil
	if d := until.Sub(c.wall); d < 24*time.Hour || d > 29*time.Hour {
		t.Errorf("presumed for %v", d)
	}
	step(2*time.Minute, Verification, 1, 3)
	step(2*time.Minute, Verification, 1, 3)
	step(2*time.Minute, Verification, 1, 1) // 10 - 3 - 6
	step(75*time.Minute, Translation, 1, 4)
	step(0, Verification, 1, 2) // 12 - 3 - 7
	c.advance(until.Sub(c.wall))
	step(0, Verification, 3, 3)
	if s := table.Stats(); !s.PresumedUntil.IsZero() {
		t.Errorf("%+v", s)
	}
}

// What is lost may have been counted up to a minute after the last write.
func TestLossJustBeforeTheNextWrite(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	table := openTable(t, f, 1, threeFiveEight, c)
	disk := contents(t, f)
	c.advance(55 * time.Second)
	if got := allowed(table, Verification, numbered(1), 9); got != 3 {
		t.Fatalf("%d allowed", got)
	}
	for passed := time.Duration(0); passed < time.Minute; passed += 5 * time.Second {
		c.reboot(5 * time.Second)
		after := openTable(t, restored(t, disk), 2, threeFiveEight, c)
		if after.Count(Verification, numbered(1)) {
			t.Errorf("allowed %v after the last of a minute's tries", passed+5*time.Second)
		}
		closeTable(t, after)
	}
}

// Whoever pulls the plug again and again gains nothing: each loss counts.
func TestLossesAddUp(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	limits := Limits{Verification: Limit{Minute: 3, Day: 12}}
	boot, total := 1, 0
	for ; boot < 60; boot++ {
		table := openTable(t, f, boot, limits, c)
		later(t, c, table, 3*time.Minute)
		disk := contents(t, f)
		total += allowed(table, Verification, numbered(1), 9)
		closeTable(t, table)
		_ = f.Close()
		f = restored(t, disk)
		c.reboot(time.Minute)
	}
	if total != 12 {
		t.Errorf("%d allowed in a day, the limit is 12", total)
	}
	table := openTable(t, f, boot, Limits{Verification: Limit{Minute: 1, Day: MaxLimit}}, c)
	later(t, c, table, 3*time.Minute)
	if table.Count(Verification, numbered(2)) {
		t.Error("more losses than the file can note, and something is allowed")
	}
}

func TestCleanEnd(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	table := openTable(t, f, 1, threeFiveEight, c)
	if got := allowed(table, Verification, numbered(1), 2); got != 2 {
		t.Fatalf("%d allowed", got)
	}
	if err := table.Permit(Verification, numbered(2), time.Hour); err != nil {
		t.Fatal(err)
	}
	closeTable(t, table)
	if err := MarkClean(f, bootID(1)); err != nil {
		t.Fatal(err)
	}
	c.reboot(15 * time.Second)
	table = openTable(t, f, 2, threeFiveEight, c)
	if s := table.Stats(); !s.PresumedUntil.IsZero() {
		t.Errorf("presumed after a clean end: %+v", s)
	}
	if got := allowed(table, Verification, numbered(1), 5); got != 1 {
		t.Errorf("%d allowed", got)
	}
	if !table.Redeem(Verification, numbered(2)) {
		t.Error("the permit is lost")
	}
	closeTable(t, table)

	// The mark is gone with the first module that used the file.
	c.reboot(15 * time.Second)
	if s := openTable(t, f, 3, threeFiveEight, c).Stats(); s.PresumedUntil.IsZero() {
		t.Error("nothing presumed after a loss of power")
	}
}

// A supervisor whose modules never got as far as using the file must not mark as clean
// what an earlier start of the machine lost.
func TestMarkCleanOfAnotherBoot(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	closeTable(t, openTable(t, f, 1, threeFiveEight, c))
	if err := MarkClean(f, bootID(2)); err != nil {
		t.Fatal(err)
	}
	c.reboot(time.Minute)
	if s := openTable(t, f, 2, threeFiveEight, c).Stats(); s.PresumedUntil.IsZero() {
		t.Error("nothing presumed after a loss of power")
	}
	fresh := memoryFile(t)
	if err := MarkClean(fresh, bootID(2)); err != nil {
		t.Fatal(err)
	}
}

func lossesIn(table *Table) (n int) {
	for i := range table.header.losses {
		if table.header.losses[i].Load() != 0 {
			n++
		}
	}
	return n
}

// lossyFile returns a file after a loss of power that no module has noticed yet.
func lossyFile(t *testing.T, c *testClock) *os.File {
	f := memoryFile(t)
	closeTable(t, openTable(t, f, 1, threeFiveEight, c))
	c.reboot(time.Minute)
	return f
}

func TestOneModuleNotesTheLoss(t *testing.T) {
	for range 50 {
		c := newTestClock()
		f := lossyFile(t, c)
		var tables [8]*Table
		var group sync.WaitGroup
		for i := range tables {
			group.Go(func() {
				var err error
				if tables[i], err = Open(int(f.Fd()), testKey, bootID(2), threeFiveEight, c.clock()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, table := range tables {
			if table == nil {
				t.FailNow()
			}
			if got := lossesIn(table); got != 1 {
				t.Errorf("%d losses noted", got)
			}
			if table.base != tables[0].base {
				t.Error("two modules have different times")
			}
			closeTable(t, table)
		}
	}
}

// A module that dies after any step of joining leaves the rest to the next one.
func TestDeathWhileJoining(t *testing.T) {
	c := newTestClock()
	for steps := range 3 {
		f := lossyFile(t, c)
		// The view of a module of the earlier boot serves to take the steps by hand.
		table := &Table{identifier: newIdentifier(testKey), clock: c.clock()}
		mapped := openTable(t, f, 1, threeFiveEight, c)
		table.header = mapped.header
		era := table.header.era.Load()
		if steps > 0 {
			if err := table.lose(era, table.header.begun.Load()); err != nil {
				t.Fatal(err)
			}
		}
		if steps > 1 {
			table.header.boot.Store(fold(bootID(2)))
		}
		next := openTable(t, f, 2, threeFiveEight, c)
		if got := lossesIn(next); got != 1 {
			t.Errorf("after %d steps: %d losses noted", steps, got)
		}
		if next.Count(Verification, numbered(1)) {
			t.Errorf("after %d steps: allowed", steps)
		}
		closeTable(t, next)
		closeTable(t, mapped)
	}
}
