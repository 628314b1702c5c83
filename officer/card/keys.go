package card

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// maxObjects bounds the keys of a card, and the certificates and public keys that may
// belong to one.
const maxObjects = 256

// candidate is a signing key on the card.
type candidate struct {
	handle pkcs11.ObjectHandle
	label  string
	id     []byte
	curve  elliptic.Curve // nil: none that an officer's key may have
}

// findKey finds the one key with that label, or the only one, and its public key.
func (c *Card) findKey(label string) error {
	all, err := c.signingKeys()
	if err != nil {
		return err
	}
	var labels []string
	var fits []candidate
	for _, k := range all {
		labels = append(labels, k.label)
		if label == "" || k.label == label {
			fits = append(fits, k)
		}
	}
	switch {
	case len(fits) == 0:
		return fmt.Errorf("%w %q; the card has: %s", ErrNoKey, label, list(labels))
	case len(fits) > 1 && label == "":
		return fmt.Errorf("%w: name one by its label; the card has: %s", ErrNoKey, list(labels))
	case len(fits) > 1:
		return fmt.Errorf("%w %q: %d have this label; give one another label with the tools the card came with; it has: %s", ErrNoKey, label, len(fits), list(labels))
	}
	key := fits[0]
	if c.public, err = c.publicKey(key); err != nil {
		return fmt.Errorf("key %q: %w", key.label, err)
	}
	c.key = key.handle
	always, err := c.attribute(key.handle, pkcs11.CKA_ALWAYS_AUTHENTICATE)
	c.always = err == nil && len(always) == 1 && always[0] != 0 // cards without this attribute do not have it
	return nil
}

// signingKeys returns the EC keys that may sign and have one of our curves.
func (c *Card) signingKeys() ([]candidate, error) {
	handles, err := c.find(
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
	)
	if err != nil {
		return nil, err
	}
	var keys []candidate
	for _, h := range handles {
		params, err := c.attribute(h, pkcs11.CKA_EC_PARAMS)
		if err != nil {
			return nil, err
		}
		curve := curveOf(params)
		if curve == nil {
			continue
		}
		label, err := c.attribute(h, pkcs11.CKA_LABEL)
		if err != nil {
			return nil, err
		}
		id, err := c.attribute(h, pkcs11.CKA_ID)
		if err != nil {
			return nil, err
		}
		keys = append(keys, candidate{h, string(label), id, curve})
	}
	return keys, nil
}

// publicKey returns the public half: the public key object with the same CKA_ID, or the
// key in a certificate with it. Without a CKA_ID the label has to do.
func (c *Card) publicKey(key candidate) (*ecdsa.PublicKey, error) {
	same := pkcs11.NewAttribute(pkcs11.CKA_ID, key.id)
	if len(key.id) == 0 {
		same = pkcs11.NewAttribute(pkcs11.CKA_LABEL, key.label)
	}
	var found []*ecdsa.PublicKey
	add := func(public *ecdsa.PublicKey) {
		if public.Curve != key.curve {
			return
		}
		for _, other := range found {
			if other.Equal(public) {
				return
			}
		}
		found = append(found, public)
	}
	publics, err := c.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC), same)
	if err != nil {
		return nil, err
	}
	for _, h := range publics {
		if point, err := c.attribute(h, pkcs11.CKA_EC_POINT); err == nil {
			if public, err := parsePoint(key.curve, point); err == nil {
				add(public)
			}
		}
	}
	certificates, err := c.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509), same)
	if err != nil {
		return nil, err
	}
	for _, h := range certificates {
		if der, err := c.attribute(h, pkcs11.CKA_VALUE); err == nil {
			if certificate, err := x509.ParseCertificate(der); err == nil {
				if public, ok := certificate.PublicKey.(*ecdsa.PublicKey); ok {
					add(public)
				}
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, errors.New("the card has neither its public key nor a certificate for it: put one there with the tools it came with")
	case 1:
		return found[0], nil
	}
	return nil, errors.New("the card has several public keys or certificates that could be its: remove those that are not")
}

// find returns all objects that fit a template.
func (c *Card) find(template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := c.lib.ctx.FindObjectsInit(c.session, template); err != nil {
		return nil, named("C_FindObjectsInit", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		// One call need not return all, though it could.
		some, _, err := c.lib.ctx.FindObjects(c.session, 32)
		if err != nil {
			return nil, named("C_FindObjects", err)
		}
		if len(some) == 0 {
			break
		}
		if all = append(all, some...); len(all) > maxObjects {
			return nil, fmt.Errorf("the card has more than %d objects of one kind", maxObjects)
		}
	}
	return all, named("C_FindObjectsFinal", c.lib.ctx.FindObjectsFinal(c.session))
}

func (c *Card) attribute(h pkcs11.ObjectHandle, kind uint) ([]byte, error) {
	got, err := c.lib.ctx.GetAttributeValue(c.session, h, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		return nil, named("C_GetAttributeValue", err)
	}
	if len(got) != 1 {
		return nil, errors.New("C_GetAttributeValue returned no value")
	}
	return got[0].Value, nil
}

// curves are those of officers' keys, by CKA_EC_PARAMS: a DER object identifier.
var curves = []struct {
	params []byte
	curve  elliptic.Curve
}{
	{[]byte{0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07}, elliptic.P256()},
	{[]byte{0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22}, elliptic.P384()},
	{[]byte{0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23}, elliptic.P521()},
}

func curveOf(params []byte) elliptic.Curve {
	for _, c := range curves {
		if bytes.Equal(c.params, params) {
			return c.curve
		}
	}
	return nil
}

// parsePoint reads CKA_EC_POINT: an uncompressed point in a DER OCTET STRING, or, from
// libraries that follow the first reading of the standard, the point as it is.
func parsePoint(curve elliptic.Curve, value []byte) (*ecdsa.PublicKey, error) {
	var point []byte
	if rest, err := asn1.Unmarshal(value, &point); err == nil && len(rest) == 0 {
		if public, err := ecdsa.ParseUncompressedPublicKey(curve, point); err == nil {
			return public, nil
		}
	}
	// A bare point begins with the tag of an OCTET STRING, and may look like one.
	return ecdsa.ParseUncompressedPublicKey(curve, value)
}
