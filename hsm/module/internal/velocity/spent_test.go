package velocity

import (
	"errors"
	"os"
	"testing"
	"time"

	"keyd/hsm/module/internal/hostfile"
)

// Where counts are lost with the machine, nobody has a try left for a day, of whatever kind;
// but whom two people give them back.
func TestSpent(t *testing.T) {
	c := newTestClock()
	path := newPath(t)
	if made, err := CreateSpent(path, minEntries, c.wall); err != nil || !made {
		t.Fatal(made, err)
	}
	// What nobody has used is made anew, with the time of then.
	c.advance(30 * time.Hour)
	if made, err := CreateSpent(path, minEntries, c.wall); err != nil || !made {
		t.Fatal(made, err)
	}
	f, err := Create(path, minEntries)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateSpent(path, minEntries, c.wall); !errors.Is(err, hostfile.ErrInUse) {
		t.Errorf("in use: %v", err)
	}
	limits := Limits{Verification: Limit{Minute: 3, Hour: 10, Day: 12}, Translation: Limit{Hour: 4}, Card: Limit{Day: MaxLimit}}
	table := openTable(t, f, 1, limits, c)
	nobody := func(when string) {
		t.Helper()
		for n := range 50 {
			for kind := Verification; kind <= Card; kind++ {
				if kind == Translation && when != "at once" {
					continue // its window is over
				}
				if table.Count(kind, numbered(n)) {
					t.Fatalf("%s: subject %d has a try of kind %d", when, n, kind)
				}
			}
		}
	}
	nobody("at once")
	until := table.Stats().PresumedUntil
	if d := until.Sub(c.wall); d < 24*time.Hour || d > 28*time.Hour {
		t.Errorf("presumed for %v", d)
	}
	later(t, c, table, 2*time.Hour)
	nobody("after two hours")
	if got := allowed(table, Translation, numbered(1), 9); got != 4 {
		t.Errorf("%d translations after their hour", got)
	}
	if err := table.Permit(Verification, numbered(7), time.Hour); err != nil {
		t.Fatal(err)
	}
	if !table.Redeem(Verification, numbered(7)) {
		t.Fatal("not redeemed")
	}
	if got := allowed(table, Verification, numbered(7), 9); got != 3 {
		t.Errorf("%d tries after they were given back", got)
	}
	later(t, c, table, 21*time.Hour)
	if table.Count(Verification, numbered(2)) || table.Count(Card, numbered(2)) {
		t.Error("a try within the day")
	}
	later(t, c, table, until.Sub(c.wall)+time.Second)
	if got := allowed(table, Verification, numbered(2), 9); got != 3 {
		t.Errorf("%d tries after the day", got)
	}
	if s := table.Stats(); !s.PresumedUntil.IsZero() {
		t.Errorf("%+v", s)
	}
	closeTable(t, table)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// A file that modules have used knows better.
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if made, err := CreateSpent(path, minEntries, c.wall); err != nil || made {
		t.Fatal(made, err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file was changed (%v)", err)
	}
	for _, wrong := range []time.Time{{}, time.Unix(0, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if _, err := CreateSpent(newPath(t), minEntries, wrong); err == nil {
			t.Errorf("the clock says %v", wrong)
		}
	}
}
