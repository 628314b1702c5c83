package velocity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var testKey = [32]byte{1, 2, 3}

// bootID returns the ID of a start of the machine.
func bootID(n int) [16]byte {
	sum := sha256.Sum256(numbered(n))
	return [16]byte(sum[:16])
}

// numbered returns a subject.
func numbered(n int) []byte { return fmt.Appendf(nil, "subject %d", n) }

// testClock is a clock that a test sets.
type testClock struct {
	wall time.Time
	up   atomic.Int64
}

func newTestClock() *testClock {
	c := &testClock{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	c.up.Store(int64(time.Hour))
	return c
}

func (c *testClock) clock() Clock {
	return Clock{Wall: func() time.Time { return c.wall }, SinceBoot: func() time.Duration { return time.Duration(c.up.Load()) }}
}

func (c *testClock) advance(d time.Duration) {
	c.wall = c.wall.Add(d)
	c.up.Add(int64(d))
}

// later lets time pass in which nothing happens but what the table does by itself.
func later(t testing.TB, c *testClock, table *Table, d time.Duration) {
	t.Helper()
	c.advance(d)
	if err := table.Sync(); err != nil {
		t.Fatal(err)
	}
}

// reboot starts the machine again: the time since boot begins anew.
func (c *testClock) reboot(down time.Duration) {
	c.wall = c.wall.Add(down)
	c.up.Store(int64(5 * time.Second))
}

// memoryFile returns an empty table in memory.
func memoryFile(t testing.TB) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("velocity", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "velocity")
	t.Cleanup(func() { _ = f.Close() })
	if err := fill(f, minEntries/places); err != nil {
		t.Fatal(err)
	}
	return f
}

func contents(t testing.TB, f *os.File) []byte {
	t.Helper()
	b := make([]byte, fileSize(minEntries/places))
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(b))), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// restored returns a table in memory with contents.
func restored(t testing.TB, b []byte) *os.File {
	t.Helper()
	f := memoryFile(t)
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func openTable(t testing.TB, f *os.File, boot int, l Limits, c *testClock) *Table {
	t.Helper()
	table, err := Open(int(f.Fd()), testKey, bootID(boot), l, c.clock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeTable(t, table) })
	return table
}

// closeTable closes a table, once.
func closeTable(t testing.TB, table *Table) {
	if table.mem == nil {
		return
	}
	if err := table.Close(); err != nil {
		t.Error(err)
	}
}

// inSet returns subjects that all belong to one set.
func inSet(table *Table, set uint64, n int) (subjects [][]byte) {
	for i := 0; len(subjects) < n; i++ {
		if s := numbered(i); table.identify(Verification, s).set&table.mask == set {
			subjects = append(subjects, s)
		}
	}
	return subjects
}

// allowed counts how many of n tries at a subject are allowed.
func allowed(table *Table, kind Kind, subject []byte, n int) (yes int) {
	for range n {
		if table.Count(kind, subject) {
			yes++
		}
	}
	return yes
}

var threeFiveEight = Limits{Verification: Limit{Minute: 3, Hour: 5, Day: 8}}

func TestLimitsOfTheWindows(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, threeFiveEight, c)
	step := func(d time.Duration, want int) {
		t.Helper()
		later(t, c, table, d)
		if got := allowed(table, Verification, numbered(1), 20); got != want {
			t.Errorf("%v: %d allowed, want %d", time.Duration(c.up.Load()), got, want)
		}
	}
	step(0, 3)                // the minute's
	step(59*time.Second, 0)   // still the same minute
	step(11*time.Second, 2)   // another minute, and the hour's last two
	step(20*time.Minute, 0)   //
	step(50*time.Minute, 3)   // another hour, and the day's last three
	step(22*time.Hour, 0)     //
	step(28*time.Hour, 3)     // another day
	step(300*24*time.Hour, 3) // 9 times round the tags of the minute
	step(1<<16*10*time.Second-time.Minute, 3)
	step(30*time.Second, 0)
}

