package velocity

import (
	"bytes"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// event is a try that was allowed: when it really was, and by the table's time.
type event struct {
	at   time.Duration
	tick uint64
}

// model is an exact log beside two modules with one table.
type model struct {
	t      *testing.T
	limits Limits
	c      *testClock
	real   time.Duration
	file   *os.File
	boot   int
	tables [2]*Table
	disk   []byte        // the file when it was last written to the disk
	synced time.Duration // when that was

	subjects [][]byte
	log      map[string][]event
	crowded  bool // there are more subjects than places
}

func newModel(t *testing.T, l Limits, crowded bool) *model {
	m := &model{t: t, limits: l, c: newTestClock(), file: memoryFile(t), boot: 1, log: make(map[string][]event), crowded: crowded}
	m.open()
	n := places / 2
	if crowded {
		n = places + 6
	}
	m.subjects = inSet(m.tables[0], 5, n)
	return m
}

func (m *model) open() {
	for i := range m.tables {
		m.tables[i] = openTable(m.t, m.file, m.boot, m.limits, m.c)
	}
	m.disk, m.synced = contents(m.t, m.file), m.real
}

func (m *model) close() {
	for _, table := range m.tables {
		closeTable(m.t, table)
	}
	m.disk, m.synced = contents(m.t, m.file), m.real
}

// pass lets time pass, and a module write to the disk where it is due.
func (m *model) pass(d time.Duration, module int) error {
	m.real += d
	m.c.advance(d)
	before := m.tables[0].header.synced.Load()
	if err := m.tables[module].syncIfDue(); err != nil {
		return err
	}
	if m.tables[0].header.synced.Load() != before {
		m.disk, m.synced = contents(m.t, m.file), m.real
	}
	return nil
}

// count counts, and compares with the log.
func (m *model) count(t *rapid.T, module int, kind Kind, subject []byte) {
	limit := m.limits.Verification
	if kind == Translation {
		limit = m.limits.Translation
	}
	table := m.tables[module]
	stats := table.Stats()
	got := table.Count(kind, subject)
	now := event{m.real, table.now()}
	name := string(rune(kind)) + string(subject)

	// What must be: in no window more than its limit.
	if got {
		m.log[name] = append(m.log[name], now)
	}
	windows := []struct {
		most  int
		size  time.Duration
		ticks uint64
	}{{limit.Minute, time.Minute, 1}, {limit.Hour, time.Hour, 60}, {limit.Day, 24 * time.Hour, 1440}}
	room := true
	for _, w := range windows {
		exact, conservative := 0, 0
		for _, e := range m.log[name] {
			if e.at > m.real-w.size {
				exact++
			}
			if e.tick/w.ticks+window >= now.tick/w.ticks {
				conservative++
			}
		}
		if w.most != 0 && got && exact > w.most {
			t.Fatalf("%d tries at %q in %v, the limit is %d", exact, subject, w.size, w.most)
		}
		if w.most != 0 && conservative >= w.most {
			room = false
		}
	}
	// What may be refused: nothing else.
	if !got && room && !m.crowded && stats.PresumedUntil.IsZero() && !stats.Stale {
		t.Fatalf("a try at %q was refused without a reason: %+v", subject, m.limits)
	}
}

// end ends the modules and the machine, cleanly, and starts both again.
func (m *model) end(t *rapid.T, reboot bool, down time.Duration, wrong time.Duration) {
	m.close()
	if reboot {
		if err := MarkClean(m.file, bootID(m.boot)); err != nil {
			t.Fatal(err)
		}
		m.start(down, wrong)
		return
	}
	m.open()
}

// start starts the machine again, with a clock that is behind by wrong.
func (m *model) start(down, wrong time.Duration) {
	m.boot++
	m.real += down
	m.c.reboot(down - wrong)
	m.open()
}

// losePower leaves of every sector of the file what was last written to the disk, or
// what it is now.
func (m *model) losePower(t *rapid.T, down, wrong time.Duration) {
	now := contents(m.t, m.file)
	disk, since := bytes.Clone(m.disk), m.real-m.synced+down
	m.close()
	for at := 0; at < len(now); at += sectorSize {
		end := at + sectorSize
		if !bytes.Equal(now[at:end], disk[at:end]) && rapid.Bool().Draw(t, "sector was written") {
			copy(disk[at:end], now[at:end])
		}
	}
	_ = m.file.Close()
	m.file = restored(m.t, disk)
	m.start(down, wrong)
	if m.tables[0].Stats().PresumedUntil.IsZero() && since < 20*time.Hour {
		t.Fatal("nothing is presumed after a loss of power")
	}
}

func drawDuration(t *rapid.T, name string) time.Duration {
	most := rapid.SampledFrom([]time.Duration{5 * time.Second, time.Minute, 20 * time.Minute, 8 * time.Hour, 40 * time.Hour}).Draw(t, name)
	return time.Duration(rapid.Int64Range(0, most.Milliseconds()).Draw(t, name)) * time.Millisecond
}

func testModel(t *testing.T, crowded, lossy bool) {
	rapid.Check(t, func(r *rapid.T) {
		limit := func(name string) Limit {
			draw := func(most int) int { return rapid.IntRange(0, most).Draw(r, name) }
			return Limit{Minute: draw(5), Hour: draw(8), Day: draw(12)}
		}
		m := newModel(t, Limits{Verification: limit("verifications"), Translation: limit("translations")}, crowded)
		defer func() {
			m.close()
			_ = m.file.Close()
		}()
		module := func(r *rapid.T) int { return rapid.IntRange(0, 1).Draw(r, "module") }
		count := func(r *rapid.T) {
			kind := rapid.SampledFrom([]Kind{Verification, Translation}).Draw(r, "kind")
			subject := rapid.SampledFrom(m.subjects).Draw(r, "subject")
			for range rapid.IntRange(1, 4).Draw(r, "tries") {
				m.count(r, module(r), kind, subject)
			}
		}
		actions := map[string]func(*rapid.T){
			"count":       count,
			"count again": count,
			"pass": func(r *rapid.T) {
				if err := m.pass(drawDuration(r, "passes"), module(r)); err != nil {
					r.Fatal(err)
				}
			},
			"pass a little": func(r *rapid.T) {
				d := time.Duration(rapid.IntRange(0, 25_000).Draw(r, "passes")) * time.Millisecond
				if err := m.pass(d, module(r)); err != nil {
					r.Fatal(err)
				}
			},
			"pass without a write": func(r *rapid.T) {
				d := time.Duration(rapid.IntRange(0, 120_000).Draw(r, "passes")) * time.Millisecond
				m.real += d
				m.c.advance(d)
			},
			"crowd": func(r *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(r, "crowd") {
					m.count(r, 0, Verification, rapid.SampledFrom(m.subjects).Draw(r, "subject"))
				}
			},
			"modules end": func(r *rapid.T) { m.end(r, false, 0, 0) },
			"machine ends": func(r *rapid.T) {
				m.end(r, true, drawDuration(r, "down"), rapid.SampledFrom([]time.Duration{0, drawDuration(r, "clock is behind by")}).Draw(r, "clock"))
			},
		}
		if lossy {
			actions["power is lost"] = func(r *rapid.T) {
				m.losePower(r, drawDuration(r, "down"), rapid.SampledFrom([]time.Duration{0, drawDuration(r, "clock is behind by")}).Draw(r, "clock"))
			}
		}
		r.Repeat(actions)
	})
}

func TestModel(t *testing.T)                  { testModel(t, false, false) }
func TestModelCrowded(t *testing.T)           { testModel(t, true, false) }
func TestModelLosesPower(t *testing.T)        { testModel(t, false, true) }
func TestModelCrowdedLosesPower(t *testing.T) { testModel(t, true, true) }
