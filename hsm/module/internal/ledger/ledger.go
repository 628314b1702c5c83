package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"keyd/hsm/module/internal/hostfile"
)

// Errors of a ledger. Their sentences go to the front.
var (
	ErrAllotted = errors.New("that initial key belongs to another device")
	ErrReplayed = errors.New("that request was answered with another choice of keys")
	ErrEnded    = errors.New("another version was begun, or the record was revoked")
	ErrBegun    = errors.New("this version was begun by another approval")
	ErrSet      = errors.New("the PIN of this version was set already")
	ErrUsed     = errors.New("that approval was used already")
	ErrNone     = errors.New("the modules have no ledger")
	ErrDamaged  = errors.New("the modules' ledger is damaged")
	ErrFull     = errors.New("the modules' ledger is full")
)

// Ledger is the file as a module has it. It is safe for concurrent use.
type Ledger struct {
	fd int

	mu      sync.Mutex        // record locks do not exclude threads
	count   uint64            // entries that are read
	slot    int               // of the head, which is the newer one
	index   map[uint64]uint32 // places of entries, by the first bytes of their keys and what follows where that is taken
	looking bool              // nothing is written
}

// Open uses the file with that descriptor. With -1 there is none, and everything is refused
// ([ErrNone]).
func Open(fd int) *Ledger { return &Ledger{fd: fd, index: make(map[uint64]uint32)} }

// Count returns the number of entries.
func (l *Ledger) Count() (n uint64, err error) {
	err = l.alone(func() error { n = l.count; return nil })
	return n, err
}

// Bind binds initial keys to devices and requests to choices of keys, 1 to 1,024 at once, all of
// them or none. What is bound to the same already stays so, and is no error. After it has returned nil the entries are
// on the disk, and the keys may leave.
//
// Errors are [ErrAllotted] and [ErrReplayed], where the first that is bound otherwise is; [ErrNone], [ErrDamaged] and
// [ErrFull]; and those of the file. After any of them no key may leave.
func (l *Ledger) Bind(entries ...Entry) error {
	if len(entries) == 0 || len(entries) > maxBatch {
		return fmt.Errorf("a ledger takes 1 to %d entries at once", maxBatch)
	}
	return l.alone(func() error {
		fresh, err := l.fresh(entries)
		if err != nil {
			return err
		}
		return l.add(fresh)
	})
}

// add appends entries as one batch, and has them on the disk.
func (l *Ledger) add(fresh []Entry) error {
	if len(fresh) == 0 {
		return nil
	}
	if l.count+uint64(len(fresh)) > maxPlace {
		return ErrFull
	}
	var b []byte
	for i := range fresh {
		b = fresh[i].append(b, l.count+uint64(i), l.count)
	}
	if err := hostfile.WriteAt(l.fd, b, offset(l.count)); err != nil {
		// What cannot be removed now is found by whoever comes next, and counts or goes.
		return errors.Join(err, cut(l.fd, offset(l.count)))
	}
	for i := range fresh {
		l.remember(&fresh[i])
	}
	return hostfile.Put(l.fd, slot(l.count), int64(1-l.slot)*slotSize)
}

// Look says what [Ledger.Bind] would now: nil, or why not.
func (l *Ledger) Look(entries ...Entry) error {
	return l.alone(func() error {
		_, err := l.fresh(entries)
		return err
	})
}

// fresh returns the entries that are not there yet.
func (l *Ledger) fresh(entries []Entry) (fresh []Entry, err error) {
	for i := range entries {
		e := &entries[i]
		there, found, err := l.find(e.key)
		if err != nil {
			return nil, err
		}
		for _, other := range fresh {
			if other.key == e.key {
				there, found = other, true
			}
		}
		switch {
		case !found:
			fresh = append(fresh, *e)
		case there.device != e.device && e.request:
			return nil, ErrReplayed
		case there.device != e.device:
			return nil, ErrAllotted
		}
	}
	return fresh, nil
}

// find returns the entry of an initial key.
func (l *Ledger) find(key [keySize]byte) (e Entry, found bool, err error) {
	for at := short(key); ; at++ {
		place, ok := l.index[at]
		if !ok {
			return Entry{}, false, nil
		}
		var b [Size]byte
		if err := hostfile.ReadAt(l.fd, b[:], offset(uint64(place))); err != nil {
			return Entry{}, false, err
		}
		e, _, ok := decode(b[:], uint64(place))
		if !ok {
			return Entry{}, false, ErrDamaged
		}
		if e.key == key {
			return e, true, nil
		}
	}
}

