package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// runner carries out the scenarios of one run.
type runner struct {
	options
	ctx     context.Context
	dir     string
	binary  string
	cards   *cards
	service target
	results results

	tdes, tdesUnchecked, aes, zone, verify *workload // of the first service
}

// run measures everything, or what -only names.
func run(ctx context.Context, o options) (_ *results, err error) {
	dir, err := os.MkdirTemp("", "keyd-bench-")
	if err != nil {
		return nil, err
	}
	if o.keep {
		fmt.Fprintln(o.progress, "bench: services in", dir) //nolint:errcheck // progress only
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := os.Chmod(dir, 0o755); err != nil { // front and modules may have users of their own
		return nil, err
	}
	r := &runner{options: o, ctx: ctx, dir: dir, binary: o.keyd, cards: &cards{number: uint64(o.accounts)}}
	if o.profile != "" {
		r.say("building keyd for profiling")
		if r.binary, err = buildForProfiles(ctx, dir); err != nil {
			return nil, err
		}
	}
	r.say("machine and bare token")
	if r.results.Machine, err = readMachine(ctx, dir); err != nil {
		return nil, err
	}
	if err := r.bareToken(); err != nil {
		return nil, err
	}
	if err := r.firstService(); err != nil {
		return nil, err
	}
	if o.profile != "" {
		front, err := copyProfiles(filepath.Join(dir, "first", "dev"), o.profile)
		if err != nil {
			return nil, err
		}
		shares, err := readShares(ctx, front)
		if err != nil {
			return nil, err
		}
		r.results.Shares = &shares
	}
	if err := r.sweepKeys(); err != nil {
		return nil, err
	}
	if err := r.enrol(o.enrol); err != nil {
		return nil, fmt.Errorf("terminals get keys: %w", err)
	}
	if err := r.records(o.subjects); err != nil {
		return nil, fmt.Errorf("PIN records and voids: %w", err)
	}
	return &r.results, nil
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.progress, "bench: "+format+"\n", args...) //nolint:errcheck // progress only
}

// wants tells whether a scenario is to be measured, and announces it.
func (r *runner) wants(name string) bool {
	if r.only != nil && !r.only.MatchString(name) {
		return false
	}
	r.say("%s", name)
	return true
}

// told tells what came out.
func (r *runner) told(f figures) {
	disturbed := ""
	if f.Others > 5 {
		disturbed = fmt.Sprintf(" (disturbed: other programs took %.0f %% of the processors)", f.Others)
	}
	r.say("    %s/s, p50 %.2f ms, p99 %.2f ms%s", number(f.Rate), f.P50, f.P99, disturbed)
}

