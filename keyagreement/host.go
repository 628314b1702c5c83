package keyagreement

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/x509"
	"io"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Request is what a host got from a terminal: well formed, and signed with the key of its first
// certificate. Whether that certificate counts is for the caller to decide.
type Request struct {
	Curve        Curve
	Certificates []*x509.Certificate // the terminal's, its own first

	message  []byte
	terminal party
}

// ReadRequest reads a request and checks its signature. Errors are those of messages in this
// package.
func ReadRequest(message []byte) (*Request, error) {
	body, whole, signature, err := open(message)
	if err != nil {
		return nil, err
	}
	r := &Request{message: bytes.Clone(message)}
	if r.Curve, err = readCurve(&body); err != nil {
		return nil, err
	}
	if err := r.terminal.read(&body, r.Curve); err != nil {
		return nil, err
	}
	if err := r.terminal.readCertificates(&body); err != nil {
		return nil, err
	}
	r.Certificates = r.terminal.certificates
	if err := verify(r.Certificates[0], r.Curve, append(ofRequest[:len(ofRequest):len(ofRequest)], whole...), signature); err != nil {
		return nil, err
	}
	return r, nil
}

// Host is the host's side of one run, which has derived its key.
type Host struct {
	request *Request
	self    party
}

// Agree makes the host's ephemeral key, and writes the key block protection key to key, which
// has the curve's [Curve.KeySize]. certificates are the host's, its own first, without the root.
// It makes no call to anything of the caller's but random, so that it may run inside
// runtime/secret.Do.
//
// Errors are [ErrCertificate], [ErrWeaker], [ErrPoint] and those of random.
func (r *Request) Agree(random io.Reader, certificates []*x509.Certificate, key []byte) (*Host, error) {
	if len(certificates) == 0 || len(certificates) > MaxCertificates {
		return nil, ErrCertificate
	}
	if _, err := signing(certificates[0], r.Curve); err != nil {
		return nil, err
	}
	own, err := curves[r.Curve].curve.GenerateKey(random)
	if err != nil {
		return nil, err
	}
	return r.agree(own, random, certificates, key)
}

func (r *Request) agree(own *ecdh.PrivateKey, random io.Reader, certificates []*x509.Certificate, key []byte) (*Host, error) {
	h := &Host{request: r, self: party{point: own.PublicKey(), certificates: certificates}}
	if _, err := io.ReadFull(random, h.self.random[:]); err != nil {
		return nil, err
	}
	if err := derive(own, r.terminal.point, r.Curve, r.Certificates[0].Raw, certificates[0].Raw, r.message, &h.self, key); err != nil {
		return nil, err
	}
	return h, nil
}

// Answer returns what is sent to the terminal: key blocks of version D, 1 to 16, under the key
// that was agreed on. by signs with the key of the host's first certificate.
//
// Errors are [ErrBlock], [ErrSign], [ErrTooLarge] and those of by.
func (h *Host) Answer(blocks []string, by Sign) ([]byte, error) {
	if len(blocks) == 0 || len(blocks) > MaxBlocks {
		return nil, ErrBlock
	}
	digest := sha256.Sum256(h.request.message)
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(version)
		b.AddASN1OctetString(digest[:])
		h.self.write(b)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, block := range blocks {
				if !isBlock(block) {
					b.SetError(ErrBlock)
				}
				b.AddASN1(ia5String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(block)) })
			}
		})
		h.self.writeCertificates(b)
	})
	body, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return sign(h.self.certificates[0], h.request.Curve, ofAnswer, body, by)
}
