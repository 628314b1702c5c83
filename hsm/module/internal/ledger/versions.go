package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
)

// Version is a version of the PIN record of a subject, which is named by its digest (package
// pinrecord). Numbers begin at 1.
type Version struct {
	Subject [sha256.Size]byte
	Number  uint32
}

// maxVersion bounds numbers, so that all entries that one needs go into one batch.
const maxVersion = maxBatch - 4

// What a version was begun by, where it is no approval.
var (
	passed  = Device(sha256.Sum256([]byte("keyd pin passed 1\x00"))) // somewhere else, or not at all: a later one was begun here
	revoked = Device(sha256.Sum256([]byte("keyd pin revoked 1\x00")))
	used    = Device(sha256.Sum256([]byte("keyd pin approval used 1\x00")))
)

// changed is what a version was begun by that came of a change to a record.
func changed(record Device) Device {
	return sha256.Sum256(append([]byte("keyd pin changed 1\x00"), record[:]...))
}

// A version has up to two entries: by what it was begun, and which record it is once its PIN is
// set. Whoever begins a version has all before it begun too, so that one look at the next number
// says whether a version is dead.

func (v Version) begun() [keySize]byte { return v.key("keyd ledger pin begun 1\x00") }

func (v Version) set() [keySize]byte { return v.key("keyd ledger pin set 1\x00") }

