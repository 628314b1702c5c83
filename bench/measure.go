package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

// driver makes calls on a connection until ctx ends, with some under way at once, and
// passes how long each took to done.
type driver func(ctx context.Context, conn *grpc.ClientConn, underWay int, done func(time.Duration)) error

// measurement is what a driver did in a time.
type measurement struct {
	latencies []time.Duration
	took      time.Duration
	err       error
}

func measure(conns []*grpc.ClientConn, clients int, length time.Duration, drive driver) measurement {
	warm, cancel := context.WithTimeout(context.Background(), length/5)
	m := round(warm, conns, clients, drive)
	cancel()
	if m.err != nil {
		return m
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	return round(ctx, conns, clients, drive)
}

func round(ctx context.Context, conns []*grpc.ClientConn, clients int, drive driver) (m measurement) {
	var mu sync.Mutex
	var wait sync.WaitGroup
	began := time.Now()
	for _, conn := range conns {
		wait.Go(func() {
			var own []time.Duration
			var ownMu sync.Mutex
			err := drive(ctx, conn, max(1, clients/len(conns)), func(d time.Duration) {
				ownMu.Lock()
				own = append(own, d)
				ownMu.Unlock()
			})
			mu.Lock()
			defer mu.Unlock()
			m.latencies = append(m.latencies, own...)
			if err != nil && ctx.Err() == nil {
				m.err = errors.Join(m.err, err)
			}
		})
	}
	wait.Wait()
	m.took = time.Since(began)
	slices.Sort(m.latencies)
	if len(m.latencies) == 0 && m.err == nil {
		m.err = errors.New("nothing was answered")
	}
	return m
}

// percentile returns a latency in milliseconds.
func (m measurement) percentile(p float64) float64 {
	return float64(m.latencies[int(p*float64(len(m.latencies)-1))]) / float64(time.Millisecond)
}

// cpuTimes is processor time in microseconds, by kind of process.
type cpuTimes struct{ front, modules, client float64 }

func (c cpuTimes) minus(o cpuTimes) cpuTimes {
	return cpuTimes{c.front - o.front, c.modules - o.modules, c.client - o.client}
}

func readCPU(s *keydv1.GetStatusResponse) (c cpuTimes) {
	for _, p := range s.Processes {
		if p.Role == "front" {
			c.front += processCPU(int(p.Pid))
		} else {
			c.modules += processCPU(int(p.Pid))
		}
	}
	c.client = processCPU(os.Getpid())
	return c
}

// processCPU reads user and system time of a process from the kernel, which counts in
// hundredths of a second.
func processCPU(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)   // 0 if the kernel changed its format
	system, _ := strconv.ParseFloat(fields[12], 64) // likewise
	return (user + system) * 10_000
}
