package main

import (
	"context"
	"time"
)

// figures are what was measured of a load.
type figures struct {
	Name      string  `json:"name"`
	Database  string  `json:"database,omitempty"` // where it is not SQLite as everywhere, but one of two
	Operation string  `json:"operation"`
	Mode      string  `json:"mode"`
	Target    float64 `json:"target_per_second,omitempty"` // paced loads: how many were due
	UnderWay  int     `json:"calls_under_way"`             // at most
	Terminals int     `json:"terminals,omitempty"`
	Keys      int     `json:"keys,omitempty"` // zone keys to choose from

	Count   uint64  `json:"operations"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"per_second"`

	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
	Late float64 `json:"generator_late_p99_ms,omitempty"` // paced loads

	CPU    map[string]float64 `json:"cpu_us_per_operation"`
	Others float64            `json:"other_programs_percent"` // of all processors, while this was measured
	Memory map[string]float64 `json:"resident_mib,omitempty"`

	// The bare token, with the calls that a program without keyd would make, and with
	// those that keyd has made.
	BareRate  float64    `json:"bare_token_per_second,omitempty"`
	Ratio     float64    `json:"ratio_to_bare_token,omitempty"`
	Made      tokenCalls `json:"token_calls_made,omitzero"`
	MadeRate  float64    `json:"bare_token_per_second_for_calls_made,omitempty"`
	MadeRatio float64    `json:"ratio_for_calls_made,omitempty"`
}

// sum adds up what belongs to the processes whose names begin with prefix.
func sum(of map[string]float64, prefix string) (total float64) {
	for name, value := range of {
		if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
			total += value
		}
	}
	return total
}

// target is what a load is measured on.
type target struct {
	server    *server
	processes []process
	token     bool // the server has one, and says what it has asked of it
	drains    bool // of loads on it
}

// longestPass bounds a measurement that goes on until each terminal has been used.
const longestPass = 2 * time.Minute

// measureClosed measures the highest rate of a workload with up to underWay calls under
// way: for length, and on until every terminal has been used once where whole says so.
// Requests are made in pauses that do not count.
func (t target) measureClosed(ctx context.Context, w *workload, m mode, underWay int, length time.Duration, whole bool) (f figures, err error) {
	l, err := newLoad(w, m, t.server.conns, underWay)
	if err != nil {
		return f, err
	}
	defer l.giveBack()
	l.drains = t.drains
	warm := length / 4
	rate := 2000.0 // a first guess
	for left := warm; left > 0; {
		if err := l.generate(ctx, int(rate*left.Seconds())/len(l.callers)+8); err != nil {
			return f, err
		}
		took, err := l.closed(ctx, left)
		if err != nil {
			return f, err
		}
		rate = float64(l.counted.Load()) / took.Seconds() * 1.2
		left -= max(took, warm/8)
	}
	f = newFigures(w, m, len(l.callers))
	total := new(histogram)
	var used usage
	var took time.Duration
	var answered uint64
	begun, err := t.calls(ctx)
	if err != nil {
		return f, err
	}
	for took < length || whole && !l.usedAll() && took < longestPass {
		left := max(length-took, length/8)
		if err := l.generate(ctx, int(rate*left.Seconds())/len(l.callers)+8); err != nil {
			return f, err
		}
		before, err := readCPU(t.processes)
		if err != nil {
			return f, err
		}
		slice, err := l.closed(ctx, left)
		if err != nil {
			return f, err
		}
		after, err := readCPU(t.processes)
		if err != nil {
			return f, err
		}
		used.add(before, after)
		took += slice
		f.Count += l.counted.Load()
		answered += l.answered.Load()
		total.merge(l.latencies)
	}
	f.take(total, took)
	f.charge(t.processes, &used, answered)
	ended, err := t.calls(ctx)
	if err != nil {
		return f, err
	}
	f.Made = ended.since(begun, float64(answered))
	return f, nil
}

// calls returns what keyd has asked of its token so far.
func (t target) calls(ctx context.Context) (tokenCalls, error) {
	if !t.token {
		return tokenCalls{}, nil
	}
	status, err := t.server.status(ctx)
	return callsIn(status), err
}

// measurePaced measures latencies at a fixed rate.
func (t target) measurePaced(ctx context.Context, w *workload, m mode, rate float64, length time.Duration) (f figures, err error) {
	l, err := newLoad(w, m, t.server.conns, pacedCallers)
	if err != nil {
		return f, err
	}
	defer l.giveBack()
	if _, err := l.paced(ctx, schedule{rate, length / 4}); err != nil { // warm
		return f, err
	}
	s := schedule{rate, length}
	if err := l.generate(ctx, s.arrivals()/len(l.callers)+1); err != nil {
		return f, err
	}
	before, err := readCPU(t.processes)
	if err != nil {
		return f, err
	}
	took, err := l.paced(ctx, s)
	if err != nil {
		return f, err
	}
	after, err := readCPU(t.processes)
	if err != nil {
		return f, err
	}
	f = newFigures(w, m, len(l.callers))
	f.Target = rate
	f.Count = l.answered.Load()
	f.take(l.latencies, took)
	f.Late = l.lateness.percentile(0.99)
	var used usage
	used.add(before, after)
	f.charge(t.processes, &used, f.Count)
	return f, nil
}

// pacedCallers is how many calls a paced load may have under way: more than any rate
// needs that is served in time.
const pacedCallers = 512

func newFigures(w *workload, m mode, underWay int) figures {
	return figures{
		Operation: w.operation.String(), Mode: string(m), UnderWay: underWay,
		Terminals: len(w.counters), Keys: len(w.zones), CPU: make(map[string]float64),
	}
}

func (f *figures) take(h *histogram, took time.Duration) {
	f.Seconds = took.Seconds()
	f.Rate = float64(f.Count) / f.Seconds
	f.P50, f.P99, f.P999, f.Max = h.percentile(0.5), h.percentile(0.99), h.percentile(0.999), h.percentile(1)
}

// charge divides processor time among the answers.
func (f *figures) charge(list []process, u *usage, answered uint64) {
	for i, p := range list {
		f.CPU[p.name] = u.own[i] / float64(answered)
	}
	f.Others = u.others()
}

// readMemory notes the resident memory after a measurement.
func (t target) readMemory(f *figures) error {
	sizes, err := readMemory(t.processes)
	if err != nil {
		return err
	}
	f.Memory = make(map[string]float64)
	for i, p := range t.processes {
		f.Memory[p.name] = sizes[i]
	}
	return nil
}

// newTarget connects to a service and finds its processes.
func newTarget(ctx context.Context, o *options, s *server) (t target, version string, err error) {
	status, err := s.settled(ctx)
	if err != nil {
		return t, "", err
	}
	connections := (o.underWay + o.perConnection - 1) / o.perConnection
	return target{server: s, processes: processesOf(status), token: true}, status.GetVersion(), s.connect(connections)
}
