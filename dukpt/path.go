package dukpt

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// ErrNotAESKSN refuses a KSN of another scheme where an AES KSN is needed.
var ErrNotAESKSN = errors.New("dukpt: not a KSN of the AES scheme")

// MaxSteps is the largest number of steps of a [Path] to a working key: initial key, sixteen one-bits,
// working key. Only the path to the update key is longer (34 steps).
const MaxSteps = 1 + AESMaxOneBits + 1

// updateCounter is the counter under which the key for a new initial key is derived; no transaction has it.
const updateCounter = 0xFFFFFFFF

// Path is the public derivation data from a BDK or an initial key of the AES scheme to a key below it
// (X9.24-3:2017 6.1, 6.3). It is a small comparable value; its steps are computed when asked for, without
// allocation. The zero value has no steps.
type Path struct {
	id      [8]byte
	counter uint32
	derive  KeyType // type of BDK, IK and derivation keys
	usage   Usage   // 0: the path ends with the derivation key
	working KeyType
	last    uint8 // number of steps when started from the BDK
	first   uint8 // 1: starts from the initial key
}

// Step is one derivation: the parent key encrypts Data[:DataLen] with AES in ECB mode, and the leading
// Key.Size() bytes of the result are the new key. It is CKM_AES_ECB_ENCRYPT_DATA on a token.
type Step struct {
	Data    [32]byte
	DataLen int     // 16 or 32: one or two blocks
	Key     KeyType // of the key that results
	ID      KeyID   // of the key that results
}

// KeyID names a key among all those that come from one BDK. It is comparable and public: together with the
// name of the BDK it can be the key of a cache, and two paths with the same KeyID at a step share the keys
// up to it.
type KeyID struct {
	InitialKeyID [8]byte
	Counter      uint32 // the one-bits walked so far; 0 for the initial key
	Usage        Usage  // UsageKeyDerivation for derivation keys
	Key          KeyType
	Working      bool // the end of a path, not a derivation key on the way
}

// NewPath returns the path from a BDK of type bdk to the working key of a transaction. It returns
// [ErrNotAESKSN] for a TDES KSN, the errors of [ParseKSN] for a KSN at counter 0, and those of
// [CheckWorkingKey].
func NewPath(ksn KSN, bdk KeyType, usage Usage, working KeyType) (Path, error) {
	if ksn.s != AES {
		return Path{}, ErrNotAESKSN
	}
	if err := checkCounter(AES, ksn.Counter()); err != nil {
		return Path{}, err
	}
	if err := CheckWorkingKey(bdk, usage, working); err != nil {
		return Path{}, err
	}
	return newPath(ksn.InitialKeyID(), ksn.Counter(), bdk, usage, working), nil
}

// NewDerivationPath returns the path to the derivation key of a transaction, from which its working keys come
// by one step each ([WorkingKeyStep]). Errors are those of [NewPath].
func NewDerivationPath(ksn KSN, bdk KeyType) (Path, error) {
	p, err := NewPath(ksn, bdk, UsagePIN, bdk)
	if err != nil {
		return Path{}, err
	}
	p.usage, p.working, p.last = 0, bdk, p.last-1
	return p, nil
}

// NewInitialKeyPath returns the one step from a BDK of type bdk to the initial key of a KSN, at any counter.
// It returns [ErrNotAESKSN] or [ErrKeyType].
func NewInitialKeyPath(ksn KSN, bdk KeyType) (Path, error) {
	if ksn.s != AES {
		return Path{}, ErrNotAESKSN
	}
	if !bdk.IsAES() {
		return Path{}, ErrKeyType
	}
	return Path{id: ksn.InitialKeyID(), derive: bdk, working: bdk, last: 1}, nil
}

// NewUpdateKeyPath returns the path to the key under which a new initial key is sent to the device that
// holds the initial key of ksn, at any counter (X9.24-3:2017 6.5.3: counter FFFFFFFF, key encryption). It
// returns [ErrNotAESKSN], and the errors of [CheckWorkingKey].
func NewUpdateKeyPath(ksn KSN, bdk, working KeyType) (Path, error) {
	if ksn.s != AES {
		return Path{}, ErrNotAESKSN
	}
	if err := CheckWorkingKey(bdk, UsageKeyEncryption, working); err != nil {
		return Path{}, err
	}
	return newPath(ksn.InitialKeyID(), updateCounter, bdk, UsageKeyEncryption, working), nil
}

// FromInitialKey returns the part of the path that starts from the initial key instead of the BDK.
func (p Path) FromInitialKey() Path {
	if p.last > 0 {
		p.first = 1
	}
	return p
}

