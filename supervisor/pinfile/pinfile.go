// Package pinfile is the memory file in which the token PIN waits for modules.
//
// The supervisor makes the file and hands it on, but never maps or reads it. The
// unlock child writes the PIN once; each module copies it into memory of its own. The
// file has no name, is one page long, and holds a length of two bytes, big endian, and
// that many bytes of PIN. It is a memfd_secret(2) where the kernel has it: such pages
// are in no other process's reach, the kernel's own mappings included, and never
// swapped; it can only be mapped. Elsewhere it is a memfd_create(2) file.
//
// A file of the same kind, which can be written again ([Replace]), holds a login at Vault: what
// one process of package vault leaves for the next.
//
// A PIN passes through these functions in memory that the caller owns and wipes; no
// error says anything about it.
package pinfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// headerSize is the size in bytes of the length before the PIN.
const headerSize = 2

// Kinds of memory, as [Create] reports them.
const (
	MemorySecret   = "memfd_secret"
	MemoryOrdinary = "memfd"
)

// Errors of [Write] and [Read].
var (
	ErrSize    = errors.New("the PIN is empty or longer than the PIN file takes")
	ErrWritten = errors.New("the PIN file has been written already")
	ErrEmpty   = errors.New("the PIN file is empty: nothing unlocked the token")
	ErrDamaged = errors.New("the PIN file is not one of keyd's")
)

// MaxPIN returns how many bytes of PIN a file takes.
func MaxPIN() int { return os.Getpagesize() - headerSize }

// Create makes an empty file, closed on exec, and says which memory it is. The
// supervisor calls it.
func Create() (f *os.File, memory string, err error) {
	memory = MemorySecret
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		memory = MemoryOrdinary
		if fd, err = unix.MemfdCreate("keyd-pin", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL); errors.Is(err, unix.EINVAL) {
			fd, err = unix.MemfdCreate("keyd-pin", unix.MFD_CLOEXEC) // before Linux 6.3
		}
		if err != nil {
			return nil, "", fmt.Errorf("create the PIN file: %w", err)
		}
	}
	f = os.NewFile(uintptr(fd), "pin")
	if err := unix.Ftruncate(fd, int64(os.Getpagesize())); err != nil {
		_ = f.Close()
		return nil, "", fmt.Errorf("create the PIN file: %w", err)
	}
	return f, memory, nil
}

// Write stores the PIN in the file behind the descriptor, which stays open. The
// unlock child calls it, once, and wipes pin afterwards.
func Write(fd int, pin []byte) error {
	if len(pin) == 0 || len(pin) > MaxPIN() {
		return ErrSize
	}
	return mapped(fd, unix.PROT_READ|unix.PROT_WRITE, func(page []byte) error {
		if binary.BigEndian.Uint16(page) != 0 {
			return ErrWritten
		}
		copy(page[headerSize:], pin)
		binary.BigEndian.PutUint16(page, uint16(len(pin)))
		return nil
	})
}

// Replace stores content in place of what the file holds, and leaves nothing of that. Only one
// process may have the file meanwhile: the supervisor starts them one after the other.
func Replace(fd int, content []byte) error {
	if len(content) == 0 || len(content) > MaxPIN() {
		return ErrSize
	}
	return mapped(fd, unix.PROT_READ|unix.PROT_WRITE, func(page []byte) error {
		clear(page)
		copy(page[headerSize:], content)
		binary.BigEndian.PutUint16(page, uint16(len(content)))
		return nil
	})
}

// Read copies the PIN into dst, memory of the caller, and returns its length in
// bytes. dst is unchanged when there is an error; one that is too short is [ErrSize].
// A module calls it, and closes the descriptor.
func Read(fd int, dst []byte) (n int, err error) {
	err = mapped(fd, unix.PROT_READ, func(page []byte) error {
		size := int(binary.BigEndian.Uint16(page))
		switch {
		case size == 0:
			return ErrEmpty
		case size > MaxPIN():
			return ErrDamaged
		case size > len(dst):
			return ErrSize
		}
		n = copy(dst, page[headerSize:headerSize+size])
		return nil
	})
	return n, err
}

// mapped maps the one page while use runs. The size is checked before, because a
// page beyond the end of a file raises SIGBUS.
func mapped(fd, prot int, use func(page []byte) error) error {
	unix.CloseOnExec(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("PIN file: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != int64(os.Getpagesize()) {
		return ErrDamaged
	}
	page, err := unix.Mmap(fd, 0, os.Getpagesize(), prot, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the PIN file: %w", err)
	}
	defer func() { _ = unix.Munmap(page) }() // fails only for memory that was never mapped
	if err := unix.Madvise(page, unix.MADV_DONTDUMP); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("keep the PIN file out of core files: %w", err)
	}
	return use(page)
}
