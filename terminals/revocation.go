package terminals

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/store"
	"keyd/trust"
)

// RevocationList is the newest revocation list of an issuer, without the list itself.
type RevocationList = store.RevocationList

// MaxRevocationList is the size of the largest list, in bytes.
const MaxRevocationList = store.MaxRevocationList

// revocations are the lists in force, parsed. The database is asked each time which they are, so
// that every front on it goes by the same.
type revocations struct {
	store store.KeySets

	loading chan struct{} // has room for who reads a list: one is large, and many ask at once

	mu     sync.Mutex
	parsed map[[sha256.Size]byte]*revoked // by the issuer's public key
}

// revoked is a list that was parsed.
type revoked struct {
	digest  []byte
	serials map[string]bool // as bytes
	until   time.Time
}

// check refuses a chain, one of whose certificates is revoked by its issuer, or whose issuer has
// a list that is not valid any more: such a list still revokes what it names, and is not enough
// to say that others are good.
func (v *revocations) check(ctx context.Context, chain, anchors []*x509.Certificate, now time.Time) error {
	lists, err := v.store.RevocationLists(ctx)
	if err != nil {
		return refused(ctx, err)
	}
	if len(lists) == 0 {
		return nil
	}
	issuers := append(slices.Clone(chain[1:]), anchors...)
	stale := false
	for place, c := range chain {
		for _, issuer := range issuers {
			if !bytes.Equal(issuer.RawSubject, c.RawIssuer) {
				continue
			}
			key := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
			at := slices.IndexFunc(lists, func(l store.RevocationList) bool { return bytes.Equal(l.IssuerKey, key[:]) })
			if at < 0 || issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
				continue
			}
			list, err := v.list(ctx, &lists[at])
			if err != nil {
				return err
			}
			if list.serials[serial(c.SerialNumber)] {
				return trust.Refusal(&trust.Error{Place: place, Why: trust.ErrRevoked})
			}
			stale = stale || !now.Before(list.until)
		}
	}
	if stale {
		return trust.Refusal(trust.ErrListStale)
	}
	return nil
}

// list returns a list parsed, from memory where it is the same.
func (v *revocations) list(ctx context.Context, l *store.RevocationList) (*revoked, error) {
	key := [sha256.Size]byte(l.IssuerKey)
	if found := v.remembered(key, l.Digest); found != nil {
		return found, nil
	}
	select {
	case v.loading <- struct{}{}:
		defer func() { <-v.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if found := v.remembered(key, l.Digest); found != nil { // by whom this has waited for
		return found, nil
	}
	whole, err := v.store.RevocationList(ctx, l.IssuerKey)
	if err != nil {
		return nil, refused(ctx, err) // also where it went meanwhile: none ever does
	}
	parsed, err := parseList(whole.List)
	if digest := sha256.Sum256(whole.List); err != nil || !bytes.Equal(digest[:], whole.Digest) {
		return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("revocation list of %x: %w", key[:8], store.ErrCorrupt))
	}
	found := &revoked{digest: whole.Digest, serials: make(map[string]bool, len(parsed.RevokedCertificateEntries)), until: parsed.NextUpdate}
	for _, e := range parsed.RevokedCertificateEntries {
		found.serials[serial(e.SerialNumber)] = true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.parsed == nil {
		v.parsed = make(map[[sha256.Size]byte]*revoked)
	}
	v.parsed[key] = found
	return found, nil
}

// remembered returns the list of an issuer with that digest, nil where it was not parsed.
func (v *revocations) remembered(key [sha256.Size]byte, digest []byte) *revoked {
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.parsed[key]; found != nil && bytes.Equal(found.digest, digest) {
		return found
	}
	return nil
}

func serial(n *big.Int) string {
	if n == nil {
		return ""
	}
	return string(n.Bytes())
}

// verify is verify with the revocation lists in force.
func (v *Inventory) verify(ctx context.Context, ders [][]byte, now time.Time) (*verified, error) {
	checked, err := verify(ders, v.authorities, now)
	if err != nil {
		return nil, err
	}
	chain, err := parse(ders)
	if err != nil {
		return nil, err
	}
	anchors, err := v.authorities.Anchors(ceremony.UseTerminals)
	if err != nil {
		return nil, err
	}
	if err := v.revocations.check(ctx, chain, anchors.Certificates, now); err != nil {
		return nil, err
	}
	return checked, nil
}

// parseList reads a list that says everything by itself: one that covers a part, or changes
// another, has an extension that must be understood. Errors are those of package trust.
func parseList(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.Raw) != len(der) {
		return nil, trust.ErrList
	}
	for _, e := range list.Extensions {
		if e.Critical {
			return nil, trust.ErrList
		}
	}
	for _, entry := range list.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical {
				return nil, trust.ErrList
			}
		}
	}
	return list, nil
}

