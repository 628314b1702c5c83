package velocity

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLive(t *testing.T) {
	for _, now := range []uint16{0, 5, 1000, 1<<16 - 1} {
		for age := -20; age <= 20; age++ {
			bucket := uint32(now-uint16(age))<<16 | 1
			if got, want := live(bucket, now), age >= -7 && age <= 6; got != want {
				t.Errorf("a bucket of age %d: %v", age, got)
			}
		}
	}
}

// Two or more that begin with a new subject at the same moment get one place and one
// try.
func TestNewSubjectRace(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	limits := Limits{Verification: Limit{Day: 1}}
	const racers = 4
	var tables [racers]*Table
	for i := range tables {
		tables[i] = openTable(t, f, 1, limits, c)
	}
	var round, ready, won atomic.Int64 // all meet before each round
	const rounds = 5000
	var group sync.WaitGroup
	for i := range racers {
		group.Go(func() {
			for n := range int64(rounds) {
				ready.Add(1)
				for round.Load() <= n {
					runtime.Gosched()
				}
				if tables[i].Count(Verification, numbered(int(n))) {
					won.Add(1)
				}
			}
		})
	}
	meet := func(n int64) {
		for ready.Load() < racers*(n+1) {
			runtime.Gosched()
		}
	}
	worst := int64(0)
	for n := range int64(rounds) {
		meet(n)
		worst = max(worst, won.Swap(0))
		if n%300 == 0 { // all places are old again
			c.advance(30 * time.Hour)
			if err := tables[0].Sync(); err != nil {
				t.Error(err)
			}
		}
		round.Store(n + 1)
	}
	group.Wait()
	if worst = max(worst, won.Load()); worst > 1 {
		t.Errorf("%d were allowed, the limit is 1", worst)
	}
}

// The last step of a claim looks at what has happened since the first.
func TestClaimMeetsAnother(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, threeFiveEight, c)
	tick := table.now()
	s := &table.sets[3]
	const who = 77 << 16

	holder, counts := s.at(5)
	holder.Store(who | settled)
	if _, ok := table.claim(s, who, tick); ok {
		t.Error("a subject has two places")
	}
	if p, ok := s.find(who); !ok || p.holder != holder {
		t.Error("the subject has lost its place")
	}

	holder.Store(who | joining) // of a process that sleeps, or died
	place, ok := table.claim(s, who, tick)
	if !ok {
		t.Fatal("not claimed")
	}
	if w := holder.Load(); w&stateMask != free || w == become(who|joining, who, joining) {
		t.Errorf("two join: %x", w)
	}
	if holder.CompareAndSwap(who|joining, who|settled) {
		t.Error("the one that slept settles")
	}

	// Whoever counted at a place that was lost and won again meanwhile counts again.
	old := place
	place.holder.Store(become(place.was, 99<<16, joining))
	place.holder.Store(become(place.holder.Load(), who, settled))
	if again, ok := s.find(who); !ok || !old.lost() || again.lost() {
		t.Error("a place that was another's meanwhile is taken for the same")
	}
	place.was = place.holder.Load()

	// A process died when it had begun to take the place away.
	place.holder.Store(become(place.was, 0, free))
	holder.Store(who | leaving)
	for range 4 {
		table.add(counts, tick)
	}
	if place, ok = table.claim(s, who, tick); !ok {
		t.Fatal("not claimed")
	}
	if got := place.counts.estimate(tick); got != (estimate{4, 4, 4}) {
		t.Errorf("%v of 4 counts are left", got)
	}
}

// A subject that is crowded out comes back with its counts, wherever its place was and
// wherever it gets the next, and whichever sector of the set is not on the disk.
func TestCrowdedOut(t *testing.T) {
	for _, position := range []int{0, 3, 4, 7} {
		c := newTestClock()
		f := memoryFile(t)
		limits := Limits{Verification: Limit{Minute: 1, Day: 4}}
		table := openTable(t, f, 1, limits, c)
		all := inSet(table, 1, places+1)
		target, newcomer := all[position], all[places]
		count := func(subject []byte, n int) {
			for range n {
				if !table.Count(Verification, subject) {
					t.Fatal("refused")
				}
				later(t, c, table, 2*time.Minute)
			}
		}
		for _, subject := range all[:places] {
			if bytes.Equal(subject, target) {
				// Its place is taken, but its counts are to be the newest.
				count(subject, 1)
				continue
			}
			count(subject, 4)
		}
		later(t, c, table, 20*time.Hour)
		count(target, 2)
		_, before := table.sets[1].find(table.identify(Verification, target).who)
		disk := contents(t, f)
		if !table.Count(Verification, newcomer) {
			t.Fatal("refused")
		}
		now := contents(t, f)
		_, after := table.sets[1].find(table.identify(Verification, target).who)
		if !before || after {
			t.Fatal("the target was not crowded out")
		}

		// The others grow old.
		later(t, c, table, 8*time.Hour)
		got := 0
		for range 4 {
			got += allowed(table, Verification, target, 3)
			later(t, c, table, 2*time.Minute)
		}
		if got > 2 {
			t.Errorf("place %d: allowed %d times after 2, the limit is 4", position, got)
		}
		closeTable(t, table)

		for half := range 2 {
			torn := bytes.Clone(disk)
			at := headerSize + setSize + half*sectorSize
			copy(torn[at:], now[at:at+sectorSize])
			c.reboot(0)
			file := restored(t, torn)
			table := openTable(t, file, 2, limits, c)
			got := 0
			for range 4 {
				got += allowed(table, Verification, target, 3)
				later(t, c, table, 2*time.Minute)
			}
			if got > 1 { // 4, less 2, less what is presumed
				t.Errorf("place %d, sector %d: allowed %d times after 2, the limit is 4", position, half, got)
			}
			closeTable(t, table)
		}
	}
}
