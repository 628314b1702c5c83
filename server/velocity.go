package server

import (
	"context"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinsvc"
)

// velocityBinding binds keyd.v1.VelocityService to pinsvc.
type velocityBinding struct {
	keydv1.UnimplementedVelocityServiceServer
	pins *pinsvc.Service
}

// ResetVerifications implements keyd.v1.VelocityService.
func (b velocityBinding) ResetVerifications(ctx context.Context, r *keydv1.ResetVerificationsRequest) (*keydv1.ResetVerificationsResponse, error) {
	if err := b.pins.ResetVerifications(ctx, r.GetVerificationKeyId(), r.GetPrimaryAccountNumber()); err != nil {
		return nil, err
	}
	return &keydv1.ResetVerificationsResponse{}, nil
}

// ResetTranslations implements keyd.v1.VelocityService.
func (b velocityBinding) ResetTranslations(ctx context.Context, r *keydv1.ResetTranslationsRequest) (*keydv1.ResetTranslationsResponse, error) {
	if err := b.pins.ResetTranslations(ctx, r.GetPrimaryAccountNumber()); err != nil {
		return nil, err
	}
	return &keydv1.ResetTranslationsResponse{}, nil
}
