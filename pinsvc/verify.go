package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/hsm"
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
		r.Incoming.Named("incoming"), keyuse.Named{Field: "verification_key_id", Name: r.VerificationKey})
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	request := hsm.VerifyPIN{
		Incoming:     r.Incoming.With(key[0], serial),
		Verification: keyuse.Sealed(key[1]),
		PAN:          r.PAN,
		Block:        r.Block,
		Demands:      demands,
	}
	request.VisaPVV, request.IBM3624 = r.PINMethod.with()
	var uses keyuse.Serials
	uses.Add(key[0], serial, ksn.PINIncoming)
	id := func() keyuse.Identity {
		id := Identify(keyuse.NewIdentity(ActionVerify), key[0], request.Incoming).Key(key[1])
		id = keyuse.AppendField(keyuse.AppendField(id, r.PAN), r.Block)
		return identifyMethod(id, request.VisaPVV, request.IBM3624)
	}
	answer, err := keyuse.Kept(ctx, s.keys, uses, id, keptVerification, func(refused bool) (hsm.VerifiedPIN, error) {
		request.KSNRefused = refused
		return s.modules.VerifyPIN(ctx, request)
	})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

func (r VerifyRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Incoming.KeyID, r.Incoming.DUKPT)
	keyuse.Record(entry, r.VerificationKey, nil)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r VerifyRequest) check() (dukpt.KSN, error) {
	if err := r.Incoming.Check("incoming"); err != nil {
		return dukpt.KSN{}, err
	}
	if err := keyuse.CheckKeyID("verification_key_id", r.VerificationKey); err != nil {
		return dukpt.KSN{}, err
	}
	if err := checkPAN(r.PAN, true); err != nil {
		return dukpt.KSN{}, err
	}
	if err := CheckBlock("encrypted_pin_block", r.Block, r.Incoming); err != nil {
		return dukpt.KSN{}, err
	}
	if err := r.checkValue("expected"); err != nil {
		return dukpt.KSN{}, err
	}
	return r.Incoming.DUKPT.Serial("incoming")
}
