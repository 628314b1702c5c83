package simulator

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyd/tr34"
)

// ErrHost is returned for a host that the device does not believe.
var ErrHost = errors.New("the terminal does not believe this key host")

// Bind checks a host's certificates (its own first, in DER) and the revocation list of its
// authority (empty: none), as keyd's GetKeyHost returns them. With token, CT_KDH of TR-34, the
// device is bound to that host from then on: no other's token counts before it is unbound. The
// same host may come again, with a newer list.
func (d *Device) Bind(certificates [][]byte, list, token []byte) error {
	return d.update(func(s *deviceState) error {
		if len(list) > 0 {
			if err := s.keepLists([][]byte{list}); err != nil {
				return err
			}
		}
		chain, err := parseAll(certificates)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHost, err)
		}
		if err := s.believe(chain, time.Now()); err != nil {
			return err
		}
		if len(token) == 0 {
			return nil
		}
		anchors, err := s.tr34Trust()
		if err != nil {
			return err
		}
		now := time.Now()
		credential, err := anchors.OpenCredential(token, tr34.HostRole, s.Lists, now)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrHost, err)
		}
		switch {
		case !credential.Certificate.Equal(chain[0]):
			return fmt.Errorf("%w: its credential token is of another certificate", ErrHost)
		case s.Host != nil && !bytes.Equal(s.Host, credential.Certificate.Raw):
			return errors.New("the terminal is bound to another key host: it has to be unbound or rebound first (keyd terminal simulate unbind, rebind)")
		case s.Host == nil:
			s.bindTo(credential.Certificate, now)
		}
		return s.keepLists(credential.CRLs)
	})
}

// bindTo has only that host's tokens count. The second before it is taken for the last stamp: a
// token of the same second is newer.
func (s *deviceState) bindTo(host *x509.Certificate, now time.Time) {
	s.Host, s.OnePass = host.Raw, now.Unix()-1
}

// believe checks a host's certificates against the device's authorities and lists. A list that
// has expired still revokes.
func (s *deviceState) believe(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return fmt.Errorf("%w: it shows no certificate", ErrHost)
	}
	if len(s.Authorities) == 0 {
		return fmt.Errorf("%w: it has no authority of hosts (--hosts-ca)", ErrHost)
	}
	authorities, err := parseAll(s.Authorities)
	if err != nil {
		return err
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range authorities {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	host := chain[0]
	switch {
	case host.IsCA:
		return fmt.Errorf("%w: its certificate is an authority's", ErrHost)
	case host.KeyUsage != 0 && host.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("%w: its certificate is not for signing", ErrHost)
	}
	paths, err := host.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHost, err)
	}
	lists, err := s.parseLists()
	if err != nil {
		return err
	}
	for _, path := range paths {
		for i := range len(path) - 1 {
			for _, list := range lists {
				if bytes.Equal(list.RawIssuer, path[i+1].RawSubject) && revokes(list, path[i]) {
					return fmt.Errorf("%w: its certificate, or an issuer's, is revoked", ErrHost)
				}
			}
		}
	}
	return nil
}

func revokes(list *x509.RevocationList, c *x509.Certificate) bool {
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(c.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// keepLists keeps the newest list of each authority that the device believes. Others are of no
// use to it.
func (s *deviceState) keepLists(ders [][]byte) error {
	for _, der := range ders {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("%w: its revocation list cannot be read", ErrHost)
		}
		if err := s.keepList(list); err != nil {
			return err
		}
	}
	return nil
}

func (s *deviceState) keepList(list *x509.RevocationList) error {
	authorities, err := parseAll(s.Authorities)
	if err != nil {
		return err
	}
	for _, a := range authorities {
		if !bytes.Equal(a.RawSubject, list.RawIssuer) {
			continue
		}
		if list.CheckSignatureFrom(a) != nil {
			return fmt.Errorf("%w: its revocation list is not signed by its authority", ErrHost)
		}
		kept, err := s.parseLists()
		if err != nil {
			return err
		}
		for i, old := range kept {
			if bytes.Equal(old.RawIssuer, list.RawIssuer) {
				if list.ThisUpdate.After(old.ThisUpdate) {
					s.Lists[i] = list.Raw
				}
				return nil
			}
		}
		s.Lists = append(s.Lists, list.Raw)
		return nil
	}
	return nil
}

func (s *deviceState) parseLists() (lists []*x509.RevocationList, err error) {
	for _, der := range s.Lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, err
		}
		lists = append(lists, list)
	}
	return lists, nil
}

// tr34Trust are the device's authorities as TR-34 has them: RSA, and of hosts alone.
func (s *deviceState) tr34Trust() (*tr34.Trust, error) {
	authorities, err := parseAll(s.Authorities)
	if err != nil {
		return nil, err
	}
	t := new(tr34.Trust)
	for _, c := range authorities {
		if _, ok := c.PublicKey.(*rsa.PublicKey); ok {
			t.Roots, t.HostCAs = append(t.Roots, c), append(t.HostCAs, c)
		}
	}
	if len(t.Roots) == 0 {
		return nil, fmt.Errorf("%w: TR-34 takes an authority of hosts with an RSA key, and it has none (--hosts-ca)", ErrHost)
	}
	return t, nil
}

// tr34Device is the device's side of TR-34, which takes an RSA key pair.
func (s *deviceState) tr34Device() (*tr34.Device, error) {
	key, err := s.privateKey()
	if err != nil {
		return nil, err
	}
	pair, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("TR-34 takes a terminal with an RSA key pair: make one with --algorithm RSA-3072, or get keys by key agreement")
	}
	if len(s.Certificates) == 0 {
		return nil, errNoCertificate
	}
	own, err := x509.ParseCertificate(s.Certificates[0])
	if err != nil {
		return nil, err
	}
	anchors, err := s.tr34Trust()
	if err != nil {
		return nil, err
	}
	profile, err := profileNamed(s.Profile)
	if err != nil {
		return nil, err
	}
	return &tr34.Device{Certificate: own, Decrypt: tr34.RSADecrypt(pair), Trust: anchors, Profile: profile}, nil
}

// expectation is what the device knows when a token comes.
func (s *deviceState) expectation(now time.Time) (tr34.Expectation, error) {
	if s.Host == nil {
		return tr34.Expectation{}, errors.New("the terminal is bound to no key host: keyd terminal simulate bind")
	}
	host, err := x509.ParseCertificate(s.Host)
	return tr34.Expectation{Host: host, CRLs: s.Lists, Now: now}, err
}

func profileNamed(name string) (tr34.Profile, error) {
	if name == "" {
		return tr34.Profile{}, nil
	}
	p, ok := tr34.ProfileNamed(name)
	if !ok {
		return p, fmt.Errorf("%q is no profile of TR-34: it is one of %s", name, strings.Join(tr34.ProfileNames(), ", "))
	}
	return p, nil
}
