// Package report is what the unlock process says of Vault and certificates to the front, so
// that keyd status and the metrics can: names, dates and errors, nothing secret.
//
// It lies in a memory file that the supervisor makes and passes on without reading it. The
// unlock process writes it, one process at a time, and never reads it; the front reads it and
// writes nothing. A reader that comes between two halves of a writing sees that by the sum.
package report

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Report is how things stand.
type Report struct {
	At           time.Time     `json:"at"`                   // of the writing
	LoginUntil   time.Time     `json:"login_until,omitzero"` // zero if there is no login, or one without an end
	Problem      string        `json:"problem,omitempty"`    // what is to be mended about Vault or the login
	Certificates []Certificate `json:"certificates,omitempty"`
}

// Certificate is one that is kept.
type Certificate struct {
	Name     string    `json:"name"` // of its directory
	Server   bool      `json:"server,omitempty"`
	Serial   string    `json:"serial,omitempty"` // lower-case hex; empty if there is none
	NotAfter time.Time `json:"not_after,omitzero"`
	RenewAt  time.Time `json:"renew_at,omitzero"`
	Problem  string    `json:"problem,omitempty"` // why it could not be renewed
}

// size is of the file: a length of four bytes, big endian, the SHA-256 of what follows, and
// the report as JSON.
const (
	size   = 64 << 10
	header = 4 + sha256.Size
)

// maxText bounds an error in a report, in bytes.
const maxText = 1 << 10

// Create makes an empty file, closed on exec, whose size stays what it is.
func Create() (*os.File, error) {
	fd, err := unix.MemfdCreate("keyd-vault-report", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory for the report on Vault: %w", err)
	}
	f := os.NewFile(uintptr(fd), "report on Vault")
	if err := f.Truncate(size); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
		if err == nil {
			return f, nil
		}
	}
	return nil, errors.Join(errors.New("memory for the report on Vault cannot be had"), f.Close())
}

// Write replaces what the file holds.
func Write(f *os.File, r Report) error {
	r.Problem = cut(r.Problem)
	for i := range r.Certificates {
		r.Certificates[i].Problem = cut(r.Certificates[i].Problem)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(text) > size-header {
		return errors.New("the report on Vault is too long")
	}
	b := make([]byte, header, header+len(text))
	binary.BigEndian.PutUint32(b, uint32(len(text)))
	sum := sha256.Sum256(text)
	copy(b[4:], sum[:])
	_, err = f.WriteAt(append(b, text...), 0)
	return err
}

func cut(text string) string {
	if len(text) > maxText {
		return text[:maxText]
	}
	return text
}

// Errors of [Read].
var (
	ErrEmpty = errors.New("nothing has been reported yet")
	ErrTorn  = errors.New("the report on Vault is being written, or is damaged")
)

// Read returns what the file holds. On error nothing is returned.
func Read(f *os.File) (*Report, error) {
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < size {
		return nil, errors.Join(ErrTorn, err)
	}
	return parse(b)
}

func parse(b []byte) (*Report, error) {
	n := int64(binary.BigEndian.Uint32(b))
	switch {
	case n == 0:
		return nil, ErrEmpty
	case n > int64(len(b)-header):
		return nil, ErrTorn
	}
	text := b[header : header+n]
	if sum := sha256.Sum256(text); string(sum[:]) != string(b[4:header]) {
		return nil, ErrTorn
	}
	r := &Report{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, ErrTorn
	}
	return r, nil
}
