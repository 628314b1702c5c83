package ksn

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"

	"keyd/dukpt"
)

// Class is what a KSN is used for. A terminal uses one KSN for all of them in one
// transaction, each with a working key of its own, so each is counted by itself. The
// numbers are in the database and never change their meaning.
type Class uint8

// The classes.
const (
	PINIncoming  Class = 1 // a PIN block that the terminal enciphered
	PINOutgoing  Class = 2 // a PIN block that is enciphered for the terminal
	MACRequest   Class = 3
	MACResponse  Class = 4
	DataRequest  Class = 5
	DataResponse Class = 6
)

// Use is one use of a KSN.
type Use struct {
	Fingerprint string // of the base derivation key's value, as its sealed header has it: 32 hex digits
	KSN         dukpt.KSN
	Class       Class
}

// maxUses is the number of uses that one request can have.
const maxUses = 4

// sequence names what is counted: a class (1 byte), the fingerprint (16) and the
// initial key ID (8).
type sequence [sequenceSize]byte

const (
	fingerprintSize = 16
	sequenceSize    = 1 + fingerprintSize + 8
)

// span is the part of a sequence that a request uses: one counter, or two if its
// current and its new PIN came under KSNs of their own.
type span struct {
	sequence    sequence
	first, last uint32
}

// spans appends what the uses take from their sequences to out, which is empty, in the
// order of the sequences. Its errors are those of a caller who did not check the request.
func spans(out []span, uses []Use) ([]span, error) {
	if len(uses) == 0 || len(uses) > maxUses {
		return nil, fmt.Errorf("ksn: a request has 1 to %d uses, not %d", maxUses, len(uses))
	}
	for _, u := range uses {
		q, err := u.sequence()
		if err != nil {
			return nil, err
		}
		counter := u.KSN.Counter()
		if counter == 0 {
			return nil, fmt.Errorf("ksn: counter 0 is for no transaction")
		}
		i := slices.IndexFunc(out, func(s span) bool { return s.sequence == q })
		if i < 0 {
			out = append(out, span{q, counter, counter})
			continue
		}
		out[i].first, out[i].last = min(out[i].first, counter), max(out[i].last, counter)
	}
	slices.SortFunc(out, func(a, b span) int { return compare(a.sequence, b.sequence) })
	return out, nil
}

func (u Use) sequence() (sequence, error) {
	var q sequence
	if !u.Class.valid() {
		return q, fmt.Errorf("ksn: there is no class %d", u.Class)
	}
	q[0] = byte(u.Class)
	if len(u.Fingerprint) != 2*fingerprintSize {
		return q, fmt.Errorf("ksn: a fingerprint has %d hex digits, not %d", 2*fingerprintSize, len(u.Fingerprint))
	}
	if _, err := hex.Decode(q[1:1+fingerprintSize], []byte(u.Fingerprint)); err != nil {
		return q, fmt.Errorf("ksn: the fingerprint is not hex")
	}
	id := u.KSN.InitialKeyID()
	copy(q[1+fingerprintSize:], id[:])
	return q, nil
}

// fingerprint is that of the base derivation key.
func (q sequence) fingerprint() string { return hex.EncodeToString(q[1 : 1+fingerprintSize]) }

func (c Class) valid() bool { return c >= PINIncoming && c <= DataResponse }

func compare(a, b sequence) int { return bytes.Compare(a[:], b[:]) }
