package register

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"keyd/hsm/module/internal/token"
)

// pinLabel is the label of the token objects that pin an epoch.
const pinLabel = "keyd epoch"

// Pin is what the token keeps of the epoch: its version, the generation of master keys that
// seal, the SHA-256 of the document with its code, and, of a token's first epoch, the document
// itself, since no front has it yet.
type Pin struct {
	Version    uint64
	Generation uint32
	Digest     [sha256.Size]byte
	First      []byte
}

// digestAt is where the digest lies, behind version and generation.
const digestAt = 8 + 4

// ErrNoPin is returned for a token on which no roster was set up.
var ErrNoPin = errors.New("the token has no keyd roster")

func (p *Pin) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, p.Version)
	b = binary.BigEndian.AppendUint32(b, p.Generation)
	b = append(b, p.Digest[:]...)
	return append(b, p.First...)
}

// ReadPin returns the newest pin, and the objects of those before it. The error is
// [ErrNoPin] if there is none.
func ReadPin(s *token.Session) (*Pin, []token.Object, error) {
	objects, err := s.FindData(pinLabel)
	if err != nil {
		return nil, nil, err
	}
	var newest *Pin
	var at token.Object
	var older []token.Object
	for _, o := range objects {
		if len(o.Value) < digestAt+sha256.Size {
			return nil, nil, errors.New("the token's pin of the epoch is malformed")
		}
		p := &Pin{
			Version: binary.BigEndian.Uint64(o.Value), Generation: binary.BigEndian.Uint32(o.Value[8:]),
			Digest: [sha256.Size]byte(o.Value[digestAt:]), First: o.Value[digestAt+sha256.Size:],
		}
		switch {
		case newest == nil:
			newest, at = p, o.Object
		case p.Version == newest.Version && p.Digest == newest.Digest && p.Generation == newest.Generation:
			// One was written, and its answer lost: it was written again.
			older = append(older, o.Object)
		case p.Version == newest.Version:
			// Two hosts that share a token have pinned at one moment.
			return nil, nil, fmt.Errorf("the token pins epoch %d twice: stop keyd on all hosts but one", p.Version)
		case p.Version > newest.Version:
			older = append(older, at)
			newest, at = p, o.Object
		default:
			older = append(older, o.Object)
		}
	}
	if newest == nil {
		return nil, nil, ErrNoPin
	}
	return newest, older, nil
}

// write puts a pin on the token, and returns its object and those of the pins before it. The
// token was asked for it when it returns, since it may say that it has made an object where
// it has not.
func (p *Pin) write(s *token.Session) (written token.Object, older []token.Object, err error) {
	if written, err = s.PutData(pinLabel, p.encode()); err != nil {
		return 0, nil, err
	}
	found, older, err := ReadPin(s)
	if err != nil && !errors.Is(err, ErrNoPin) {
		return written, nil, err
	}
	if found == nil || found.Version != p.Version || found.Generation != p.Generation || found.Digest != p.Digest {
		return written, nil, errors.New("the token has not kept the pin of the epoch: its disk may be full")
	}
	return written, older, nil
}
