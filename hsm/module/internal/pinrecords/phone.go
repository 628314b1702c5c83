package pinrecords

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/token"
	"keyd/pinrecord"
)

// pageKeyLongest is how long a signature of a page key is good at most.
const pageKeyLongest = 15 * time.Minute

// agreeing finds the key pair that phones agree with: for PINs of PIN records, and nothing else.
func (e *Engine) agreeing(s *token.Session, key hsm.Key) (token.Pair, *ecdsa.PublicKey, error) {
	f, err := e.pair(s, key, token.PairAgrees)
	if err != nil {
		return token.Pair{}, nil, err
	}
	public, ok := f.pair.Public.(*ecdsa.PublicKey)
	if f.header.Usage != "K3" || f.header.Mode != "X" || !f.header.CarriesRecords() || !ok || public.Curve != elliptic.P256() {
		return token.Pair{}, nil, fault.New(fault.KeyUsageMismatch, "phones agree with a key pair of usage K3, mode X, pin_kind record, on P-256")
	}
	return f.pair, public, nil
}

// entry is a block for a record's subject, from a terminal or, where it is one's, from a phone, for
// which it has to have been made.
func (e *Engine) entry(s *token.Session, b *hsm.RecordBlock, subject *pinrecord.Subject, demands hsm.Demands, context pinrecord.Context) (o pinops.Opening, err error) {
	o = opening(b, subject, demands)
	if b.Phone == nil {
		return o, nil
	}
	point, err := pinrecord.PhonePoint(b.Phone)
	if err != nil {
		return o, fault.New(fault.RequestInvalid, "the phone's point is none")
	}
	if subject.Kind == pinrecord.Cardholder {
		return o, fault.New(fault.KeyUsageMismatch, "a cardholder's PIN never comes from a phone")
	}
	pair, _, err := e.agreeing(s, b.Key.Key)
	o.Phone = &pinops.Phone{Pair: pair, Point: point, Context: context}
	return o, err
}

// SignPageKey signs the public half of the key pair that phones agree with, field by field: nothing
// else that the signing pair signs begins with the same bytes.
func (e *Engine) SignPageKey(r hsm.SignPageKey) (signed hsm.SignedPageKey, err error) {
	err = e.do(func(s *token.Session) error {
		now := e.register.Now()
		if r.ExpiresAt <= now.Unix() || r.ExpiresAt > now.Add(pageKeyLongest).Unix() {
			return fault.New(fault.RequestInvalid, "a page key is signed for 15 minutes at most")
		}
		_, public, err := e.agreeing(s, r.PageKey)
		if err != nil {
			return err
		}
		if signed.Point, err = public.Bytes(); err != nil {
			return err
		}
		pair, err := e.signing(s, r.Key, elliptic.P256())
		if err != nil {
			return err
		}
		message := binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), signed.Point...), uint64(r.ExpiresAt))
		digest := sha256.Sum256(message)
		signed.Signature, err = s.Signer(pair).Sign(nil, digest[:], crypto.SHA256)
		return err
	})
	if err != nil {
		return hsm.SignedPageKey{}, err
	}
	return signed, nil
}
