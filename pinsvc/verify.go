package pinsvc

import (
	"context"
	"errors"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
)

// VerifyRequest asks whether the PIN in a block is the one of a verification value.
type VerifyRequest struct {
	Incoming        PINKey
	VerificationKey string // V2 for a Visa PVV, V1 for an IBM 3624 offset
	PAN             string // 1 to 19 digits
	Block           []byte // 8 bytes, 16 in ISO format 4
	PINMethod              // with the value to compare with
}

// Verify says whether the PIN in a block is right. A wrong PIN is an answer. Errors are
// refusals of package fault in the order that the package comment gives, or ctx's error.
func (s *Service) Verify(ctx context.Context, r VerifyRequest) (hsm.VerifiedPIN, error) {
	entry := s.keys.Entry(ctx)
	r.record(entry)
	serial, err := r.check()
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionVerify, entry,
		r.Incoming.named("incoming"), keyuse.Named{Field: "verification_key_id", Name: r.VerificationKey})
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	request := hsm.VerifyPIN{
		Incoming:     r.Incoming.with(key[0], serial),
		Verification: keyuse.Sealed(key[1]),
		PAN:          r.PAN,
		Block:        r.Block,
		Demands:      demands,
	}
	request.VisaPVV, request.IBM3624 = r.PINMethod.with()
	var uses keyuse.Serials
	uses.Add(key[0], serial, ksn.PINIncoming)
	var answer hsm.VerifiedPIN
	if len(uses) == 0 {
		answer, err = s.modules.VerifyPIN(ctx, request)
	} else {
		answer, err = s.verifyOnce(ctx, uses, request, key)
	}
	if err == nil {
		err = keyuse.Custody(entry, answer.Custody)
	}
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	return answer, nil
}

// verifyOnce is [keyuse.Keys.Once] for a verification. What is kept of its answer: custody,
// and 1 for a right PIN.
func (s *Service) verifyOnce(ctx context.Context, uses keyuse.Serials, r hsm.VerifyPIN, key []keys.Key) (hsm.VerifiedPIN, error) {
	request := identify(keyuse.NewIdentity(ActionVerify), key[0], r.Incoming).Key(key[1])
	request = keyuse.AppendField(keyuse.AppendField(request, r.PAN), r.Block)
	request = identifyMethod(request, r.VisaPVV, r.IBM3624)
	kept, err := s.keys.Once(ctx, uses, request, func(refused bool) ([]byte, error) {
		r.KSNRefused = refused
		answer, err := s.modules.VerifyPIN(ctx, r)
		if err != nil {
			return nil, err
		}
		kept := []byte{byte(answer.Custody), 0}
		if answer.Verified {
			kept[1] = 1
		}
		return kept, nil
	})
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	if len(kept) != 2 || kept[1] > 1 {
		return hsm.VerifiedPIN{}, fault.Wrap(fault.Internal, errors.New("the stored answer to a verification is not one"))
	}
	return hsm.VerifiedPIN{Custody: hsm.Custody(kept[0]), Verified: kept[1] == 1}, nil
}

func (r VerifyRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Incoming.KeyID, r.Incoming.DUKPT)
	keyuse.Record(entry, r.VerificationKey, nil)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r VerifyRequest) check() (dukpt.KSN, error) {
	if err := r.Incoming.check("incoming"); err != nil {
		return dukpt.KSN{}, err
	}
	if err := keyuse.CheckKeyID("verification_key_id", r.VerificationKey); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkPAN(r.PAN, true); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkBlock("encrypted_pin_block", r.Block, r.Incoming); err != nil {
		return dukpt.KSN{}, err
	}
	if err := r.checkValue("expected"); err != nil {
		return dukpt.KSN{}, err
	}
	return r.Incoming.DUKPT.Serial("incoming")
}
