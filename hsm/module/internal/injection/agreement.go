package injection

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"

	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/token"
	"keyd/keyagreement"
	"keyd/receipt"
)

// Agreement is an injection by key agreement (package keyagreement).
type Agreement struct {
	Request
	Message []byte // the terminal's
}

// Agree answers a terminal's request. All keys go under the key that is agreed on, in the order of
// the record. Errors are refusals of package fault, those of packages keyagreement and trust, and
// the token's. After an error nothing leaves, though keys may be bound to the device.
func (e *Engine) Agree(s *token.Session, a *Agreement) (*hsm.Injected, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	request, err := keyagreement.ReadRequest(a.Message)
	if err != nil {
		return nil, err
	}
	w, err := e.begin(s, &a.Request, receipt.ByAgreement, request.Certificates, x509.KeyUsageDigitalSignature)
	if err != nil {
		return nil, err
	}
	defer w.end()
	size := request.Curve.KeySize()
	protection := w.memory(protectionAt, size)
	var host *keyagreement.Host
	erase.Do(func() { host, err = request.Agree(rand.Reader, a.Certificates, protection) })
	if err != nil {
		return nil, err
	}
	if err := w.make(8*size, "the key that is agreed on; P-256 carries AES-128, P-384 AES-192, P-521 AES-256", true); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(a.Message)
	w.asked = &digest
	if err := w.bind(); err != nil {
		return nil, err
	}
	blocks, err := w.wrap(w.keys, "A", protection)
	if err != nil {
		return nil, err
	}
	signer := s.Signer(w.pair)
	w.out.Answer, err = host.Answer(blocks, func(digest []byte, hash crypto.Hash) ([]byte, error) { return signer.Sign(nil, digest, hash) })
	if err != nil {
		return nil, err
	}
	return &w.out, nil
}

// deviceOf names a device by its public key.
func deviceOf(c *x509.Certificate) ledger.Device { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
