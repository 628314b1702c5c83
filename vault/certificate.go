package vault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// pair is a certificate chain and its private key, in PEM.
type pair struct {
	leaf       *x509.Certificate
	chain, key []byte
}

// clockSlack is how far Vault's clock may be from this machine's.
const clockSlack = 5 * time.Minute

// request makes a key and has Vault sign a certificate for it. Only the signing request
// leaves this machine. What comes back is checked against what was asked for: a Vault that
// was taken over or set up wrongly gets nothing else into use.
func (c *client) request(ctx context.Context, want Certificate) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := signingRequest(want, key)
	if err != nil {
		return nil, err
	}
	path := want.Mount + "/sign/" + want.Role
	doing := "have a certificate signed at " + path
	answer, err := c.api.Logical().WriteWithContext(ctx, path, map[string]any{
		"csr":                  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		"common_name":          want.CommonName,
		"alt_names":            strings.Join(want.DNSNames, ","),
		"ip_sans":              strings.Join(want.Addresses, ","),
		"uri_sans":             strings.Join(want.URIs, ","),
		"exclude_cn_from_sans": true,
		"ttl":                  fmt.Sprintf("%ds", int(want.TTL/time.Second)),
		"format":               "pem",
	})
	switch {
	case err == nil:
	case status(err) == 400:
		return nil, refused("%s: the role does not allow what vault.certificates asks for: %s", doing, c.said(err))
	default:
		return nil, c.explain(doing, "update on "+path, err)
	}
	leaf, chain, err := certificates(answer)
	if err != nil {
		return nil, refused("%s: %v", doing, err)
	}
	roots, err := authorities("vault.certificates.authority", want.Authority)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if err := fits(want, leaf, chain, roots, &key.PublicKey, now); err != nil {
		return nil, refused("%s: what Vault signed is not used: %v", doing, err)
	}
	if asked := now.Add(want.TTL); leaf.NotAfter.Before(now.Add(want.TTL / 2)) {
		return nil, refused("%s: what Vault signed is not used: it ends at %s and not at %s: raise max_ttl of the role or the mount, or lower ttl", doing, at(leaf.NotAfter), at(asked))
	}
	p := &pair{leaf: leaf}
	for _, certificate := range append([]*x509.Certificate{leaf}, chain...) {
		p.chain = append(p.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	p.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	clear(der)
	return p, nil
}

func at(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

func signingRequest(want Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: want.CommonName}, DNSNames: want.DNSNames}
	for _, a := range want.Addresses {
		parsed, err := netip.ParseAddr(a)
		if err != nil {
			return nil, refused("%q is no IP address", a)
		}
		template.IPAddresses = append(template.IPAddresses, net.IP(parsed.AsSlice()))
	}
	for _, text := range want.URIs {
		u, err := url.Parse(text)
		if err != nil {
			return nil, refused("%q is no URI", text)
		}
		template.URIs = append(template.URIs, u)
	}
	return x509.CreateCertificateRequest(rand.Reader, template, key)
}

// maxChain bounds the certificates of a chain.
const maxChain = 8

// certificates takes the leaf and those above it, but no root, from an answer.
func certificates(answer *api.Secret) (leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	own, err := text(answer, "certificate")
	if err != nil {
		return nil, nil, err
	}
	if leaf, err = parseOne(own); err != nil {
		return nil, nil, err
	}
	above, _ := answer.Data["ca_chain"].([]any)
	if issuer, err := text(answer, "issuing_ca"); err == nil && len(above) == 0 {
		above = []any{issuer}
	}
	if len(above) > maxChain {
		return nil, nil, errors.New("the chain is too long")
	}
	for _, entry := range above {
		encoded, _ := entry.(string)
		parsed, err := parseOne(encoded)
		if err != nil {
			return nil, nil, err
		}
		if !bytes.Equal(parsed.RawSubject, parsed.RawIssuer) { // clients have the root
			chain = append(chain, parsed)
		}
	}
	return leaf, chain, nil
}

func parseOne(encoded string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(encoded))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("what should be a certificate is none in PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("what should be a certificate is none")
	}
	return c, nil
}

// fits says why a certificate is not what was asked for: a new one, for that key, or one
// that lies on the disk, for the key beside it (nil).
func fits(want Certificate, leaf *x509.Certificate, chain []*x509.Certificate, roots *x509.CertPool, key *ecdsa.PublicKey, now time.Time) error {
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key != nil && !public.Equal(key):
		return errors.New("it is for another key")
	case leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0:
		return errors.New("it is an authority's")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("it is not for signatures, which TLS needs: key_usage of the role lacks DigitalSignature")
	case leaf.Subject.CommonName != want.CommonName:
		return errors.New("its common name is another one")
	case leaf.NotBefore.After(now.Add(clockSlack)):
		return fmt.Errorf("it is not valid before %s: is the clock of one of the two machines wrong?", at(leaf.NotBefore))
	case !now.Before(leaf.NotAfter):
		return fmt.Errorf("it ended at %s", at(leaf.NotAfter))
	case leaf.NotAfter.After(now.Add(want.TTL + clockSlack)):
		return fmt.Errorf("it ends at %s, later than was asked for", at(leaf.NotAfter))
	}
	if err := sameNames(want, leaf); err != nil {
		return err
	}
	use, name := x509.ExtKeyUsageClientAuth, "client_flag"
	if want.Server {
		use, name = x509.ExtKeyUsageServerAuth, "server_flag"
	}
	if !slices.Contains(leaf.ExtKeyUsage, use) {
		return fmt.Errorf("it is not for what it is used for: the role lacks %s", name)
	}
	between := x509.NewCertPool()
	for _, c := range chain {
		between.AddCert(c)
	}
	// A clock that is a little behind must not refuse what was just made.
	moment := now
	if moment.Before(leaf.NotBefore) {
		moment = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: moment, KeyUsages: []x509.ExtKeyUsage{use}})
	if err != nil {
		return fmt.Errorf("it does not lead to the authorities in %s", want.Authority)
	}
	return nil
}

// sameNames wants exactly the names that were asked for.
func sameNames(want Certificate, leaf *x509.Certificate) error {
	var addresses, uris []string
	for _, ip := range leaf.IPAddresses {
		a, _ := netip.AddrFromSlice(ip)
		addresses = append(addresses, a.Unmap().String())
	}
	for _, u := range leaf.URIs {
		uris = append(uris, u.String())
	}
	var wanted []string
	for _, text := range want.Addresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		wanted = append(wanted, a.Unmap().String())
	}
	for _, names := range []struct {
		kind      string
		got, want []string
	}{{"DNS names", leaf.DNSNames, want.DNSNames}, {"IP addresses", addresses, wanted}, {"URIs", uris, want.URIs}, {"e-mail addresses", leaf.EmailAddresses, nil}} {
		if !sameSet(names.got, names.want) {
			return fmt.Errorf("its %s are not those that were asked for", names.kind)
		}
	}
	return nil
}

func sameSet(a, b []string) bool {
	tidy := func(list []string) []string {
		var out []string
		for _, s := range list {
			out = append(out, strings.ToLower(s))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	return slices.Equal(tidy(a), tidy(b))
}

// renewAt is when a certificate is to be renewed: before two thirds of its time are over, and
// not at the same moment as those of other hosts.
func renewAt(leaf *x509.Certificate) time.Time {
	sum := sha256.Sum256(leaf.Raw)
	jitter := float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32) / 10
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(time.Duration(float64(life) * (2.0/3 - jitter)))
}
