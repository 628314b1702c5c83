package terminals

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
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
	// Anchors returns the authorities that officers believe for a use ([ceremony.UseTerminals]).
	// Its error is a refusal of package fault.
	Anchors(use string) (trust.Anchors, error)
}

// verified is what is kept of certificates that were checked.
type verified struct {
	der       []byte // the device's and its issuers', one behind the other
	publicKey [sha256.Size]byte
}

// verify checks a device's certificate with its issuers ([trust.Anchors.Verify]). A module
// checks it again before a key leaves for the device.
func verify(ders [][]byte, authorities Authorities, now time.Time) (*verified, error) {
	chain, err := parse(ders)
	if err != nil {
		return nil, err
	}
	anchors, err := authorities.Anchors(ceremony.UseTerminals)
	if err != nil {
		return nil, err
	}
	device := chain[0]
	if err := anchors.Verify(chain, usages(device), nil, now); err != nil {
		return nil, trust.Refusal(err)
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
			return nil, invalid("certificate %d of %d cannot be read as X.509 in DER", i+1, len(ders))
		}
	}
	return chain, nil
}

// usages are those of which a device's certificate has one, if it names any (RFC 5280 4.2.1.3):
// keys come to it enciphered, by agreement, or after it has signed for them.
func usages(c *x509.Certificate) x509.KeyUsage {
	if _, isRSA := c.PublicKey.(*rsa.PublicKey); isRSA {
		return x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageDigitalSignature
	}
	return x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature
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

func invalid(format string, a ...any) error {
	return fault.New(fault.CertificateInvalid, fmt.Sprintf(format, a...))
}
