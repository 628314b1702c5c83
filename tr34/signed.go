package tr34

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// A SignedData (RFC 5652 §5) with one signer or none.
type signed struct {
	kind         asn1.ObjectIdentifier // of the content
	content      []byte                // nil where there is none
	certificates [][]byte
	crls         [][]byte
	signer       *signer // nil in a degenerate one
}

type signer struct {
	id         identifier
	attributes cryptobyte.String            // as they are in the token, without tag and length
	values     map[string]cryptobyte.String // the one value of each, by object identifier
	signature  []byte
}

// Numbers of certificates and CRLs that are read from a token.
const (
	maxCertificates = 8
	maxCRLs         = 8
)

// readToken reads a ContentInfo with a SignedData in it. The result refers to token.
func readToken(token []byte) (*signed, error) {
	if len(token) > MaxToken {
		return nil, ErrTooLarge
	}
	if err := wellFormed(token, 0); err != nil {
		return nil, err
	}
	in := cryptobyte.String(token)
	var info, explicit, body cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&info, tags.SEQUENCE) || !in.Empty() || !info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(idSignedData) ||
		!info.ReadASN1(&explicit, tag0.Constructed()) || !info.Empty() ||
		!explicit.ReadASN1(&body, tags.SEQUENCE) || !explicit.Empty() {
		return nil, ErrStructure
	}
	return readSigned(body)
}

// readInner reads the SignedData that is the content of another, with the SEQUENCE around it or
// without.
func readInner(content []byte) (*signed, error) {
	body, err := unwrapped(content)
	if err != nil {
		return nil, err
	}
	return readSigned(body)
}

// unwrapped returns what is in the SEQUENCE that content is, or content itself where that
// begins with the version.
func unwrapped(content []byte) (cryptobyte.String, error) {
	if err := wellFormed(content, 0); err != nil {
		return nil, err
	}
	in := cryptobyte.String(content)
	if in.PeekASN1Tag(tags.INTEGER) {
		return in, nil
	}
	var body cryptobyte.String
	if !in.ReadASN1(&body, tags.SEQUENCE) || !in.Empty() {
		return nil, ErrStructure
	}
	return body, nil
}

// readSigned reads what is in the SEQUENCE of a SignedData.
func readSigned(in cryptobyte.String) (*signed, error) {
	var version int
	var digests, encapsulated, explicit, signers cryptobyte.String
	s := &signed{}
	if !in.ReadASN1Integer(&version) {
		return nil, ErrStructure
	}
	if version != 1 && version != 3 {
		return nil, ErrVersion
	}
	if !in.ReadASN1(&digests, tags.SET) {
		return nil, ErrStructure
	}
	for !digests.Empty() {
		if err := readExactly(&digests, idSHA256); err != nil {
			return nil, err
		}
	}
	if !in.ReadASN1(&encapsulated, tags.SEQUENCE) || !encapsulated.ReadASN1ObjectIdentifier(&s.kind) {
		return nil, ErrStructure
	}
	if !encapsulated.Empty() {
		if !encapsulated.ReadASN1(&explicit, tag0.Constructed()) || !encapsulated.Empty() ||
			!explicit.ReadASN1Bytes(&s.content, tags.OCTET_STRING) || !explicit.Empty() {
			return nil, ErrStructure
		}
	}
	var err error
	if s.certificates, err = readOptionalSet(&in, tag0.Constructed(), maxCertificates); err != nil {
		return nil, err
	}
	if s.crls, err = readOptionalSet(&in, tag1.Constructed(), maxCRLs); err != nil {
		return nil, err
	}
	if !in.ReadASN1(&signers, tags.SET) || !in.Empty() {
		return nil, ErrStructure
	}
	if signers.Empty() {
		return s, nil
	}
	if s.signer, err = readSigner(&signers); err != nil {
		return nil, err
	}
	if !signers.Empty() {
		return nil, ErrStructure
	}
	return s, nil
}

// readOptionalSet reads certificates or CRLs: SEQUENCEs, and none of the other choices.
func readOptionalSet(in *cryptobyte.String, tag tags.Tag, most int) ([][]byte, error) {
	var body cryptobyte.String
	var present bool
	if !in.ReadOptionalASN1(&body, &present, tag) {
		return nil, ErrStructure
	}
	all, err := elements(body)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e[0] != byte(tags.SEQUENCE) {
			return nil, ErrStructure
		}
	}
	if len(all) > most {
		return nil, ErrTooLarge
	}
	return all, nil
}

// readSigner reads a SignerInfo (RFC 5652 §5.3) that names its certificate by issuer and serial.
func readSigner(signers *cryptobyte.String) (*signer, error) {
	var in cryptobyte.String
	var version int
	if !signers.ReadASN1(&in, tags.SEQUENCE) || !in.ReadASN1Integer(&version) {
		return nil, ErrStructure
	}
	if version != 1 {
		return nil, ErrVersion
	}
	s := &signer{}
	var err error
	if s.id, err = readIdentifier(&in); err != nil {
		return nil, err
	}
	if err = readExactly(&in, idSHA256); err != nil {
		return nil, err
	}
	if !in.ReadASN1(&s.attributes, tag0.Constructed()) {
		return nil, ErrAttribute
	}
	if s.values, err = readAttributes(s.attributes); err != nil {
		return nil, err
	}
	if err = readExactly(&in, idRSA, idSHA256RSA); err != nil {
		return nil, err
	}
	if !in.ReadASN1Bytes(&s.signature, tags.OCTET_STRING) {
		return nil, ErrStructure
	}
	if !in.SkipOptionalASN1(tag1.Constructed()) || !in.Empty() { // unsigned attributes say nothing
		return nil, ErrStructure
	}
	return s, nil
}

