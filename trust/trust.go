// Package trust decides whether a certificate of a device or a host is good: whether its chain
// ends at an anchor that officers believe, is valid and not revoked.
//
// It is pure: no file, no network, no clock. The module goes by it before a key leaves, the front
// before it registers a terminal.
package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limits.
const (
	MaxChain = 5 // certificates: the holder's, then its issuers, without the anchor
	MaxLists = 8 // revocation lists

	minRSA = 2048 // bits
	maxRSA = 8192 // more only costs time
)

// Errors of [Anchors.Verify], each of which says what is wrong and nothing of what was sent.
var (
	ErrChain      = errors.New("there are 1 to 5 certificates, the holder's and then its issuers without the anchor, and at most 8 revocation lists")
	ErrAuthority  = errors.New("is an authority's: the holder's comes first")
	ErrUsage      = errors.New("has no key usage that allows this")
	ErrKey        = errors.New("has a weak or unknown public key: RSA has 2048 to 8192 bits, a curve is P-256, P-384 or P-521")
	ErrCritical   = errors.New("has a critical extension that is not known here")
	ErrRole       = errors.New("is of something else")
	ErrNotYet     = errors.New("is not valid yet")
	ErrExpired    = errors.New("is not valid any more")
	ErrDistrusted = errors.New("is of an authority in which officers have ended the belief")
	ErrForeign    = errors.New("an issuer is missing, or none of the authorities that are believed vouches for it")
	ErrNobody     = errors.New("no authority is believed for this: officers add one (keyd authority trust)")
	ErrRevoked    = errors.New("is revoked")
	ErrList       = errors.New("a revocation list cannot be read, is altered, or covers a part only")
	ErrListStale  = errors.New("the newest revocation list of an issuer is not valid now: get another")
)

// Error is what is wrong with one certificate of a chain.
type Error struct {
	Place  int    // in the chain: 0 is the holder's
	Why    error  // one of this package's
	Detail string // more of it, or empty
}

// Error says which certificate it is, and why.
func (e *Error) Error() string {
	which := "the holder's certificate "
	if e.Place > 0 {
		which = fmt.Sprintf("the certificate of issuer %d ", e.Place)
	}
	if e.Detail != "" {
		return which + e.Why.Error() + ": " + e.Detail
	}
	return which + e.Why.Error()
}

// Unwrap returns why.
func (e *Error) Unwrap() error { return e.Why }

// Anchors are certificates at which chains may end.
type Anchors struct {
	Certificates []*x509.Certificate

	// Distrusted says of a certificate whether its key is one that counts nowhere any more, also
	// below an anchor. nil: none is.
	Distrusted func(*x509.Certificate) bool
}

// Verify checks a chain of a terminal: its own certificate first, then its issuers in any order,
// without the anchor. Its own has the key usage, if it has any at all (RFC 5280 4.2.1.3), and is
// no authority's. None names another role ([OtherRole]). lists are revocation lists (RFC 5280 5)
// of issuers in the chain or of the anchor; others are skipped. The newest of an issuer must be
// valid at the time; each of them revokes.
//
// Errors are [*Error], of one certificate, and [ErrChain], [ErrForeign], [ErrNobody], [ErrList]
// and [ErrListStale].
func (a Anchors) Verify(chain []*x509.Certificate, usage x509.KeyUsage, lists []*x509.RevocationList, at time.Time) error {
	return a.verify(chain, usage, lists, at, OtherRole)
}

// VerifyHost checks a chain of a key distribution host likewise, which may name that role.
func (a Anchors) VerifyHost(chain []*x509.Certificate, usage x509.KeyUsage, lists []*x509.RevocationList, at time.Time) error {
	return a.verify(chain, usage, lists, at, func(*x509.Certificate) string { return "" })
}

func (a Anchors) verify(chain []*x509.Certificate, usage x509.KeyUsage, lists []*x509.RevocationList, at time.Time, other func(*x509.Certificate) string) error {
	if len(chain) == 0 || len(chain) > MaxChain || len(lists) > MaxLists {
		return ErrChain
	}
	holder := chain[0]
	switch {
	case holder.IsCA || holder.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 || a.has(holder):
		return &Error{Why: ErrAuthority}
	case holder.KeyUsage != 0 && holder.KeyUsage&usage == 0:
		return &Error{Why: ErrUsage}
	}
	for place, c := range chain {
		if err := a.check(c, at, other); err != nil {
			err.Place = place
			return err
		}
	}
	options := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, c := range a.Certificates {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	paths, err := holder.Verify(options)
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("an anchor %w", ErrExpired)
	case err != nil && len(a.Certificates) == 0:
		return ErrNobody
	case err != nil:
		return ErrForeign
	}
	// Any path may do, but a certificate that is revoked is not good by another way to the anchor.
	for _, path := range paths {
		for i := range len(path) - 1 {
			err := revoked(path[i], path[i+1], lists, at)
			if errors.Is(err, ErrRevoked) {
				return &Error{Place: slices.IndexFunc(chain, path[i].Equal), Why: ErrRevoked}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// check looks at what one certificate of a chain says by itself.
func (a Anchors) check(c *x509.Certificate, at time.Time, other func(*x509.Certificate) string) *Error {
	valid := fmt.Sprintf("it is valid from %s to %s", c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
	switch role := other(c); {
	case !StrongKey(c.PublicKey):
		return &Error{Why: ErrKey}
	case role != "":
		return &Error{Why: ErrRole, Detail: "it " + role}
	case len(c.UnhandledCriticalExtensions) > 0:
		return &Error{Why: ErrCritical}
	case at.Before(c.NotBefore):
		return &Error{Why: ErrNotYet, Detail: valid}
	case at.After(c.NotAfter):
		return &Error{Why: ErrExpired, Detail: valid}
	case a.Distrusted != nil && a.Distrusted(c):
		return &Error{Why: ErrDistrusted}
	}
	return nil
}

func (a Anchors) has(c *x509.Certificate) bool {
	for _, anchor := range a.Certificates {
		if anchor.Equal(c) {
			return true
		}
	}
	return false
}

// revoked looks for a certificate in the lists of its issuer.
func revoked(c, issuer *x509.Certificate, lists []*x509.RevocationList, at time.Time) error {
	var newest *x509.RevocationList
	for _, list := range lists {
		if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
			continue
		}
		if len(list.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId) {
			continue // by another of that name, whose key is another
		}
		// Whether the key usage has cRLSign is not looked at: makers' authorities sign lists
		// with keyCertSign alone.
		if issuer.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) != nil {
			return ErrList
		}
		for _, e := range list.Extensions {
			if e.Critical { // a delta, or one that covers a part only
				return ErrList
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
	if newest != nil && (at.Before(newest.ThisUpdate) || !at.Before(newest.NextUpdate)) { // also where it names no next one
		return ErrListStale
	}
	return nil
}

// ParseLists reads revocation lists, each in DER. The error is [ErrList].
func ParseLists(ders [][]byte) (lists []*x509.RevocationList, err error) {
	if len(ders) > MaxLists {
		return nil, ErrList
	}
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, ErrList
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// StrongKey reports whether a public key is one of RSA with 2,048 to 8,192 bits, or of P-256,
// P-384 or P-521.
func StrongKey(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSA && k.N.BitLen() <= maxRSA
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize >= 256
	}
	return false
}
