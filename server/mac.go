package server

import (
	"context"

	keydv1 "keyd/api/keyd/v1"
	"keyd/datasvc"
)

// macBinding binds keyd.v1.MacService to datasvc.
type macBinding struct {
	keydv1.UnimplementedMacServiceServer
	data *datasvc.Service
}

// GenerateMac implements keyd.v1.MacService.
func (b macBinding) GenerateMac(ctx context.Context, r *keydv1.GenerateMacRequest) (*keydv1.GenerateMacResponse, error) {
	answer, err := b.data.GenerateMAC(ctx, macKey(r.GetKey()), r.GetMessage(), r.GetMacLength())
	if err != nil {
		return nil, err
	}
	return &keydv1.GenerateMacResponse{Mac: answer.MAC, KeyCheckValue: answer.CheckValue, Custody: custody(answer.Custody)}, nil
}

// VerifyMac implements keyd.v1.MacService.
func (b macBinding) VerifyMac(ctx context.Context, r *keydv1.VerifyMacRequest) (*keydv1.VerifyMacResponse, error) {
	answer, err := b.data.VerifyMAC(ctx, macKey(r.GetKey()), r.GetMessage(), r.GetMac())
	if err != nil {
		return nil, err
	}
	return &keydv1.VerifyMacResponse{Verified: answer.Verified, Custody: custody(answer.Custody)}, nil
}

// macKey converts a key of a request; a missing one has no name, which the domain refuses.
func macKey(k *keydv1.MacKey) datasvc.MACKey {
	return datasvc.MACKey{
		KeyID: k.GetKeyId(), Algorithm: int32(k.GetAlgorithm()), DUKPT: dukptOf(k.GetDukpt()),
		Direction: int32(k.GetDirection()), Padding: k.GetPaddingMethod(),
	}
}