func TestKindsAndSubjectsAreApart(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, Limits{Verification: Limit{Minute: 2}, Translation: Limit{Hour: 5}}, c)
	for i, want := range []struct {
		kind    Kind
		subject []byte
		n       int
	}{
		{Verification, numbered(1), 2},
		{Translation, numbered(1), 5},
		{Verification, numbered(2), 2},
		{Verification, nil, 2},
		{Verification, []byte(strings.Repeat("x", 1000)), 2},
		{Verification, []byte(strings.Repeat("x", 1001)), 2},
		{Verification, []byte(strings.Repeat("x", 999) + "y"), 2},
		{Verification, []byte(strings.Repeat("x", 63)), 2},
		{Verification, []byte(strings.Repeat("x", 64)), 2},
		{0, numbered(1), 0},
		{Card, numbered(1), 10}, // without a limit here
		{4, numbered(1), 0},
	} {
		if got := allowed(table, want.kind, want.subject, 10); got != want.n {
			t.Errorf("%d: %d allowed, want %d", i, got, want.n)
		}
	}
	want := Stats{Entries: minEntries, InUse: 9, Refusals: 8*8 + 5}
	if got := table.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestNoLimits(t *testing.T) {
	f := memoryFile(t)
	table := openTable(t, f, 1, Limits{}, newTestClock())
	if got := allowed(table, Verification, numbered(1), 1000); got != 1000 {
		t.Errorf("%d of 1000 allowed", got)
	}
	for i, b := range contents(t, f)[headerSize:] {
		if b != 0 {
			t.Fatalf("byte %d of the places is written", i)
		}
	}
	for _, l := range []Limit{{Minute: -1}, {Hour: MaxLimit + 1}, {Day: 1 << 40}} {
		if _, err := Open(int(f.Fd()), testKey, bootID(1), Limits{Translation: l}, newTestClock().clock()); err == nil {
			t.Errorf("%+v is accepted", l)
		}
	}
}

func TestHighestLimit(t *testing.T) {
	table := openTable(t, memoryFile(t), 1, Limits{Verification: Limit{Minute: MaxLimit}}, newTestClock())
	if got := allowed(table, Verification, numbered(1), 70_000); got != MaxLimit {
		t.Errorf("%d allowed", got)
	}
}

// A count that would pass 16 bits stays at its highest value.
func TestCountsSaturate(t *testing.T) {
	table := openTable(t, memoryFile(t), 1, threeFiveEight, newTestClock())
	var r rings
	tick := table.now()
	for range 70_000 {
		if !table.add(&r, tick) {
			t.Fatal("not counted")
		}
	}
	if got := r.estimate(tick); got != (estimate{maxCount, maxCount, maxCount}) {
		t.Error(got)
	}
}

func TestOtherKey(t *testing.T) {
	f := memoryFile(t)
	openTable(t, f, 1, threeFiveEight, newTestClock())
	if _, err := Open(int(f.Fd()), [32]byte{9}, bootID(1), threeFiveEight, newTestClock().clock()); !errors.Is(err, ErrOtherKey) {
		t.Error(err)
	}
}

// The file holds nothing from which a subject can be found without the key.
func TestNoSubjectInTheFile(t *testing.T) {
	f := memoryFile(t)
	table := openTable(t, f, 1, threeFiveEight, newTestClock())
	pan := []byte("4000001234562000")
	table.Count(Verification, pan)
	if err := table.Permit(Verification, pan, time.Hour); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(contents(t, f)), string(pan[:6])) {
		t.Error("the subject is in the file")
	}
	other := memoryFile(t)
	table2, err := Open(int(other.Fd()), [32]byte{7}, bootID(1), threeFiveEight, newTestClock().clock())
	if err != nil {
		t.Fatal(err)
	}
	defer closeTable(t, table2)
	if a, b := table.identify(Verification, pan), table2.identify(Verification, pan); a.who == b.who || a.permit == b.permit || a.set == b.set {
		t.Error("what is stored does not depend on the key")
	}
}

func TestReset(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, threeFiveEight, c)
	for range 3 {
		if got := allowed(table, Verification, numbered(1), 10); got != 3 {
			t.Errorf("%d allowed", got)
		}
		if got := allowed(table, Verification, numbered(2), 10); got > 3 {
			t.Errorf("%d allowed", got)
		}
		if !table.Reset(Verification, numbered(1)) {
			t.Error("not reset")
		}
	}
	if got := allowed(table, Verification, numbered(2), 10); got != 0 {
		t.Errorf("another subject was reset: %d allowed", got)
	}
	if !table.Reset(Verification, numbered(3)) {
		t.Error("a subject that was never counted is not reset")
	}
	if table.Reset(7, numbered(3)) {
		t.Error("a kind that there is not was reset")
	}
}

// Steps of the time of day change nothing while the machine runs: windows are not
// shortened by a step forth, and nobody waits longer after a step back.
func TestClockSteps(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	first := openTable(t, f, 1, threeFiveEight, c)
	if got := allowed(first, Verification, numbered(1), 5); got != 3 {
		t.Fatalf("%d allowed", got)
	}
	for _, step := range []time.Duration{-10 * time.Second, -3 * time.Hour, 48 * time.Hour, 20 * 365 * 24 * time.Hour, -40 * 365 * 24 * time.Hour} {
		c.wall = c.wall.Add(step)
		table := openTable(t, f, 1, threeFiveEight, c) // a module that starts after the step
		if got := allowed(table, Verification, numbered(1), 5) + allowed(first, Verification, numbered(1), 5); got != 0 {
			t.Errorf("%d allowed after a step of %v", got, step)
		}
		closeTable(t, table)
	}
	later(t, c, first, 70*time.Second)
	if got := allowed(first, Verification, numbered(1), 5); got != 2 {
		t.Errorf("%d allowed a minute later", got)
	}
}

