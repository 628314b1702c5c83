package quorum

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
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

// makePair makes a key pair in the token. One that an earlier call has made for this same
// ceremony is taken.
func (w *work) makePair(s *token.Session) error {
	h, o := &w.header, w.checked.Opening
	label := keptLabel{*w.outcome.Key, o.ID[:keptID], o.Expires}.String()
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

// keptLabel is the label of a key pair: the key's name and version, which ceremony has made it
// (several may try) and when that expires.
type keptLabel struct {
	key     ceremony.KeyRef
	id      string // the first [keptID] digits
	expires int64
}

const keptID = 16

func (l keptLabel) String() string {
	return fmt.Sprintf("%s%s %s %d", sealing.PairPrefix, l.key.String(), l.id, l.expires)
}

// parseKept is the reverse of [keptLabel.String].
func parseKept(label string) (l keptLabel, ok bool) {
	parts := strings.Split(strings.TrimPrefix(label, sealing.PairPrefix), " ")
	if len(parts) != 3 {
		return l, false
	}
	ref, err := ceremony.ParseKeyRef(parts[0])
	if err != nil {
		return l, false
	}
	if l.expires, err = strconv.ParseInt(parts[2], 10, 64); err != nil {
		return l, false
	}
	l.key, l.id = *ref, parts[1]
	return l, l.String() == label
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
	_, pair, err := working.Signing(s, e.masters, e.register, key) // or it could not prove itself
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: dnsNames}, s.Signer(pair))
}

// destroyDeleted destroys the key pairs whose deletion nobody has called off in time, and
// those whose ceremony was never committed and no longer can be.
func destroyDeleted(s *token.Session, epoch *ceremony.Epoch, now int64) error {
	labels, err := s.PairLabels(sealing.PairPrefix)
	if err != nil {
		return err
	}
	for _, label := range labels {
		l, ok := parseKept(label)
		if !ok {
			continue // not by this keyd
		}
		entry := epoch.Find(l.key.Name, l.key.Version)
		switch {
		case entry == nil && now >= l.expires+ceremony.MaxValidFor:
		case entry != nil && entry.State == ceremony.Deleting && now >= entry.Until:
		default:
			continue
		}
		if err := s.DestroyPair(label); err != nil && !errors.Is(err, token.ErrNoObject) {
			return err
		}
	}
	return nil
}