func (v Version) key(domain string) [keySize]byte {
	b := append([]byte(domain), v.Subject[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(b, v.Number))
	return [keySize]byte(sum[:])
}

func (v Version) next() Version { return Version{v.Subject, v.Number + 1} }

// Begin begins a version by an approval: from then on all before it are dead. It may be begun by
// the same one again, and is first then no longer. Errors are [ErrEnded], [ErrBegun] and those of
// [Ledger.Bind].
func (l *Ledger) Begin(v Version, approval Device) (first bool, err error) {
	return l.added(func() ([]Entry, error) { return l.begin(v, approval) })
}

// added adds what is not there yet, and reports whether that was anything.
func (l *Ledger) added(missing func() ([]Entry, error)) (some bool, err error) {
	err = l.alone(func() error {
		fresh, err := missing()
		if err != nil {
			return err
		}
		some = len(fresh) > 0
		return l.add(fresh)
	})
	return some && err == nil, err
}

// Pending says whether the PIN of a version that an approval has begun may be set: nil, or why not.
func (l *Ledger) Pending(v Version, approval Device) error {
	return l.alone(func() error {
		_, err := l.begin(v, approval)
		return err
	})
}

// Set has a version, begun by an approval, be this record. It may be the same again, and is first
// then no longer, and no other ([ErrSet]). Errors are those of [Ledger.Begin] besides.
func (l *Ledger) Set(v Version, approval, record Device) (first bool, err error) {
	return l.added(func() ([]Entry, error) {
		fresh, err := l.begin(v, approval)
		if err != nil {
			return nil, err
		}
		there, found, err := l.find(v.set())
		switch {
		case err != nil:
			return nil, err
		case !found:
			fresh = append(fresh, Entry{key: v.set(), device: record})
		case there.device != record:
			return nil, ErrSet
		}
		return fresh, nil
	})
}

// Standing says what [Ledger.Stands] would, and keeps nothing.
func (l *Ledger) Standing(v Version, record Device) error {
	return l.alone(func() error { return l.stands(v, record) })
}

// Stands says whether a record of a version counts: nil, or [ErrEnded]. One that comes from another
// host is known here from then on, and all before it are dead here too.
func (l *Ledger) Stands(v Version, record Device) error {
	return l.alone(func() error {
		if err := l.stands(v, record); err != nil {
			return err
		}
		_, known, err := l.find(v.set())
		if err != nil || known {
			return err
		}
		var fresh []Entry
		if _, known, err = l.find(v.begun()); err == nil && !known {
			fresh, err = l.begin(v, passed)
		}
		if err != nil {
			return err
		}
		return l.add(append(fresh, Entry{key: v.set(), device: record}))
	})
}

// Replaceable says whether a record may be changed: it counts, or the next version came of a
// change to it (done), whose answer may have been lost.
func (l *Ledger) Replaceable(v Version, record Device) (done bool, err error) {
	err = l.alone(func() error {
		next, err := l.replaceable(v, record)
		done = next != nil
		return err
	})
	return done && err == nil, err
}

// Replace has a record be followed by another, of the next version. It may be followed by the same
// again, and by no other ([ErrEnded]).
func (l *Ledger) Replace(v Version, record, next Device) error {
	return l.alone(func() error {
		was, err := l.replaceable(v, record)
		switch {
		case err != nil:
			return err
		case was != nil && *was != next:
			return ErrEnded
		case was != nil:
			return nil
		}
		fresh, err := l.begin(v.next(), changed(next))
		if err != nil {
			return err
		}
		return l.add(append(fresh, Entry{key: v.next().set(), device: next}))
	})
}

// Revoke ends a version for good. One that is dead stays so.
func (l *Ledger) Revoke(v Version) error {
	return l.alone(func() error {
		_, dead, err := l.find(v.next().begun())
		if err != nil || dead {
			return err
		}
		fresh, err := l.begin(v.next(), revoked)
		if err != nil {
			return err
		}
		return l.add(fresh)
	})
}

// Use uses an approval up, which is named by its digest. The error is [ErrUsed] where it was.
func (l *Ledger) Use(approval Device) error {
	sum := sha256.Sum256(append([]byte("keyd ledger pin approval 1\x00"), approval[:]...))
	key := [keySize]byte(sum[:])
	return l.alone(func() error {
		_, found, err := l.find(key)
		if err != nil {
			return err
		}
		if found {
			return ErrUsed
		}
		return l.add([]Entry{{key: key, device: used}})
	})
}

// begin returns the entries with which a version is begun by something, none where it is already.
func (l *Ledger) begin(v Version, by Device) (fresh []Entry, err error) {
	if v.Number == 0 || v.Number > maxVersion {
		return nil, ErrFull
	}
	if _, dead, err := l.find(v.next().begun()); err != nil || dead {
		return nil, or(err, ErrEnded)
	}
	there, found, err := l.find(v.begun())
	switch {
	case err != nil:
		return nil, err
	case found && there.device == by:
		return nil, nil
	case found:
		return nil, ErrBegun
	}
	for n := v.Number - 1; n >= 1; n-- {
		before := Version{v.Subject, n}
		_, found, err := l.find(before.begun())
		if err != nil {
			return nil, err
		}
		if found { // and with it all before
			break
		}
		fresh = append(fresh, Entry{key: before.begun(), device: passed})
	}
	return append(fresh, Entry{key: v.begun(), device: by}), nil
}

func (l *Ledger) stands(v Version, record Device) error {
	if _, dead, err := l.find(v.next().begun()); err != nil || dead {
		return or(err, ErrEnded)
	}
	return l.is(v, record)
}

// is says whether a version is this record, as far as it is known here.
func (l *Ledger) is(v Version, record Device) error {
	there, found, err := l.find(v.set())
	if err == nil && found && !bytes.Equal(there.device[:], record[:]) {
		err = ErrEnded
	}
	return err
}

// replaceable returns the record of the next version besides, where it came of a change.
func (l *Ledger) replaceable(v Version, record Device) (next *Device, err error) {
	if err := l.is(v, record); err != nil {
		return nil, err
	}
	begun, found, err := l.find(v.next().begun())
	if err != nil || !found {
		return nil, err
	}
	set, found, err := l.find(v.next().set())
	if err != nil {
		return nil, err
	}
	if !found || begun.device != changed(set.device) {
		return nil, ErrEnded
	}
	return &set.device, l.stands(v.next(), set.device)
}

func or(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