// SetList keeps the newest revocation list of an issuer: of an authority that is believed for
// terminals, or of one whose certificate comes first in issuers, with those above it. The very
// same list again changes nothing.
//
// Its refusals are those of certificates, and [fault.Conflict] for a list that is not newer than
// the one that is there.
func (d *Distribution) SetList(ctx context.Context, der []byte, issuers [][]byte) (*RevocationList, error) {
	if len(der) == 0 || len(der) > MaxRevocationList {
		return nil, fault.New(fault.RequestInvalid, "a revocation list has 1 byte to 8 MiB")
	}
	list, err := parseList(der)
	if err != nil {
		return nil, trust.Refusal(err)
	}
	now := d.inventory.now()
	switch {
	case list.NextUpdate.IsZero() || !list.NextUpdate.After(list.ThisUpdate):
		return nil, invalid("the revocation list does not say when the next one comes (nextUpdate)")
	case !now.Before(list.NextUpdate) || list.ThisUpdate.After(now.Add(clockSkew)):
		return nil, invalid("the revocation list is not valid now: get the newest")
	}
	issuer, err := d.issuerOf(list, issuers, now)
	if err != nil {
		return nil, err
	}
	key, digest := sha256.Sum256(issuer.RawSubjectPublicKeyInfo), sha256.Sum256(der)
	there, err := d.store.RevocationList(ctx, key[:])
	var before []byte
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return nil, refused(ctx, err)
	case bytes.Equal(there.Digest, digest[:]):
		there.List = nil
		return &there, nil
	default:
		before = there.Digest
		if !newer(list, &there) {
			return nil, fault.New(fault.Conflict, "a revocation list of this issuer is there that is as new or newer")
		}
	}
	l := store.RevocationList{
		IssuerKey: key[:], Issuer: name(issuer), Entries: uint32(len(list.RevokedCertificateEntries)), ThisUpdate: list.ThisUpdate.UTC(), NextUpdate: list.NextUpdate.UTC(),
		Digest: digest[:], Issuers: slices.Concat(issuers...), List: der, StoredAt: now,
	}
	if list.Number != nil {
		l.Number = list.Number.String()
	}
	switch err := d.store.SetRevocationList(ctx, l, before); {
	case errors.Is(err, store.ErrConflict):
		return nil, fault.New(fault.Conflict, "another list of this issuer came at the same moment: look which is there")
	case errors.Is(err, store.ErrInvalid):
		return nil, invalid("the revocation list, or the name of its issuer, is larger than lists are, or there are %d already", store.MaxRevocationLists)
	case err != nil:
		return nil, refused(ctx, err)
	}
	l.List = nil
	return &l, nil
}

// clockSkew is how far an issuer's clock may be ahead.
const clockSkew = 5 * time.Minute

// newer reports whether a list came after the one that is kept.
func newer(list *x509.RevocationList, there *store.RevocationList) bool {
	if !list.ThisUpdate.After(there.ThisUpdate) {
		return false
	}
	before, ok := new(big.Int).SetString(there.Number, 10)
	return !ok || list.Number != nil && list.Number.Cmp(before) > 0
}

// issuerOf returns the certificate of who signed a list: an authority for terminals, or the first
// of issuers.
func (d *Distribution) issuerOf(list *x509.RevocationList, issuers [][]byte, now time.Time) (*x509.Certificate, error) {
	anchors, err := d.inventory.authorities.Anchors(ceremony.UseTerminals)
	if err != nil {
		return nil, err
	}
	candidates := anchors.Certificates
	if len(issuers) > 0 {
		chain, err := parse(issuers)
		if err != nil {
			return nil, err
		}
		if err := d.believed(anchors, chain, now); err != nil {
			return nil, trust.Refusal(err)
		}
		candidates = chain[:1]
	}
	for _, c := range candidates {
		if bytes.Equal(c.RawSubject, list.RawIssuer) && (len(list.AuthorityKeyId) == 0 || len(c.SubjectKeyId) == 0 || bytes.Equal(list.AuthorityKeyId, c.SubjectKeyId)) &&
			c.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature) == nil {
			return c, nil
		}
	}
	return nil, fault.New(fault.CertificateUntrusted, "the revocation list is signed neither by an authority that is believed for terminals nor by the issuer whose certificate came along")
}

// believed refuses an issuer's certificate that does not end at an authority for terminals. It is
// what [trust.Anchors.Verify] does for devices, whose certificates are none of an authority.
func (d *Distribution) believed(anchors trust.Anchors, chain []*x509.Certificate, now time.Time) error {
	for place, c := range chain {
		switch {
		case !trust.StrongKey(c.PublicKey):
			return &trust.Error{Place: place, Why: trust.ErrKey}
		case len(c.UnhandledCriticalExtensions) > 0:
			return &trust.Error{Place: place, Why: trust.ErrCritical}
		case now.Before(c.NotBefore):
			return &trust.Error{Place: place, Why: trust.ErrNotYet}
		case now.After(c.NotAfter):
			return &trust.Error{Place: place, Why: trust.ErrExpired}
		case anchors.Distrusted != nil && anchors.Distrusted(c):
			return &trust.Error{Place: place, Why: trust.ErrDistrusted}
		}
	}
	if c := chain[0]; !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) == 0 {
		return &trust.Error{Why: trust.ErrUsage}
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range anchors.Certificates {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	switch _, err := chain[0].Verify(options); {
	case err == nil:
		return nil
	case len(anchors.Certificates) == 0:
		return trust.ErrNobody
	}
	return trust.ErrForeign
}

// Lists returns the lists in force, without the lists themselves.
func (d *Distribution) Lists(ctx context.Context) ([]RevocationList, error) {
	lists, err := d.store.RevocationLists(ctx)
	if err != nil {
		return nil, refused(ctx, err)
	}
	return lists, nil
}

// name is a certificate's subject for people.
func name(c *x509.Certificate) string {
	return shortened(strings.Map(func(r rune) rune {
		if !printable(string(r)) {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(c.Subject.String(), "\uFFFD")))
}
