package dukpt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
	"strings"
)

// Scheme tells the two DUKPT schemes apart. The zero value is neither.
type Scheme uint8

// The schemes.
const (
	TDES Scheme = iota + 1 // ANSI X9.24-1:2009 Annex A
	AES                    // ANSI X9.24-3:2017
)

// Sizes of a KSN in bytes, and the rules for its counter.
const (
	TDESKSNSize = 10 // 59 bits of key set and device identifier, 21 bits of counter
	AESKSNSize  = 12 // 8 bytes of initial key ID, 4 bytes of counter

	TDESCounterBits = 21
	AESCounterBits  = 32

	TDESMaxOneBits = 10 // X9.24-1:2009 A.3
	AESMaxOneBits  = 16 // X9.24-3:2017 6.1
)

// Errors of KSNs. Each is returned as it is, so that errors.Is and == both work.
var (
	ErrKSNLength         = errors.New("dukpt: KSN is neither 10 bytes (TDES) nor 12 bytes (AES)")
	ErrKSNCounterZero    = errors.New("dukpt: KSN counter is 0")
	ErrKSNCounterNotZero = errors.New("dukpt: KSN counter of an initial key is not 0")
	ErrKSNCounterRange   = errors.New("dukpt: KSN counter does not fit the scheme")
	ErrKSNCounterWeight  = errors.New("dukpt: KSN counter has too many one-bits")
	ErrExhausted         = errors.New("dukpt: no KSN is left for this initial key")
)

// String returns "TDES", "AES" or "invalid".
func (s Scheme) String() string {
	switch s {
	case TDES:
		return "TDES"
	case AES:
		return "AES"
	}
	return "invalid"
}

// CounterBits returns the width of the counter in bits: 21 (TDES), 32 (AES), else 0.
func (s Scheme) CounterBits() int {
	switch s {
	case TDES:
		return TDESCounterBits
	case AES:
		return AESCounterBits
	}
	return 0
}

// MaxOneBits returns how many one-bits a counter may have: 10 (TDES), 16 (AES), else 0.
func (s Scheme) MaxOneBits() int {
	switch s {
	case TDES:
		return TDESMaxOneBits
	case AES:
		return AESMaxOneBits
	}
	return 0
}

// KSN is a key serial number. It is a comparable value; the zero value is no KSN and belongs to no
// scheme. A KSN is public: it travels in the clear with every transaction.
type KSN struct {
	b [AESKSNSize]byte // the last two bytes stay zero for TDES
	s Scheme
}

// ParseKSN reads the KSN of a transaction: 10 bytes for TDES (X9.24-1:2009 A.1), 12 bytes for AES
// (X9.24-3:2017 6.1). It refuses any other length ([ErrKSNLength]), the counter 0 ([ErrKSNCounterZero]),
// under which no transaction takes place, and more than 10 of 21 or 16 of 32 one-bits
// ([ErrKSNCounterWeight]). On an error the KSN is the zero value.
func ParseKSN(b []byte) (KSN, error) {
	k, err := read(b)
	if err != nil {
		return KSN{}, err
	}
	if err := checkCounter(k.s, k.Counter()); err != nil {
		return KSN{}, err
	}
	return k, nil
}

// ParseInitialKSN reads the KSN with which an initial key is loaded: the lengths of [ParseKSN], and a
// counter of 0 (else [ErrKSNCounterNotZero]).
func ParseInitialKSN(b []byte) (KSN, error) {
	k, err := read(b)
	if err != nil {
		return KSN{}, err
	}
	if k.Counter() != 0 {
		return KSN{}, ErrKSNCounterNotZero
	}
	return k, nil
}

// Scheme returns the scheme to which the KSN belongs.
func (k KSN) Scheme() Scheme { return k.s }

// Bytes returns a copy of the KSN: 10 bytes (TDES), 12 bytes (AES), none for the zero value.
func (k KSN) Bytes() []byte { return k.AppendBytes(nil) }

