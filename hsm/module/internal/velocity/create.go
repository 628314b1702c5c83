package velocity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"keyd/hsm/module/internal/hostfile"
)

// Create opens the velocity file of a host for its modules, and makes it first if there
// is none: with room for so many entries, 1,024 to 67,108,864, rounded up to a power of
// two, of 128 bytes each. All its room on the disk is taken at once. A loss of power
// meanwhile leaves a whole file or none.
//
// An existing file must be a regular one that only its owner can use, and have the same
// size. Nobody else gets it with Create while the descriptor or a copy of it is open.
// The supervisor calls it.
func Create(path string, entries int) (*os.File, error) {
	return openOrMake(path, entries, fill)
}

func openOrMake(path string, entries int, fill func(*os.File, uint64) error) (*os.File, error) {
	if entries < minEntries || entries > maxEntries {
		return nil, fmt.Errorf("velocity file for %d entries: %d to %d are possible", entries, minEntries, maxEntries)
	}
	sets := setsFor(entries)
	for range attempts {
		f, err := hostfile.Open(path, 0)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = create(path, sets, fill)
			if errors.Is(err, fs.ErrExist) {
				continue // another keyd's; look at it
			}
		}
		if err != nil {
			return nil, fmt.Errorf("velocity file %s: %w", path, err)
		}
		if err := accept(f, sets); err != nil {
			return nil, errors.Join(fmt.Errorf("velocity file %s: %w", path, err), f.Close())
		}
		return f, nil
	}
	return nil, fmt.Errorf("velocity file %s: it comes and goes: another program makes and removes it", path)
}

func setsFor(entries int) uint64 { return uint64(1) << bits.Len(uint(entries-1)) / places }

// Check says what [Create] would say of a file that exists, but for its being in use.
func Check(path string, entries int) error {
	f, err := Attach(path)
	if err != nil {
		return err
	}
	if err := matches(f, setsFor(entries)); err != nil {
		return errors.Join(fmt.Errorf("velocity file %s: %w", path, err), f.Close())
	}
	return f.Close()
}

// Attach opens the velocity file beside a keyd that may be running, for [Table.Permit].
// It makes none.
func Attach(path string) (*os.File, error) {
	f, err := hostfile.Open(path, 0)
	if err != nil {
		return nil, fmt.Errorf("velocity file %s: %w", path, err)
	}
	if err := hostfile.Private(f); err != nil {
		return nil, errors.Join(fmt.Errorf("velocity file %s: %w", path, err), f.Close())
	}
	if _, err := checkHeader(int(f.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("velocity file %s: %w", path, err), f.Close())
	}
	return f, nil
}

// MarkClean writes the file to the disk and marks that nothing can have been lost. The
// supervisor calls it when all its modules have ended; not when one may still run. boot
// is the kernel's boot ID: a file that no module has used since the machine started
// stays as it is, as its last use may have ended with a loss.
func MarkClean(f *os.File, boot [16]byte) error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the velocity file to the disk: %w", err)
	}
	var words [16]byte
	if _, err := f.ReadAt(words[:], int64(unsafe.Offsetof(header{}.boot))); err != nil {
		return fmt.Errorf("read the velocity file: %w", err)
	}
	id, era := binary.NativeEndian.Uint64(words[:8]), binary.NativeEndian.Uint64(words[8:])
	if id != fold(boot) || era>>baseBits != id>>baseBits {
		return nil
	}
	var word [8]byte
	binary.NativeEndian.PutUint64(word[:], 1)
	if _, err := f.WriteAt(word[:], int64(unsafe.Offsetof(header{}.clean))); err != nil {
		return fmt.Errorf("mark the velocity file as complete: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the velocity file to the disk: %w", err)
	}
	return nil
}

// accept decides whether an opened file is one that modules may use.
func accept(f *os.File, sets uint64) error {
	if err := hostfile.Private(f); err != nil {
		return err
	}
	if err := hostfile.Claim(f); err != nil {
		return err
	}
	return matches(f, sets)
}

// matches refuses a file that is damaged or has another size.
func matches(f *os.File, sets uint64) error {
	found, err := checkHeader(int(f.Fd()))
	if err != nil {
		return err
	}
	if found != sets {
		return fmt.Errorf("it has %d entries, the configuration says %d: set that to what it has, or move the file away while keyd is stopped; all counts then begin again", found*places, sets*places)
	}
	return nil
}

// create makes the file under another name and then gives it its own, which fails with
// [fs.ErrExist] if there is one by now. What an earlier attempt left is used again, or
// removed if it got so far that the file had both names.
func create(path string, sets uint64, fill func(*os.File, uint64) error) (f *os.File, err error) {
	temporary := path + ".new"
	f, err = hostfile.Open(temporary, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	mine := false
	defer func() {
		if err != nil {
			if mine {
				err = errors.Join(err, os.Remove(temporary))
			}
			err = errors.Join(err, f.Close())
			f = nil
		}
	}()
	if err := hostfile.Private(f); err != nil {
		return f, fmt.Errorf("%s: %w", temporary, err)
	}
	if err := hostfile.Claim(f); err != nil {
		return f, err
	}
	// Only now is it known that nobody else writes it; but it may have been renamed.
	if mine, err = same(f, temporary); err != nil {
		return f, err
	}
	if !mine {
		return f, fs.ErrExist
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return f, err
	}
	if stat.Nlink > 1 {
		return f, fs.ErrExist // without this name it is tried again
	}
	if err := fill(f, sets); err != nil {
		return f, fmt.Errorf("take %d bytes on the disk: %w: make room, or set fewer velocity entries", fileSize(sets), err)
	}
	if err := os.Link(temporary, path); err != nil {
		return f, err
	}
	mine = false
	if err := os.Remove(temporary); err != nil {
		return f, err
	}
	return f, hostfile.SyncDirectory(filepath.Dir(path))
}

// same reports whether a name still belongs to an opened file.
func same(f *os.File, name string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, named), err
}

// fill makes an opened file an empty table, on the disk.
func fill(f *os.File, sets uint64) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	size := fileSize(sets)
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = zeros(f, size)
	}
	if err != nil {
		return err
	}
	var b [24]byte
	for i, word := range [...]uint64{magic, version, sets} {
		binary.NativeEndian.PutUint64(b[8*i:], word)
	}
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return err
	}
	return f.Sync()
}

// zeros takes room on a file system that cannot allocate it: by writing.
func zeros(f *os.File, size int64) error {
	block := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(block)) {
		if _, err := f.WriteAt(block[:min(int64(len(block)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}