// remember indexes the entry that comes next.
func (l *Ledger) remember(e *Entry) {
	at := short(e.key)
	for {
		if _, taken := l.index[at]; !taken {
			break
		}
		at++
	}
	l.index[at] = uint32(l.count)
	l.count++
}

func short(key [keySize]byte) uint64 { return binary.BigEndian.Uint64(key[:]) }

func offset(place uint64) int64 { return headSize + int64(place)*Size }

// alone excludes the other modules of the host, and knows what they have added.
func (l *Ledger) alone(do func() error) error {
	if l.fd < 0 {
		return ErrNone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return hostfile.Alone(l.fd, func() error {
		if err := l.catchUp(); err != nil {
			return fmt.Errorf("ledger: %w", err)
		}
		return do()
	})
}

// catchUp reads the entries that others have added, and removes a last batch that is not whole.
// Entries that count for nobody yet, since whoever wrote them ended before they were on the disk
// or before the head said so, count from then on: they are written again, so that no answer goes
// by what is in memory only, and nothing is ever appended behind it.
func (l *Ledger) catchUp() error {
	var stat unix.Stat_t
	if err := unix.Fstat(l.fd, &stat); err != nil {
		return err
	}
	acknowledged, in, err := readHead(l.fd)
	if err != nil {
		return err
	}
	l.slot = in
	if stat.Size < offset(max(l.count, acknowledged)) {
		return fmt.Errorf("%w: it is shorter than it was", ErrDamaged)
	}
	for {
		rest := stat.Size - offset(l.count)
		if rest == 0 {
			return l.confirm(acknowledged)
		}
		b := make([]byte, min(rest, readAhead*Size))
		if err := hostfile.ReadAt(l.fd, b, offset(l.count)); err != nil {
			return err
		}
		for ; len(b) >= Size; b = b[Size:] {
			e, begin, ok := decode(b[:Size], l.count)
			if !ok || begin > l.count {
				return l.torn(stat.Size, acknowledged)
			}
			l.remember(&e)
		}
		if len(b) > 0 {
			return l.torn(stat.Size, acknowledged)
		}
	}
}

// torn removes a last batch that is not whole, which begins at most a batch before the first
// entry that was not read. It is damage where the head says that the entry counts, or another
// batch is behind it.
func (l *Ledger) torn(size int64, acknowledged uint64) error {
	rest := size - offset(l.count)
	if l.count < acknowledged || rest > maxBatch*Size {
		return fmt.Errorf("%w at entry %d", ErrDamaged, l.count)
	}
	b := make([]byte, rest)
	if err := hostfile.ReadAt(l.fd, b, offset(l.count)); err != nil {
		return err
	}
	for place := l.count + 1; len(b) >= 2*Size; place++ {
		b = b[Size:]
		if _, begin, ok := decode(b[:Size], place); ok && begin > l.count {
			return fmt.Errorf("%w at entry %d", ErrDamaged, l.count)
		}
	}
	if l.looking {
		return nil
	}
	if err := cut(l.fd, offset(l.count)); err != nil {
		return err
	}
	return l.confirm(acknowledged)
}

// confirm has all entries on the disk, and in the head, that were read and that it does not have.
func (l *Ledger) confirm(acknowledged uint64) error {
	if l.count <= acknowledged || l.looking {
		return nil
	}
	b := make([]byte, (l.count-acknowledged)*Size)
	if err := hostfile.ReadAt(l.fd, b, offset(acknowledged)); err != nil {
		return err
	}
	if err := hostfile.WriteAt(l.fd, b, offset(acknowledged)); err != nil {
		return err
	}
	return hostfile.WriteAt(l.fd, slot(l.count), int64(1-l.slot)*slotSize)
}

// cut ends the file at a size, on the disk.
func cut(fd int, size int64) error {
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("ledger: %w", os.NewSyscallError("ftruncate", err))
	}
	if err := unix.Fsync(fd); err != nil {
		return fmt.Errorf("ledger: %w", os.NewSyscallError("fsync", err))
	}
	return nil
}
