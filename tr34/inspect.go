package tr34

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Kind is what a token is.
type Kind string

// The kinds that are read here.
const (
	CredentialKind Kind = "credential (CT_KRD or CT_KDH)"
	RandomKind     Kind = "random number (RT_KRD)"
	KeyKind        Kind = "key (KT_KDH)"
	UnbindKind     Kind = "unbind (UBT_KDH)"
	RebindKind     Kind = "rebind (RBT_KDH)"
)

// Name is by what a token names a certificate.
type Name struct {
	Issuer string // RFC 4514
	Serial *big.Int
}

// Inspection is what anybody can read in a token. Nothing of it is verified.
type Inspection struct {
	Kind         Kind
	Certificates []*x509.Certificate // in the token; in a rebind token, of the host that takes over
	CRLs         []*x509.RevocationList
	Signer       *Name     // nil where nobody signed
	Recipient    *Name     // the device; nil of a credential and of a random number
	Random       []byte    // of the device, in two-pass; nil in one-pass
	Time         time.Time // of one-pass; zero in two-pass

	// Of a key token.
	Header    string // of X9.143
	OAEP, MGF crypto.Hash
	Cipher    Cipher
	BareOrder bool // the signed attributes do not stand in the order of DER

	signed   *signed
	envelope *envelope
}

// Inspect reads any token of this package. The errors are those of the encoding in errors.go.
func Inspect(token []byte) (*Inspection, error) {
	if random, err := ReadRandomToken(token); err == nil {
		return &Inspection{Kind: RandomKind, Random: random}, nil
	}
	s, err := readToken(token)
	if err != nil {
		return nil, err
	}
	i := &Inspection{signed: s}
	if err := i.read(); err != nil {
		return nil, err
	}
	return i, nil
}

// read tells the kinds apart.
func (i *Inspection) read() error {
	s := i.signed
	if err := i.carried(s); err != nil {
		return err
	}
	if s.signer == nil {
		i.Kind = CredentialKind
		if s.content != nil || !s.kind.Equal(idData) {
			return ErrStructure
		}
		return nil
	}
	if err := i.signer(s.signer); err != nil {
		return err
	}
	switch {
	case s.content == nil:
		return ErrStructure
	case s.kind.Equal(idEnvelopedData):
		i.Kind = KeyKind
		return i.key()
	case s.kind.Equal(idData):
		i.Kind = UnbindKind
		return i.recipient(s.content)
	case s.kind.Equal(idSignedData):
		i.Kind = RebindKind
		inner, err := readInner(s.content)
		if err != nil {
			return err
		}
		if inner.signer != nil || inner.content == nil {
			return ErrStructure
		}
		if err := i.carried(inner); err != nil {
			return err
		}
		return i.recipient(inner.content)
	}
	return ErrStructure
}

// carried adds the certificates and CRLs of a SignedData.
func (i *Inspection) carried(s *signed) error {
	for _, der := range s.certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return ErrCertificate
		}
		i.Certificates = append(i.Certificates, c)
	}
	lists, err := parseCRLs(s.crls)
	i.CRLs = append(i.CRLs, lists...)
	return err
}

func (i *Inspection) signer(s *signer) (err error) {
	if i.Signer, err = s.id.name(); err != nil {
		return err
	}
	if _, there := s.values[idRandomNonce.String()]; there {
		if i.Random, err = s.octets(idRandomNonce); err != nil {
			return err
		}
	}
	if _, there := s.values[idSigningTime.String()]; there {
		if i.Time, err = s.time(); err != nil {
			return err
		}
	}
	all, err := elements(s.attributes)
	if err != nil {
		return err
	}
	for n, e := range sorted(all) {
		i.BareOrder = i.BareOrder || !bytes.Equal(e, all[n])
	}
	return nil
}

// key reads what is not enciphered in a key token, whichever hashes its envelope names.
func (i *Inspection) key() error {
	header, err := i.signed.signer.octets(idData)
	if err != nil {
		return err
	}
	if _, err := readHeader(header); err != nil {
		return err
	}
	i.Header = string(header)
	for _, hashes := range [][2]crypto.Hash{{crypto.SHA256, crypto.SHA256}, {crypto.SHA256, crypto.SHA1}, {crypto.SHA1, crypto.SHA1}, {crypto.SHA1, crypto.SHA256}} {
		if i.envelope, err = readEnvelope(i.signed.content, hashes[0], hashes[1]); err == nil {
			i.OAEP, i.MGF, i.Cipher = hashes[0], hashes[1], i.envelope.cipher
			i.Recipient, err = i.envelope.recipient.name()
			return err
		}
	}
	return err
}

func (i *Inspection) recipient(content []byte) error {
	in := cryptobyte.String(content)
	id, err := readIdentifier(&in)
	if err != nil || !in.Empty() {
		return ErrStructure
	}
	i.Recipient, err = id.name()
	return err
}

// SignedBy verifies that the key of a certificate signed the token, in either order of its
// attributes, and that the token names the certificate. Whether that certificate counts is
// another question ([Trust.Verify]). The errors are [ErrSigner], [ErrAltered], [ErrAttribute],
// [ErrKey], and [ErrStructure] where nobody signed.
func (i *Inspection) SignedBy(c *x509.Certificate) error {
	if i.signed == nil || i.signed.signer == nil {
		return ErrStructure
	}
	key, err := rsaKey(c)
	if err != nil {
		return err
	}
	return i.signed.verify(i.signed.kind, identify(c), key)
}

// OpenKey writes the key of a key token to out, which has room for 32 bytes, and returns its
// size and the issuer and serial number of the host inside. It is for devices whose key is at
// hand to look at a token, and leaves out who signed and whether it is fresh: a device uses
// [Device.OpenKeyToken]. The errors are [ErrRecipient], [ErrDecrypt], [ErrHeaderMismatch] and
// [ErrOut].
func (i *Inspection) OpenKey(d *Device, scratch, out []byte) (size int, host *Name, err error) {
	if i.envelope == nil {
		return 0, nil, ErrStructure
	}
	if len(scratch) < ScratchSize {
		return 0, nil, ErrScratch
	}
	defer clear(scratch[:ScratchSize])
	if d.Certificate == nil || !i.envelope.recipient.equal(identify(d.Certificate)) {
		return 0, nil, ErrRecipient
	}
	b, err := d.decrypt(i.envelope, i.OAEP, i.MGF, scratch[:ScratchSize])
	if err != nil {
		return 0, nil, err
	}
	if string(b.header) != i.Header {
		return 0, nil, ErrHeaderMismatch
	}
	if len(out) < len(b.clear) {
		return 0, nil, ErrOut
	}
	if host, err = b.host.name(); err != nil {
		return 0, nil, ErrDecrypt
	}
	return copy(out, b.clear), host, nil
}

// name reads an identifier for people.
func (i identifier) name() (*Name, error) {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(i.issuer, &sequence); err != nil || len(rest) > 0 {
		return nil, ErrStructure
	}
	return &Name{Issuer: sequence.String(), Serial: i.serial}, nil
}

// String returns the name of a cipher, AES-128-CBC for one.
func (c Cipher) String() string {
	switch c {
	case AES128CBC:
		return "AES-128-CBC"
	case AES192CBC:
		return "AES-192-CBC"
	case AES256CBC:
		return "AES-256-CBC"
	case TDESCBC:
		return "TDES-CBC"
	}
	return "no cipher"
}
