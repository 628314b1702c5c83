package pinsvc

import (
	"context"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/hsm"
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
	entry := s.access.Entry(ctx)
	r.record(entry)
	inKSN, outKSN, err := r.check()
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	key, err := s.authorized(ctx, ActionTranslate, entry,
		named{"incoming.key_id", r.Incoming.KeyID}, named{"outgoing.key_id", r.Outgoing.KeyID})
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	answer, err := s.modules.TranslatePIN(ctx, hsm.TranslatePIN{
		Incoming: r.Incoming.with(key[0], inKSN),
		Outgoing: r.Outgoing.with(key[1], outKSN),
		PAN:      r.PAN,
		Block:    r.Block,
	})
	if err == nil {
		err = custody(entry, answer.Custody)
	}
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	return answer, nil
}

func (r TranslateRequest) record(entry *audit.Entry) {
	r.Incoming.record(entry)
	r.Outgoing.record(entry)
	entry.PAN = audit.MaskPAN(r.PAN)
}

// check is about the shape alone.
func (r TranslateRequest) check() (in, out dukpt.KSN, err error) {
	if err = r.Incoming.check("incoming"); err != nil {
		return
	}
	if err = r.Outgoing.check("outgoing"); err != nil {
		return
	}
	if err = checkPAN(r.PAN, r.Incoming.Format != format1 || r.Outgoing.Format != format1); err != nil {
		return
	}
	if err = checkBlock(r.Block, r.Incoming); err != nil {
		return
	}
	if in, err = r.Incoming.ksn("incoming"); err != nil {
		return
	}
	out, err = r.Outgoing.ksn("outgoing")
	return
}
