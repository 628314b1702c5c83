package tr34

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxToken bounds a token, in bytes.
const MaxToken = 64 << 10

// maxDepth bounds how deep a token nests. The deepest that is known has 11 levels.
const maxDepth = 24

var (
	idData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	idSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	idEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	idContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	idMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	idSigningTime   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	idRandomNonce   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 25, 3}
	idRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	idOAEP          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	idMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	idPSpecified    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 9}
	idSHA256RSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	idSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	idSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	idAES128CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	idAES192CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	idAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	idTDESCBC       = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
)

var (
	tag0 = tags.Tag(0).ContextSpecific()
	tag1 = tags.Tag(1).ContextSpecific()
	tag2 = tags.Tag(2).ContextSpecific()
)

// wellFormed looks at every tag and length: definite, in the shortest form, nothing over.
func wellFormed(der []byte, depth int) error {
	if depth > maxDepth {
		return ErrEncoding
	}
	for in := cryptobyte.String(der); !in.Empty(); {
		if len(in) > 1 && in[1] == 0x80 {
			return ErrIndefinite
		}
		var element cryptobyte.String
		var tag tags.Tag
		constructed := in[0]&0x20 != 0
		if !in.ReadAnyASN1(&element, &tag) {
			// An indefinite length further in makes no outer length wrong.
			return ErrEncoding
		}
		if constructed {
			if err := wellFormed(element, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// identifier is an IssuerAndSerialNumber (RFC 5652 §10.2.4).
type identifier struct {
	issuer []byte // a Name in DER
	serial *big.Int
}

func (i identifier) equal(o identifier) bool {
	return bytes.Equal(i.issuer, o.issuer) && i.serial.Cmp(o.serial) == 0
}

func (i identifier) write(b *cryptobyte.Builder) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(i.issuer)
		b.AddASN1BigInt(i.serial)
	})
}

func readIdentifier(in *cryptobyte.String) (identifier, error) {
	var sequence, issuer cryptobyte.String
	i := identifier{serial: new(big.Int)}
	if !in.ReadASN1(&sequence, tags.SEQUENCE) || !sequence.ReadASN1Element(&issuer, tags.SEQUENCE) ||
		!sequence.ReadASN1Integer(i.serial) || !sequence.Empty() {
		return identifier{}, ErrStructure
	}
	i.issuer = issuer
	return i, nil
}

// readAlgorithm reads an AlgorithmIdentifier. The parameters are nil where there are none.
func readAlgorithm(in *cryptobyte.String) (asn1.ObjectIdentifier, cryptobyte.String, error) {
	var sequence cryptobyte.String
	var oid asn1.ObjectIdentifier
	if !in.ReadASN1(&sequence, tags.SEQUENCE) || !sequence.ReadASN1ObjectIdentifier(&oid) {
		return nil, nil, ErrStructure
	}
	return oid, sequence, nil
}

// noParameters accepts NULL too.
func noParameters(parameters cryptobyte.String) bool {
	return len(parameters) == 0 || bytes.Equal(parameters, []byte{5, 0})
}

// readExactly reads an algorithm without parameters that must be one of those.
func readExactly(in *cryptobyte.String, oids ...asn1.ObjectIdentifier) error {
	oid, parameters, err := readAlgorithm(in)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(oids, oid.Equal) || !noParameters(parameters) {
		return ErrAlgorithm
	}
	return nil
}

func addAlgorithm(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, null bool) {
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
}

// sorted returns elements in the order that DER gives a SET OF (X.690 11.6). No element is the
// beginning of another, so that bytes decide.
func sorted(elements [][]byte) [][]byte {
	return slices.SortedFunc(slices.Values(elements), bytes.Compare)
}

// elements splits what is in a SET OF.
func elements(in cryptobyte.String) ([][]byte, error) {
	var all [][]byte
	for !in.Empty() {
		var element cryptobyte.String
		var tag tags.Tag
		if !in.ReadAnyASN1Element(&element, &tag) {
			return nil, ErrEncoding
		}
		all = append(all, element)
	}
	return all, nil
}

// set encodes a SET of elements in their order.
func set(elements [][]byte) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tags.SET, func(b *cryptobyte.Builder) {
		for _, e := range elements {
			b.AddBytes(e)
		}
	})
	return b.Bytes()
}
