package keyagreement

import (
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Terminal is the terminal's side of one run.
type Terminal struct {
	curve   Curve
	own     *ecdh.PrivateKey // nil when the run is over
	self    party
	request []byte
}

// NewTerminal begins a run. certificates are the terminal's, its own first, without the root; by
// signs with its key. random is a source of randomness.
//
// Errors are [ErrCurve], [ErrCertificate], [ErrWeaker], [ErrSign], [ErrTooLarge], and those of
// random and by.
func NewTerminal(random io.Reader, curve Curve, certificates []*x509.Certificate, by Sign) (*Terminal, error) {
	p, known := curves[curve]
	if !known {
		return nil, ErrCurve
	}
	if len(certificates) == 0 || len(certificates) > MaxCertificates {
		return nil, ErrCertificate
	}
	t := &Terminal{curve: curve, self: party{certificates: certificates}}
	var err error
	if t.own, err = p.curve.GenerateKey(random); err != nil {
		return nil, err
	}
	t.self.point = t.own.PublicKey()
	if _, err := io.ReadFull(random, t.self.random[:]); err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1ObjectIdentifier(p.id)
		t.self.write(b)
		t.self.writeCertificates(b)
	})
	body, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if t.request, err = sign(certificates[0], curve, ofRequest, body, by); err != nil {
		return nil, err
	}
	return t, nil
}

// Request returns what is sent to the host.
func (t *Terminal) Request() []byte { return t.request }

// Answered is what a terminal got.
type Answered struct {
	Blocks       []string            // key blocks of version D, under the key that was agreed on
	Certificates []*x509.Certificate // the host's, its own first
}

// Answer takes the host's answer, and writes the key block protection key to key, which has the
// curve's [Curve.KeySize]. believe says whether the host's certificates are those of a host that
// the terminal goes by; it is asked once the signature is good, before anything is computed. The
// run is over after an answer whose signature is good, whatever is wrong with it then.
//
// Errors are [ErrUsed], those of messages in this package, and that of believe.
func (t *Terminal) Answer(message []byte, believe func(certificates []*x509.Certificate) error, key []byte) (*Answered, error) {
	if t.own == nil {
		return nil, ErrUsed
	}
	body, whole, signature, err := open(message)
	if err != nil {
		return nil, err
	}
	var digest, list cryptobyte.String
	if !body.ReadASN1(&digest, asn1.OCTET_STRING) || len(digest) != sha256.Size {
		return nil, ErrEncoding
	}
	var host party
	if err := host.read(&body, t.curve); err != nil {
		return nil, err
	}
	if !body.ReadASN1(&list, asn1.SEQUENCE) {
		return nil, ErrEncoding
	}
	a := new(Answered)
	for !list.Empty() {
		var block cryptobyte.String
		if !list.ReadASN1(&block, ia5String) || !isBlock(string(block)) || len(a.Blocks) == MaxBlocks {
			return nil, ErrBlock
		}
		a.Blocks = append(a.Blocks, string(block))
	}
	if len(a.Blocks) == 0 {
		return nil, ErrBlock
	}
	if err := host.readCertificates(&body); err != nil {
		return nil, err
	}
	if err := verify(host.certificates[0], t.curve, append(ofAnswer[:len(ofAnswer):len(ofAnswer)], whole...), signature); err != nil {
		return nil, err
	}
	if sha256.Sum256(t.request) != [sha256.Size]byte(digest) {
		return nil, ErrOther
	}
	own := t.own
	t.own = nil
	if err := believe(host.certificates); err != nil {
		return nil, err
	}
	if err := derive(own, host.point, t.curve, t.self.certificates[0].Raw, host.certificates[0].Raw, t.request, &host, key); err != nil {
		return nil, err
	}
	a.Certificates = host.certificates
	return a, nil
}

// isBlock looks at what a text must be at least: the rest is for who opens it. X9.143 has
// printable ASCII only.
func isBlock(text string) bool {
	if len(text) < 16 || len(text) > MaxBlock || text[0] != 'D' {
		return false
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
