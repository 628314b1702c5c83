package server

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/vault/report"
)

// InUse is what a front goes by at the moment and can replace while it runs.
type InUse struct {
	Policy PolicyInUse
	TLS    TLSInUse
	Pages  *PagesInUse    // nil where no pages for phones are served
	Vault  *report.Report // nil where nothing is asked of Vault, or nothing known yet
}

// PolicyInUse is the policy.
type PolicyInUse struct {
	Digest   string // see policies.Policy.Digest
	LoadedAt time.Time
	Failed   FailedReload
}

// TLSInUse is the TLS identity.
type TLSInUse struct {
	Serial           string // of the certificate, hex
	NotAfter         time.Time
	LoadedAt         time.Time
	Authorities      int
	AuthoritiesUntil time.Time
	Failed           FailedReload
}

// PagesInUse is what phones meet that open the pages.
type PagesInUse struct {
	Serial   string // of the certificate, hex
	NotAfter time.Time
	LoadedAt time.Time
	Failed   FailedReload
}

// FailedReload is why the newest reload left the old in place. The zero value: it did not.
type FailedReload struct {
	At  time.Time
	Why string
}

func (p PolicyInUse) message() *keydv1.PolicyInUse {
	return &keydv1.PolicyInUse{Digest: p.Digest, LoadedAt: stamp(p.LoadedAt), LastFailure: p.Failed.message()}
}

func (t TLSInUse) message() *keydv1.TlsInUse {
	return &keydv1.TlsInUse{
		Serial: t.Serial, NotAfter: stamp(t.NotAfter), LoadedAt: stamp(t.LoadedAt),
		ClientAuthorities: uint32(t.Authorities), ClientAuthoritiesUntil: stamp(t.AuthoritiesUntil), LastFailure: t.Failed.message(),
	}
}

func (p *PagesInUse) message() *keydv1.PagesInUse {
	if p == nil {
		return nil
	}
	return &keydv1.PagesInUse{Serial: p.Serial, NotAfter: stamp(p.NotAfter), LoadedAt: stamp(p.LoadedAt), LastFailure: p.Failed.message()}
}

func (f FailedReload) message() *keydv1.FailedReload {
	if f.At.IsZero() {
		return nil
	}
	return &keydv1.FailedReload{At: stamp(f.At), Why: f.Why}
}

// stamp is nil for a time that is not known.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// vaultMessage is how Vault and its certificates stand.
func vaultMessage(r *report.Report) *keydv1.Vault {
	if r == nil {
		return nil
	}
	m := &keydv1.Vault{LookedAt: stamp(r.At), LoginUntil: stamp(r.LoginUntil), Problem: r.Problem}
	for _, c := range r.Certificates {
		m.Certificates = append(m.Certificates, &keydv1.VaultCertificate{
			Directory: c.Name, Server: c.Server, Serial: c.Serial, NotAfter: stamp(c.NotAfter), RenewAt: stamp(c.RenewAt), Problem: c.Problem,
		})
	}
	return m
}
