package development

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// TrustDomain is the SPIFFE trust domain of development identities.
const TrustDomain = "dev.keyd"

// Identities are the clients that get a certificate, by their file names in certs/.
var Identities = []string{"switch", "officer-1", "officer-2", "officer-3", "terminal-1", "auditor"}

// SwitchServer is the certificate with which a switch serves terminals, by its file name in certs/.
const SwitchServer = "switch-server"

const (
	caValidity   = 10 * 365 * 24 * time.Hour
	leafValidity = 365 * 24 * time.Hour
	renewBefore  = 30 * 24 * time.Hour
)

// authority is the development CA. Its key stays in the service's directory.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// openAuthority reads the CA, or makes one where there is none yet.
func openAuthority(dir string) (*authority, error) {
	keyFile, certFile := filepath.Join(dir, "ca.key"), filepath.Join(dir, "certs", "ca.crt")
	certificate, key, err := readPair(certFile, keyFile)
	if err == nil && time.Until(certificate.NotAfter) > leafValidity {
		return &authority{certificate, key}, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "keyd development CA"},
		NotAfter:              time.Now().Add(caValidity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if err := issue(template, nil, certFile, keyFile); err != nil {
		return nil, err
	}
	certificate, key, err = readPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key}, nil
}

// client makes the certificate of an identity unless a good one is there.
func (a *authority) client(certs, name string) error {
	certFile, keyFile := filepath.Join(certs, name+".crt"), filepath.Join(certs, name+".key")
	if a.good(certFile, keyFile) {
		return nil
	}
	return issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotAfter:    time.Now().Add(leafValidity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: TrustDomain, Path: "/" + name}},
	}, a, certFile, keyFile)
}

// server makes a server's certificate for host, localhost and the loopback
// addresses. It is made anew at every start, since host may have changed.
func (a *authority) server(name, certFile, keyFile, host string) error {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotAfter:    time.Now().Add(leafValidity),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else if host != "" && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	return issue(template, a, certFile, keyFile)
}

func (a *authority) good(certFile, keyFile string) bool {
	certificate, _, err := readPair(certFile, keyFile)
	return err == nil && certificate.CheckSignatureFrom(a.certificate) == nil && time.Until(certificate.NotAfter) > renewBefore
}

// issue makes a key pair and a certificate; without an authority, a self-signed one.
func issue(template *x509.Certificate, by *authority, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	template.NotBefore = time.Now().Add(-time.Minute)
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("make certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := replaceFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return err
	}
	return replaceFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func readPair(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, fmt.Errorf("%s and %s: not PEM; remove both to have them made anew", certFile, keyFile)
	}
	certificate, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", certFile, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, nil, fmt.Errorf("%s does not belong to %s", keyFile, certFile)
	}
	return certificate, key, nil
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone after the rename
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // read only
	return dir.Sync()
}
