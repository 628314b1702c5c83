package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
)

// TLSFiles are the files of the server's side of mutual TLS, all in PEM.
type TLSFiles struct {
	Certificate string // the server's chain, leaf first
	Key         string // its private key; no other user may read it
	ClientCA    string // the authorities whose clients are let in
}

// maxPEM bounds each of the files, in bytes.
const maxPEM = 1 << 20

// LoadTLS reads the files. The result accepts TLS 1.3 (RFC 8446) only, and only clients
// with a certificate for client authentication that leads to one of the authorities.
// Sessions are not resumed: every connection proves its certificate anew.
//
// Errors name the file and what is wrong with it; they hold nothing of a key.
func LoadTLS(files TLSFiles) (*tls.Config, error) {
	chain, err := readPEM(files.Certificate, 0)
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	key, err := readPEM(files.Key, 0o027)
	if err != nil {
		return nil, fmt.Errorf("server key: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	clear(key)
	if err != nil {
		return nil, fmt.Errorf("server certificate %s and key %s: %w", files.Certificate, files.Key, err)
	}
	authorities, err := readPEM(files.ClientCA, 0)
	if err != nil {
		return nil, fmt.Errorf("client authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("client authorities: %s holds no certificate", files.ClientCA)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{pair},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              pool,
		SessionTicketsDisabled: true,
	}, nil
}

// readPEM reads a file that none of the permissions in forbidden is given for.
func readPEM(path string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only: nothing is lost with it
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so other users may read or change it; run chmod 600 on it", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("%s is too large for what it should hold", path)
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