// AppendBytes appends what [KSN.Bytes] returns to dst.
func (k KSN) AppendBytes(dst []byte) []byte { return append(dst, k.b[:k.size()]...) }

// String returns the KSN in upper-case hex, 20 or 24 digits.
func (k KSN) String() string { return strings.ToUpper(hex.EncodeToString(k.b[:k.size()])) }

// MarshalText returns what [KSN.String] returns, for JSON and logs.
func (k KSN) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Counter returns the transaction counter: 21 bits (TDES) or 32 bits (AES).
func (k KSN) Counter() uint32 {
	switch k.s {
	case TDES:
		return binary.BigEndian.Uint32(k.b[6:10]) & tdesCounterMask
	case AES:
		return binary.BigEndian.Uint32(k.b[8:12])
	}
	return 0
}

// InitialKeyID returns the 8 bytes that name the initial key under its BDK. For TDES they are the leftmost
// 8 bytes of the KSN with the counter bits cleared, which is what the BDK encrypts to give the initial key
// (X9.24-1:2009 A.6); for AES the initial key ID (X9.24-3:2017 6.1).
func (k KSN) InitialKeyID() [8]byte {
	id := [8]byte(k.b[:8])
	if k.s == TDES {
		id[7] &^= tdesCounterMask >> 16
	}
	return id
}

// Initial returns the KSN of the same initial key at counter 0.
func (k KSN) Initial() KSN { return k.set(0) }

// Next returns the KSN of the next transaction. It skips counters with too many one-bits and returns
// [ErrExhausted] after the last counter of the scheme, [ErrKSNLength] for the zero KSN.
func (k KSN) Next() (KSN, error) {
	if k.s == 0 {
		return KSN{}, ErrKSNLength
	}
	c := uint64(k.Counter()) + 1
	// Adding the lowest one-bit is the shortest way to a counter with fewer of them (X9.24-1:2009 A.2 "New Key").
	for bits.OnesCount64(c) > k.s.MaxOneBits() {
		c += c & -c
	}
	if c>>k.s.CounterBits() != 0 {
		return KSN{}, ErrExhausted
	}
	return k.set(uint32(c)), nil
}

// WithCounter returns the KSN of the same initial key at counter c, under the rules of [ParseKSN] and
// with [ErrKSNCounterRange] for a TDES counter of more than 21 bits.
func (k KSN) WithCounter(c uint32) (KSN, error) {
	if k.s == 0 {
		return KSN{}, ErrKSNLength
	}
	if err := checkCounter(k.s, c); err != nil {
		return KSN{}, err
	}
	return k.set(c), nil
}

const tdesCounterMask = 1<<TDESCounterBits - 1

func read(b []byte) (KSN, error) {
	var k KSN
	switch len(b) {
	case TDESKSNSize:
		k.s = TDES
	case AESKSNSize:
		k.s = AES
	default:
		return KSN{}, ErrKSNLength
	}
	copy(k.b[:], b)
	return k, nil
}

func checkCounter(s Scheme, c uint32) error {
	switch {
	case c == 0:
		return ErrKSNCounterZero
	case bits.Len32(c) > s.CounterBits():
		return ErrKSNCounterRange
	case bits.OnesCount32(c) > s.MaxOneBits():
		return ErrKSNCounterWeight
	}
	return nil
}

func (k KSN) size() int {
	switch k.s {
	case TDES:
		return TDESKSNSize
	case AES:
		return AESKSNSize
	}
	return 0
}

func (k KSN) set(c uint32) KSN {
	switch k.s {
	case TDES:
		fixed := binary.BigEndian.Uint32(k.b[6:10]) &^ tdesCounterMask
		binary.BigEndian.PutUint32(k.b[6:10], fixed|c)
	case AES:
		binary.BigEndian.PutUint32(k.b[8:12], c)
	}
	return k
}
