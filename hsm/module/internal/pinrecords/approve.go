package pinrecords

import (
	"crypto/elliptic"
	"errors"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// Approve signs the token of a void that an approver elsewhere has approved.
func (e *Engine) Approve(r hsm.ApproveVoid) (text string, err error) {
	if err := r.Fields.Validate(); err != nil {
		return "", fault.New(fault.RequestInvalid, err.Error())
	}
	err = e.do(func(s *token.Session) (err error) {
		now := e.register.Now()
		if err := checkLife(now, r.ExpiresAt); err != nil {
			return err
		}
		epoch, err := e.register.Current()
		if err != nil {
			return err
		}
		anchors, err := epoch.Anchors(ceremony.UseApprovers, now)
		if err != nil {
			return err
		}
		signed := pinrecord.Signed(r.Approval)
		by, err := signed.OpenVoid(&r.Fields, anchors, now)
		if err != nil {
			return pinrecord.Refusal(err)
		}
		pair, err := e.signing(s, r.TokenKey, elliptic.P256(), elliptic.P384())
		if err != nil {
			return err
		}
		text, err = voidtoken.Sign(s.Signer(pair), voidtoken.Token{
			Fields: r.Fields, Authorizations: []voidtoken.Authorization{{Method: voidtoken.RemoteApproval, Subject: by.Name}}, AuthorizedAt: now.Unix(), ExpiresAt: r.ExpiresAt,
		})
		return tokenRefusal(err)
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

func checkLife(now time.Time, expires int64) error {
	if expires <= now.Unix() || expires > now.Add(voidtoken.MaxLife).Unix() {
		return fault.New(fault.RequestInvalid, "a void token ends after now, and in no more than 24 hours")
	}
	return nil
}

// tokenRefusal is of fields that have been checked already, but for what is in a record.
func tokenRefusal(err error) error {
	if errors.Is(err, voidtoken.ErrToken) || errors.Is(err, voidtoken.ErrFields) {
		return fault.New(fault.RequestInvalid, err.Error())
	}
	return err
}
