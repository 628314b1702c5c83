package pinfile

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func create(t *testing.T) *os.File {
	t.Helper()
	f, memory, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if memory != MemorySecret && memory != MemoryOrdinary {
		t.Fatalf("memory %q", memory)
	}
	return f
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, pin := range []string{"1", "1234", "pass phrase \x00 with anything \xff", strings.Repeat("x", MaxPIN())} {
		f := create(t)
		if err := Write(int(f.Fd()), []byte(pin)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // each module reads
			dst := make([]byte, MaxPIN())
			n, err := Read(int(f.Fd()), dst)
			if err != nil || string(dst[:n]) != pin || !bytes.Equal(dst[n:], make([]byte, len(dst)-n)) {
				t.Errorf("PIN of %d bytes: %d bytes, %v", len(pin), n, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	f := create(t)
	fd, dst := int(f.Fd()), make([]byte, 4)
	for _, test := range []struct {
		name string
		do   func() error
		want error
	}{
		{"no PIN", func() error { return Write(fd, nil) }, ErrSize},
		{"long PIN", func() error { return Write(fd, make([]byte, MaxPIN()+1)) }, ErrSize},
		{"not written", func() error { return second(Read(fd, dst)) }, ErrEmpty},
		{"first write", func() error { return Write(fd, []byte("12345")) }, nil},
		{"second write", func() error { return Write(fd, []byte("54321")) }, ErrWritten},
		{"small buffer", func() error { return second(Read(fd, dst)) }, ErrSize},
	} {
		if err := test.do(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if !bytes.Equal(dst, make([]byte, 4)) {
		t.Error("a refused read left something behind")
	}
}

func second(_ int, err error) error { return err }

// A file of another size would fault when it is touched, a length beyond the page too.
func TestDamagedFiles(t *testing.T) {
	ordinary := func(size int64, content []byte) int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Ftruncate(fd, size); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Pwrite(fd, content, 0); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	page := int64(os.Getpagesize())
	for name, fd := range map[string]int{
		"empty":      ordinary(0, nil),
		"two pages":  ordinary(2*page, nil),
		"bad length": ordinary(page, []byte{0xff, 0xff}),
	} {
		if _, err := Read(fd, make([]byte, 1<<17)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: Read: %v", name, err)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := Write(int(w.Fd()), []byte("1234")); !errors.Is(err, ErrDamaged) {
		t.Errorf("pipe: %v", err)
	}
	if _, err := Read(-1, make([]byte, 8)); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
}

// Nothing but a mapping gets at the PIN where the kernel has secret memory.
func TestSecretMemoryCannotBeRead(t *testing.T) {
	f, memory, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(int(f.Fd()), []byte("1234")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	n, err := unix.Pread(int(f.Fd()), b, 0)
	if readable := err == nil && n > 0; readable != (memory == MemoryOrdinary) {
		t.Errorf("%s: read %d bytes, %v", memory, n, err)
	}
}

// What is replaced leaves nothing of what was there before, and a PIN cannot be written after it.
func TestReplace(t *testing.T) {
	f, _, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, read := int(f.Fd()), make([]byte, MaxPIN())
	for _, text := range []string{strings.Repeat("long", 500), "short", strings.Repeat("x", MaxPIN())} {
		if err := Replace(fd, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if n, err := Read(fd, read); err != nil || string(read[:n]) != text {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if text == "short" {
			page, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(page, []byte("long")) {
				t.Error("something of the longer one is left")
			}
			if err := unix.Munmap(page); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, bad := range []int{0, MaxPIN() + 1} {
		if err := Replace(fd, make([]byte, bad)); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: %v", bad, err)
		}
	}
	if err := Write(fd, []byte("1234")); !errors.Is(err, ErrWritten) {
		t.Errorf("a PIN after it: %v", err)
	}
}
