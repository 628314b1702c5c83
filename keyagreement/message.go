package keyagreement

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	encoding "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Limits of messages.
const (
	MaxMessage      = 64 << 10 // bytes
	MaxCertificates = 5
	MaxBlocks       = 16
	MaxBlock        = 4096 // characters

	ia5String = asn1.Tag(22)

	version    = 1
	randomSize = 32
)

// What a signature is over begins with its purpose.
var (
	ofRequest = []byte("keyd key agreement request 1\x00")
	ofAnswer  = []byte("keyd key agreement answer 1\x00")
)

// party is what a side says of itself.
type party struct {
	point        *ecdh.PublicKey
	random       [randomSize]byte
	certificates []*x509.Certificate
}

// Sign returns the signature of a digest with the key of a certificate: in ASN.1 for ECDSA,
// RSASSA-PKCS1-v1_5 for RSA. The digest is of the hash that is given.
type Sign func(digest []byte, hash crypto.Hash) ([]byte, error)

// sign makes a message of a body.
func sign(certificate *x509.Certificate, curve Curve, purpose, body []byte, by Sign) ([]byte, error) {
	hash, err := signing(certificate, curve)
	if err != nil {
		return nil, err
	}
	text := append(bytes.Clone(purpose), body...)
	signature, err := by(digestOf(hash, text), hash)
	if err != nil {
		return nil, err
	}
	if verify(certificate, curve, text, signature) != nil {
		return nil, ErrSign
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(body)
		b.AddASN1OctetString(signature)
	})
	message, err := b.Bytes()
	if err == nil && len(message) > MaxMessage {
		err = ErrTooLarge
	}
	return message, err
}

// open takes a message apart, of which nothing is believed yet.
func open(message []byte) (body cryptobyte.String, whole, signature []byte, err error) {
	if len(message) > MaxMessage {
		return nil, nil, nil, ErrTooLarge
	}
	outer := cryptobyte.String(message)
	var inner, element, octets cryptobyte.String
	if !outer.ReadASN1(&inner, asn1.SEQUENCE) || !outer.Empty() || !inner.ReadASN1Element(&element, asn1.SEQUENCE) ||
		!inner.ReadASN1(&octets, asn1.OCTET_STRING) || !inner.Empty() || len(octets) == 0 || len(octets) > 1024 {
		return nil, nil, nil, ErrEncoding
	}
	whole = element
	if !element.ReadASN1(&body, asn1.SEQUENCE) {
		return nil, nil, nil, ErrEncoding
	}
	var v int
	if !body.ReadASN1Integer(&v) {
		return nil, nil, nil, ErrEncoding
	}
	if v != version {
		return nil, nil, nil, ErrVersion
	}
	return body, whole, octets, nil
}

func (p *party) write(b *cryptobyte.Builder) {
	b.AddASN1OctetString(p.point.Bytes())
	b.AddASN1OctetString(p.random[:])
}

func (p *party) writeCertificates(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, c := range p.certificates {
			b.AddBytes(c.Raw)
		}
	})
}

func (p *party) read(body *cryptobyte.String, curve Curve) (err error) {
	var point, random cryptobyte.String
	if !body.ReadASN1(&point, asn1.OCTET_STRING) || !body.ReadASN1(&random, asn1.OCTET_STRING) || len(random) != randomSize {
		return ErrEncoding
	}
	copy(p.random[:], random)
	if p.point, err = curves[curve].curve.NewPublicKey(point); err != nil {
		return ErrPoint
	}
	return nil
}

func (p *party) readCertificates(body *cryptobyte.String) error {
	var list cryptobyte.String
	if !body.ReadASN1(&list, asn1.SEQUENCE) || !body.Empty() {
		return ErrEncoding
	}
	for !list.Empty() {
		var element cryptobyte.String
		if !list.ReadASN1Element(&element, asn1.SEQUENCE) || len(p.certificates) == MaxCertificates {
			return ErrEncoding
		}
		c, err := x509.ParseCertificate(element)
		if err != nil {
			return ErrCertificate
		}
		p.certificates = append(p.certificates, c)
	}
	if len(p.certificates) == 0 {
		return ErrEncoding
	}
	return nil
}

func readCurve(body *cryptobyte.String) (Curve, error) {
	var id encoding.ObjectIdentifier
	if !body.ReadASN1ObjectIdentifier(&id) {
		return 0, ErrEncoding
	}
	return curveOf(id)
}
