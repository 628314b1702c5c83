// Package injecting makes a development service ready to give terminals their keys: it does what
// operators and officers do by hand for a service in production, by the very same calls and
// ceremonies. The keys of the authorities that it makes lie in the service's directory.
package injecting

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
	"keyd/simulator"
	"keyd/terminals/keysetfile"
	"keyd/tr34"
)

// Where a development service has the authorities, below its directory.
const (
	MakerDir = "maker" // of terminals
	HostsDir = "hosts" // of key hosts
)

// renewBefore is how long before its end a certificate or a revocation list is made anew.
const renewBefore = 30 * 24 * time.Hour

// The key sets, as files.
var (
	//go:embed dev-aes.yaml
	aesSet []byte
	//go:embed dev-tdes.yaml
	tdesSet []byte
)

// host is a key host.
type host struct {
	name, what, algorithm string
	length                uint16 // bytes
}

var hosts = []host{
	{"kdh-ec", "for key agreement (P-521)", "E", 66},
	{"kdh-rsa", "for TR-34 (RSA-3072)", "R", 384},
}

// Officer signs as a development officer, and calls the service as the same identity.
type Officer struct {
	*officer.Client
	Conn grpc.ClientConnInterface
}

// Step is a thing that was done, or that was there.
type Step struct {
	What string `json:"what"`
	Done bool   `json:"done"` // now; else it was there
}

// preparation is one run.
type preparation struct {
	dir      string
	officers []Officer
	keys     keydv1.KeyServiceClient
	terminal keydv1.TerminalServiceClient
	steps    []Step
}

// Prepare makes the service in dir ready. officers are as many as its roster demands; the first
// is the operator too. What is there stays: a second run changes nothing.
func Prepare(ctx context.Context, dir string, officers []Officer) ([]Step, error) {
	if len(officers) == 0 {
		return nil, errors.New("there is no officer")
	}
	p := &preparation{dir: dir, officers: officers, keys: keydv1.NewKeyServiceClient(officers[0].Conn), terminal: keydv1.NewTerminalServiceClient(officers[0].Conn)}
	maker, err := p.authority(MakerDir, "keyd development maker of terminals", "P-384")
	if err != nil {
		return p.steps, err
	}
	operator, err := p.authority(HostsDir, "keyd development authority of hosts", "RSA-3072")
	if err != nil {
		return p.steps, err
	}
	for _, a := range []struct {
		authority *simulator.Authority
		use       string
	}{{maker, ceremony.UseTerminals}, {operator, ceremony.UseHosts}} {
		if err := p.trust(ctx, a.authority, a.use); err != nil {
			return p.steps, err
		}
	}
	for _, h := range hosts {
		if err := p.host(ctx, h, operator); err != nil {
			return p.steps, fmt.Errorf("key host %s: %w", h.name, err)
		}
	}
	for _, b := range supervisorKeys {
		if err := p.supervisorKey(ctx, b.name, b.algorithm); err != nil {
			return p.steps, fmt.Errorf("base derivation key %s: %w", b.name, err)
		}
	}
	for _, text := range [][]byte{aesSet, tdesSet} {
		if err := p.keySet(ctx, text); err != nil {
			return p.steps, err
		}
	}
	return p.steps, nil
}

func (p *preparation) step(done bool, format string, a ...any) {
	p.steps = append(p.steps, Step{fmt.Sprintf(format, a...), done})
}

func (p *preparation) authority(dir, name, algorithm string) (*simulator.Authority, error) {
	a, made, err := simulator.MakeAuthority(filepath.Join(p.dir, dir), name, algorithm)
	if err != nil {
		return nil, err
	}
	p.step(made, "authority %q in %s", name, filepath.Join(p.dir, dir))
	return a, nil
}

// trust has officers believe an authority.
func (p *preparation) trust(ctx context.Context, a *simulator.Authority, use string) error {
	list, err := keydv1.NewCeremonyServiceClient(p.officers[0].Conn).ListAuthorities(ctx, &keydv1.ListAuthoritiesRequest{})
	if err != nil {
		return err
	}
	print := ceremony.Digest(a.Certificate.Raw)
	there := slices.ContainsFunc(list.Authorities, func(one *keydv1.Authority) bool {
		return one.Fingerprint == print && slices.Contains(one.Uses, use)
	})
	if !there {
		authority, err := ceremony.ParseAuthority(a.Certificate.Raw, []string{use})
		if err != nil {
			return err
		}
		if err := p.ceremony(ctx, &ceremony.Definition{Kind: ceremony.Trust, Authority: authority}); err != nil {
			return fmt.Errorf("trust %s: %w", a.Certificate.Subject, err)
		}
	}
	p.step(!there, "officers believe %q for %s", a.Certificate.Subject.CommonName, use)
	return nil
}

// ceremony has the first officer begin, and as many approve as the roster demands.
func (p *preparation) ceremony(ctx context.Context, d *ceremony.Definition) error {
	d.ValidFor, d.Reason = int64(time.Hour/time.Second), "development"
	if err := d.Validate(); err != nil {
		return err
	}
	papers, err := p.officers[0].Begin(ctx, d)
	if err != nil {
		return err
	}
	id := papers.Opening.ID
	for _, o := range p.officers {
		if papers, err = o.Papers(ctx, id); err != nil {
			return err
		}
		if papers.Missing().Approvals == 0 {
			return nil
		}
		if papers, err = o.Approve(ctx, papers, ""); err != nil {
			return err
		}
	}
	if papers.Missing().Approvals > 0 {
		return fmt.Errorf("ceremony %s: the roster demands more officers than there are here", id)
	}
	return nil
}

