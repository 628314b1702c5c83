package module

import (
	"google.golang.org/protobuf/proto"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/passkey"
)

// What comes from phones: passkeys, and the key with which they agree. Package pinrecords decides.

func setPasskey(m *wire.SetPasskey) (r hsm.SetPasskey, err error) {
	if r.Pending, err = sealedRecord(m.Pending); err != nil {
		return r, err
	}
	if r.DatumKey, err = key(m.DatumKey); err != nil {
		return r, err
	}
	if r.Code, err = recordBlock(m.Code); err != nil {
		return r, err
	}
	if len(m.ClientData) > passkey.MaxClientData || len(m.AuthenticatorData) > passkey.MaxData || !passkey.ValidOrigin(m.Origin) {
		return r, malformed
	}
	r.ClientData, r.AuthenticatorData, r.Origin, r.Demands = m.ClientData, m.AuthenticatorData, m.Origin, demands(m.Demands)
	return r, nil
}

func passkeySet(a hsm.SetRecord) proto.Message {
	return &wire.PasskeySet{Verified: a.Verified, Record: a.Record}
}

func authorizeByPasskey(m *wire.AuthorizeByPasskey) (r hsm.AuthorizeByPasskey, err error) {
	if r.Fields, err = voidFields(m.Fields); err != nil {
		return r, err
	}
	if r.Record, err = sealedRecord(m.Record); err != nil {
		return r, err
	}
	if r.TokenKey, err = key(m.TokenKey); err != nil {
		return r, err
	}
	if len(m.Id) > passkey.MaxID || len(m.ClientData) > passkey.MaxClientData || len(m.AuthenticatorData) > passkey.MaxData || len(m.Signature) > passkey.MaxSignature {
		return r, malformed
	}
	r.Assertion = passkey.Assertion{ID: m.Id, ClientData: m.ClientData, AuthenticatorData: m.AuthenticatorData, Signature: m.Signature}
	r.ExpiresAt = m.ExpiresAt
	return r, nil
}

func signPageKey(m *wire.SignPageKey) (r hsm.SignPageKey, err error) {
	if r.PageKey, err = key(m.PageKey); err != nil {
		return r, err
	}
	r.ExpiresAt = m.ExpiresAt
	r.Key, err = key(m.Key)
	return r, err
}

func pageKeySigned(a hsm.SignedPageKey) proto.Message {
	return &wire.PageKeySigned{Signature: a.Signature, Point: a.Point}
}
