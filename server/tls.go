package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// TLSFiles are the files of the server's side of mutual TLS, all in PEM.
type TLSFiles struct {
	Certificate string // the server's chain, leaf first
	Key         string // its private key; no other user may read it
	ClientCA    string // the authorities whose clients are let in
}

// maxPEM bounds each of the files, in bytes.
const maxPEM = 1 << 20

// LoadTLS opens the files and reads them, see [ReadTLS].
func LoadTLS(files TLSFiles) (*TLSIdentity, error) {
	var open OpenTLSFiles
	defer open.Close()
	for _, f := range []struct {
		what, path string
		file       **os.File
	}{
		{"server certificate", files.Certificate, &open.Certificate},
		{"server key", files.Key, &open.Key},
		{"client authorities", files.ClientCA, &open.ClientCA},
	} {
		var err error
		if *f.file, err = os.Open(f.path); err != nil {
			return nil, fmt.Errorf("%s: %w", f.what, err)
		}
	}
	return ReadTLS(open)
}

// OpenTLSFiles are [TLSFiles] that have been opened.
type OpenTLSFiles struct{ Certificate, Key, ClientCA *os.File }

// Close closes the files.
func (o OpenTLSFiles) Close() {
	for _, f := range []*os.File{o.Certificate, o.Key, o.ClientCA} {
		if f != nil {
			_ = f.Close() // read only: nothing is lost with it
		}
	}
}

// TLSIdentity is what the files hold: the configuration for [Config] and [Server.SetTLS],
// and what an operator wants to know of it.
type TLSIdentity struct {
	Config *tls.Config

	Serial           string // of the server's certificate, lower-case hex
	NotBefore        time.Time
	NotAfter         time.Time
	Authorities      int       // client authorities
	AuthoritiesUntil time.Time // when the first of them expires
}

// CheckTime refuses a certificate that is not valid yet, or no longer.
func (i *TLSIdentity) CheckTime(now time.Time) error {
	switch {
	case now.Before(i.NotBefore):
		return fmt.Errorf("the server certificate is not valid before %s", i.NotBefore.UTC().Format(time.RFC3339))
	case now.After(i.NotAfter):
		return fmt.Errorf("the server certificate expired at %s", i.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// ReadTLS reads the files, and does not close them. The result accepts TLS 1.3 (RFC 8446)
// only, and only clients with a certificate for client authentication that leads to one of
// the authorities. Sessions are not resumed: every connection proves its certificate anew.
//
// Errors name the file and what is wrong with it; they hold nothing of a key.
func ReadTLS(files OpenTLSFiles) (*TLSIdentity, error) {
	pair, err := readPair(files.Certificate, files.Key)
	if err != nil {
		return nil, err
	}
	authorities, err := readPEM(files.ClientCA, 0)
	if err != nil {
		return nil, fmt.Errorf("client authorities: %w", err)
	}
	pool, list := x509.NewCertPool(), certificatesIn(authorities)
	if len(list) == 0 {
		return nil, fmt.Errorf("client authorities: %s holds no certificate", files.ClientCA.Name())
	}
	identity := &TLSIdentity{
		Serial: pair.Leaf.SerialNumber.Text(16), NotBefore: pair.Leaf.NotBefore, NotAfter: pair.Leaf.NotAfter,
		Authorities: len(list), AuthoritiesUntil: list[0].NotAfter,
	}
	for _, c := range list {
		pool.AddCert(c)
		if c.NotAfter.Before(identity.AuthoritiesUntil) {
			identity.AuthoritiesUntil = c.NotAfter
		}
	}
	identity.Config = &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{pair},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool,
		SessionTicketsDisabled: true,
	}
	return identity, nil
}

// readPair reads a server's certificate and key.
func readPair(certificate, private *os.File) (pair tls.Certificate, err error) {
	chain, err := readPEM(certificate, 0)
	if err != nil {
		return pair, fmt.Errorf("server certificate: %w", err)
	}
	key, err := readPEM(private, 0o027)
	if err != nil {
		return pair, fmt.Errorf("server key: %w", err)
	}
	pair, err = tls.X509KeyPair(chain, key)
	clear(key)
	if err != nil {
		return pair, fmt.Errorf("server certificate %s and key %s: %w", certificate.Name(), private.Name(), err)
	}
	if err := checkPurpose(pair.Leaf); err != nil {
		return pair, fmt.Errorf("server certificate %s: %w", certificate.Name(), err)
	}
	return pair, nil
}

// checkPurpose refuses a certificate that every client would refuse.
func checkPurpose(c *x509.Certificate) error {
	restricted := len(c.ExtKeyUsage) > 0 || len(c.UnknownExtKeyUsage) > 0
	switch {
	case restricted && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("it is not for servers: its extended key usage lacks serverAuth")
	case len(c.DNSNames) == 0 && len(c.IPAddresses) == 0:
		return errors.New("it names no host: its subject alternative names have neither a DNS name nor an IP address")
	}
	return nil
}

// certificatesIn returns the certificates of a PEM file; what is none is passed over, as
// x509.CertPool does.
func certificatesIn(b []byte) (list []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return list
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
}

// readPEM reads a file that none of the permissions in forbidden is given for.
func readPEM(f *os.File, forbidden os.FileMode) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file but a directory or the like", f.Name())
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so other users may read or change it; run chmod 600 on it", f.Name(), mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is too large for what it should hold", f.Name())
	}
	return b, nil
}

// checkTLS refuses a configuration that would let in more than [LoadTLS]'s does.
func checkTLS(c *tls.Config) error {
	switch {
	case c == nil:
		return errors.New("no TLS configuration")
	case c.MinVersion < tls.VersionTLS13 || c.ClientAuth != tls.RequireAndVerifyClientCert || c.ClientCAs == nil ||
		!c.SessionTicketsDisabled || c.InsecureSkipVerify || c.GetConfigForClient != nil:
		return errors.New("the TLS configuration is not one of mutual TLS 1.3; make it with LoadTLS")
	}
	return nil
}
