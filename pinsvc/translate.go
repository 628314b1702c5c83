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
		r.Incoming.named("incoming"), r.Outgoing.named("outgoing"))
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	request := hsm.TranslatePIN{
		Incoming: r.Incoming.with(key[0], inKSN),
		Outgoing: r.Outgoing.with(key[1], outKSN),
		PAN:      r.PAN,
		Block:    r.Block,
		Demands:  demands,
	}
	var uses keyuse.Serials
	uses.Add(key[0], inKSN, ksn.PINIncoming)
	uses.Add(key[1], outKSN, ksn.PINOutgoing)
	var answer hsm.TranslatedPIN
	if len(uses) == 0 {
		answer, err = s.modules.TranslatePIN(ctx, request)
	} else {
		answer, err = s.translateOnce(ctx, uses, request, key)
	}
	if err == nil {
		err = keyuse.Custody(entry, answer.Custody)
	}
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	return answer, nil
}

// translateOnce is [keyuse.Keys.Once] for a translation.
func (s *Service) translateOnce(ctx context.Context, uses keyuse.Serials, r hsm.TranslatePIN, key []keys.Key) (hsm.TranslatedPIN, error) {
	request := identify(identify(keyuse.NewIdentity(ActionTranslate), key[0], r.Incoming), key[1], r.Outgoing)
	request = keyuse.AppendField(keyuse.AppendField(request, r.PAN), r.Block)
	kept, err := s.keys.Once(ctx, uses, request, func(refused bool) ([]byte, error) {
		r.KSNRefused = refused
		answer, err := s.modules.TranslatePIN(ctx, r)
		if err != nil {
			return nil, err
		}
		return encodeTranslated(answer), nil
	})
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	return decodeTranslated(kept)
}

// What is kept of a translation's answer: custody, length of the check value, check
// value, block.

func encodeTranslated(t hsm.TranslatedPIN) []byte {
	b := append(make([]byte, 0, 32), byte(t.Custody), byte(len(t.CheckValue)))
	return append(append(b, t.CheckValue...), t.Block...)
}

func decodeTranslated(b []byte) (hsm.TranslatedPIN, error) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return hsm.TranslatedPIN{}, fault.Wrap(fault.Internal, errors.New("the stored answer to a translation is not one"))
	}
	return hsm.TranslatedPIN{Custody: hsm.Custody(b[0]), CheckValue: string(b[2 : 2+b[1]]), Block: b[2+b[1]:]}, nil
}

func (r TranslateRequest) record(entry *audit.Entry) {
	keyuse.Record(entry, r.Incoming.KeyID, r.Incoming.DUKPT)
	keyuse.Record(entry, r.Outgoing.KeyID, r.Outgoing.DUKPT)
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
	if err = checkBlock("encrypted_pin_block", r.Block, r.Incoming); err != nil {
		return
	}
	if in, err = r.Incoming.DUKPT.Serial("incoming"); err != nil {
		return
	}
	out, err = r.Outgoing.DUKPT.Serial("outgoing")
	return
}