// host makes a key pair, has it certified, and tells keyd.
func (p *preparation) host(ctx context.Context, h host, authority *simulator.Authority) error {
	made, err := p.pair(ctx, h.name, h.algorithm, h.length, "*")
	if err != nil {
		return err
	}
	p.step(made, "key pair %s %s, by a ceremony of officers", h.name, h.what)
	certificate, made, err := p.certificate(ctx, h, authority)
	if err != nil {
		return err
	}
	p.step(made, "certificate %s", filepath.Join(p.dir, HostsDir, h.name+".crt"))
	list, err := p.terminal.ListKeyHosts(ctx, &keydv1.ListKeyHostsRequest{})
	if err != nil {
		return err
	}
	there := slices.ContainsFunc(list.KeyHosts, func(k *keydv1.KeyHost) bool {
		return k.Name == h.name && len(k.Certificates) > 0 && bytes.Equal(k.Certificates[0], certificate.Raw) && lasts(k.RevocationList)
	})
	if !there {
		k := &keydv1.KeyHost{Name: h.name, KeyId: h.name, Certificates: [][]byte{certificate.Raw}}
		if k.RevocationList, err = authority.List(); err != nil {
			return err
		}
		if _, ok := certificate.PublicKey.(*rsa.PublicKey); ok {
			if k.CredentialToken, err = tr34.CredentialToken(certificate, k.RevocationList); err != nil {
				return err
			}
		}
		if _, err := p.terminal.SetKeyHost(ctx, &keydv1.SetKeyHostRequest{KeyHost: k}); err != nil {
			return err
		}
	}
	p.step(!there, "key host %s", h.name)
	return nil
}

func lasts(list []byte) bool {
	l, err := x509.ParseRevocationList(list)
	return err == nil && time.Until(l.NextUpdate) > renewBefore
}

// pair has officers make a key pair of usage S0 where there is none of its name.
func (p *preparation) pair(ctx context.Context, name, algorithm string, length uint16, peers ...string) (made bool, err error) {
	there, err := p.key(ctx, name)
	if err != nil || there != nil {
		return false, err
	}
	return true, p.create(ctx, &ceremony.KeySpec{Name: name, Version: 1, Usage: "S0", Algorithm: algorithm, Length: length, Mode: "S", Exportability: "N", Peers: peers})
}

func (p *preparation) create(ctx context.Context, k *ceremony.KeySpec) error {
	return p.ceremony(ctx, &ceremony.Definition{Kind: ceremony.Create, Key: k})
}

// key returns the key of a name, nil where there is none.
func (p *preparation) key(ctx context.Context, name string) (*keydv1.Key, error) {
	for token := ""; ; {
		page, err := p.keys.ListKeys(ctx, &keydv1.ListKeysRequest{NamePrefix: name, PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		if at := slices.IndexFunc(page.Keys, func(k *keydv1.Key) bool { return k.KeyId == name }); at >= 0 {
			return page.Keys[at], nil
		}
		if token = page.NextPageToken; token == "" {
			return nil, nil
		}
	}
}

// certificate returns that of a key pair, which is made of the pair's request where there is none.
func (p *preparation) certificate(ctx context.Context, h host, authority *simulator.Authority) (_ *x509.Certificate, made bool, err error) {
	answer, err := p.keys.GetCertificateSigningRequest(ctx, &keydv1.GetCertificateSigningRequestRequest{
		KeyId: h.name, CertificateSubject: &keydv1.CertificateSubject{CommonName: "KDH " + h.name, Organization: "keyd development"},
	})
	if err != nil {
		return nil, false, err
	}
	request := []byte(answer.CertificateSigningRequest)
	path := filepath.Join(p.dir, HostsDir, h.name+".crt")
	there, err := readCertificate(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if err == nil && time.Until(there.NotAfter) > renewBefore && sameKey(there, request) {
		return there, false, nil
	}
	der, err := authority.Host(request)
	if err != nil {
		return nil, false, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, false, err
	}
	return c, true, simulator.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate: remove it to have it made anew", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

func sameKey(c *x509.Certificate, request []byte) bool {
	block, _ := pem.Decode(request)
	if block == nil {
		return false
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	return err == nil && bytes.Equal(r.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
}

func (p *preparation) keySet(ctx context.Context, text []byte) error {
	set, err := keysetfile.Parse(text)
	if err != nil {
		return err
	}
	list, err := p.terminal.ListKeySets(ctx, &keydv1.ListKeySetsRequest{})
	if err != nil {
		return err
	}
	before := uint32(0)
	for _, s := range list.KeySets {
		if s.Name == set.Name {
			before = s.Version
		}
	}
	now, err := p.terminal.SetKeySet(ctx, &keydv1.SetKeySetRequest{KeySet: set})
	if err != nil {
		return fmt.Errorf("key set %s: %w", set.Name, err)
	}
	p.step(now.Version != before, "key set %s, version %d", set.Name, now.Version)
	return nil
}
