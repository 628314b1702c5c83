package injection

import (
	"crypto/x509"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/token"
	"keyd/tr34"
)

// Binding is about a device that is to forget its host, or to get another (TR-34).
type Binding struct {
	Host         hsm.Key
	Certificates []*x509.Certificate // the host's, its own first
	Device       ledger.Device
	Chain        []*x509.Certificate // the device's
	Random       []byte
	Profile      tr34.Profile
	NewHost      []*x509.Certificate // the other host's; none: the device only forgets this one
	List         []byte              // revocation list of the hosts' authority in DER
}

// Binding makes the token. Another host is one whose certificate ends at an authority that officers
// believe for hosts. Errors are as those of [Engine.Token].
func (e *Engine) Binding(s *token.Session, b *Binding) ([]byte, error) {
	if _, err := rsaKey(b.Chain, "device"); err != nil {
		return nil, err
	}
	if _, err := rsaKey(b.Certificates, "host"); err != nil {
		return nil, err
	}
	epoch, now, err := e.believe(b.Device, b.Chain, sends)
	if err != nil {
		return nil, err
	}
	good := verified{device: b.Chain[0]}
	if len(b.NewHost) > 0 {
		if _, err := rsaKey(b.NewHost, "other host"); err != nil {
			return nil, err
		}
		if b.List == nil {
			return nil, fault.New(fault.RequestInvalid, "another host needs the revocation list of the hosts' authority")
		}
		list, err := x509.ParseRevocationList(b.List)
		if err != nil {
			return nil, tr34.ErrCRL
		}
		anchors, err := epoch.Anchors(ceremony.UseHosts, now)
		if err != nil {
			return nil, err
		}
		if err := anchors.VerifyHost(b.NewHost, x509.KeyUsageDigitalSignature, []*x509.RevocationList{list}, now); err != nil {
			return nil, err
		}
		good.host = b.NewHost[0]
	}
	_, pair, err := e.host(s, b.Host, b.Certificates)
	if err != nil {
		return nil, err
	}
	host := tr34Host(s.Signer(pair), b.Certificates[0], good, b.Profile)
	to := tr34.Recipient{Device: b.Chain[0], Now: now}
	fresh := tr34.Freshness{Random: b.Random, CRL: b.List}
	if good.host == nil {
		return host.UnbindToken(to, fresh)
	}
	return host.RebindToken(to, good.host, fresh)
}