// A clock that is wrong when the machine starts: behind, then nothing counts as passed
// of the time in which it was off; or ahead, then the time goes on from there.
func TestClockIsWrongAfterAStart(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	boot := 1
	begin := func(wall time.Time) *Table {
		boot++
		c.reboot(0)
		c.wall = wall
		return openTable(t, f, boot, threeFiveEight, c)
	}
	end := func(table *Table) {
		closeTable(t, table)
		if err := MarkClean(f, bootID(boot)); err != nil {
			t.Fatal(err)
		}
	}
	right := c.wall
	table := begin(right)
	if got := allowed(table, Verification, numbered(1), 9); got != 3 {
		t.Errorf("%d allowed", got)
	}
	end(table)
	for _, wrong := range []time.Time{time.Unix(-1000, 0), time.Unix(0, 0), right.Add(-24 * time.Hour)} {
		table = begin(wrong)
		if got := allowed(table, Verification, numbered(1), 9); got != 0 {
			t.Errorf("%d allowed with the clock at %v", got, wrong)
		}
		end(table)
	}
	table = begin(right.Add(20 * 365 * 24 * time.Hour))
	if got := allowed(table, Verification, numbered(1), 9); got != 3 {
		t.Errorf("%d allowed with the clock ahead", got)
	}
	end(table)
	table = begin(right)
	if got := allowed(table, Verification, numbered(1), 9); got != 0 {
		t.Errorf("%d allowed with the clock right again", got)
	}
	later(t, c, table, 70*time.Second)
	if got := allowed(table, Verification, numbered(1), 9); got != 2 {
		t.Errorf("%d allowed a minute later", got)
	}
}

func TestClockCenturiesAhead(t *testing.T) {
	c := newTestClock()
	c.wall = time.Date(3001, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := Open(int(memoryFile(t).Fd()), testKey, bootID(1), threeFiveEight, c.clock()); err == nil {
		t.Error("accepted")
	}
}

func TestSystemClock(t *testing.T) {
	a, err := SystemClock()
	if err != nil {
		t.Fatal(err)
	}
	b, err := SystemClock()
	if err != nil {
		t.Fatal(err)
	}
	x, y, z := a.SinceBoot(), b.SinceBoot(), a.SinceBoot()
	if x <= 0 || y < x-time.Second || y > z+time.Second {
		t.Errorf("two clocks of one machine: %v, %v, %v", x, y, z)
	}
}

// Many goroutines race for the last place of a subject, and for places.
func TestRaces(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	limits := Limits{Verification: Limit{Minute: 2, Hour: 1000}}
	tables := []*Table{openTable(t, f, 1, limits, c), openTable(t, f, 1, limits, c)}
	const subjects = 12 // for eight places
	for round := range tables[0].mask + 1 {
		all := inSet(tables[0], round, subjects)
		counts := make([]atomic.Int64, subjects)
		var group sync.WaitGroup
		for g := range 8 {
			group.Go(func() {
				for i := range 3 * subjects {
					n := (i + g*5) % subjects
					if tables[g%2].Count(Verification, all[n]) {
						counts[n].Add(1)
					}
				}
			})
		}
		group.Wait()
		for n := range counts {
			if got := counts[n].Load(); got > 2 {
				t.Fatalf("set %d: subject %d was allowed %d times", round, n, got)
			}
		}
		seen := make(map[uint64]bool)
		for place := range places {
			holder, _ := tables[0].sets[round].at(place)
			w := holder.Load()
			if w&stateMask == settled {
				if seen[w&whoMask] {
					t.Fatalf("set %d: a subject has two places", round)
				}
				seen[w&whoMask] = true
			}
		}
	}
}

func TestCountDoesNotAllocate(t *testing.T) {
	table := openTable(t, memoryFile(t), 1, Limits{Verification: Limit{Minute: 3}, Translation: Limit{Day: MaxLimit}}, newTestClock())
	n := 0
	got := testing.AllocsPerRun(10_000, func() {
		var subject [24]byte // on the stack
		n++
		binary.BigEndian.PutUint64(subject[:], uint64(n))
		table.Count(Verification, subject[:])
		table.Count(Translation, subject[8:])
	})
	if got != 0 && !raceDetector { // which makes sync.Pool forget
		t.Errorf("%v allocations", got)
	}
}
