package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/ksn"
)

// ChangeRequest asks for the value to verify a new PIN by, if the current one is right.
type ChangeRequest struct {
	Incoming        PINKey
	NewIncoming     *PINKey // of the new block; as Incoming, its KSN included, when nil
	VerificationKey string  // V2 for a Visa PVV, V1 for an IBM 3624 offset; verifies and generates
	PAN             string  // 1 to 19 digits
	Current, New    []byte  // 8 bytes each, 16 in ISO format 4
	PINMethod               // with the current value
}

// ChangedPIN is the answer to [ChangeRequest].
type ChangedPIN struct {
	Verified bool
	Datum    PINMethod // with the new value; zero unless verified
	Custody  hsm.Custody
}

// Change verifies the current PIN and makes the value to verify the new one by. A wrong
// current PIN is an answer. Errors are refusals of package fault in the order that the
// package comment gives, or ctx's error.
func (s *Service) Change(ctx context.Context, r ChangeRequest) (ChangedPIN, error) {
	if r.NewIncoming == nil {
		r.NewIncoming = &r.Incoming
	}
	entry := s.keys.Entry(ctx)
	r.record(entry)
	serial, newSerial, err := r.check()
	if err != nil {
		return ChangedPIN{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionChange, entry,
		r.Incoming.Named("incoming"), r.NewIncoming.Named("new_incoming"),
		keyuse.Named{Field: "verification_key_id", Name: r.VerificationKey})
	if err != nil {
		return ChangedPIN{}, err
	}
	request := hsm.ChangePIN{
		Incoming:     r.Incoming.With(key[0], serial),
		NewIncoming:  r.NewIncoming.With(key[1], newSerial),
		Verification: keyuse.Sealed(key[2]),
		PAN:          r.PAN,
		Current:      r.Current,
		New:          r.New,
		Demands:      demands,
	}
	request.VisaPVV, request.IBM3624 = r.PINMethod.with()
	var uses keyuse.Serials
	uses.Add(key[0], serial, ksn.PINIncoming)
	uses.Add(key[1], newSerial, ksn.PINIncoming)
	id := func() keyuse.Identity {
		id := Identify(Identify(keyuse.NewIdentity(ActionChange), key[0], request.Incoming), key[1], request.NewIncoming).Key(key[2])
		id = keyuse.AppendField(keyuse.AppendField(keyuse.AppendField(id, r.PAN), r.Current), r.New)
		return identifyMethod(id, request.VisaPVV, request.IBM3624)
	}
	answer, err := keyuse.Kept(ctx, s.keys, uses, id, keptChange, func(refused bool) (hsm.ChangedPIN, error) {
		request.KSNRefused = refused
		return s.modules.ChangePIN(ctx, request)
	})
	answer, err = keyuse.Answered(entry, answer, answer.Custody, err)
	if err != nil {
		return ChangedPIN{}, err
	}
	changed := ChangedPIN{Verified: answer.Verified, Custody: answer.Custody}
	if answer.Verified {
		changed.Datum = r.withValue(answer.Datum)
	}
	return changed, nil
}

func (r ChangeRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Incoming.KeyID, r.Incoming.DUKPT)
	keyuse.Record(entry, r.NewIncoming.KeyID, r.NewIncoming.DUKPT)
	keyuse.Record(entry, r.VerificationKey, nil)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r ChangeRequest) check() (current, renewed dukpt.KSN, err error) {
	if err = r.Incoming.Check("incoming"); err != nil {
		return
	}
	if err = r.NewIncoming.Check("new_incoming"); err != nil {
		return
	}
	if err = keyuse.CheckKeyID("verification_key_id", r.VerificationKey); err != nil {
		return
	}
	if err = checkPAN(r.PAN, true); err != nil {
		return
	}
	if err = CheckBlock("current_encrypted_pin_block", r.Current, r.Incoming); err != nil {
		return
	}
	if err = CheckBlock("new_encrypted_pin_block", r.New, *r.NewIncoming); err != nil {
		return
	}
	if err = r.checkValue("current"); err != nil {
		return
	}
	if current, err = r.Incoming.DUKPT.Serial("incoming"); err != nil {
		return
	}
	renewed, err = r.NewIncoming.DUKPT.Serial("new_incoming")
	return
}
