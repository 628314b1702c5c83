package server

import (
	"context"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/hsm"
	"keyd/pinsvc"
)

// pinBinding binds keyd.v1.PinService to pinsvc.
type pinBinding struct {
	keydv1.UnimplementedPinServiceServer
	pins     *pinsvc.Service
	steps    []grpc.UnaryServerInterceptor
	draining <-chan struct{}
}

// TranslatePinData implements keyd.v1.PinService.
func (b pinBinding) TranslatePinData(ctx context.Context, r *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
	answer, err := b.pins.Translate(ctx, pinsvc.TranslateRequest{
		Incoming: pinKey(r.GetIncoming()),
		Outgoing: pinKey(r.GetOutgoing()),
		PAN:      r.GetPrimaryAccountNumber(),
		Block:    r.GetEncryptedPinBlock(),
	})
	if err != nil {
		return nil, err
	}
	return &keydv1.TranslatePinDataResponse{
		EncryptedPinBlock: answer.Block,
		KeyCheckValue:     answer.CheckValue,
		Custody:           custody(answer.Custody),
	}, nil
}

// VerifyPinData implements keyd.v1.PinService.
func (b pinBinding) VerifyPinData(ctx context.Context, r *keydv1.VerifyPinDataRequest) (*keydv1.VerifyPinDataResponse, error) {
	request := pinsvc.VerifyRequest{
		Incoming:        pinKey(r.GetIncoming()),
		VerificationKey: r.GetVerificationKeyId(),
		PAN:             r.GetPrimaryAccountNumber(),
		Block:           r.GetEncryptedPinBlock(),
	}
	if m := r.GetExpected().GetVisaPvv(); m != nil {
		request.VisaPVV = &pinsvc.VisaPVV{KeyIndex: m.GetKeyIndex(), PVV: m.GetPvv()}
	}
	if m := r.GetExpected().GetIbm3624(); m != nil {
		request.IBM3624 = &pinsvc.IBM3624{Offset: m.GetOffset()}
	}
	answer, err := b.pins.Verify(ctx, request)
	if err != nil {
		return nil, err
	}
	return &keydv1.VerifyPinDataResponse{Verified: answer.Verified, Custody: custody(answer.Custody)}, nil
}

// pinKey converts a key of a request; a missing one has no name, which the domain
// refuses.
func pinKey(k *keydv1.PinKey) pinsvc.PINKey {
	out := pinsvc.PINKey{KeyID: k.GetKeyId(), Format: int32(k.GetFormat())}
	if d := k.GetDukpt(); d != nil {
		out.DUKPT = &pinsvc.DUKPT{KSN: d.GetKeySerialNumber(), KeyType: int32(d.GetKeyType())}
	}
	return out
}

func custody(c hsm.Custody) keydv1.Custody {
	switch c {
	case hsm.InToken:
		return keydv1.Custody_CUSTODY_TOKEN
	case hsm.InModule:
		return keydv1.Custody_CUSTODY_MODULE
	}
	return keydv1.Custody_CUSTODY_UNSPECIFIED
}
