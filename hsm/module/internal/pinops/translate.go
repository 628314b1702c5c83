package pinops

import (
	"errors"

	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Translate re-enciphers a PIN block under another key and, where the matrix allows
// it, in another format.
func (e *Engine) Translate(r hsm.TranslatePIN) (answer hsm.TranslatedPIN, err error) {
	pan, err := parsePAN(r.PAN, r.Incoming.Format, r.Outgoing.Format)
	if err != nil {
		return answer, err
	}
	err = e.do(func(s *token.Session, w *workspace) (err error) {
		in, err := e.open(s, r.Incoming.Key)
		if err != nil {
			return err
		}
		defer in.Release()
		out, err := e.open(s, r.Outgoing.Key)
		if err != nil {
			return err
		}
		defer out.Release()
		for _, check := range []error{
			checkKSN(in.Header, &r.Incoming),
			checkKSN(out.Header, &r.Outgoing),
			checkPINKey(in.Header, &r.Incoming, deciphers),
			checkPINKey(out.Header, &r.Outgoing, enciphers),
			checkTranslation(r.Incoming.Format, r.Outgoing.Format),
			checkPeers(in.Header, out.Header),
		} {
			if check != nil {
				return check
			}
		}
		incoming, err := w.cipherFor(s, in, &r.Incoming)
		if err != nil {
			return err
		}
		err = w.decipher(&incoming, r.Incoming.Format, pan, r.Block)
		if err = errors.Join(err, incoming.close()); err != nil {
			return err
		}
		outgoing, err := w.cipherFor(s, out, &r.Outgoing)
		if err != nil {
			return err
		}
		block, err := w.encipher(&outgoing, r.Outgoing.Format, pan)
		if err = errors.Join(err, outgoing.close()); err != nil {
			return err
		}
		answer = hsm.TranslatedPIN{Block: block, CheckValue: out.Header.CheckValue, Custody: hsm.InModule}
		return nil
	})
	if err != nil {
		return hsm.TranslatedPIN{}, err
	}
	return answer, nil
}
