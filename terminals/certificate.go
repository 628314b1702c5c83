package terminals

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/store"
	"keyd/trust"
)

// Limits of certificates.
const (
	MaxChain   = trust.MaxChain // certificates: the device's and its issuers, without the root
	MaxBytes   = store.MaxCertificates
	maxSubject = 256 // bytes that are kept for people
)

// Authorities say whose signatures count.
type Authorities interface {
	// Roots returns the certificates of the authorities that officers believe for a use
	// ([ceremony.UseTerminals]), none where there are none. Its error is a refusal of package
	// fault.
	Roots(use string) ([]*x509.Certificate, error)
}

// verified is what is kept of certificates that were checked.
type verified struct {
	der       []byte // the device's and its issuers', one behind the other
	publicKey [sha256.Size]byte
}

// verify checks a device's certificate with its issuers. A certificate counts when it
//   - can be read, has a public key of RSA from 2,048 to 8,192 bits or of P-256, P-384 or
//     P-521, and so have its issuers,
//   - is no authority's, and allows that a key is sent to it: key usage keyEncipherment for RSA,
//     keyAgreement for elliptic curves, digitalSignature for either, where it names any,
//   - names no other role than a terminal's, nor does one of its issuers,
//   - is valid now, and so are its issuers,
//   - leads to a root for terminals.
func verify(ders [][]byte, authorities Authorities, now time.Time) (*verified, error) {
	chain, err := parse(ders)
	if err != nil {
		return nil, err
	}
	device := chain[0]
	if err := checkDevice(device); err != nil {
		return nil, err
	}
	for i, c := range chain {
		if !trust.StrongKey(c.PublicKey) {
			return nil, invalid("%s has a weak or unknown public key: RSA has 2048 to 8192 bits, a curve is P-256, P-384 or P-521", which(i))
		}
		if why := trust.OtherRole(c); why != "" {
			return nil, fault.New(fault.CertificateRole, which(i)+" "+why)
		}
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return nil, fault.New(fault.CertificateExpired, fmt.Sprintf("%s is valid from %s to %s", which(i), date(c.NotBefore), date(c.NotAfter)))
		}
	}
	roots, err := authorities.Roots(ceremony.UseTerminals)
	if err != nil {
		return nil, err
	}
	if err := trusted(chain, roots, now); err != nil {
		return nil, err
	}
	return &verified{slices.Concat(ders...), sha256.Sum256(device.RawSubjectPublicKeyInfo)}, nil
}

// parse reads certificates, each of which is exactly one.
func parse(ders [][]byte) ([]*x509.Certificate, error) {
	size := 0
	for _, der := range ders {
		size += len(der)
	}
	if len(ders) == 0 || len(ders) > MaxChain || size > MaxBytes {
		return nil, invalid("there are 1 to %d certificates of at most %d bytes together: the device's, then its issuers without the root", MaxChain, MaxBytes)
	}
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		var err error
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			return nil, invalid("%s cannot be read as X.509 in DER", which(i))
		}
	}
	return chain, nil
}

// checkDevice says why a certificate is none of a device that gets keys.
func checkDevice(c *x509.Certificate) error {
	name := "keyAgreement or digitalSignature, as a key on a curve has"
	if _, isRSA := c.PublicKey.(*rsa.PublicKey); isRSA {
		name = "keyEncipherment or digitalSignature, as an RSA key has"
	}
	switch {
	case c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return invalid("the first certificate is an authority's: the device's comes first")
	case c.KeyUsage != 0 && c.KeyUsage&usages(c) == 0:
		return invalid("the device's certificate lacks the key usage %s, so no key can be sent to it", name)
	}
	return nil
}

// usages are those of which a device's certificate has one, if it names any (RFC 5280 4.2.1.3):
// keys come to it enciphered, by agreement, or after it has signed for them.
func usages(c *x509.Certificate) x509.KeyUsage {
	if _, isRSA := c.PublicKey.(*rsa.PublicKey); isRSA {
		return x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageDigitalSignature
	}
	return x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature
}

// trusted checks that the first certificate leads, by the others, to one of the roots.
func trusted(chain, roots []*x509.Certificate, now time.Time) error {
	if len(roots) == 0 {
		return fault.New(fault.CertificateUntrusted, "no root for terminals is trusted: a ceremony of kind trust adds one")
	}
	err := trust.Anchors(roots).Verify(chain, usages(chain[0]), nil, now)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, trust.ErrExpired), errors.Is(err, trust.ErrNotYet):
		return fault.New(fault.CertificateExpired, "an issuer or the root is not valid now")
	case errors.Is(err, trust.ErrForeign):
		return fault.New(fault.CertificateUntrusted, "an issuer is missing, or none of the roots for terminals vouches for it")
	case errors.Is(err, trust.ErrAuthority):
		return invalid("the device's certificate is a root")
	}
	return invalid("%v", err)
}

// stored returns the certificates of a record, nil where it has none.
func stored(r *store.TerminalRecord) (*Certificate, error) {
	if len(r.Certificates) == 0 {
		return nil, nil
	}
	chain, err := x509.ParseCertificates(r.Certificates)
	if err != nil || len(chain) == 0 || len(chain) > MaxChain {
		return nil, damaged(r.ID)
	}
	device := chain[0]
	c := &Certificate{
		SHA256: sha256.Sum256(device.Raw), PublicKey: sha256.Sum256(device.RawSubjectPublicKeyInfo),
		Subject: shortened(strings.ToValidUTF8(device.Subject.String(), "\uFFFD")), NotBefore: device.NotBefore, NotAfter: device.NotAfter,
	}
	if !bytes.Equal(c.PublicKey[:], r.PublicKey) {
		return nil, damaged(r.ID)
	}
	for _, one := range chain {
		c.Chain = append(c.Chain, one.Raw)
	}
	return c, nil
}

func damaged(id string) error {
	return fault.Wrap(fault.StoreUnavailable, fmt.Errorf("terminal %s: %w", id, store.ErrCorrupt))
}

func shortened(s string) string {
	if len(s) > maxSubject {
		s = strings.ToValidUTF8(s[:maxSubject], "")
	}
	return s
}

func which(i int) string {
	if i == 0 {
		return "the device's certificate"
	}
	return fmt.Sprintf("the certificate of issuer %d", i)
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func invalid(format string, a ...any) error {
	return fault.New(fault.CertificateInvalid, fmt.Sprintf(format, a...))
}
