package ceremony

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"keyd/trust"
)

// Authority is a certificate at which chains of others end that are believed: the root of a
// maker of terminals, say. Officers decide about it, and modules go by what they decided.
type Authority struct {
	Certificate []byte   `json:"certificate"` // X.509, in DER
	Uses        []string `json:"uses"`        // one or more of [Uses], in their order
}

// What the certificates are for that end at an authority.
const (
	UseTerminals = "terminals" // devices that get keys
	UseHosts     = "hosts"     // hosts that distribute keys, of which a terminal may be bound to another
	UseApprovers = "approvers" // people who approve what happens to PIN records, and voids (package pinrecord)
)

// Uses are all that an authority can have, in the order in which they are written.
var Uses = []string{UseTerminals, UseHosts, UseApprovers}

// Limits of authorities.
const (
	MaxAuthorities   = 32
	MaxCertificate   = 4096 // bytes of an authority's certificate
	minAuthorityBits = 2048 // of an RSA key
)

// ParseAuthority reads the certificate of an authority from PEM, of which there is one, or
// from DER. Errors are [ErrDefinition].
func ParseAuthority(text []byte, uses []string) (*Authority, error) {
	a := &Authority{Certificate: text}
	if block, rest := pem.Decode(text); block != nil {
		if block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
			return nil, wrong("authority.certificate is one certificate, and nothing else")
		}
		a.Certificate = block.Bytes
	}
	for _, use := range Uses { // in this order, and what is none is found below
		if slices.Contains(uses, use) {
			a.Uses = append(a.Uses, use)
		}
	}
	if len(a.Uses) != len(uses) {
		return nil, wrong("authority.uses names one or more of %s, each once", strings.Join(Uses, ", "))
	}
	return a, a.validate()
}

// Fingerprint returns the SHA-256 of the certificate, in hex.
func (a *Authority) Fingerprint() string { return Digest(a.Certificate) }

// Has reports whether an authority has a use.
func (a *Authority) Has(use string) bool { return slices.Contains(a.Uses, use) }

// Parse returns the certificate. Errors are [ErrDefinition], of what is no certificate of an
// authority: an X.509 certificate of version 3 that may sign others (basic constraints, and
// the key usage where it has one), with an RSA key of 2048 to 8192 bits or a key on P-256,
// P-384 or P-521.
func (a *Authority) Parse() (*x509.Certificate, error) {
	if len(a.Certificate) > MaxCertificate {
		return nil, wrong("authority.certificate has at most %d bytes", MaxCertificate)
	}
	c, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, wrong("authority.certificate is no X.509 certificate")
	}
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, wrong("authority.certificate may not sign others: it is none of an authority")
	case len(c.UnhandledCriticalExtensions) > 0:
		return nil, wrong("authority.certificate has a critical extension that keyd does not know: %s", c.UnhandledCriticalExtensions[0])
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minAuthorityBits || bits > 8192 {
			return nil, wrong("authority.certificate has an RSA key of %d bits: 2048 to 8192 are taken", bits)
		}
	case *ecdsa.PublicKey:
		if key.Curve.Params().BitSize < 256 {
			return nil, wrong("authority.certificate has a key on %s: P-256, P-384 and P-521 are taken", key.Curve.Params().Name)
		}
	default:
		return nil, wrong("authority.certificate has a key that is neither RSA nor of P-256, P-384 or P-521")
	}
	return c, nil
}

func (a *Authority) validate() error {
	if len(a.Uses) == 0 || !slices.Equal(a.Uses, slices.DeleteFunc(slices.Clone(Uses), func(use string) bool { return !a.Has(use) })) {
		return wrong("authority.uses names one or more of %s", strings.Join(Uses, ", "))
	}
	_, err := a.Parse()
	return err
}

// Authority returns the authority with that fingerprint, nil if none is believed.
func (e *Epoch) Authority(fingerprint string) *Authority {
	for i := range e.Authorities {
		if e.Authorities[i].Fingerprint() == fingerprint {
			return &e.Authorities[i]
		}
	}
	return nil
}

// Distrusted is the key of an authority in which officers have ended the belief. No chain goes
// over it any more, whatever certificate it has and whoever is believed above it.
type Distrusted struct {
	Key   string `json:"k"` // SHA-256 of its SubjectPublicKeyInfo, in hex
	Epoch uint64 `json:"v"` // that came of it
}

// MaxDistrusted bounds how many are remembered; the oldest is forgotten then.
const MaxDistrusted = 256

// Trust adds an authority, in the place of what there was of the same certificate. Its key is
// distrusted no more.
func (e *Epoch) Trust(a Authority) {
	e.remove(a.Fingerprint())
	key := a.key()
	e.Distrusted = slices.DeleteFunc(slices.Clone(e.Distrusted), func(d Distrusted) bool { return d.Key == key })
	e.Authorities = append(e.Authorities, a)
	slices.SortFunc(e.Authorities, func(a, b Authority) int { return strings.Compare(a.Fingerprint(), b.Fingerprint()) })
}

// Distrust removes an authority, and remembers that its key is distrusted from the next epoch on.
func (e *Epoch) Distrust(fingerprint string) {
	a := e.Authority(fingerprint)
	if a == nil {
		return
	}
	key := a.key()
	e.remove(fingerprint)
	e.Distrusted = slices.DeleteFunc(slices.Clone(e.Distrusted), func(d Distrusted) bool { return d.Key == key })
	e.Distrusted = append(e.Distrusted, Distrusted{Key: key, Epoch: e.Version + 1})
	if n := len(e.Distrusted); n > MaxDistrusted {
		e.Distrusted = e.Distrusted[n-MaxDistrusted:]
	}
}

func (e *Epoch) remove(fingerprint string) {
	e.Authorities = slices.DeleteFunc(slices.Clone(e.Authorities), func(a Authority) bool { return a.Fingerprint() == fingerprint })
}

// Distrusts reports whether the key of a certificate is one that officers have distrusted.
func (e *Epoch) Distrusts(c *x509.Certificate) bool {
	key := Digest(c.RawSubjectPublicKeyInfo)
	return slices.ContainsFunc(e.Distrusted, func(d Distrusted) bool { return d.Key == key })
}

// DistrustedSince reports whether an authority's key was distrusted in a later epoch than that.
func (e *Epoch) DistrustedSince(a *Authority, version uint64) bool {
	key := a.key()
	return slices.ContainsFunc(e.Distrusted, func(d Distrusted) bool { return d.Key == key && d.Epoch > version })
}

// key returns the digest of the authority's key, in hex; of what cannot be read, one of nobody's.
func (a *Authority) key() string {
	c, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return Digest(nil)
	}
	return Digest(c.RawSubjectPublicKeyInfo)
}

// Anchors returns the authorities with a use that are valid at a time, as chains are checked
// against them.
func (e *Epoch) Anchors(use string, at time.Time) (trust.Anchors, error) {
	a := trust.Anchors{Distrusted: e.Distrusts}
	for i := range e.Authorities {
		if !e.Authorities[i].Has(use) {
			continue
		}
		c, err := e.Authorities[i].Parse()
		if err != nil {
			return trust.Anchors{}, err
		}
		if !at.Before(c.NotBefore) && !at.After(c.NotAfter) && !e.Distrusts(c) {
			a.Certificates = append(a.Certificates, c)
		}
	}
	return a, nil
}