// Root returns the type of the key that the path starts from: BDK and initial key have the same type.
func (p Path) Root() KeyType { return p.derive }

// Key returns the type of the key at the end of the path.
func (p Path) Key() KeyType { return p.working }

// Len returns the number of steps.
func (p Path) Len() int { return int(p.last - p.first) }

// Step returns step i of the path, 0 <= i < Len(). It panics outside, as an index into a slice does.
func (p Path) Step(i int) Step {
	if uint(i) >= uint(p.Len()) {
		panic("dukpt: step outside the path")
	}
	i += int(p.first)
	switch {
	case i == 0:
		return initialKeyStep(p.id, p.derive)
	case p.usage != 0 && i == int(p.last)-1:
		return workingKeyStep(p.id, p.counter, p.usage, p.working)
	}
	// Step i follows the i leftmost one-bits of the counter.
	c := p.counter
	for drop := bits.OnesCount32(c) - i; drop > 0; drop-- {
		c &= c - 1
	}
	return derivationKeyStep(p.id, c, p.derive)
}

// DerivationKeyStep returns the step from the derivation key of counter c without its lowest one-bit (the
// initial key, where c has only one) to the derivation key of counter c. The terminal fills its
// intermediate key registers with it. It returns [ErrKeyType] unless derive is AES, and
// [ErrKSNCounterZero]; the number of one-bits is the caller's to bound.
func DerivationKeyStep(id [8]byte, c uint32, derive KeyType) (Step, error) {
	if !derive.IsAES() {
		return Step{}, ErrKeyType
	}
	if c == 0 {
		return Step{}, ErrKSNCounterZero
	}
	return derivationKeyStep(id, c, derive), nil
}

// WorkingKeyStep returns the step from the derivation key of the KSN's transaction, of type derive, to a
// working key. Errors are those of [NewPath].
func WorkingKeyStep(ksn KSN, derive KeyType, usage Usage, working KeyType) (Step, error) {
	p, err := NewPath(ksn, derive, usage, working)
	if err != nil {
		return Step{}, err
	}
	return p.Step(p.Len() - 1), nil
}

// UpdateKeyStep returns the last step of [NewUpdateKeyPath]; the terminal walks the others when the initial
// key is loaded and keeps the result.
func UpdateKeyStep(ksn KSN, derive, working KeyType) (Step, error) {
	p, err := NewUpdateKeyPath(ksn, derive, working)
	if err != nil {
		return Step{}, err
	}
	return p.Step(p.Len() - 1), nil
}

func newPath(id [8]byte, counter uint32, derive KeyType, usage Usage, working KeyType) Path {
	return Path{
		id: id, counter: counter, derive: derive, usage: usage, working: working,
		last: uint8(1 + bits.OnesCount32(counter) + 1),
	}
}

func initialKeyStep(id [8]byte, derive KeyType) Step {
	s := newStep(usageInitialKey, derive)
	copy(s.Data[8:16], id[:])
	s.ID = KeyID{InitialKeyID: id, Usage: usageInitialKey, Key: derive}
	return s.repeat()
}

func derivationKeyStep(id [8]byte, counter uint32, derive KeyType) Step {
	s := newStep(UsageKeyDerivation, derive)
	s.putCounter(id, counter)
	s.ID = KeyID{InitialKeyID: id, Counter: counter, Usage: UsageKeyDerivation, Key: derive}
	return s.repeat()
}

func workingKeyStep(id [8]byte, counter uint32, usage Usage, working KeyType) Step {
	s := newStep(usage, working)
	s.putCounter(id, counter)
	s.ID = KeyID{InitialKeyID: id, Counter: counter, Usage: usage, Key: working, Working: true}
	return s.repeat()
}

// newStep fills the first half of the derivation data (X9.24-3:2017 6.3.2): version, block number, usage,
// algorithm and length in bits.
func newStep(usage Usage, key KeyType) Step {
	s := Step{Key: key, DataLen: 16}
	s.Data[0] = 1
	s.Data[1] = 1
	binary.BigEndian.PutUint16(s.Data[2:], uint16(usage))
	binary.BigEndian.PutUint16(s.Data[4:], key.row().algorithm)
	binary.BigEndian.PutUint16(s.Data[6:], uint16(key.Size())*8)
	return s
}

func (s *Step) putCounter(id [8]byte, counter uint32) {
	copy(s.Data[8:12], id[4:])
	binary.BigEndian.PutUint32(s.Data[12:], counter)
}

// repeat adds the second block where the key is longer than one: it differs in its number only.
func (s Step) repeat() Step {
	if s.Key.Size() > 16 {
		copy(s.Data[16:], s.Data[:16])
		s.Data[17] = 2
		s.DataLen = 32
	}
	return s
}
