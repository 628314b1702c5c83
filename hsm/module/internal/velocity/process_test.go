package velocity

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// processes counts in three processes at once. Each is killed at any moment and started
// again, 20 times. It returns how often each subject was reported as allowed.
func processes(t *testing.T, role string, f *os.File) map[int]int {
	var mu sync.Mutex
	all := make(map[int]int)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			for range 20 {
				cmd := again(t, role, f)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Error(err)
					return
				}
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				kill := time.AfterFunc(rand.N(150*time.Millisecond), func() { _ = cmd.Process.Kill() })
				got := make(map[int]int)
				var report [2]byte
				for {
					if _, err := io.ReadFull(out, report[:]); err != nil {
						break // it is dead, and has said what it had to say
					}
					got[int(binary.BigEndian.Uint16(report[:]))]++
				}
				var exit *exec.ExitError
				if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
					t.Errorf("a process was not killed, but ended: %v", err)
				}
				kill.Stop()
				mu.Lock()
				for n, times := range got {
					all[n] += times
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return all
}

func testProcesses(t *testing.T, role string, subjects int, l Limits, most int) {
	f, err := Create(newPath(t), minEntries)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counts := processes(t, role, f)
	total := 0
	for n, times := range counts {
		if times > most {
			t.Errorf("subject %d was allowed %d times, the limit is %d", n, times, most)
		}
		total += times
	}
	t.Logf("%d tries at %d subjects were allowed, at most %d are", total, len(counts), subjects*most)
	if total < subjects*most/100 {
		t.Error("hardly anything was allowed")
	}

	// The table works on: for those processes' subjects and for new ones.
	table, err := openReal(int(f.Fd()), l)
	if err != nil {
		t.Fatal(err)
	}
	defer closeTable(t, table)
	for _, n := range []int{0, 1, many + 1, many + 2} {
		if !table.Reset(Verification, numbered(n)) {
			t.Error("not reset")
		}
		if got := allowed(table, Verification, numbered(n), 2*most); got != most {
			t.Errorf("subject %d: %d allowed, the limit is %d", n, got, most)
		}
	}
}

func TestProcessesAreKilled(t *testing.T) {
	testProcesses(t, "count few", few, fewLimits, fewLimits.Verification.Hour)
}

func TestCrowdedProcessesAreKilled(t *testing.T) {
	testProcesses(t, "count many", many, manyLimits, manyLimits.Verification.Day)
}

// A hundred times more subjects than entries evade nothing, and do not lift the limit
// of one that is tried between them.
func TestFlood(t *testing.T) {
	c := newTestClock()
	limits := Limits{Verification: Limit{Hour: 5}, Translation: Limit{Day: 1000}}
	table := openTable(t, memoryFile(t), 1, limits, c)
	target := []byte("target")
	got, all := 0, 0
	for n := range 100 * minEntries {
		if table.Count(Verification, numbered(n)) {
			all++
		}
		if n%100 == 0 && table.Count(Verification, target) {
			got++
		}
	}
	if got > 5 {
		t.Errorf("the target was allowed %d times, the limit is 5", got)
	}
	s := table.Stats()
	t.Logf("%d of %d others were allowed, the target %d times; %+v", all, 100*minEntries, got, s)
	if s.Crowded == 0 || s.InUse != minEntries {
		t.Errorf("%+v", s)
	}
	// It ends with the window.
	later(t, c, table, 29*time.Hour)
	if got := allowed(table, Verification, target, 9); got != 5 {
		t.Errorf("%d allowed a day later", got)
	}
}
