package keyuse

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/keys"
	"keyd/ksn"
)

// Serials collects the key serial numbers of a request that are accepted once: those
// under a BDK whose header says so.
type Serials []ksn.Use

// Add adds the key serial number of a request under a key, if there is one.
func (s *Serials) Add(key keys.Key, serial dukpt.KSN, class ksn.Class) {
	if key.Header.KSNCheck == "" || serial == (dukpt.KSN{}) {
		return
	}
	*s = append(*s, ksn.Use{Fingerprint: key.Header.Fingerprint, KSN: serial, Class: class})
}

// Once carries out a request whose key serial numbers are accepted once. The record is
// asked first: an identical retry gets the answer that was recorded, and costs nothing.
// Where it refuses, or cannot be read, the request goes to the module all the same, which
// looks at what comes before the key serial number in the order of checks, and at nothing
// else. Any other request is carried out, and recorded before its answer leaves.
//
// request is the identity of the request, carryOut the module's part, which is told
// whether the record has refused and returns what is kept of the answer. The header that
// asks for this was authenticated by the module, which would have refused an altered key.
func (k *Keys) Once(ctx context.Context, uses Serials, request []byte, carryOut func(refused bool) ([]byte, error)) ([]byte, error) {
	defer k.serials.Begin()()
	stored, refusal := k.serials.Look(ctx, uses, request)
	if stored != nil {
		return stored, nil
	}
	answer, err := carryOut(refusal != nil)
	switch {
	case refusal != nil && (err == nil || isReplay(err)):
		return nil, refusal
	case err == nil:
		kept, row, err := k.serials.Accept(ctx, uses, request, answer)
		k.access.Entry(ctx).Journal = row
		return kept, err
	case !afterSerial(err):
		return nil, err
	}
	// Another request may have come first meanwhile.
	stored, refusal = k.serials.Look(ctx, uses, request)
	switch {
	case stored != nil:
		return stored, nil
	case isReplay(refusal):
		return nil, refusal
	}
	return nil, err
}

// Kept is [Keys.Once] for a request whose answer is kept, encoded. Without a key serial
// number that is accepted once, the request is carried out and nothing is kept; identity is
// not asked then.
func Kept[A any](ctx context.Context, k *Keys, uses Serials, identity func() Identity, form Form[A], carryOut func(refused bool) (A, error)) (answer A, err error) {
	if len(uses) == 0 {
		return carryOut(false)
	}
	kept, err := k.Once(ctx, uses, identity(), func(refused bool) ([]byte, error) {
		answer, err := carryOut(refused)
		if err != nil {
			return nil, err
		}
		return form.Encode(answer), nil
	})
	if err != nil {
		return answer, err
	}
	answer, ok := form.Decode(kept)
	if !ok {
		return answer, fault.Wrap(fault.Internal, errors.New("the stored answer is not one"))
	}
	return answer, nil
}

// Form is how an answer is kept. Decode says whether it is one.
type Form[A any] struct {
	Encode func(A) []byte
	Decode func([]byte) (A, bool)
}

// errUnmoved is the error of an answer that moves no counter: it was carried out, but shows
// nothing about who sent it.
var errUnmoved = errors.New("nothing to accept")

// Repeated is [Keys.Once] for a request whose answer is not kept, because it can be large
// and is the same when the request is carried out again: that is what happens to an
// identical retry. carryOut also says whether the key serial number is accepted with the
// answer; where it is not, nothing is recorded, so that who cannot make a MAC cannot use up
// a terminal's counter. identity is asked only where something is recorded.
func Repeated[A any](ctx context.Context, k *Keys, uses Serials, identity func() Identity, carryOut func(refused bool) (answer A, accepted bool, err error)) (answer A, err error) {
	if len(uses) == 0 {
		answer, _, err = carryOut(false)
		return answer, err
	}
	done := false
	_, err = k.Once(ctx, uses, identity(), func(refused bool) ([]byte, error) {
		a, accepted, err := carryOut(refused)
		if err != nil {
			return nil, err
		}
		answer, done = a, true
		if !accepted && !refused {
			return nil, errUnmoved
		}
		return []byte{1}, nil
	})
	switch {
	case err == nil && !done: // an identical retry
		answer, _, err = carryOut(false)
	case errors.Is(err, errUnmoved):
		err = nil
	}
	if err != nil {
		var none A
		return none, err
	}
	return answer, nil
}

func isReplay(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Reason == fault.KSNReplayed
}

// afterSerial reports whether a refusal comes after the key serial number.
func afterSerial(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Reason > fault.KSNReplayed && f.Reason != fault.Internal
}

// Identity encodes everything that makes a request this one: two requests are identical
// if and only if their encodings are. Each field has its length before it.
type Identity []byte

// NewIdentity begins that of a request for an action.
func NewIdentity(action string) Identity {
	return AppendField(make(Identity, 0, 512), action)
}

// AppendField adds a field.
func AppendField[T string | []byte](i Identity, field T) Identity {
	return append(binary.BigEndian.AppendUint32(i, uint32(len(field))), field...)
}

// Digest adds a field that may be large.
func (i Identity) Digest(field []byte) Identity {
	sum := sha256.Sum256(field)
	return append(i, sum[:]...)
}

// Key adds a key.
func (i Identity) Key(k keys.Key) Identity {
	i = AppendField(i, k.Name)
	i = binary.BigEndian.AppendUint32(i, k.Version)
	return AppendField(i, k.Header.Fingerprint)
}

// Serial adds a key serial number.
func (i Identity) Serial(serial dukpt.KSN) Identity {
	return AppendField(i, serial.AppendBytes(make([]byte, 0, dukpt.AESKSNSize)))
}
