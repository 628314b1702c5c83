package datasvc

import (
	"context"
	"fmt"

	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
)

// MACKey names a key that makes MACs, as a request does.
type MACKey struct {
	KeyID     string
	Algorithm int32         // keyd.v1.MacKey.Algorithm
	DUKPT     *keyuse.DUKPT // set if the request says that the key is a BDK
	Direction int32         // keyd.v1.MacKey.Direction
	Padding   int32         // method of ISO 9797-1; 0 is 1
}

// maxMAC is the size of the largest MAC in bytes.
const maxMAC = 32

// GenerateMAC makes the MAC of a message; length is in bytes, 0 for the whole. Errors are
// refusals of package fault in the order that the package comment gives, or ctx's error.
func (s *Service) GenerateMAC(ctx context.Context, k MACKey, message []byte, length int32) (hsm.GeneratedMAC, error) {
	entry := s.keys.Entry(ctx)
	keyuse.Record(entry, k.KeyID, k.DUKPT)
	serial, err := k.check(message, func() error {
		if length != 0 && (length < hsm.MinMAC || length > maxMAC) {
			return keyuse.Invalid(fmt.Sprintf("mac_length is %d to %d bytes, or 0 for the whole MAC", hsm.MinMAC, maxMAC))
		}
		return nil
	})
	if err != nil {
		return hsm.GeneratedMAC{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionGenerateMAC, entry, k.named())
	if err != nil {
		return hsm.GeneratedMAC{}, err
	}
	r := hsm.GenerateMAC{Key: k.with(key[0], serial), Message: message, Length: uint8(length), Demands: demands}
	id := func() keyuse.Identity {
		return append(k.identify(ActionGenerateMAC, key[0], r.Key).Digest(message), r.Length)
	}
	answer, err := keyuse.Repeated(ctx, s.keys, k.uses(key[0], serial), id, func(refused bool) (hsm.GeneratedMAC, bool, error) {
		r.KSNRefused = refused
		answer, err := s.modules.GenerateMAC(ctx, r)
		return answer, true, err
	})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

// VerifyMAC says whether a MAC is the message's. A wrong one is an answer, and moves no
// counter: it shows nothing about who sent it. Errors are refusals of package fault in the
// order that the package comment gives, or ctx's error.
func (s *Service) VerifyMAC(ctx context.Context, k MACKey, message, mac []byte) (hsm.VerifiedMAC, error) {
	entry := s.keys.Entry(ctx)
	keyuse.Record(entry, k.KeyID, k.DUKPT)
	serial, err := k.check(message, func() error {
		if len(mac) < hsm.MinMAC || len(mac) > maxMAC {
			return keyuse.Invalid(fmt.Sprintf("mac has %d to %d bytes", hsm.MinMAC, maxMAC))
		}
		return nil
	})
	if err != nil {
		return hsm.VerifiedMAC{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionVerifyMAC, entry, k.named())
	if err != nil {
		return hsm.VerifiedMAC{}, err
	}
	r := hsm.VerifyMAC{Key: k.with(key[0], serial), Message: message, MAC: mac, Demands: demands}
	id := func() keyuse.Identity {
		return keyuse.AppendField(k.identify(ActionVerifyMAC, key[0], r.Key).Digest(message), mac)
	}
	answer, err := keyuse.Repeated(ctx, s.keys, k.uses(key[0], serial), id, func(refused bool) (hsm.VerifiedMAC, bool, error) {
		r.KSNRefused = refused
		answer, err := s.modules.VerifyMAC(ctx, r)
		return answer, answer.Verified, err
	})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

// check is about the shape alone; size is about that of the MAC.
func (k MACKey) check(message []byte, size func() error) (dukpt.KSN, error) {
	if err := keyuse.CheckKeyID("key.key_id", k.KeyID); err != nil {
		return dukpt.KSN{}, err
	}
	switch {
	case k.Algorithm < int32(hsm.MACAlgorithm1) || k.Algorithm > int32(hsm.HMACSHA256):
		return dukpt.KSN{}, keyuse.Invalid("key.algorithm is one of ISO9797_ALGORITHM1, ISO9797_ALGORITHM3, CMAC, HMAC_SHA256")
	case k.Padding < 0 || k.Padding > 2:
		return dukpt.KSN{}, keyuse.Invalid("key.padding_method is 1 or 2")
	case k.Padding != 0 && k.Algorithm > int32(hsm.MACAlgorithm3):
		return dukpt.KSN{}, keyuse.Invalid("key.padding_method is one of ISO 9797-1; CMAC and HMAC have none")
	}
	if err := checkDirection("key", k.DUKPT, k.Direction); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkMessage("message", message); err != nil {
		return dukpt.KSN{}, err
	}
	if err := size(); err != nil {
		return dukpt.KSN{}, err
	}
	return k.DUKPT.Serial("key")
}

func (k MACKey) named() keyuse.Named {
	return keyuse.Named{Field: "key.key_id", Name: k.KeyID}
}

// with returns the key as a module gets it.
func (k MACKey) with(key keys.Key, serial dukpt.KSN) hsm.MACKey {
	return hsm.MACKey{
		Key: keyuse.Sealed(key), KSN: serial, WorkingType: k.DUKPT.WorkingType(),
		Algorithm: hsm.MACAlgorithm(k.Algorithm), Response: k.Direction == response, Padding: uint8(max(1, k.Padding)),
	}
}

func (k MACKey) uses(key keys.Key, serial dukpt.KSN) (uses keyuse.Serials) {
	class := ksn.MACRequest
	if k.Direction == response {
		class = ksn.MACResponse
	}
	uses.Add(key, serial, class)
	return uses
}

// identify begins the identity of a request with the key.
func (k MACKey) identify(action string, key keys.Key, m hsm.MACKey) keyuse.Identity {
	return append(keyuse.NewIdentity(action).Key(key).Serial(m.KSN), uint8(m.WorkingType), uint8(m.Algorithm), uint8(k.Direction), m.Padding)
}
