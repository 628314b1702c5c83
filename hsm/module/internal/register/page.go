package register

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PageSize is the size of the file that the modules of a host share, in bytes.
const PageSize = 4096

// Page is the memory that the modules of a host share: the version that is pinned with its
// digest, and a lock for who pins.
type Page struct {
	fd     int // -1: of this process alone
	memory []byte
	mu     sync.Mutex // record locks do not exclude threads
}

// OpenPage maps the file with that descriptor, of PageSize bytes; -1 is a page of this
// process's own.
func OpenPage(fd int) (*Page, error) {
	flags := unix.MAP_SHARED
	if fd < 0 {
		flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	}
	memory, err := unix.Mmap(fd, 0, PageSize, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("map the modules' page: %w", err)
	}
	return &Page{fd: fd, memory: memory}, nil
}

// The page holds the version, and behind it the digests of it and of the version before or
// after, each in the place that the version's last bit names: a digest is overwritten two
// versions later.
const (
	versionAt = 0
	digestsAt = 64
)

func (p *Page) word(at int) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&p.memory[at])) }

// digestWord is where a word of a version's digest lies.
func digestWord(version uint64, word int) int {
	return digestsAt + int(version%2)*sha256.Size + 8*word
}

// pinned returns the version that is pinned and its digest; 0 before anybody has looked.
func (p *Page) pinned() (version uint64, digest [sha256.Size]byte) {
	for {
		version = p.word(versionAt).Load()
		for i := range sha256.Size / 8 {
			binary.NativeEndian.PutUint64(digest[8*i:], p.word(digestWord(version, i)).Load())
		}
		if p.word(versionAt).Load() == version {
			return version, digest
		}
	}
}

// raise notes that a version is pinned. It never goes back. The caller has the lock.
func (p *Page) raise(version uint64, digest [sha256.Size]byte) {
	if p.word(versionAt).Load() >= version {
		return
	}
	for i := range sha256.Size / 8 {
		p.word(digestWord(version, i)).Store(binary.NativeEndian.Uint64(digest[8*i:]))
	}
	p.word(versionAt).Store(version)
}

// lock excludes the other modules of the host. A module that dies has let go.
func (p *Page) lock() (unlock func() error, err error) {
	p.mu.Lock()
	if p.fd < 0 {
		return func() error { p.mu.Unlock(); return nil }, nil
	}
	region := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	for {
		err = unix.FcntlFlock(uintptr(p.fd), unix.F_SETLKW, &region)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		p.mu.Unlock()
		return nil, fmt.Errorf("lock the modules' page: %w", err)
	}
	return func() error {
		defer p.mu.Unlock()
		region.Type = unix.F_UNLCK
		return unix.FcntlFlock(uintptr(p.fd), unix.F_SETLK, &region)
	}, nil
}
