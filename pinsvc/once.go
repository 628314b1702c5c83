package pinsvc

import (
	"context"
	"encoding/binary"
	"errors"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/ksn"
)

// serials collects the key serial numbers of a request that are accepted once: those
// under a BDK whose header says so.
type serials []ksn.Use

func (s *serials) add(key keys.Key, serial dukpt.KSN, class ksn.Class) {
	if key.Header.KSNCheck == "" || serial == (dukpt.KSN{}) {
		return
	}
	*s = append(*s, ksn.Use{Fingerprint: key.Header.Fingerprint, KSN: serial, Class: class})
}

// once carries out a request whose key serial numbers are accepted once. The record is
// asked first: an identical retry gets the answer that was recorded, and costs nothing.
// Where it refuses, or cannot be read, the request goes to the module all the same, which
// looks at what comes before the key serial number in the order of checks, and at nothing
// else. Any other request is carried out, and recorded before its answer leaves.
//
// request is the identity of the request, carryOut the module's part, which is told
// whether the record has refused and returns what is kept of the answer. The header that
// asks for this was authenticated by the module, which would have refused an altered key.
func (s *Service) once(ctx context.Context, uses serials, request []byte, carryOut func(refused bool) ([]byte, error)) ([]byte, error) {
	defer s.serials.Begin()()
	stored, refusal := s.serials.Look(ctx, uses, request)
	if stored != nil {
		return stored, nil
	}
	answer, err := carryOut(refusal != nil)
	switch {
	case refusal != nil && (err == nil || isReplay(err)):
		return nil, refusal
	case err == nil:
		return s.serials.Accept(ctx, uses, request, answer)
	case !afterSerial(err):
		return nil, err
	}
	// Another request may have come first meanwhile.
	stored, refusal = s.serials.Look(ctx, uses, request)
	switch {
	case stored != nil:
		return stored, nil
	case isReplay(refusal):
		return nil, refusal
	}
	return nil, err
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

// identity encodes everything that makes a request this one: two requests are identical
// if and only if their encodings are. Each field has its length before it.
type identity []byte

func newIdentity(action string) identity {
	return appendField(make(identity, 0, 512), action)
}

func appendField[T string | []byte](i identity, field T) identity {
	return append(binary.BigEndian.AppendUint32(i, uint32(len(field))), field...)
}

func (i identity) key(k keys.Key) identity {
	i = appendField(i, k.Name)
	i = binary.BigEndian.AppendUint32(i, k.Version)
	return appendField(i, k.Header.Fingerprint)
}

func (i identity) pinKey(k keys.Key, p hsm.PINKey) identity {
	i = i.key(k)
	i = appendField(i, p.KSN.AppendBytes(make([]byte, 0, dukpt.AESKSNSize)))
	return append(i, uint8(p.WorkingType), uint8(p.Format))
}
