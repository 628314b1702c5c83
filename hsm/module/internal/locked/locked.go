// Package locked provides memory for clear values: outside the Go heap, so that the
// garbage collector never copies it, locked into RAM, left out of core files and
// wiped in a forked child. Sizes are in bytes. Only the module uses it.
package locked

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Region is a piece of locked memory. It is wiped before it is returned to the
// system. A Region is used by one goroutine at a time.
type Region struct {
	mem []byte
}

// New returns a zeroed region of at least size bytes, rounded up to whole pages.
func New(size int) (*Region, error) {
	page := os.Getpagesize()
	size = (size + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("allocate memory for secrets: %w", err)
	}
	r := &Region{mem: mem}
	if err := unix.Mlock(mem); err != nil {
		r.Free()
		return nil, fmt.Errorf("lock memory for secrets (raise RLIMIT_MEMLOCK): %w", err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_WIPEONFORK} {
		if err := unix.Madvise(mem, advice); err != nil {
			r.Free()
			return nil, fmt.Errorf("protect memory for secrets: %w", err)
		}
	}
	return r, nil
}

// Bytes returns the whole region.
func (r *Region) Bytes() []byte { return r.mem }

// Wipe zeroes the region.
func (r *Region) Wipe() { clear(r.mem) }

// Free wipes the region and gives it back to the system.
func (r *Region) Free() {
	if r.mem == nil {
		return
	}
	clear(r.mem)
	_ = unix.Munmap(r.mem) // fails only for memory that was never mapped
	r.mem = nil
}
