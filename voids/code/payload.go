package code

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// Kind says what a code is good for.
type Kind byte

// Kinds.
const (
	Live Kind = 1 // signed
	Slip Kind = 2 // a reference without authority
)

// String returns LIVE or SLIP.
func (k Kind) String() string {
	switch k {
	case Live:
		return "LIVE"
	case Slip:
		return "SLIP"
	}
	return "unknown"
}

// LongestLive and LongestSlip are how long after now a code can end. A policy may demand less.
const (
	LongestLive = 15 * time.Minute
	LongestSlip = 48 * time.Hour
)

// Sizes in bytes.
const (
	LiveSize = 98
	SlipSize = 30

	headSize       = 2 // version, kind
	keyIDSize      = 4
	identifierSize = 16
	expirySize     = 4
	audienceSize   = 8
	signatureSize  = 64
)

const version = 1

const audienceDomain = "keyd void audience 1\x00"

// Identifier tells a code from all others: 16 random bytes, never all zeros.
type Identifier [identifierSize]byte

// NewIdentifier makes one with the system's random numbers.
func NewIdentifier() (id Identifier) {
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

// Audience says for which merchant a code is: 8 bytes of a hash of its identifier. It keeps
// merchants apart; it does not hide a merchant from who can guess the identifier.
type Audience [audienceSize]byte

// AudienceOf returns the audience of a merchant. The identifier counts as it is, case included;
// the error is [ErrMerchant].
func AudienceOf(merchant string) (Audience, error) {
	if len(merchant) == 0 || len(merchant) > 64 || !letterOrDigit(merchant[0]) {
		return Audience{}, ErrMerchant
	}
	for _, c := range []byte(merchant) {
		if !letterOrDigit(c) && c != '.' && c != '_' && c != '-' {
			return Audience{}, ErrMerchant
		}
	}
	sum := sha256.Sum256([]byte(audienceDomain + merchant))
	return Audience(sum[:audienceSize]), nil
}

func letterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// Code is what a code says.
type Code struct {
	Identifier Identifier
	Expiry     time.Time // the first moment at which it is no longer good; whole seconds, UTC
	Audience   Audience
}

// Payload is a code as it is shown, or as it was scanned. Nothing says that it is genuine
// before [Payload.Verify] does. It prints as its kind: what it holds belongs in no log.
type Payload struct {
	bytes []byte // well-formed
}

// Kind returns the kind that the code claims.
func (p *Payload) Kind() Kind { return Kind(p.bytes[1]) }

// Claims reports whether the code says that it is for an audience. Anybody can write that: it
// decides who is told why a code is refused, and nothing else.
func (p *Payload) Claims(audience Audience) bool { return p.code().Audience == audience }

// Bytes returns a copy of the code's bytes.
func (p *Payload) Bytes() []byte { return slices.Clone(p.bytes) }

// String returns the kind only.
func (p *Payload) String() string { return "void code (" + p.Kind().String() + ")" }

// GoString returns what String does.
func (p *Payload) GoString() string { return p.String() }

// NewSlip makes a reference for paper, which authorises nothing. The expiry is rounded down
// to the second. Errors are [ErrIdentifier] and [ErrExpiryRange].
func NewSlip(c Code) (*Payload, error) {
	b, err := c.append([]byte{version, byte(Slip)})
	if err != nil {
		return nil, err
	}
	return &Payload{b}, nil
}

// FromBytes reads what Bytes has returned. Errors are those of [Parse] but [ErrAlphabet] and
// [ErrUnusedBits].
func FromBytes(b []byte) (*Payload, error) { return fromBytes(slices.Clone(b)) }

// append writes the fields that both kinds have.
func (c Code) append(b []byte) ([]byte, error) {
	if c.Identifier == (Identifier{}) {
		return nil, ErrIdentifier
	}
	seconds := c.Expiry.Unix()
	if seconds <= 0 || seconds > 1<<32-1 {
		return nil, ErrExpiryRange
	}
	b = append(b, c.Identifier[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(seconds))
	return append(b, c.Audience[:]...), nil
}

// fromBytes checks the form of a code, and takes b over.
func fromBytes(b []byte) (*Payload, error) {
	if len(b) < headSize {
		return nil, ErrLength
	}
	if b[0] != version {
		return nil, ErrVersion
	}
	p := &Payload{b}
	switch p.Kind() {
	case Live:
		if len(b) != LiveSize {
			return nil, ErrLength
		}
		if !canonical(p.signature()) {
			return nil, ErrSignatureForm
		}
	case Slip:
		if len(b) != SlipSize {
			return nil, ErrLength
		}
	default:
		return nil, ErrKind
	}
	c := p.code()
	if c.Identifier == (Identifier{}) {
		return nil, ErrIdentifier
	}
	if c.Expiry.Unix() == 0 {
		return nil, ErrExpiryRange
	}
	return p, nil
}

// code reads the fields that both kinds have.
func (p *Payload) code() (c Code) {
	b := p.bytes[headSize:]
	if p.Kind() == Live {
		b = b[keyIDSize:]
	}
	c.Identifier = Identifier(b[:identifierSize])
	b = b[identifierSize:]
	c.Expiry = time.Unix(int64(binary.BigEndian.Uint32(b)), 0).UTC()
	c.Audience = Audience(b[expirySize : expirySize+audienceSize])
	return c
}

// keyID, signed and signature are parts of a live code.
func (p *Payload) keyID() KeyID      { return KeyID(p.bytes[headSize : headSize+keyIDSize]) }
func (p *Payload) signed() []byte    { return p.bytes[:LiveSize-signatureSize] }
func (p *Payload) signature() []byte { return p.bytes[LiveSize-signatureSize:] }
