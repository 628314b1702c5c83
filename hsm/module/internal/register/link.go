package register

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// A link says that one epoch was pinned after another, or that officers have a token go from
// one to the other:
//
//	32 bytes  SHA-256 of the document before
//	 8 bytes  version of the document after
//	32 bytes  SHA-256 of it
//	 4 bytes  generation of the master keys that authenticate the link
//	 8 bytes  until when the token may go, Unix seconds; 0 for ever
//
// and a code of 16 bytes over them. Numbers are big-endian. With the links from the epoch that
// a token pins to a later one, the token follows at once, however many epochs lie between:
// nobody keeps their documents.
const (
	linkText = sha256.Size + 8 + sha256.Size + 4 + 8
	linkSize = linkText + ceremony.EpochMACSize

	// MaxLinks bounds the links of one [Register.Follow].
	MaxLinks = 4096
)

// linkPurpose tells the code of a link from other codes.
const linkPurpose = "epoch link"

// link is what a link says.
type link struct {
	from       [sha256.Size]byte
	version    uint64
	to         [sha256.Size]byte
	generation uint32
	expires    int64
}

func (l *link) text() []byte {
	b := append(make([]byte, 0, linkSize), l.from[:]...)
	b = binary.BigEndian.AppendUint64(b, l.version)
	b = append(b, l.to[:]...)
	b = binary.BigEndian.AppendUint32(b, l.generation)
	return binary.BigEndian.AppendUint64(b, uint64(l.expires))
}

func (l *link) seal(s *token.Session, masters *sealing.Set) ([]byte, error) {
	m, err := masters.Of(s, l.generation)
	if err != nil {
		return nil, err
	}
	text := l.text()
	var mac [ceremony.EpochMACSize]byte
	if err := m.Authenticate(s, mac[:], linkPurpose, text); err != nil {
		return nil, err
	}
	return append(text, mac[:]...), nil
}

// openLink checks that modules with these master keys made a link.
func (r *Register) openLink(s *token.Session, sealed []byte) (*link, error) {
	if len(sealed) != linkSize {
		return nil, fault.New(fault.EpochInvalid, "")
	}
	text := sealed[:linkText]
	l := &link{
		from: [sha256.Size]byte(text), version: binary.BigEndian.Uint64(text[sha256.Size:]),
		to: [sha256.Size]byte(text[sha256.Size+8:]), generation: binary.BigEndian.Uint32(text[2*sha256.Size+8:]),
		expires: int64(binary.BigEndian.Uint64(text[linkText-8:])),
	}
	var mac [ceremony.EpochMACSize]byte
	err := r.masters.Authenticate(s, l.generation, mac[:], linkPurpose, text)
	if errors.Is(err, sealing.ErrNoMasters) {
		return nil, lacksMasters(l.generation)
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(mac[:], sealed[linkText:]) != 1 {
		return nil, fault.New(fault.EpochInvalid, "")
	}
	return l, nil
}

func lacksMasters(generation uint32) error {
	return fault.New(fault.EpochInvalid, fmt.Sprintf("this token has no master keys of generation %d: initialise it anew with their shares, and join again", generation))
}

// linkOf makes the link to an epoch, which was pinned here, from the one before; nil for a
// token's first epoch, which follows none.
func (r *Register) linkOf(s *token.Session, e *ceremony.Epoch, sealed []byte) ([]byte, error) {
	if e.Previous == "" {
		return nil, nil
	}
	l := &link{version: e.Version, to: sha256.Sum256(sealed), generation: e.Generation}
	if n, err := hex.Decode(l.from[:], []byte(e.Previous)); err != nil || n != len(l.from) {
		return nil, fault.New(fault.EpochInvalid, "")
	}
	return l.seal(s, r.masters)
}

// LinkTo makes the link with which this token goes from its epoch e over to the register of
// other tokens with the same master keys, until that time (Unix seconds). Only officers can
// want that.
func (r *Register) LinkTo(s *token.Session, e *ceremony.Epoch, document []byte, expires int64) ([]byte, error) {
	current, err := r.current()
	if err != nil {
		return nil, err
	}
	if current.Epoch != e {
		return nil, fault.New(fault.EpochStale, "another ceremony was carried out meanwhile")
	}
	other, err := r.open(s, document)
	if err != nil {
		return nil, err
	}
	l := &link{from: current.digest, version: other.Version, to: sha256.Sum256(document), generation: other.Generation, expires: expires}
	return l.seal(s, r.masters)
}

// Follow pins an epoch that modules of other tokens have pinned, with the links that lead to
// it from the one that is pinned here. What is missing between the two, or belongs to another
// line, is a [fault.EpochStale].
func (r *Register) Follow(s *token.Session, sealed []byte, links [][]byte, pinned func(*ceremony.Epoch) error) error {
	if len(links) > MaxLinks {
		return fault.New(fault.EpochInvalid, "")
	}
	_, err := r.pinNext(s, sealed, pinned, func(e *ceremony.Epoch, digest [sha256.Size]byte, pin *Pin) error {
		at, version := pin.Digest, pin.Version
		for _, one := range links {
			l, err := r.openLink(s, one)
			if err != nil {
				return err
			}
			if l.from != at || l.version <= version {
				return fault.New(fault.EpochStale, fmt.Sprintf("epoch %d is pinned, and the link to epoch %d does not begin there", version, l.version))
			}
			if l.expires != 0 && r.Now().Unix() >= l.expires {
				return fault.New(fault.EpochStale, "the time is over in which officers have this token join")
			}
			at, version = l.to, l.version
		}
		if at != digest || version != e.Version {
			return fault.New(fault.EpochStale, fmt.Sprintf("epoch %d is pinned, and the links end before epoch %d", pin.Version, e.Version))
		}
		return nil
	})
	return err
}
