package velocity

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrOtherKey says that the file belongs to another token: under another key every
// subject would be a new one.
var ErrOtherKey = errors.New("the velocity file was written under another token's key: if the token was replaced for good, move the file away while keyd is stopped, and start again")

// Table is a process's view of the table.
type Table struct {
	mem    []byte
	header *header
	sets   []set
	mask   uint64

	*identifier
	limits limits
	clock  Clock
	base   uint64 // the table's time when the machine started, in milliseconds

	known    atomic.Uint64 // what is presumed in the present tick, see loss.go
	refusals atomic.Uint64
	crowded  atomic.Uint64
	failure  atomic.Pointer[error] // of the last write to the disk

	stop    chan struct{}
	stopped sync.WaitGroup
}

// Open maps the table behind a descriptor, which stays the caller's, and joins it. The
// process may be confined already: nothing is opened.
//
// key is derived from the token; no other process than a module may know it. boot is
// the kernel's boot ID. It fails with [ErrOtherKey] where the file was used under
// another key, and where it is not a velocity file or is damaged.
func Open(fd int, key [32]byte, boot [16]byte, l Limits, clock Clock) (*Table, error) {
	limits, err := newLimits(l)
	if err != nil {
		return nil, err
	}
	sets, err := checkHeader(fd)
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, int(fileSize(sets)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if errors.Is(err, unix.EAGAIN) {
		return nil, fmt.Errorf("map the velocity file: %w: raise RLIMIT_MEMLOCK by its size of %d bytes", err, fileSize(sets))
	}
	if err != nil {
		return nil, fmt.Errorf("map the velocity file: %w", err)
	}
	// What follows are hints: reading ahead around a place is useless, but after a
	// start the file had better come to memory before it is asked for.
	_ = unix.Madvise(mem, unix.MADV_WILLNEED)
	_ = unix.Madvise(mem, unix.MADV_RANDOM)
	t := &Table{
		mem:        mem,
		header:     (*header)(unsafe.Pointer(&mem[0])),
		sets:       unsafe.Slice((*set)(unsafe.Pointer(&mem[headerSize])), sets),
		mask:       sets - 1,
		identifier: newIdentifier(key),
		limits:     limits,
		clock:      clock,
		stop:       make(chan struct{}),
	}
	if err := t.begin(boot); err != nil {
		_ = unix.Munmap(mem) // fails only for memory that was never mapped
		return nil, err
	}
	t.stopped.Go(t.syncRegularly)
	return t, nil
}

// begin does what comes before the first count.
func (t *Table) begin(boot [16]byte) error {
	check := t.identify(0, nil).permit | 1 // never 0
	if !t.header.key.CompareAndSwap(0, check) && !equal(t.header.key.Load(), check) {
		return ErrOtherKey
	}
	if err := t.join(boot); err != nil {
		return err
	}
	// From here on the file must not look cleanly ended, on the disk either.
	return t.Sync()
}

// Close writes the table to the disk and ends its use. No other call may be under way
// or follow.
func (t *Table) Close() error {
	close(t.stop)
	t.stopped.Wait()
	err := t.Sync()
	if unmap := unix.Munmap(t.mem); unmap != nil {
		err = errors.Join(err, fmt.Errorf("unmap the velocity file: %w", unmap))
	}
	t.mem, t.header, t.sets = nil, nil, nil
	return err
}

// set returns the set that a subject belongs to.
func (t *Table) set(id identity) *set { return &t.sets[id.set&t.mask] }

// raiseTo makes a word at least v, and returns what it is then.
func raiseTo(word *atomic.Uint64, v uint64) uint64 {
	for {
		old := word.Load()
		if old >= v {
			return old
		}
		if word.CompareAndSwap(old, v) {
			return v
		}
	}
}

func equal(a, b uint64) bool {
	var x, y [8]byte
	binary.NativeEndian.PutUint64(x[:], a)
	binary.NativeEndian.PutUint64(y[:], b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// checkHeader reads what never changes of a file, and compares it with its size. It
// returns the number of sets.
func checkHeader(fd int) (sets uint64, err error) {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, fmt.Errorf("look at the velocity file: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return 0, errors.New("the velocity file is not a regular file")
	}
	var b [24]byte
	n, err := unix.Pread(fd, b[:], 0)
	if err != nil {
		return 0, fmt.Errorf("read the velocity file: %w", err)
	}
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }
	switch {
	case n < len(b) || word(0) != magic:
		return 0, errors.New("the velocity file is not one of keyd's, or from a machine of another kind: move it away, and start again")
	case word(1) != version:
		return 0, fmt.Errorf("the velocity file has version %d, this keyd reads %d", word(1), version)
	}
	sets = word(2)
	if sets < minEntries/places || sets > maxEntries/places || sets&(sets-1) != 0 || stat.Size != fileSize(sets) {
		return 0, fmt.Errorf("the velocity file is damaged: its size of %d bytes is not that of %d entries; move it away while keyd is stopped, and start again", stat.Size, sets*places)
	}
	if pages := os.Getpagesize(); headerSize%pages != 0 && pages%headerSize != 0 {
		return 0, fmt.Errorf("the velocity file cannot be mapped with pages of %d bytes", pages)
	}
	return sets, nil
}
