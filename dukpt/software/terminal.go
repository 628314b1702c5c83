package software

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"

	"keyd/dukpt"
	"keyd/dukpt/software/internal/des"
)

// ErrTerminalDestroyed refuses the use of a terminal or transaction after Destroy, or of a zero one.
var ErrTerminalDestroyed = errors.New("dukpt/software: terminal or transaction holds no keys")

// register is a future key register: room for the longest key.
type register [maxKeySize]byte

// Terminal is the terminal side of DUKPT: the future key registers of X9.24-1:2009 A.1 and A.2 (TDES, 21
// registers) or the intermediate derivation key registers of X9.24-3:2017 6.5 (AES, 32 registers). It never
// keeps the initial key, and never the key of a transaction that has begun: whoever reads a terminal's memory
// learns nothing about its past. It is not safe for concurrent use. Terminal side only; the host has no such
// state.
//
// A terminal is a secret: its methods that print or marshal redact it. [Terminal.MarshalState] writes it down.
type Terminal struct {
	ksn       dukpt.KSN // of the next transaction; of the last one when exhausted
	key       dukpt.KeyType
	exhausted bool
	registers [dukpt.AESCounterBits]register // by bit of the counter, those of inUse hold keys
	update    register                       // AES: derivation key of the update key
}

// NewTerminal loads a terminal with an initial key and the KSN at counter 0 that came with it (X9.24-1:2009
// A.2 "Load Initial Key", X9.24-3:2017 6.5). A TDES initial key has 16 bytes; an AES one has 16, 24 or 32
// bytes, as its BDK. It returns [dukpt.ErrKSNLength] for the zero KSN, [dukpt.ErrKSNCounterNotZero] or
// [ErrKeySize]. The initial key remains the caller's, who wipes it.
func NewTerminal(initialKey []byte, ksn dukpt.KSN) (*Terminal, error) {
	if ksn.Scheme() == 0 {
		return nil, dukpt.ErrKSNLength
	}
	if ksn.Counter() != 0 {
		return nil, dukpt.ErrKSNCounterNotZero
	}
	t := &Terminal{key: dukpt.TDES2Key}
	if ksn.Scheme() == dukpt.AES {
		key, err := dukpt.AESKeyType(len(initialKey))
		if err != nil {
			return nil, ErrKeySize
		}
		t.key = key
	} else if len(initialKey) != TDESKeySize {
		return nil, ErrKeySize
	}
	first, err := ksn.Next()
	if err != nil {
		return nil, err
	}
	t.ksn = first
	var ik register
	defer clear(ik[:])
	copy(ik[:], initialKey)
	if err := t.fill(&ik, 0, ksn.Scheme().CounterBits()); err != nil {
		t.Destroy()
		return nil, err
	}
	if ksn.Scheme() == dukpt.AES {
		if err := t.deriveUpdate(&ik); err != nil {
			t.Destroy()
			return nil, err
		}
	}
	return t, nil
}

// Scheme returns the terminal's scheme.
func (t *Terminal) Scheme() dukpt.Scheme { return t.ksn.Scheme() }

// KeyType returns the type of the initial key: TDES2Key, or the AES type that bounds working keys.
func (t *Terminal) KeyType() dukpt.KeyType { return t.key }

// KSN returns the KSN of the next transaction; [dukpt.ErrExhausted] when there is none.
func (t *Terminal) KSN() (dukpt.KSN, error) {
	switch {
	case t.key == 0:
		return dukpt.KSN{}, ErrTerminalDestroyed
	case t.exhausted:
		return dukpt.KSN{}, dukpt.ErrExhausted
	}
	return t.ksn, nil
}

