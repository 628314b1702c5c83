//go:build profile

package main

import (
	"os"
	"path/filepath"
	"runtime/pprof"
)

// startProfile writes a CPU profile of this process, and one of its allocations, into a directory that it may write.
// It is built with the tag profile only, for bench -profile: no other binary has it.
// The file is opened, and the timer set, before the process is confined.
func startProfile(dir, name string) (stop func()) {
	f, err := os.Create(filepath.Join(dir, name+".pprof"))
	if err != nil {
		return func() {}
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
		if a, err := os.Create(filepath.Join(dir, name+".allocs.pprof")); err == nil {
			_ = pprof.Lookup("allocs").WriteTo(a, 0)
			_ = a.Close()
		}
	}
}
