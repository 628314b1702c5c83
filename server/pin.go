package server

import (
	"context"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/hsm"
	"keyd/keyuse"
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
		PINMethod:       pinMethod(r.GetExpected()),
	}
	answer, err := b.pins.Verify(ctx, request)
	if err != nil {
		return nil, err
	}
	return &keydv1.VerifyPinDataResponse{Verified: answer.Verified, Custody: custody(answer.Custody)}, nil
}

// GeneratePinData implements keyd.v1.PinService.
func (b pinBinding) GeneratePinData(ctx context.Context, r *keydv1.GeneratePinDataRequest) (*keydv1.GeneratePinDataResponse, error) {
	answer, err := b.pins.Generate(ctx, pinsvc.GenerateRequest{
		Outgoing:      pinKey(r.GetOutgoing()),
		GenerationKey: r.GetGenerationKeyId(),
		PAN:           r.GetPrimaryAccountNumber(),
		Length:        r.GetPinLength(),
		PINMethod:     pinMethod(r.GetMethod()),
	})
	if err != nil {
		return nil, err
	}
	return &keydv1.GeneratePinDataResponse{
		EncryptedPinBlock: answer.Block,
		Datum:             methodMessage(answer.Datum),
		Custody:           custody(answer.Custody),
	}, nil
}

// ChangePinData implements keyd.v1.PinService.
func (b pinBinding) ChangePinData(ctx context.Context, r *keydv1.ChangePinDataRequest) (*keydv1.ChangePinDataResponse, error) {
	request := pinsvc.ChangeRequest{
		Incoming:        pinKey(r.GetIncoming()),
		VerificationKey: r.GetVerificationKeyId(),
		PAN:             r.GetPrimaryAccountNumber(),
		Current:         r.GetCurrentEncryptedPinBlock(),
		New:             r.GetNewEncryptedPinBlock(),
		PINMethod:       pinMethod(r.GetCurrent()),
	}
	if k := r.GetNewIncoming(); k != nil {
		key := pinKey(k)
		request.NewIncoming = &key
	}
	answer, err := b.pins.Change(ctx, request)
	if err != nil {
		return nil, err
	}
	return &keydv1.ChangePinDataResponse{
		Verified: answer.Verified, NewDatum: methodMessage(answer.Datum), Custody: custody(answer.Custody),
	}, nil
}

// pinKey converts a key of a request; a missing one has no name, which the domain
// refuses.
func pinKey(k *keydv1.PinKey) pinsvc.PINKey {
	return pinsvc.PINKey{KeyID: k.GetKeyId(), Format: int32(k.GetFormat()), DUKPT: dukptOf(k.GetDukpt())}
}

func dukptOf(d *keydv1.DukptAttributes) *keyuse.DUKPT {
	if d == nil {
		return nil
	}
	return &keyuse.DUKPT{KSN: d.GetKeySerialNumber(), KeyType: int32(d.GetKeyType())}
}

// pinMethod converts a method; a missing one has none set, which the domain refuses.
func pinMethod(m *keydv1.PinMethod) (out pinsvc.PINMethod) {
	if v := m.GetVisaPvv(); v != nil {
		out.VisaPVV = &pinsvc.VisaPVV{KeyIndex: v.GetKeyIndex(), PVV: v.GetPvv()}
	}
	if v := m.GetIbm3624(); v != nil {
		out.IBM3624 = &pinsvc.IBM3624{Offset: v.GetOffset()}
	}
	return out
}

// methodMessage is nil for a method of which none is set.
func methodMessage(m pinsvc.PINMethod) *keydv1.PinMethod {
	switch {
	case m.VisaPVV != nil:
		return &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: m.VisaPVV.KeyIndex, Pvv: m.VisaPVV.PVV}}}
	case m.IBM3624 != nil:
		return &keydv1.PinMethod{Method: &keydv1.PinMethod_Ibm3624{Ibm3624: &keydv1.Ibm3624{Offset: m.IBM3624.Offset}}}
	}
	return nil
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
