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

// once settles a request that a module has carried out, or refused with err: its key
// serial numbers are recorded before the answer leaves, and an identical retry gets the
// answer that was recorded. A refusal that comes after the key serial number in the
// order of checks gives way to what the record says. The header that asked for the
// check was authenticated by the module, which would have refused an altered key.
//
// request is the identity of the request, answer what is kept of the answer.
func (s *Service) once(ctx context.Context, uses serials, request, answer []byte, err error) ([]byte, error) {
	switch {
	case len(uses) == 0:
		return answer, err
	case err == nil:
		return s.serials.Accept(ctx, uses, request, answer)
	case !afterSerial(err):
		return nil, err
	}
	stored, found := s.serials.Look(ctx, uses, request)
	switch {
	case found == nil && stored != nil:
		return stored, nil
	case found != nil && fault.Of(found).Reason == fault.KSNReplayed:
		return nil, found
	}
	return nil, err
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