// readAttributes: each kind is there once. Those that this package knows have one value each.
func readAttributes(in cryptobyte.String) (map[string]cryptobyte.String, error) {
	values := map[string]cryptobyte.String{}
	for !in.Empty() {
		kind, value, err := readAttribute(&in)
		if err != nil {
			return nil, err
		}
		if _, doubled := values[kind.String()]; doubled {
			return nil, ErrAttribute
		}
		values[kind.String()] = value
	}
	return values, nil
}

// readAttribute reads an Attribute (RFC 5652 §5.3) and returns what is in its SET.
func readAttribute(in *cryptobyte.String) (asn1.ObjectIdentifier, cryptobyte.String, error) {
	var attribute, value cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&attribute, tags.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&kind) ||
		!attribute.ReadASN1(&value, tags.SET) || !attribute.Empty() {
		return nil, nil, ErrAttribute
	}
	return kind, value, nil
}

// octets returns the one OCTET STRING of a signed attribute.
func (s *signer) octets(kind asn1.ObjectIdentifier) ([]byte, error) {
	value := s.values[kind.String()] // a copy: reading does not use it up
	var octets []byte
	if !value.ReadASN1Bytes(&octets, tags.OCTET_STRING) || !value.Empty() {
		return nil, ErrAttribute
	}
	return octets, nil
}

// verify checks that content is of a kind and what the signer with this certificate's key
// signed (RFC 5652 §5.4 to 5.6). Attributes count in the order of DER; some hosts sign them in
// the order in which they stand.
func (s *signed) verify(kind asn1.ObjectIdentifier, id identifier, key *rsa.PublicKey) error {
	if s.signer == nil || s.content == nil || !s.kind.Equal(kind) {
		return ErrStructure
	}
	if !s.signer.id.equal(id) {
		return ErrSigner
	}
	value := s.signer.values[idContentType.String()]
	var of asn1.ObjectIdentifier
	if !value.ReadASN1ObjectIdentifier(&of) || !value.Empty() || !of.Equal(kind) {
		return ErrAttribute
	}
	digest, err := s.signer.octets(idMessageDigest)
	if err != nil {
		return err
	}
	if actual := sha256.Sum256(s.content); !bytes.Equal(digest, actual[:]) {
		return ErrAltered
	}
	all, err := elements(s.signer.attributes)
	if err != nil {
		return err
	}
	for _, order := range [][][]byte{sorted(all), all} {
		if verifySignature(key, order, s.signer.signature) {
			return nil
		}
	}
	return ErrAltered
}

func verifySignature(key *rsa.PublicKey, attributes [][]byte, signature []byte) bool {
	encoded, err := set(attributes)
	digest := sha256.Sum256(encoded)
	return err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
}

// write encodes a SignedData, without ContentInfo. Its version is 3 where the content is not
// plain data (RFC 5652 §5.1), unless one asks for 1. Attributes stand in the order that was
// signed.
func (s *signed) write(b *cryptobyte.Builder, attributes [][]byte, version1 bool) {
	version := int64(3)
	if version1 || s.kind.Equal(idData) {
		version = 1
	}
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			if s.signer != nil {
				addAlgorithm(b, idSHA256, false)
			}
		})
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(s.kind)
			if s.content != nil {
				b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(s.content) })
			}
		})
		addOptionalSet(b, tag0.Constructed(), s.certificates)
		addOptionalSet(b, tag1.Constructed(), s.crls)
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			if s.signer != nil {
				s.signer.write(b, attributes)
			}
		})
	})
}

func (s *signer) write(b *cryptobyte.Builder, attributes [][]byte) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		s.id.write(b)
		addAlgorithm(b, idSHA256, false)
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) {
			for _, a := range attributes {
				b.AddBytes(a)
			}
		})
		addAlgorithm(b, idRSA, true)
		b.AddASN1OctetString(s.signature)
	})
}

func addOptionalSet(b *cryptobyte.Builder, tag tags.Tag, all [][]byte) {
	if len(all) == 0 {
		return
	}
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, e := range sorted(all) {
			b.AddBytes(e)
		}
	})
}

// token encodes a SignedData in a ContentInfo.
func (s *signed) token(attributes [][]byte, version1 bool) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(idSignedData)
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { s.write(b, attributes, version1) })
	})
	token, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if len(token) > MaxToken {
		return nil, ErrTooLarge
	}
	return token, nil
}

// attribute encodes an Attribute with one value.
func attribute(kind asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) ([]byte, error) {
	var b cryptobyte.Builder
	addAttribute(&b, kind, value)
	return b.Bytes()
}

func addAttribute(b *cryptobyte.Builder, kind asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(kind)
		b.AddASN1(tags.SET, value)
	})
}

func octetsAttribute(kind asn1.ObjectIdentifier, octets []byte) ([]byte, error) {
	return attribute(kind, func(b *cryptobyte.Builder) { b.AddASN1OctetString(octets) })
}