// Begin starts the next transaction. It takes the transaction's key out of its register, fills the
// registers below from it, erases it there and advances the counter, skipping counters with too many one-bits
// (X9.24-1:2009 A.2 "New Key", X9.24-3:2017 6.5). A device that may lose power writes its state down before
// it sends anything made with the transaction. It returns [dukpt.ErrExhausted] when the initial key is used
// up, [ErrTerminalDestroyed] for a terminal without keys.
func (t *Terminal) Begin() (*Transaction, error) {
	ksn, err := t.KSN()
	if err != nil {
		return nil, err
	}
	counter := ksn.Counter()
	current := &t.registers[bits.TrailingZeros32(counter)]
	tx := &Transaction{ksn: ksn, key: t.key, derivation: *current}
	if bits.OnesCount32(counter) < ksn.Scheme().MaxOneBits() {
		if err := t.fill(&tx.derivation, counter, bits.TrailingZeros32(counter)); err != nil {
			tx.Destroy()
			return nil, err
		}
	}
	clear(current[:])
	if next, err := ksn.Next(); err != nil {
		t.exhausted = true
	} else {
		t.ksn = next
	}
	return tx, nil
}

// UpdateKey writes the key under which a new initial key is sent to an AES terminal into dst, of
// working.Size() bytes (X9.24-3:2017 6.5.3). It is there even when the terminal is exhausted. It returns
// [ErrScheme] for a TDES terminal, the errors of [dukpt.CheckWorkingKey], [ErrOutputSize] or
// [ErrTerminalDestroyed].
func (t *Terminal) UpdateKey(dst []byte, working dukpt.KeyType) error {
	if t.key == 0 {
		return ErrTerminalDestroyed
	}
	if t.Scheme() != dukpt.AES {
		return ErrScheme
	}
	step, err := dukpt.UpdateKeyStep(t.ksn, t.key, working)
	if err != nil {
		return err
	}
	return AESDeriveStep(dst, t.update[:t.key.Size()], step)
}

// Destroy overwrites all keys. The terminal is of no use afterwards.
func (t *Terminal) Destroy() {
	for i := range t.registers {
		clear(t.registers[i][:])
	}
	clear(t.update[:])
	t.key, t.exhausted, t.ksn = 0, false, dukpt.KSN{}
}

// String returns a constant, never a key.
func (Terminal) String() string { return redacted }

// GoString returns a constant, never a key.
func (Terminal) GoString() string { return redacted }

// Format writes a constant for every verb, never a key.
func (Terminal) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns a constant, never a key.
func (Terminal) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a constant, never a key; see [Terminal.MarshalState].
func (Terminal) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// fill derives the keys of counter+2^i for every i < n from the key of counter.
func (t *Terminal) fill(key *register, counter uint32, n int) error {
	id := t.ksn.InitialKeyID()
	if t.ksn.Scheme() == dukpt.TDES {
		fixed := tdesRegister(t.ksn) | uint64(counter)
		left, right := binary.BigEndian.Uint64(key[:]), binary.BigEndian.Uint64(key[8:])
		var s des.Schedule
		defer clear(s[:])
		for i := n - 1; i >= 0; i-- {
			newLeft, newRight := generateKey(&s, left, right, fixed|1<<i)
			binary.BigEndian.PutUint64(t.registers[i][:], newLeft)
			binary.BigEndian.PutUint64(t.registers[i][8:], newRight)
		}
		return nil
	}
	size := t.key.Size()
	for i := n - 1; i >= 0; i-- {
		step, err := dukpt.DerivationKeyStep(id, counter|1<<i, t.key)
		if err != nil {
			return err
		}
		if err := AESDeriveStep(t.registers[i][:size], key[:size], step); err != nil {
			return err
		}
	}
	return nil
}

// deriveUpdate walks from the initial key to the derivation key of the update key: all 32 one-bits.
func (t *Terminal) deriveUpdate(ik *register) error {
	t.update = *ik
	size := t.key.Size()
	var counter uint32
	for i := dukpt.AESCounterBits - 1; i >= 0; i-- {
		counter |= 1 << i
		step, err := dukpt.DerivationKeyStep(t.ksn.InitialKeyID(), counter, t.key)
		if err != nil {
			return err
		}
		if err := AESDeriveStep(t.update[:size], t.update[:size], step); err != nil {
			return err
		}
	}
	return nil
}

// inUse tells which registers hold a key when the next transaction is that of counter c: the one of its
// lowest one-bit, and above it those of the zero bits, which are still to come. The others have been used,
// or are derived later.
func inUse(c uint32, scheme dukpt.Scheme) uint32 {
	lowest := c & -c
	above := ^(lowest<<1 - 1) & uint32(1<<scheme.CounterBits()-1)
	return lowest | ^c&above
}
