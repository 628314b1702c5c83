package pinsvc

import (
	"context"
	"errors"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/ksn"
)

// VerifyRequest asks whether the PIN in a block is the one of a verification value.
// Exactly one of VisaPVV and IBM3624 is set.
type VerifyRequest struct {
	Incoming        PINKey
	VerificationKey string // V2 for a Visa PVV, V1 for an IBM 3624 offset
	PAN             string // 1 to 19 digits
	Block           []byte // 8 bytes, 16 in ISO format 4
	VisaPVV         *VisaPVV
	IBM3624         *IBM3624
}

// VisaPVV is a Visa PIN verification value to compare with.
type VisaPVV struct {
	KeyIndex int32  // PVKI, 0 to 9
	PVV      string // 4 decimal digits
}

// IBM3624 is an IBM 3624 PIN offset to compare with.
type IBM3624 struct {
	Offset string // 4 to 12 decimal digits; its length is the check length
}

// Verify says whether the PIN in a block is right. A wrong PIN is an answer. Errors are
// refusals of package fault in the order that the package comment gives, or ctx's error.
func (s *Service) Verify(ctx context.Context, r VerifyRequest) (hsm.VerifiedPIN, error) {
	entry := s.access.Entry(ctx)
	r.record(entry)
	serial, err := r.check()
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	key, err := s.authorized(ctx, ActionVerify, entry,
		named{"incoming.key_id", r.Incoming.KeyID}, named{"verification_key_id", r.VerificationKey})
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	request := hsm.VerifyPIN{
		Incoming:     r.Incoming.with(key[0], serial),
		Verification: sealed(key[1]),
		PAN:          r.PAN,
		Block:        r.Block,
	}
	if r.VisaPVV != nil {
		request.VisaPVV = &hsm.VisaPVV{KeyIndex: uint8(r.VisaPVV.KeyIndex), PVV: r.VisaPVV.PVV}
	} else {
		request.IBM3624 = &hsm.IBM3624{Offset: r.IBM3624.Offset}
	}
	var uses serials
	uses.add(key[0], serial, ksn.PINIncoming)
	var answer hsm.VerifiedPIN
	if len(uses) == 0 {
		answer, err = s.modules.VerifyPIN(ctx, request)
	} else {
		answer, err = s.verifyOnce(ctx, uses, request, key)
	}
	if err == nil {
		err = custody(entry, answer.Custody)
	}
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	return answer, nil
}

// verifyOnce is [Service.once] for a verification. What is kept of its answer: custody,
// and 1 for a right PIN.
func (s *Service) verifyOnce(ctx context.Context, uses serials, r hsm.VerifyPIN, key []keys.Key) (hsm.VerifiedPIN, error) {
	request := newIdentity(ActionVerify).pinKey(key[0], r.Incoming).key(key[1])
	request = appendField(appendField(request, r.PAN), r.Block)
	if r.VisaPVV != nil {
		request = appendField(append(appendField(request, "PVV"), r.VisaPVV.KeyIndex), r.VisaPVV.PVV)
	} else {
		request = appendField(appendField(request, "offset"), r.IBM3624.Offset)
	}
	kept, err := s.once(ctx, uses, request, func(refused bool) ([]byte, error) {
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
	r.Incoming.record(entry)
	recordKey(entry, r.VerificationKey)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r VerifyRequest) check() (dukpt.KSN, error) {
	if err := r.Incoming.check("incoming"); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkKeyID("verification_key_id", r.VerificationKey); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkPAN(r.PAN, true); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkBlock(r.Block, r.Incoming); err != nil {
		return dukpt.KSN{}, err
	}
	if err := r.checkExpected(); err != nil {
		return dukpt.KSN{}, err
	}
	return r.Incoming.ksn("incoming")
}

func (r VerifyRequest) checkExpected() error {
	switch {
	case (r.VisaPVV == nil) == (r.IBM3624 == nil):
		return invalid("expected has exactly one of visa_pvv and ibm3624")
	case r.IBM3624 != nil:
		if n := len(r.IBM3624.Offset); n < 4 || n > 12 || !decimal(r.IBM3624.Offset) {
			return invalid("expected.ibm3624.offset has 4 to 12 decimal digits")
		}
	case r.VisaPVV.KeyIndex < 0 || r.VisaPVV.KeyIndex > 9:
		return invalid("expected.visa_pvv.key_index (PVKI) is 0 to 9")
	case !fits(r.VisaPVV.PVV, 4, "0123456789"):
		return invalid("expected.visa_pvv.pvv has 4 decimal digits")
	}
	return nil
}
