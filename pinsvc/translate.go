package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/ksn"
)

// TranslateRequest asks for a PIN block under another key.
type TranslateRequest struct {
	Incoming, Outgoing PINKey
	PAN                string // 1 to 19 digits; may be empty if both formats are ISO format 1
	Block              []byte // 8 bytes, 16 in ISO format 4
}

// Translate re-enciphers a PIN block (ISO 9564-1:2017 §9, translation; PCI PIN
// requirement 3-3). Errors are refusals of package fault in the order that the package
// comment gives, or ctx's error.
func (s *Service) Translate(ctx context.Context, r TranslateRequest) (hsm.TranslatedPIN, error) {
	entry := s.keys.Entry(ctx)
	r.record(entry)
	inKSN, outKSN, err := r.check()
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionTranslate, entry,
		r.Incoming.Named("incoming"), r.Outgoing.Named("outgoing"))
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	request := hsm.TranslatePIN{
		Incoming: r.Incoming.With(key[0], inKSN),
		Outgoing: r.Outgoing.With(key[1], outKSN),
		PAN:      r.PAN,
		Block:    r.Block,
		Demands:  demands,
	}
	var uses keyuse.Serials
	uses.Add(key[0], inKSN, ksn.PINIncoming)
	uses.Add(key[1], outKSN, ksn.PINOutgoing)
	id := func() keyuse.Identity {
		id := Identify(Identify(keyuse.NewIdentity(ActionTranslate), key[0], request.Incoming), key[1], request.Outgoing)
		return keyuse.AppendField(keyuse.AppendField(id, r.PAN), r.Block)
	}
	answer, err := keyuse.Kept(ctx, s.keys, uses, id, keptTranslation, func(refused bool) (hsm.TranslatedPIN, error) {
		request.KSNRefused = refused
		return s.modules.TranslatePIN(ctx, request)
	})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

func (r TranslateRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Incoming.KeyID, r.Incoming.DUKPT)
	keyuse.Record(entry, r.Outgoing.KeyID, r.Outgoing.DUKPT)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r TranslateRequest) check() (in, out dukpt.KSN, err error) {
	if err = r.Incoming.Check("incoming"); err != nil {
		return
	}
	if err = r.Outgoing.Check("outgoing"); err != nil {
		return
	}
	if err = checkPAN(r.PAN, r.Incoming.Format != format1 || r.Outgoing.Format != format1); err != nil {
		return
	}
	if err = CheckBlock("encrypted_pin_block", r.Block, r.Incoming); err != nil {
		return
	}
	if in, err = r.Incoming.DUKPT.Serial("incoming"); err != nil {
		return
	}
	out, err = r.Outgoing.DUKPT.Serial("outgoing")
	return
}
