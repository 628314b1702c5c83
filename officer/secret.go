package officer

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// maxSecret bounds a secret in bytes. The longest key that has components has 64.
const maxSecret = 1024

// Secret is a clear value in memory of its own: outside of the Go heap, so that the
// garbage collector never copies it, left out of core files and, where the limits of
// the machine allow it, locked into RAM. Whatever prints it prints [redacted]. Whoever
// gets a Secret destroys it. One goroutine uses it at a time.
//
// A copy of a Secret is the same memory: destroying one destroys both.
type Secret struct {
	region *region
}

// region is apart from Secret so that no copy of a Secret outlives its Destroy.
type region struct {
	pages []byte // as mapped
	bytes []byte // the part in use
}

// NewSecret returns a secret of zeros, of 1 to 1024 bytes.
func NewSecret(bytes int) (*Secret, error) {
	if bytes < 1 || bytes > maxSecret {
		return nil, fmt.Errorf("a secret has 1 to %d bytes, not %d", maxSecret, bytes)
	}
	page := os.Getpagesize()
	pages, err := unix.Mmap(-1, 0, (bytes+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory for a secret: %w; free some and try again", err)
	}
	// Best effort: an officer's machine may permit no locked memory, and the ceremony has
	// to take place all the same.
	_ = unix.Mlock(pages)
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK)
	return &Secret{&region{pages: pages, bytes: pages[:bytes:bytes]}}, nil
}

// Random returns a secret of random bytes, 1 to 1024 of them.
func Random(bytes int) (*Secret, error) {
	s, err := NewSecret(bytes)
	if err != nil {
		return nil, err
	}
	if _, err := rand.Read(s.Bytes()); err != nil {
		s.Destroy()
		return nil, err
	}
	return s, nil
}

// Bytes returns the secret itself, not a copy; after [Secret.Destroy] it returns nil,
// and a slice from before must not be touched.
func (s *Secret) Bytes() []byte {
	if s == nil || s.region == nil {
		return nil
	}
	return s.region.bytes
}

// Destroy wipes the secret and gives its memory back. It may be called twice.
func (s *Secret) Destroy() {
	if s == nil || s.region == nil || s.region.pages == nil {
		return
	}
	clear(s.region.pages)
	_ = unix.Munmap(s.region.pages) // fails only for memory that was never mapped
	s.region.pages, s.region.bytes = nil, nil
}

// redacted is all that is ever printed of a secret. Its methods have value receivers: a
// Secret that was dereferenced by mistake says no more.
const redacted = "[redacted]"

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
