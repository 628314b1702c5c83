package hsm

import (
	"context"

	"keyd/hsm/internal/wire"
	"keyd/passkey"
	"keyd/voidtoken"
)

// SetPasskey asks for a subject's passkey to be set, who has been given the code. It was typed on the
// phone that has made the passkey.
type SetPasskey struct {
	Pending  []byte
	DatumKey Key
	Code     RecordBlock // the code's 8 digits, from a phone

	// ClientData and AuthenticatorData are what the browser answered when the passkey was made, at
	// Origin (package passkey). The challenge is pinrecord.PasskeyChallenge.
	ClientData, AuthenticatorData []byte
	Origin                        string
	Demands
}

// SetPasskey has a module set a passkey, as [Client.SetPIN] does a PIN. Errors are refusals of package
// fault: [fault.RequestInvalid] for what is no passkey.
func (c *Client) SetPasskey(ctx context.Context, r SetPasskey) (SetRecord, error) {
	request := &wire.SetPasskey{
		Pending: r.Pending, DatumKey: r.DatumKey.wire(), Code: r.Code.wire(), ClientData: r.ClientData, AuthenticatorData: r.AuthenticatorData, Origin: r.Origin, Demands: r.Demands.wire(),
	}
	var answer wire.PasskeySet
	if err := c.call(ctx, 0, wire.OpSetPasskey, request, &answer); err != nil {
		return SetRecord{}, err
	}
	return SetRecord{answer.Verified, answer.Record}, nil
}

// AuthorizeByPasskey asks for a void to be authorised by a supervisor's passkey. The assertion's
// challenge is pinrecord.VoidChallenge.
type AuthorizeByPasskey struct {
	Fields    voidtoken.Fields
	ExpiresAt int64  // Unix seconds, at most [voidtoken.MaxLife] from now
	Record    []byte // sealed pinrecord.PasskeyRecord
	Assertion passkey.Assertion
	TokenKey  Key // key pair (S0) on P-256 or P-384
}

// AuthorizeByPasskey verifies a passkey over a void and signs the void's token, in one operation. An
// assertion that does not verify is no error. Errors are refusals of package fault:
// [fault.PINRecordEnded] for a passkey that is dead.
func (c *Client) AuthorizeByPasskey(ctx context.Context, r AuthorizeByPasskey) (AuthorizedVoid, error) {
	request := &wire.AuthorizeByPasskey{
		Fields: voidFields(&r.Fields), ExpiresAt: r.ExpiresAt, Record: r.Record, TokenKey: r.TokenKey.wire(),
		Id: r.Assertion.ID, ClientData: r.Assertion.ClientData, AuthenticatorData: r.Assertion.AuthenticatorData, Signature: r.Assertion.Signature,
	}
	var answer wire.VoidAuthorized
	if err := c.call(ctx, 0, wire.OpAuthorizeByPasskey, request, &answer); err != nil {
		return AuthorizedVoid{}, err
	}
	return AuthorizedVoid{answer.Verified, answer.Token}, nil
}

// SignPageKey asks for the public half of the key pair that phones agree with, signed by the pair that
// signs codes: who has scanned a code knows that one by the code.
type SignPageKey struct {
	PageKey   Key   // key pair (K3) on P-256 for PINs of PIN records
	Key       Key   // key pair (S0) on P-256
	ExpiresAt int64 // Unix seconds, at most 15 minutes from now
}

// SignedPageKey is the answer to [SignPageKey].
type SignedPageKey struct {
	Point     []byte // uncompressed, 65 bytes
	Signature []byte // ASN.1 DER, of SHA-256; see [PageKeyText]
}

// PageKeyText is what stands before the point and the 8 bytes of the end, big-endian, in what is signed
// of a page key.
const PageKeyText = "keyd page key 1\x00"

// SignPageKey has a module sign a page key. Errors are refusals of package fault.
func (c *Client) SignPageKey(ctx context.Context, r SignPageKey) (SignedPageKey, error) {
	var answer wire.PageKeySigned
	if err := c.call(ctx, 0, wire.OpSignPageKey, &wire.SignPageKey{PageKey: r.PageKey.wire(), Key: r.Key.wire(), ExpiresAt: r.ExpiresAt}, &answer); err != nil {
		return SignedPageKey{}, err
	}
	return SignedPageKey{answer.Point, answer.Signature}, nil
}
