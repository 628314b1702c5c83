package tr34

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"time"
)

// Role is the part that a certificate's owner plays.
type Role int

// The roles: key distribution host and key receiving device.
const (
	HostRole Role = iota + 1
	DeviceRole
)

// Verifier says which certificates are good for a role at a time. [*Trust] is one; a caller that
// goes by other rules has one of its own, whose errors are returned as they are.
type Verifier interface {
	Verify(c *x509.Certificate, role Role, crls [][]byte, now time.Time) error
}

// Trust decides which certificates are good, and for which role. TR-34 has three levels: a
// root, a CA for each role, and under it the certificates of hosts or devices. A certificate's
// role is that of its CA: each CA is in one of the two lists, whatever root it is under. So a
// device's certificate never passes for a host's, even if a device maker and a host operator
// share a root.
//
// Beyond that a certificate must not be a CA's, and its key usage, if it has one, must fit: a
// host's digitalSignature, a device's keyEncipherment or dataEncipherment. Without key usage a
// certificate is not limited (RFC 5280 §4.2.1.3).
type Trust struct {
	Roots     []*x509.Certificate // where paths end; not looked at further
	HostCAs   []*x509.Certificate // that issue for hosts; each a root, or issued by one
	DeviceCAs []*x509.Certificate // that issue for devices

	// SigningDevices accepts device certificates whose key usage is digitalSignature alone, as
	// some makers issue them, though their key decrypts.
	SigningDevices bool
}

// Verify checks a certificate for a role at a time: its CA, its and its CA's validity, key and
// key usage, path to a root, and revocation. A host needs a CRL of its CA; a device needs one
// if any is given. A CRL counts if it is by that CA, its signature fits, and now is between its
// thisUpdate and nextUpdate; of several the newest is looked at for that, and all of them for
// the serial number. CRLs by the root are looked at for the CA itself. CRLs by others are
// skipped.
//
// The errors are those of certificates and CRLs in errors.go.
func (t *Trust) Verify(c *x509.Certificate, role Role, crls [][]byte, now time.Time) error {
	if err := t.check(); err != nil {
		return err
	}
	if c == nil {
		return ErrCertificate
	}
	ca, of := t.issuer(c)
	if ca == nil {
		return ErrForeign
	}
	if of != role {
		return ErrRole
	}
	if err := t.checkUsage(c, role); err != nil {
		return err
	}
	if _, err := rsaKey(c); err != nil {
		return err
	}
	root := issuerOf(ca, t.Roots)
	if root == nil {
		return ErrForeign
	}
	for _, each := range []*x509.Certificate{root, ca, c} {
		switch {
		case now.Before(each.NotBefore):
			return ErrNotYet
		case now.After(each.NotAfter):
			return ErrExpired
		}
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	between.AddCert(ca)
	if _, err := c.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return fmt.Errorf("%w: %w", ErrPath, err)
	}
	lists, err := parseCRLs(crls)
	if err != nil {
		return err
	}
	if !ca.Equal(root) {
		if err := checkRevocation(ca, root, lists, false, now); err != nil {
			return err
		}
	}
	return checkRevocation(c, ca, lists, role == HostRole || len(crls) > 0, now)
}

// check: a CA that is in both lists would make a role of its certificates a matter of luck.
func (t *Trust) check() error {
	if t == nil || len(t.Roots) == 0 || len(t.HostCAs)+len(t.DeviceCAs) == 0 {
		return ErrTrust
	}
	for _, h := range t.HostCAs {
		for _, d := range t.DeviceCAs {
			if h == nil || d == nil || bytes.Equal(h.RawSubjectPublicKeyInfo, d.RawSubjectPublicKeyInfo) {
				return ErrTrust
			}
		}
	}
	for _, list := range [][]*x509.Certificate{t.Roots, t.HostCAs, t.DeviceCAs} {
		for _, c := range list {
			if c == nil || !c.IsCA || !c.BasicConstraintsValid {
				return ErrTrust
			}
			if _, err := rsaKey(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// issuer returns the CA that issued a certificate, and whom it issues for.
func (t *Trust) issuer(c *x509.Certificate) (*x509.Certificate, Role) {
	if ca := issuerOf(c, t.HostCAs); ca != nil {
		return ca, HostRole
	}
	if ca := issuerOf(c, t.DeviceCAs); ca != nil {
		return ca, DeviceRole
	}
	return nil, 0
}

// issuerOf returns the one whose name and signature a certificate has; of a root, itself.
func issuerOf(c *x509.Certificate, among []*x509.Certificate) *x509.Certificate {
	for _, ca := range among {
		if c.Equal(ca) || bytes.Equal(c.RawIssuer, ca.RawSubject) && c.CheckSignatureFrom(ca) == nil {
			return ca
		}
	}
	return nil
}

func (t *Trust) checkUsage(c *x509.Certificate, role Role) error {
	const encipher = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment
	if c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return ErrRole
	}
	signs := c.KeyUsage == 0 || c.KeyUsage&x509.KeyUsageDigitalSignature != 0
	switch {
	case role == HostRole && signs,
		role == DeviceRole && (c.KeyUsage == 0 || c.KeyUsage&encipher != 0),
		role == DeviceRole && t.SigningDevices && signs:
		return nil
	}
	return ErrUsage
}

func parseCRLs(crls [][]byte) ([]*x509.RevocationList, error) {
	var lists []*x509.RevocationList
	for _, der := range crls {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, ErrCRL
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// checkRevocation looks for a certificate in the CRLs of its issuer. An expired CRL still
// revokes.
func checkRevocation(c, issuer *x509.Certificate, lists []*x509.RevocationList, needed bool, now time.Time) error {
	var newest *x509.RevocationList
	for _, list := range lists {
		if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
			continue
		}
		if !signedBy(list, issuer) {
			return ErrCRL
		}
		for _, e := range list.Extensions {
			if e.Critical { // a delta, or one that covers a part only
				return ErrCRL
			}
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return ErrRevoked
			}
		}
		if newest == nil || list.ThisUpdate.After(newest.ThisUpdate) {
			newest = list
		}
	}
	switch {
	case newest == nil && needed:
		return ErrNoCRL
	case newest == nil:
		return nil
	case now.Before(newest.ThisUpdate):
		return ErrCRLNotYet
	case !now.Before(newest.NextUpdate): // also where it has none
		return ErrCRLExpired
	}
	return nil
}

// signedBy checks a CRL's signature. Whether the CA's key usage has cRLSign is not looked at:
// CAs of devices in use sign CRLs with keyCertSign alone.
func signedBy(list *x509.RevocationList, issuer *x509.Certificate) bool {
	switch list.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return issuer.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) == nil
	}
	return false
}

// rsaKey returns a certificate's key: RSA of 2,048 to 8,192 bits.
func rsaKey(c *x509.Certificate) (*rsa.PublicKey, error) {
	if c == nil {
		return nil, ErrCertificate
	}
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < 2048 || key.N.BitLen() > 8192 {
		return nil, ErrKey
	}
	return key, nil
}

// identify returns what names a certificate in a token.
func identify(c *x509.Certificate) identifier {
	return identifier{issuer: c.RawIssuer, serial: c.SerialNumber}
}
