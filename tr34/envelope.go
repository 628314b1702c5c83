package tr34

import (
	"bytes"
	"crypto"
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// An EnvelopedData (RFC 5652 §6) for one recipient, who is named by issuer and serial.
type envelope struct {
	recipient identifier
	wrapped   []byte // content key under RSAES-OAEP
	cipher    Cipher
	iv        []byte
	content   []byte
}

// ciphers: object identifier, sizes of key and block in bytes, strength in bits.
var ciphers = map[Cipher]struct {
	oid                  asn1.ObjectIdentifier
	key, block, strength int
}{
	AES128CBC: {idAES128CBC, 16, 16, 128},
	AES192CBC: {idAES192CBC, 24, 16, 192},
	AES256CBC: {idAES256CBC, 32, 16, 256},
	TDESCBC:   {idTDESCBC, 24, 8, 112},
}

// readEnvelope reads the content of a key token. The OAEP hashes must be the given ones.
func readEnvelope(content []byte, oaep, mgf crypto.Hash) (*envelope, error) {
	in, err := unwrapped(content)
	if err != nil {
		return nil, err
	}
	var version int
	var recipients, info cryptobyte.String
	if !in.ReadASN1Integer(&version) {
		return nil, ErrStructure
	}
	if version != 0 {
		return nil, ErrVersion
	}
	if !in.ReadASN1(&recipients, tags.SET) || !in.ReadASN1(&info, tags.SEQUENCE) || !in.Empty() {
		return nil, ErrStructure
	}
	e := &envelope{}
	if err := e.readRecipient(&recipients, oaep, mgf); err != nil {
		return nil, err
	}
	if !recipients.Empty() {
		return nil, ErrStructure
	}
	if err := e.readContent(&info); err != nil {
		return nil, err
	}
	return e, nil
}

// readRecipient reads a KeyTransRecipientInfo (RFC 5652 §6.2.1).
func (e *envelope) readRecipient(in *cryptobyte.String, oaep, mgf crypto.Hash) error {
	var info cryptobyte.String
	var version int
	if !in.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1Integer(&version) {
		return ErrStructure
	}
	if version != 0 {
		return ErrVersion
	}
	var err error
	if e.recipient, err = readIdentifier(&info); err != nil {
		return err
	}
	oid, parameters, err := readAlgorithm(&info)
	if err != nil {
		return err
	}
	if !oid.Equal(idOAEP) {
		return ErrAlgorithm
	}
	if err := readOAEP(parameters, oaep, mgf); err != nil {
		return err
	}
	if !info.ReadASN1Bytes(&e.wrapped, tags.OCTET_STRING) || !info.Empty() {
		return ErrStructure
	}
	return nil
}

// readOAEP reads RSAES-OAEP-params (RFC 4055 §4.1), with or without the tags of its fields.
// Without a field SHA-1 counts, and an empty label.
func readOAEP(parameters cryptobyte.String, oaep, mgf crypto.Hash) error {
	sequence := cryptobyte.String{}
	if !parameters.Empty() && (!parameters.ReadASN1(&sequence, tags.SEQUENCE) || !parameters.Empty()) {
		return ErrAlgorithm
	}
	fields := [3]cryptobyte.String{}
	if sequence.PeekASN1Tag(tags.SEQUENCE) {
		for i := range fields {
			if !sequence.ReadASN1Element(&fields[i], tags.SEQUENCE) {
				return ErrAlgorithm
			}
		}
	} else {
		for i, tag := range []tags.Tag{tag0, tag1, tag2} {
			var present bool
			if !sequence.ReadOptionalASN1(&fields[i], &present, tag.Constructed()) || present && fields[i].Empty() {
				return ErrAlgorithm
			}
		}
	}
	if !sequence.Empty() {
		return ErrAlgorithm
	}
	hash, err := readHash(&fields[0])
	if err != nil || hash != oaep || !fields[0].Empty() {
		return ErrAlgorithm
	}
	mask := crypto.SHA1
	if !fields[1].Empty() {
		oid, inner, err := readAlgorithm(&fields[1])
		if err != nil || !oid.Equal(idMGF1) || inner.Empty() {
			return ErrAlgorithm
		}
		if mask, err = readHash(&inner); err != nil || !inner.Empty() {
			return ErrAlgorithm
		}
	}
	if mask != mgf || !fields[1].Empty() {
		return ErrAlgorithm
	}
	if !fields[2].Empty() {
		oid, label, err := readAlgorithm(&fields[2])
		if err != nil || !oid.Equal(idPSpecified) || !bytes.Equal(label, []byte{4, 0}) || !fields[2].Empty() {
			return ErrAlgorithm
		}
	}
	return nil
}

func readHash(in *cryptobyte.String) (crypto.Hash, error) {
	if in.Empty() {
		return crypto.SHA1, nil
	}
	oid, parameters, err := readAlgorithm(in)
	switch {
	case err != nil || !noParameters(parameters):
	case oid.Equal(idSHA256):
		return crypto.SHA256, nil
	case oid.Equal(idSHA1):
		return crypto.SHA1, nil
	}
	return 0, ErrAlgorithm
}

// readContent reads an EncryptedContentInfo.
func (e *envelope) readContent(in *cryptobyte.String) error {
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(idData) {
		return ErrStructure
	}
	oid, parameters, err := readAlgorithm(in)
	if err != nil {
		return err
	}
	found := false
	for c, known := range ciphers {
		if oid.Equal(known.oid) {
			e.cipher, found = c, true
		}
	}
	if !found || !parameters.ReadASN1Bytes(&e.iv, tags.OCTET_STRING) || len(e.iv) != ciphers[e.cipher].block {
		return ErrAlgorithm
	}
	if !parameters.Empty() { // the content is inside the algorithm, and not after it
		if !in.Empty() {
			return ErrStructure
		}
		in = &parameters
	}
	if !in.ReadASN1Bytes(&e.content, tag0) || !in.Empty() || len(e.content) == 0 || len(e.content)%ciphers[e.cipher].block != 0 {
		return ErrStructure
	}
	return nil
}

// write encodes the envelope: with the SEQUENCE around it, unless the profile leaves it out.
func (e *envelope) write(p Profile) ([]byte, error) {
	oaep, mgf, err := p.hashes()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	body := func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(0)
				e.recipient.write(b)
				b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(idOAEP)
					b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) { addOAEP(b, oaep, mgf, p.UntaggedOAEP) })
				})
				b.AddASN1OctetString(e.wrapped)
			})
		})
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(idData)
			content := func(b *cryptobyte.Builder) {
				b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddBytes(e.content) })
			}
			b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(ciphers[e.cipher].oid)
				b.AddASN1OctetString(e.iv)
				if p.ContentInAlgorithm {
					content(b)
				}
			})
			if !p.ContentInAlgorithm {
				content(b)
			}
		})
	}
	if p.BareContent {
		body(&b)
	} else {
		b.AddASN1(tags.SEQUENCE, body)
	}
	return b.Bytes()
}

// addOAEP leaves out what is the default of RFC 4055, as DER has it, unless there are no tags
// that tell the fields apart.
func addOAEP(b *cryptobyte.Builder, oaep, mgf crypto.Hash, untagged bool) {
	oids := map[crypto.Hash]asn1.ObjectIdentifier{crypto.SHA1: idSHA1, crypto.SHA256: idSHA256}
	mask := func(b *cryptobyte.Builder) {
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(idMGF1)
			addAlgorithm(b, oids[mgf], !untagged)
		})
	}
	if untagged {
		addAlgorithm(b, oids[oaep], true)
		mask(b)
		b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(idPSpecified)
			b.AddASN1OctetString(nil)
		})
		return
	}
	if oaep != crypto.SHA1 {
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { addAlgorithm(b, oids[oaep], true) })
	}
	if mgf != crypto.SHA1 {
		b.AddASN1(tag1.Constructed(), mask)
	}
}
