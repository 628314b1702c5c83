package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is the shape of the machine, and nothing that tells which one it is.
type machine struct {
	Processors int     `json:"processors"`
	Model      string  `json:"model"`
	Kernel     string  `json:"kernel"`
	MemoryGiB  float64 `json:"memory_gib"`
	Sync50     float64 `json:"fdatasync_p50_ms"` // of 4 KiB appended to a file
	Sync99     float64 `json:"fdatasync_p99_ms"`
	Go         string  `json:"go"`
	SoftHSM    string  `json:"softhsm"`
	Keyd       string  `json:"keyd"`
}

func readMachine(ctx context.Context, dir string) (m machine, err error) {
	m.Processors, m.Go = runtime.NumCPU(), runtime.Version()
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	m.Model = parseModel(string(info), runtime.GOARCH)
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	total, err := parseKilobytes(string(memory), "MemTotal:")
	if err != nil {
		return m, err
	}
	m.MemoryGiB = total / (1 << 20)
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("uname: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	out, err := exec.CommandContext(ctx, "softhsm2-util", "--version").Output()
	if err != nil {
		return m, fmt.Errorf("softhsm2-util --version: %w", err)
	}
	if m.SoftHSM = strings.TrimSpace(string(out)); !versionForm.MatchString(m.SoftHSM) {
		return m, fmt.Errorf("softhsm2-util --version: %q is no version", m.SoftHSM)
	}
	m.Sync50, m.Sync99, err = measureSync(dir)
	return m, err
}

var versionForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)+$`)

// parseModel returns the name of the first processor; where the kernel gives none, the
// architecture.
func parseModel(info, arch string) string {
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value) + ", " + arch
		}
	}
	return arch
}

// measureSync appends 4 KiB to a file in dir and makes it durable, again and again, as
// the audit log does. It returns median and 99th percentile in milliseconds.
func measureSync(dir string) (p50, p99 float64, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close() //nolint:errcheck // every write was synced or failed
	page := make([]byte, 4096)
	times := make([]float64, 300)
	for i := range times {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, fmt.Errorf("fdatasync: %w", err)
		}
		times[i] = float64(time.Since(began).Nanoseconds()) / 1e6
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100], nil
}
