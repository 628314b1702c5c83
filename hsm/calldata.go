package hsm

import (
	"context"

	"keyd/hsm/internal/wire"
)

// EncryptData enciphers data. Errors are refusals of package fault.
func (c *Client) EncryptData(ctx context.Context, r EncryptData) (EncryptedData, error) {
	request := &wire.EncryptData{Key: r.Key.wire(), Data: r.Data, Iv: r.IV, Demands: r.Demands.wire()}
	var answer wire.EncryptedData
	if err := c.call(ctx, home(r.Key.KSN), wire.OpEncryptData, request, &answer); err != nil {
		return EncryptedData{}, err
	}
	return encryptedData(&answer), nil
}

// DecryptData deciphers data. Errors are refusals of package fault.
func (c *Client) DecryptData(ctx context.Context, r DecryptData) (DecryptedData, error) {
	request := &wire.DecryptData{Key: r.Key.wire(), Data: r.Data, Iv: r.IV, Demands: r.Demands.wire()}
	var answer wire.DecryptedData
	if err := c.call(ctx, home(r.Key.KSN), wire.OpDecryptData, request, &answer); err != nil {
		return DecryptedData{}, err
	}
	return DecryptedData{Data: answer.Data, Custody: Custody(answer.Custody)}, nil
}

// ReEncryptData enciphers data under another key. Errors are refusals of package fault.
func (c *Client) ReEncryptData(ctx context.Context, r ReEncryptData) (EncryptedData, error) {
	request := &wire.ReEncryptData{
		Incoming: r.Incoming.wire(), Outgoing: r.Outgoing.wire(),
		Data: r.Data, Iv: r.IV, OutgoingIv: r.OutgoingIV, Demands: r.Demands.wire(),
	}
	var answer wire.EncryptedData
	if err := c.call(ctx, home(r.Incoming.KSN, r.Outgoing.KSN), wire.OpReEncrypt, request, &answer); err != nil {
		return EncryptedData{}, err
	}
	return encryptedData(&answer), nil
}

func encryptedData(m *wire.EncryptedData) EncryptedData {
	return EncryptedData{Data: m.Data, IV: m.Iv, CheckValue: m.CheckValue, Custody: Custody(m.Custody)}
}

func (k *DataKey) wire() *wire.DataKey {
	return &wire.DataKey{
		Key: k.Key.wire(), Ksn: k.KSN.AppendBytes(nil), WorkingType: uint32(k.WorkingType),
		Mode: uint32(k.Mode), Response: k.Response,
	}
}

// GenerateCVV makes a card verification value. Errors are refusals of package fault.
func (c *Client) GenerateCVV(ctx context.Context, r GenerateCVV) (GeneratedCVV, error) {
	request := &wire.GenerateCvv{Key: r.Key.wire(), Input: r.Input.wire(), Demands: r.Demands.wire()}
	var answer wire.GeneratedCvv
	if err := c.call(ctx, 0, wire.OpGenerateCVV, request, &answer); err != nil {
		return GeneratedCVV{}, err
	}
	return GeneratedCVV{Value: answer.Value, CheckValue: answer.CheckValue, Custody: Custody(answer.Custody)}, nil
}

// VerifyCVV verifies a card verification value. A wrong one is no error. Errors are refusals
// of package fault.
func (c *Client) VerifyCVV(ctx context.Context, r VerifyCVV) (VerifiedCVV, error) {
	request := &wire.VerifyCvv{Key: r.Key.wire(), Input: r.Input.wire(), Value: r.Value, Demands: r.Demands.wire()}
	var answer wire.VerifiedCvv
	if err := c.call(ctx, 0, wire.OpVerifyCVV, request, &answer); err != nil {
		return VerifiedCVV{}, err
	}
	return VerifiedCVV{Verified: answer.Verified, Custody: Custody(answer.Custody)}, nil
}

func (i CVVInput) wire() *wire.CvvInput {
	return &wire.CvvInput{Pan: i.PAN, Expiry: i.Expiry, ServiceCode: i.ServiceCode}
}