func (r *runner) bareToken() (err error) {
	b, err := newBareToken(r.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if r.results.Token, err = b.measure(2 * r.length); err != nil {
		return err
	}
	r.results.Derivations, err = measureDerivations(r.length/2, r.results.Token)
	return err
}

// firstService measures everything but the numbers of keys on one service.
func (r *runner) firstService() (err error) {
	r.say("starting keyd")
	s, err := startService(r.ctx, &r.options, r.binary, filepath.Join(r.dir, "first"), fixedKeys(r.ksn))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if r.service, r.results.Machine.Keyd, err = newTarget(r.ctx, &r.options, s); err != nil {
		return err
	}
	r.results.Setup = setup{
		Seconds: r.length.Seconds(), Calls: r.underWay, Connections: len(s.conns),
		Terminals: r.terminals, Age: r.age, KSN: r.ksn, Full: r.full,
	}
	for _, p := range r.service.processes {
		if strings.HasPrefix(p.name, "module") {
			r.results.Setup.Modules++
		}
	}
	for _, w := range []struct {
		workload  **workload
		operation operation
		key       string
	}{
		{&r.tdes, tdesToZone, bdkTDES},
		{&r.tdesUnchecked, tdesToZone, bdkTDESUnchecked},
		{&r.aes, aesToZone, bdkAES},
		{&r.zone, zoneToZone, zoneIn},
		{&r.verify, verifyPVV, zoneIn},
	} {
		if *w.workload, err = newWorkload(w.operation, w.key, r.terminals, r.age, r.cards); err != nil {
			return err
		}
	}
	for _, step := range []func() error{r.emptyCalls, r.operations, r.ksnChecks, r.comparisons, r.sweepTerminals} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// emptyCalls measures the yardstick, against a server of its own.
func (r *runner) emptyCalls() (err error) {
	if !r.wants("empty gRPC call") {
		return nil
	}
	s, err := startEmpty(r.ctx, r.dir, r.service.server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.connect(len(r.service.server.conns)); err != nil {
		return err
	}
	t := target{server: s, processes: []process{{"front", s.cmd.Process.Pid}, {"client", os.Getpid()}}}
	w := &workload{operation: emptyCall, cards: r.cards}
	for _, m := range []mode{unary, stream} {
		f, err := t.measureClosed(r.ctx, w, m, r.underWay, r.length, false)
		if err != nil {
			return fmt.Errorf("empty calls, %s: %w", m, err)
		}
		f.Name = w.operation.String() + ", " + string(m)
		r.told(f)
		r.results.Empty = append(r.results.Empty, f)
	}
	return nil
}

// operations measures the highest rate of each operation, and latencies at a quarter,
// half and three quarters of it.
func (r *runner) operations() error {
	for _, w := range []*workload{r.tdes, r.aes, r.zone, r.verify} {
		for _, m := range []mode{unary, stream} {
			name := w.operation.String() + ", " + string(m)
			if m == stream && w.operation == verifyPVV || !r.wants(name) {
				continue
			}
			f, err := r.service.measureClosed(r.ctx, w, m, r.underWay, r.length, false)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			f.Name = name
			calls := naive(w)
			f.BareRate = r.results.Token.rate(calls)
			f.Ratio = f.Rate / f.BareRate
			f.MadeRate = r.results.Token.rate(f.Made)
			f.MadeRatio = f.Rate / f.MadeRate
			r.told(f)
			r.results.Closed = append(r.results.Closed, f)
			if m == unary {
				r.results.Calls = append(r.results.Calls, operationCalls{w.operation.String(), calls, f.BareRate})
			}
			rates := []float64{f.Rate / 4, f.Rate / 2, f.Rate * 3 / 4}
			if w.operation == tdesToZone {
				rates = append(rates, map[mode]float64{unary: 7500, stream: 15_000}[m])
			}
			if err := r.paced(w, m, f.Rate, rates); err != nil {
				return err
			}
		}
	}
	return nil
}

// paced measures latencies at the given rates, those left out that are too near to the
// highest one.
func (r *runner) paced(w *workload, m mode, highest float64, rates []float64) error {
	for _, rate := range rates {
		if rate > 0.9*highest {
			r.say("    not paced at %s/s: the highest rate is %s/s", number(rate), number(highest))
			continue
		}
		p, err := r.service.measurePaced(r.ctx, w, m, rate, r.length)
		if err != nil {
			return fmt.Errorf("%s, %s, paced at %.0f/s: %w", w.operation, m, rate, err)
		}
		p.Name = fmt.Sprintf("%s, %s, paced", w.operation, m)
		r.told(p)
		r.results.Paced = append(r.results.Paced, p)
	}
	return nil
}

// ksnChecks compares a BDK with KSN checks with one without. The two take turns, so that
// whatever else the machine does meets them alike.
func (r *runner) ksnChecks() error {
	if r.ksn == "off" || !r.wants("KSN checks on and off") {
		return nil
	}
	var on, off figures
	for range turns {
		for _, side := range []struct {
			w     *workload
			total *figures
		}{{r.tdes, &on}, {r.tdesUnchecked, &off}} {
			f, err := r.service.measureClosed(r.ctx, side.w, stream, r.underWay, r.length/2, false)
			if err != nil {
				return fmt.Errorf("KSN checks: %w", err)
			}
			add(side.total, &f, turns)
		}
	}
	on.Name, off.Name = "KSN checks on", "KSN checks off"
	r.told(on)
	r.told(off)
	r.results.KSN = []figures{on, off}
	front := sum(on.CPU, "front") - sum(off.CPU, "front")
	r.results.KSNCost = &ksnCost{
		RatePercent: 100 * (1 - on.Rate/off.Rate),
		FrontUS:     front,
		AllUS:       front + sum(on.CPU, "module") - sum(off.CPU, "module"),
	}
	return nil
}

// add adds one of several measurements of the same: counts and times add up, latencies
// and processor times become means.
func add(total, f *figures, of float64) {
	if total.CPU == nil {
		total.Operation, total.Mode, total.UnderWay, total.Terminals = f.Operation, f.Mode, f.UnderWay, f.Terminals
		total.CPU = make(map[string]float64)
	}
	total.Count += f.Count
	total.Seconds += f.Seconds
	total.Rate = float64(total.Count) / total.Seconds
	total.P50 += f.P50 / of
	total.P99 += f.P99 / of
	total.P999 += f.P999 / of
	total.Max = max(total.Max, f.Max)
	total.Others = max(total.Others, f.Others)
	for name, us := range f.CPU {
		total.CPU[name] += us / of
	}
}

// sweepTerminals measures with more and more terminals. Each is used at least once,
// so that memory shows what keyd keeps of it.
func (r *runner) sweepTerminals() error {
	numbers := []int{1, 10, 128, 1000, 10_000}
	if r.full {
		numbers = append(numbers, 100_000)
	}
	first := maxTerminals / 2 // others than in the scenarios before
	for _, of := range []*workload{r.tdes, r.aes} {
		for _, n := range numbers {
			name := fmt.Sprintf("%s terminals: %s", number(float64(n)), of.operation)
			if !r.wants(name) {
				continue
			}
			w, err := newWorkload(of.operation, of.incoming, n, r.age, r.cards)
			if err != nil {
				return err
			}
			w.first = uint32(first)
			f, err := r.service.measureClosed(r.ctx, w, stream, r.underWay, r.length*3/4, true)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			first += n
			f.Name = name
			if err := r.service.readMemory(&f); err != nil {
				return err
			}
			f.BareRate = r.results.Token.rate(naive(w))
			f.Ratio = f.Rate / f.BareRate
			r.told(f)
			r.results.Terminals = append(r.results.Terminals, f)
		}
	}
	return nil
}

// sweepKeys measures translations between random keys, on a service for each number of
// keys.
func (r *runner) sweepKeys() error {
	numbers := []int{10, 1000}
	if r.full {
		numbers = append(numbers, 100_000)
	}
	for _, n := range numbers {
		if name := fmt.Sprintf("%s keys", number(float64(n))); r.wants(name) {
			f, err := r.withKeys(n)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			f.Name = name
			r.told(f)
			r.results.Keys = append(r.results.Keys, f)
		}
	}
	return nil
}

func (r *runner) withKeys(n int) (f figures, err error) {
	began := time.Now()
	s, err := startService(r.ctx, &r.options, r.binary, filepath.Join(r.dir, fmt.Sprintf("keys-%d", n)), append(fixedKeys(r.ksn), zoneKeys(n)...))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r.say("    ready after %v", time.Since(began).Round(time.Millisecond))
	t, _, err := newTarget(r.ctx, &r.options, s)
	if err != nil {
		return f, err
	}
	w := newZoneWorkload(n, r.cards)
	if f, err = t.measureClosed(r.ctx, w, stream, r.underWay, r.length, false); err != nil {
		return f, err
	}
	f.BareRate = r.results.Token.rate(naive(w))
	f.Ratio = f.Rate / f.BareRate
	return f, t.readMemory(&f)
}
