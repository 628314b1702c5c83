package voids

import (
	"context"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/pinrecord"
	"keyd/store"
	"keyd/voidtoken"
)

// Approve is a request to authorise a void by the approval of a supervisor elsewhere.
type Approve struct {
	Request  string
	Void     string
	Approval pinrecord.Signed
	Payment  Payment
}

// Approve authorises a void, for actor, by what an approver has signed. Here it is looked at so that
// the reason is told ([fault.ApprovalInvalid], and those of certificates); a module looks for itself.
func (s *Service) Approve(ctx context.Context, actor string, r Approve) (*Authorized, error) {
	if err := checkRequest(r.Request); err != nil {
		return nil, err
	}
	before, err := s.Store.Void(ctx, r.Void)
	if err != nil {
		return nil, refused(ctx, err)
	}
	by, err := s.approver(&before, &r.Approval)
	if err != nil {
		return nil, err
	}
	a := &authorization{
		Service: s, actor: actor, void: r.Void, settings: s.Settings(ctx), payment: &r.Payment, action: ActionApprove, request: r.Request,
		by: []voidtoken.Authorization{{Method: voidtoken.RemoteApproval, Subject: by.Name}},
	}
	return a.run(ctx, func(ctx context.Context, fields voidtoken.Fields, token hsm.Key, expires int64) (hsm.AuthorizedVoid, error) {
		text, err := s.Modules.ApproveVoid(ctx, hsm.ApproveVoid{Fields: fields, ExpiresAt: expires, Approval: hsm.Approval(r.Approval), TokenKey: token})
		return hsm.AuthorizedVoid{Verified: err == nil, Token: text}, err
	})
}

// approver returns who has approved a void.
func (s *Service) approver(r *store.VoidRecord, signed *pinrecord.Signed) (*pinrecord.Approver, error) {
	v, err := decode(r)
	if err != nil {
		return nil, err
	}
	anchors, err := s.Authorities.Anchors(ceremony.UseApprovers)
	if err != nil {
		return nil, err
	}
	by, err := signed.OpenVoid(&v.Fields, anchors, s.now())
	if err != nil {
		return nil, pinrecord.Refusal(err)
	}
	return by, nil
}
