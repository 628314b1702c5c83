package velocity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
	"unsafe"

	"keyd/hsm/module/internal/hostfile"
)

// CreateSpent makes the file of a host whose counts are lost, when its database is restored:
// every subject begins with its tries used up. Nothing is allowed for 24 to 28 hours, but for
// the subjects that are reset. A file that modules have used stays as it is, and false is
// returned: it knows better.
//
// How: what is left of subjects that lost their place, and with what every subject begins, is
// the highest count there is, in the newest bucket of each window.
func CreateSpent(path string, entries int, now time.Time) (made bool, err error) {
	tick := uint64(max(now.UnixMilli(), 0)) / tickMillis
	if tick == 0 || tick > maxTick {
		return false, errors.New("the clock is not set: set it, and try again")
	}
	if err := RemoveUnused(path); err != nil {
		return false, err
	}
	f, err := openOrMake(path, entries, func(f *os.File, sets uint64) error {
		made = true
		return fillSpent(f, sets, tick)
	})
	if err != nil {
		return false, err
	}
	return made, f.Close()
}

// RemoveUnused removes a file in which nobody has counted yet, as an attempt to restore may
// leave one, whose time has run on since.
func RemoveUnused(path string) error {
	f, err := hostfile.Open(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = removeUnused(f, path)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("velocity file %s: %w", path, err)
	}
	return nil
}

func removeUnused(f *os.File, path string) error {
	if err := hostfile.Private(f); err != nil {
		return err
	}
	if err := hostfile.Claim(f); err != nil {
		return err
	}
	if _, err := checkHeader(int(f.Fd())); err != nil {
		return err
	}
	var era [8]byte
	if _, err := f.ReadAt(era[:], int64(unsafe.Offsetof(header{}.era))); err != nil {
		return err
	}
	if binary.NativeEndian.Uint64(era[:]) != 0 {
		return nil
	}
	return os.Remove(path)
}

// fillSpent makes an opened file a table in which nobody has a try left.
func fillSpent(f *os.File, sets uint64, tick uint64) error {
	if err := fill(f, sets); err != nil {
		return err
	}
	// The remainder of both sectors of a set, as bytes.
	var one [setSize]byte
	for half := range 2 {
		at := half*sectorSize + int(unsafe.Offsetof(sector{}.remainder))
		for ring := minute; ring <= day; ring++ {
			number := tick / widths[ring]
			bucket := at + 4*(8*ring+int(number%8))
			binary.NativeEndian.PutUint32(one[bucket:], uint32(uint16(number))<<16|maxCount)
		}
	}
	const together = 1024 // sets in one write
	block := make([]byte, 0, together*setSize)
	for range min(sets, together) {
		block = append(block, one[:]...)
	}
	for set := uint64(0); set < sets; set += together {
		n := min(together, sets-set)
		if _, err := f.WriteAt(block[:n*setSize], headerSize+int64(set)*setSize); err != nil {
			return err
		}
	}
	// Time goes on from here, whatever the clock says at the first start.
	for _, word := range []struct {
		at    uintptr
		value uint64
	}{{unsafe.Offsetof(header{}.latest), tick}, {unsafe.Offsetof(header{}.spent), tick}} {
		var b [8]byte
		binary.NativeEndian.PutUint64(b[:], word.value)
		if _, err := f.WriteAt(b[:], int64(word.at)); err != nil {
			return err
		}
	}
	return f.Sync()
}
