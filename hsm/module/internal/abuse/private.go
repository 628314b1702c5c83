package abuse

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"github.com/miekg/pkcs11"
)

// wrapPrivate wraps a private key that must not leave under a key of one's own, and opens it.
func wrapPrivate(h *Hostile) error {
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	if err != nil {
		return err
	}
	public, private, err := h.ctx.GenerateKeyPair(h.session, []*pkcs11.Mechanism{mechanism(pkcs11.CKM_EC_KEY_PAIR_GEN)},
		[]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curve), yes(pkcs11.CKA_VERIFY)},
		[]*pkcs11.Attribute{yes(pkcs11.CKA_PRIVATE), yes(pkcs11.CKA_SENSITIVE), no(pkcs11.CKA_EXTRACTABLE), yes(pkcs11.CKA_SIGN)})
	if err != nil {
		return needed(refused("C_GenerateKeyPair", err))
	}
	value := random(32)
	kek, err := h.create(aesKey(pkcs11.CKA_WRAP), value)
	if err != nil {
		return needed(err)
	}
	wrapped, err := h.wrap(mechanism(pkcs11.CKM_AES_KEY_WRAP_PAD), kek, private)
	if err != nil {
		return err
	}
	padded, err := openWith(value, wrapped)
	if err != nil {
		return err
	}
	var info asn1.RawValue // PrivateKeyInfo, with padding behind it
	if _, err := asn1.Unmarshal(padded, &info); err != nil {
		return err
	}
	got, err := x509.ParsePKCS8PrivateKey(info.FullBytes)
	if err != nil {
		return err
	}
	opened, ok := got.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("what was wrapped is no EC key")
	}
	attribute, err := h.ctx.GetAttributeValue(h.session, public, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return err
	}
	var point []byte
	if _, err := asn1.Unmarshal(attribute[0].Value, &point); err != nil {
		return err
	}
	want, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	if !opened.PublicKey.Equal(want) {
		return errors.New("the attempt went through and got another key")
	}
	return nil
}
