package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	keydv1 "keyd/api/keyd/v1"
)

// process is one whose processor time and memory are measured.
type process struct {
	name string // front, module 0, module 1, client
	pid  int
}

// processesOf returns the processes of a service, and this one.
func processesOf(s *keydv1.GetStatusResponse) []process {
	var list []process
	for _, p := range s.GetProcesses() {
		name := p.GetRole()
		if name == "module" {
			name = fmt.Sprintf("module %d", p.GetIndex())
		}
		list = append(list, process{name, int(p.GetPid())})
	}
	slices.SortFunc(list, func(a, b process) int { return strings.Compare(a.name, b.name) })
	return append(list, process{"client", os.Getpid()})
}

// reading is processor time, user and system, in microseconds: of each process and of
// all that ran on the machine.
type reading struct {
	own []float64 // in the order of the processes
	all float64
	at  time.Time
}

// readCPU fails where a process is no more: what replaced it has other times.
func readCPU(list []process) (r reading, err error) {
	r.own, r.at = make([]float64, len(list)), time.Now()
	for i, p := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err == nil {
			r.own[i], err = parseStat(string(b))
		}
		if err != nil {
			return r, fmt.Errorf("processor time of %s: %w", p.name, err)
		}
	}
	b, err := os.ReadFile("/proc/stat")
	if err == nil {
		r.all, err = parseBusy(string(b))
	}
	if err != nil {
		return r, fmt.Errorf("processor time of the machine: %w", err)
	}
	return r, nil
}

// usage is processor time between readings.
type usage struct {
	own      []float64
	all      float64
	possible float64 // what all processors had to give
}

// add adds the time between two readings.
func (u *usage) add(before, after reading) {
	if u.own == nil {
		u.own = make([]float64, len(before.own))
	}
	for i := range u.own {
		u.own[i] += after.own[i] - before.own[i]
	}
	u.all += after.all - before.all
	u.possible += float64(after.at.Sub(before.at).Microseconds()) * float64(runtime.NumCPU())
}

// others is the share of all processors, in percent, that went to programs which are not
// measured. Above a few per cent, figures say little.
func (u *usage) others() float64 {
	rest := u.all
	for _, own := range u.own {
		rest -= own
	}
	return max(0, 100*rest/u.possible)
}

// parseBusy returns the time that all processors spent in programs, or that a hypervisor
// took away, in microseconds: the first line of /proc/stat.
func parseBusy(text string) (float64, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("no processor times: %q", line)
	}
	var total uint64
	for _, i := range []int{1, 2, 3, 8} { // user, nice, system, steal
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor times: %w", err)
		}
		total += ticks
	}
	return float64(total) * tickMicroseconds, nil
}

// tickMicroseconds is the kernel's unit of processor times (USER_HZ), the same on every
// Linux that Go runs on.
const tickMicroseconds = 10_000

// parseStat returns user and system time of /proc/PID/stat in microseconds. The second
// field is the command's name in parentheses, and may contain anything.
func parseStat(text string) (float64, error) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return 0, fmt.Errorf("no process status: %q", text)
	}
	fields := strings.Fields(text[end+1:]) // from the third field on
	if len(fields) < 13 {
		return 0, fmt.Errorf("process status of %d fields", len(fields)+2)
	}
	var total uint64
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process status: %w", err)
		}
		total += ticks
	}
	return float64(total) * tickMicroseconds, nil
}

// readMemory returns resident memory in MiB, in the order of the processes.
func readMemory(list []process) ([]float64, error) {
	sizes := make([]float64, len(list))
	for i, p := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		if err == nil {
			sizes[i], err = parseKilobytes(string(b), "VmRSS:")
		}
		if err != nil {
			return nil, fmt.Errorf("memory of %s: %w", p.name, err)
		}
		sizes[i] /= 1024
	}
	return sizes, nil
}

// parseKilobytes returns a value of /proc/PID/status or /proc/meminfo.
func parseKilobytes(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fields := strings.Fields(rest)
			if len(fields) != 2 || fields[1] != "kB" {
				return 0, fmt.Errorf("%s %q is no size in kB", name, rest)
			}
			n, err := strconv.ParseUint(fields[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s %w", name, err)
			}
			return float64(n), nil
		}
	}
	return 0, fmt.Errorf("no %s", name)
}
