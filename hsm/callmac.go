package hsm

import (
	"context"

	"keyd/hsm/internal/wire"
)

// GenerateMAC makes the MAC of a message. Errors are refusals of package fault.
func (c *Client) GenerateMAC(ctx context.Context, r GenerateMAC) (GeneratedMAC, error) {
	request := &wire.GenerateMac{Key: r.Key.wire(), Message: r.Message, Length: uint32(r.Length), Demands: r.Demands.wire()}
	var answer wire.GeneratedMac
	if err := c.call(ctx, home(r.Key.KSN), wire.OpGenerateMAC, request, &answer); err != nil {
		return GeneratedMAC{}, err
	}
	return GeneratedMAC{MAC: answer.Mac, CheckValue: answer.CheckValue, Custody: Custody(answer.Custody)}, nil
}

// VerifyMAC verifies the MAC of a message. A wrong one is no error. Errors are refusals of
// package fault.
func (c *Client) VerifyMAC(ctx context.Context, r VerifyMAC) (VerifiedMAC, error) {
	request := &wire.VerifyMac{Key: r.Key.wire(), Message: r.Message, Mac: r.MAC, Demands: r.Demands.wire()}
	var answer wire.VerifiedMac
	if err := c.call(ctx, home(r.Key.KSN), wire.OpVerifyMAC, request, &answer); err != nil {
		return VerifiedMAC{}, err
	}
	return VerifiedMAC{Verified: answer.Verified, Custody: Custody(answer.Custody)}, nil
}

func (k *MACKey) wire() *wire.MacKey {
	return &wire.MacKey{
		Key: k.Key.wire(), Ksn: k.KSN.AppendBytes(nil), WorkingType: uint32(k.WorkingType),
		Algorithm: uint32(k.Algorithm), Response: k.Response, Padding: uint32(k.Padding),
	}
}
