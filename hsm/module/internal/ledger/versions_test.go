package ledger

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func recordVersion(subject, n int) Version { return Version{device(subject), uint32(n)} }

// A version is begun once, is one record, and is dead from the moment at which the next begins.
func TestVersionsOfPINRecords(t *testing.T) {
	l, path := made(t)
	expect := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	expect("begin", begins(l, recordVersion(1, 1), device(1)), nil)
	expect("begin again", begins(l, recordVersion(1, 1), device(1)), nil)
	expect("by another", begins(l, recordVersion(1, 1), device(2)), ErrBegun)
	expect("pending", l.Pending(recordVersion(1, 1), device(1)), nil)
	expect("pending by another", l.Pending(recordVersion(1, 1), device(2)), ErrBegun)
	expect("set by another", sets(l, recordVersion(1, 1), device(2), device(11)), ErrBegun)
	expect("set", sets(l, recordVersion(1, 1), device(1), device(11)), nil)
	expect("set again", sets(l, recordVersion(1, 1), device(1), device(11)), nil)
	expect("set otherwise", sets(l, recordVersion(1, 1), device(1), device(12)), ErrSet)
	expect("stands", l.Stands(recordVersion(1, 1), device(11)), nil)
	expect("another record", l.Stands(recordVersion(1, 1), device(12)), ErrEnded)
	if first, err := l.Begin(recordVersion(1, 1), device(1)); first || err != nil {
		t.Errorf("begun once more: %v, %v", first, err)
	}
	if first, err := l.Set(recordVersion(1, 1), device(1), device(11)); first || err != nil {
		t.Errorf("set once more: %v, %v", first, err)
	}
	counts(t, l, 2)
	expect("looked at", l.Standing(recordVersion(9, 1), device(11)), nil)
	expect("another record, looked at", l.Standing(recordVersion(1, 1), device(12)), ErrEnded)
	counts(t, l, 2)

	expect("changed", l.Replace(recordVersion(1, 1), device(11), device(21)), nil)
	expect("changed again", l.Replace(recordVersion(1, 1), device(11), device(21)), nil)
	done, err := l.Replaceable(recordVersion(1, 1), device(11))
	if expect("may be repeated", err, nil); !done {
		t.Error("a change that was made is not known")
	}
	expect("changed otherwise", l.Replace(recordVersion(1, 1), device(11), device(22)), ErrEnded)
	expect("another record changed", l.Replace(recordVersion(1, 1), device(12), device(21)), ErrEnded)
	expect("dead by a change", l.Stands(recordVersion(1, 1), device(11)), ErrEnded)
	expect("what it was changed to", l.Stands(recordVersion(1, 2), device(21)), nil)
	expect("set what was changed", sets(l, recordVersion(1, 2), device(1), device(22)), ErrBegun)

	expect("reset", begins(l, recordVersion(1, 3), device(3)), nil)
	expect("dead by a reset", l.Stands(recordVersion(1, 2), device(21)), ErrEnded)
	_, err = l.Replaceable(recordVersion(1, 2), device(21))
	expect("not changed any more", err, ErrEnded)
	_, err = l.Replaceable(recordVersion(1, 1), device(11))
	expect("nor what was", err, ErrEnded)
	expect("nor again", l.Replace(recordVersion(1, 1), device(11), device(21)), ErrEnded)
	expect("begun again too late", begins(l, recordVersion(1, 1), device(1)), ErrEnded)
	expect("set too late", sets(l, recordVersion(1, 1), device(1), device(11)), ErrEnded)

	expect("revoked while it is pending", l.Revoke(recordVersion(1, 3)), nil)
	expect("revoked again", l.Revoke(recordVersion(1, 3)), nil)
	expect("pending no more", l.Pending(recordVersion(1, 3), device(3)), ErrEnded)
	expect("what a revocation used", begins(l, recordVersion(1, 4), device(4)), ErrBegun)
	expect("after it", begins(l, recordVersion(1, 5), device(5)), nil)

	// Another host has had the versions before.
	expect("set of another host's", sets(l, recordVersion(2, 7), device(7), device(77)), nil)
	expect("one before", l.Stands(recordVersion(2, 6), device(66)), ErrEnded)
	expect("the first", l.Stands(recordVersion(2, 1), device(61)), ErrEnded)
	expect("another host's", l.Stands(recordVersion(3, 4), device(1)), nil)
	expect("one before another host's", l.Stands(recordVersion(3, 3), device(1)), ErrEnded)
	expect("a second of another host's", l.Stands(recordVersion(3, 4), device(2)), ErrEnded)
	expect("changed there", l.Replace(recordVersion(3, 4), device(1), device(2)), nil)
	expect("and dead here", l.Stands(recordVersion(3, 3), device(1)), ErrEnded)
	expect("none", begins(l, recordVersion(4, 0), device(1)), ErrFull)
	expect("the last", sets(l, recordVersion(4, maxVersion), device(1), device(2)), nil)
	expect("too many", begins(l, recordVersion(4, maxVersion+1), device(1)), ErrFull)

	expect("an approval", l.Use(device(1)), nil)
	expect("an approval again", l.Use(device(1)), ErrUsed)
	expect("without a ledger", Open(-1).Stands(recordVersion(1, 1), device(1)), ErrNone)

	// All of it is in the file.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // the end of the test
	other := Open(int(f.Fd()))
	expect("dead, read again", other.Stands(recordVersion(1, 2), device(21)), ErrEnded)
	expect("used, read again", other.Use(device(1)), ErrUsed)
	expect("the last, read again", other.Stands(recordVersion(4, maxVersion), device(2)), nil)
}

