package server

import (
	"context"

	keydv1 "keyd/api/keyd/v1"
	"keyd/datasvc"
)

// dataBinding binds keyd.v1.DataService to datasvc.
type dataBinding struct {
	keydv1.UnimplementedDataServiceServer
	data *datasvc.Service
}

// EncryptData implements keyd.v1.DataService.
func (b dataBinding) EncryptData(ctx context.Context, r *keydv1.EncryptDataRequest) (*keydv1.EncryptDataResponse, error) {
	answer, err := b.data.Encrypt(ctx, dataKey(r.GetKey()), r.GetPlaintext(), r.GetInitializationVector())
	if err != nil {
		return nil, err
	}
	return &keydv1.EncryptDataResponse{
		Ciphertext: answer.Data, InitializationVector: answer.IV, KeyCheckValue: answer.CheckValue, Custody: custody(answer.Custody),
	}, nil
}

// DecryptData implements keyd.v1.DataService.
func (b dataBinding) DecryptData(ctx context.Context, r *keydv1.DecryptDataRequest) (*keydv1.DecryptDataResponse, error) {
	answer, err := b.data.Decrypt(ctx, dataKey(r.GetKey()), r.GetCiphertext(), r.GetInitializationVector())
	if err != nil {
		return nil, err
	}
	return &keydv1.DecryptDataResponse{Plaintext: answer.Data, Custody: custody(answer.Custody)}, nil
}

// ReEncryptData implements keyd.v1.DataService.
func (b dataBinding) ReEncryptData(ctx context.Context, r *keydv1.ReEncryptDataRequest) (*keydv1.ReEncryptDataResponse, error) {
	answer, err := b.data.ReEncrypt(ctx, datasvc.ReEncryptRequest{
		Incoming: dataKey(r.GetIncoming()), Outgoing: dataKey(r.GetOutgoing()),
		Data: r.GetCiphertext(), IV: r.GetInitializationVector(), OutgoingIV: r.GetOutgoingInitializationVector(),
	})
	if err != nil {
		return nil, err
	}
	return &keydv1.ReEncryptDataResponse{
		Ciphertext: answer.Data, InitializationVector: answer.IV, KeyCheckValue: answer.CheckValue, Custody: custody(answer.Custody),
	}, nil
}

// GenerateCardValidationData implements keyd.v1.DataService.
func (b dataBinding) GenerateCardValidationData(ctx context.Context, r *keydv1.GenerateCardValidationDataRequest) (*keydv1.GenerateCardValidationDataResponse, error) {
	answer, err := b.data.GenerateCard(ctx, card(r.GetKeyId(), r.GetPrimaryAccountNumber(), r.GetMethod()))
	if err != nil {
		return nil, err
	}
	return &keydv1.GenerateCardValidationDataResponse{
		ValidationData: answer.Value, KeyCheckValue: answer.CheckValue, Custody: custody(answer.Custody),
	}, nil
}

// VerifyCardValidationData implements keyd.v1.DataService.
func (b dataBinding) VerifyCardValidationData(ctx context.Context, r *keydv1.VerifyCardValidationDataRequest) (*keydv1.VerifyCardValidationDataResponse, error) {
	answer, err := b.data.VerifyCard(ctx, card(r.GetKeyId(), r.GetPrimaryAccountNumber(), r.GetMethod()), r.GetValidationData())
	if err != nil {
		return nil, err
	}
	return &keydv1.VerifyCardValidationDataResponse{Verified: answer.Verified, Custody: custody(answer.Custody)}, nil
}

// dataKey converts a key of a request; a missing one has no name, which the domain refuses.
func dataKey(k *keydv1.DataKey) datasvc.DataKey {
	return datasvc.DataKey{
		KeyID: k.GetKeyId(), Mode: int32(k.GetMode()), DUKPT: dukptOf(k.GetDukpt()), Direction: int32(k.GetDirection()),
	}
}

// card converts a method; a missing one has none set, which the domain refuses.
func card(keyID, pan string, m *keydv1.CardValidationMethod) datasvc.Card {
	c := datasvc.Card{KeyID: keyID, PAN: pan}
	if v := m.GetCvv(); v != nil {
		c.CVV = &datasvc.CVV{Expiry: v.GetCardExpiryDate(), ServiceCode: v.GetServiceCode()}
	}
	if v := m.GetCvv2(); v != nil {
		c.CVV2 = &datasvc.Expiry{Expiry: v.GetCardExpiryDate()}
	}
	if v := m.GetIcvv(); v != nil {
		c.ICVV = &datasvc.Expiry{Expiry: v.GetCardExpiryDate()}
	}
	return c
}
