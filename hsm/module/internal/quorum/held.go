package quorum

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// lookObject finds out what the token holds under the label that is to be attached.
func (w *work) lookObject(s *token.Session) error {
	m, err := w.engine.masters.Of(s, w.epoch.Generation)
	if err != nil {
		return err
	}
	check, fingerprint, err := m.Attach(s, &w.header, w.def.Object)
	if err != nil {
		return err
	}
	if w.def.CheckValue != "" && w.def.CheckValue != check {
		return fault.New(fault.CheckValueMismatch, "the token's key has the check value "+check+", the definition says "+w.def.CheckValue)
	}
	if same := w.epoch.Knows(fingerprint); same != nil {
		return fault.New(fault.KeyValueRefused, fmt.Sprintf("it is attached already: %s version %d", same.Name, same.Version))
	}
	w.header.Object, w.header.CheckValue, w.header.Fingerprint = w.def.Object, check, fingerprint
	w.checkValue = check
	return nil
}

// makePair makes a key pair in the token. One that an earlier call has made, and whose
// register was never committed, is taken.
func (w *work) makePair(s *token.Session) error {
	h := &w.header
	label := sealing.PairPrefix + w.outcome.Key.String()
	if len(label) > token.MaxLabel {
		return fault.New(fault.DefinitionInvalid, "key.name is too long for a key pair")
	}
	use := token.PairSigns
	if h.Usage[0] == 'K' {
		if use = token.PairDecrypts; h.Algorithm == "E" {
			use = token.PairAgrees
		}
	}
	pair, err := s.FindPair(label)
	if err == nil && (pair.Use != use || sizeOf(pair) != int(h.Length)) {
		err = errors.Join(token.ErrNoObject, s.DestroyPair(pair)) // of an earlier definition
	}
	if errors.Is(err, token.ErrNoObject) {
		if h.Algorithm == "R" {
			s.Patience(hsm.CarryOutTime) // primes are looked for until they are found
			pair, err = s.GenerateRSA(label, 8*int(h.Length), use)
		} else {
			pair, err = s.GenerateEC(label, curves[h.Length], use)
		}
	}
	if err != nil {
		return err
	}
	h.Object = label
	h.CheckValue, h.Fingerprint, h.Public, err = sealing.PublicValues(pair.Public)
	return err
}

var curves = map[uint16]elliptic.Curve{32: elliptic.P256(), 48: elliptic.P384(), 66: elliptic.P521()}

// sizeOf is the size of a modulus, or of a field element, in bytes.
func sizeOf(p token.Pair) int {
	switch k := p.Public.(type) {
	case *rsa.PublicKey:
		return k.Size()
	case *ecdsa.PublicKey:
		return (k.Params().BitSize + 7) / 8
	}
	return 0
}

// bringInHeld seals the header of a key that lies in the token, and enters it.
func (w *work) bringInHeld(s *token.Session, next *ceremony.Epoch, out *CarriedOut) error {
	m, err := w.engine.masters.Of(s, next.Generation)
	if err != nil {
		return err
	}
	sealed, err := m.SealHeld(s, w.header)
	if err != nil {
		return err
	}
	return w.enter(sealed, next, out)
}

// CertificateRequest makes a certificate request (PKCS #10, RFC 2986) for a key pair that may
// sign, in DER.
func (e *Engine) CertificateRequest(s *token.Session, key hsm.Key, subject pkix.Name, dnsNames []string) (request []byte, err error) {
	defer func() { err = refusal(err) }()
	h, pair, err := e.masters.Pair(s, key.Sealed)
	if err != nil {
		return nil, err
	}
	digest, err := ceremony.HeaderDigest(h)
	if err != nil {
		return nil, err
	}
	if h.Name != key.Name {
		return nil, fault.New(fault.KeySealInvalid, "")
	}
	if err := e.register.Admit(h, digest); err != nil {
		return nil, err
	}
	if pair.Use != token.PairSigns {
		return nil, fault.New(fault.KeyUsageMismatch, "this key pair does not sign, so it cannot prove itself in a certificate request")
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: dnsNames}, s.Signer(pair))
}

// destroyDeleted destroys the key pairs whose deletion nobody has called off in time.
func destroyDeleted(s *token.Session, epoch *ceremony.Epoch, now int64) error {
	labels, err := s.PairLabels(sealing.PairPrefix)
	if err != nil {
		return err
	}
	for _, label := range labels {
		ref, err := ceremony.ParseKeyRef(strings.TrimPrefix(label, sealing.PairPrefix))
		if err != nil {
			continue // not by this keyd
		}
		entry := epoch.Find(ref.Name, ref.Version)
		if entry == nil || entry.State != ceremony.Deleting || now < entry.Until {
			continue
		}
		pair, err := s.FindPair(label)
		if err == nil {
			err = s.DestroyPair(pair)
		}
		if err != nil && !errors.Is(err, token.ErrNoObject) {
			return err
		}
	}
	return nil
}