// begins and sets are for tests that do not ask whether it was the first time.
func begins(l *Ledger, v Version, approval Device) error {
	_, err := l.Begin(v, approval)
	return err
}

func sets(l *Ledger, v Version, approval, record Device) error {
	_, err := l.Set(v, approval, record)
	return err
}

// Of many at once one sets a version.
func TestOneSetsAVersion(t *testing.T) {
	l, _ := made(t)
	var set, used atomic.Int32
	var wait sync.WaitGroup
	for n := range 8 {
		wait.Go(func() {
			switch err := sets(l, recordVersion(1, 1), device(1), device(n)); {
			case err == nil:
				set.Add(1)
			case !errors.Is(err, ErrSet):
				t.Error(err)
			}
			if l.Use(device(9)) == nil {
				used.Add(1)
			}
		})
	}
	wait.Wait()
	if set.Load() != 1 || used.Load() != 1 {
		t.Errorf("%d have set it, %d used an approval", set.Load(), used.Load())
	}
}

// Whatever is asked in whatever order, no version lives of which a later one has lived, and each
// has one record.
func TestVersionsNeverGoBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		l, _ := made(t)
		highest, records := uint32(0), map[uint32]Device{}
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			v := recordVersion(1, rapid.IntRange(1, 6).Draw(r, "version"))
			a, b := device(rapid.IntRange(1, 3).Draw(r, "one")), device(rapid.IntRange(1, 3).Draw(r, "two"))
			lives := func(n uint32, record Device) {
				if n < highest {
					r.Fatalf("version %d lives after %d", n, highest)
				}
				if was, ok := records[n]; ok && was != record {
					r.Fatalf("version %d is two records", n)
				}
				highest, records[n] = n, record
			}
			switch rapid.IntRange(0, 4).Draw(r, "operation") {
			case 0:
				if begins(l, v, a) == nil {
					if v.Number < highest {
						r.Fatalf("version %d is begun after %d", v.Number, highest)
					}
					highest = v.Number
				}
			case 1:
				if sets(l, v, a, b) == nil {
					lives(v.Number, b)
				}
			case 2:
				if l.Stands(v, b) == nil {
					lives(v.Number, b)
				}
			case 3:
				if l.Replace(v, a, b) == nil {
					lives(v.Number+1, b)
				}
			case 4:
				if err := l.Revoke(v); err != nil {
					r.Fatal(err)
				}
				highest = max(highest, v.Number+1)
			}
		}
	})
}
