package terminals

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// What the front reads of terminals' messages, and writes of hosts', without the packages that
// handle their keys (keyagreement, tr34), which it never reaches: enough to know a request again,
// and to turn away what is no request of the terminal before a number is spent on it. A module
// reads every message for itself.

// Limits of messages.
const (
	minRandom = 8 // bytes of a device's random number
	maxRandom = 16
)

// ofAgreement begins what a terminal signs (package keyagreement).
var ofAgreement = []byte("keyd key agreement request 1\x00")

var (
	idData        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	idSignedData  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	idRandomNonce = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 25, 3}
)

// Errors about messages.
var (
	errMessage   = errors.New("the message is not one of key agreement in DER")
	errKey       = errors.New("the message is signed with another key than the terminal's")
	errSignature = errors.New("the signature of the message is not good")
	errRandom    = errors.New("it is not RT_KRD of TR-34 in DER, with a random number of 8 to 16 bytes")
)

// checkAgreement refuses a message that the device with a certificate has not signed.
func checkAgreement(message []byte, device *x509.Certificate) error {
	outer := cryptobyte.String(message)
	var inner, whole, body, skipped, certificates, first, signature cryptobyte.String
	var version int
	if !outer.ReadASN1(&inner, tags.SEQUENCE) || !outer.Empty() || !inner.ReadASN1Element(&whole, tags.SEQUENCE) || !inner.ReadASN1(&signature, tags.OCTET_STRING) || !inner.Empty() {
		return errMessage
	}
	element := whole
	if !element.ReadASN1(&body, tags.SEQUENCE) || !body.ReadASN1Integer(&version) || version != 1 || !body.ReadASN1(&skipped, tags.OBJECT_IDENTIFIER) ||
		!body.ReadASN1(&skipped, tags.OCTET_STRING) || !body.ReadASN1(&skipped, tags.OCTET_STRING) || !body.ReadASN1(&certificates, tags.SEQUENCE) || !body.Empty() ||
		!certificates.ReadASN1Element(&first, tags.SEQUENCE) {
		return errMessage
	}
	signer, err := x509.ParseCertificate(first)
	if err != nil {
		return errMessage
	}
	if !bytes.Equal(signer.RawSubjectPublicKeyInfo, device.RawSubjectPublicKeyInfo) {
		return errKey
	}
	text := append(bytes.Clone(ofAgreement), whole...)
	if device.CheckSignature(signatureOf(device), text, signature) != nil {
		return errSignature
	}
	return nil
}

// signatureOf is the algorithm with which a device signs: ECDSA with the hash of its curve, or
// RSASSA-PKCS1-v1_5 with SHA-256.
func signatureOf(c *x509.Certificate) x509.SignatureAlgorithm {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return x509.SHA256WithRSA
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return x509.ECDSAWithSHA256
		case 384:
			return x509.ECDSAWithSHA384
		case 521:
			return x509.ECDSAWithSHA512
		}
	}
	return x509.UnknownSignatureAlgorithm
}

// randomOf returns the random number in RT_KRD, which nobody signed.
func randomOf(token []byte) ([]byte, error) {
	in := cryptobyte.String(token)
	var attribute, value, random cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&attribute, tags.SEQUENCE) || !in.Empty() || !attribute.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(idRandomNonce) ||
		!attribute.ReadASN1(&value, tags.SET) || !attribute.Empty() || !value.ReadASN1(&random, tags.OCTET_STRING) || !value.Empty() ||
		len(random) < minRandom || len(random) > maxRandom {
		return nil, errRandom
	}
	return random, nil
}

// credential writes CT_KDH (TR 34-2019 B.7): a SignedData without a signer (RFC 5652 5.1), with
// the host's certificate and a revocation list, if there is one.
func credential(certificate *x509.Certificate, list []byte) ([]byte, error) {
	var b cryptobyte.Builder
	context := func(n uint8) tags.Tag { return tags.Tag(n).Constructed().ContextSpecific() }
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(idSignedData)
		b.AddASN1(context(0), func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(tags.SET, func(*cryptobyte.Builder) {}) // no digest algorithm
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(idData) })
				b.AddASN1(context(0), func(b *cryptobyte.Builder) { b.AddBytes(certificate.Raw) })
				if len(list) > 0 {
					b.AddASN1(context(1), func(b *cryptobyte.Builder) { b.AddBytes(list) })
				}
				b.AddASN1(tags.SET, func(*cryptobyte.Builder) {}) // no signer
			})
		})
	})
	return b.Bytes()
}

// profiles are the names of the profiles of TR-34 (package tr34), the default first.
var profiles = []string{
	"rfc", "rfc-oaep-sha1", "rfc-mgf1-sha1", "annex-b", "annex-b-oaep-sha1", "annex-b-mgf1-sha1",
	"rfc-tdes", "rfc-oaep-sha1-tdes", "rfc-mgf1-sha1-tdes", "annex-b-tdes", "annex-b-oaep-sha1-tdes", "annex-b-mgf1-sha1-tdes",
}

// strength is the strength of a key in bits (NIST SP 800-57 part 1, table 2), 0 for what is none:
// TDES of 16 or 24 bytes, AES of 16, 24 or 32.
func strength(algorithm string, length uint32) int {
	switch {
	case algorithm == "T" && length == 16:
		return 80
	case algorithm == "T" && length == 24:
		return 112
	case algorithm == "A" && (length == 16 || length == 24 || length == 32):
		return int(length) * 8
	}
	return 0
}
