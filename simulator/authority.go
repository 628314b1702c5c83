package simulator

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"
)

// Authority makes certificates as a maker of terminals does for its devices, or an operator for
// key hosts: for trying keyd out. Its key lies in a directory, without a passphrase.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// The files of an authority.
const (
	authorityCertificate = "ca.crt"
	authorityKey         = "ca.key"
)

const (
	authorityValidity = 10 * 365 * 24 * time.Hour
	issuedValidity    = 5 * 365 * 24 * time.Hour
	listValidity      = 365 * 24 * time.Hour
)

// OpenAuthority reads the authority in a directory. There is none: the error is fs.ErrNotExist.
func OpenAuthority(dir string) (*Authority, error) {
	text, err := os.ReadFile(filepath.Join(dir, authorityCertificate))
	if err != nil {
		return nil, err
	}
	private, err := os.ReadFile(filepath.Join(dir, authorityKey))
	if err != nil {
		return nil, err
	}
	defer clear(private)
	certBlock, _ := pem.Decode(text)
	keyBlock, _ := pem.Decode(private)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s: %s and %s are not PEM: remove both to have them made anew", dir, authorityCertificate, authorityKey)
	}
	a := new(Authority)
	if a.Certificate, err = x509.ParseCertificate(certBlock.Bytes); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !samePublic(a.Certificate.PublicKey, signer.Public()) {
		return nil, fmt.Errorf("%s: %s does not belong to %s", dir, authorityKey, authorityCertificate)
	}
	a.key = signer
	return a, nil
}

// MakeAuthority opens the authority in a directory, or makes one of that name and with a key of
// one of [Algorithms] where there is none. That of hosts has an RSA key for TR-34.
func MakeAuthority(dir, name, algorithm string) (a *Authority, made bool, err error) {
	if a, err = OpenAuthority(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return a, false, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, err
	}
	if a, err = newAuthority(name, algorithm); err != nil {
		return nil, false, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, false, err
	}
	defer clear(private)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	defer clear(text)
	// The certificate comes last: without it there is no authority yet.
	if err := WriteFile(filepath.Join(dir, authorityKey), text, 0o600); err != nil {
		return nil, false, err
	}
	return a, true, WriteFile(filepath.Join(dir, authorityCertificate), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw}), 0o644)
}

func newAuthority(name, algorithm string) (*Authority, error) {
	key, err := GenerateKey(algorithm)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(authorityValidity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a := &Authority{Certificate: template, key: key}
	der, err := a.sign(template, key.Public())
	if err != nil {
		return nil, err
	}
	a.Certificate, err = x509.ParseCertificate(der)
	return a, err
}

// Device returns the certificate of a terminal's key, in DER.
func (a *Authority) Device(name string, key crypto.PublicKey) ([]byte, error) {
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	if _, ok := key.(*rsa.PublicKey); ok {
		usage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	return a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(issuedValidity), KeyUsage: usage}, key)
}

// Approver returns the certificate of who approves what happens to PINs, in DER.
func (a *Authority) Approver(id *url.URL, key crypto.PublicKey) ([]byte, error) {
	return a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: path.Base(id.Path)}, URIs: []*url.URL{id}, NotAfter: time.Now().Add(issuedValidity), KeyUsage: x509.KeyUsageDigitalSignature,
	}, key)
}

// Host returns the certificate of a key host, in DER, for a request (PKCS #10) in PEM.
func (a *Authority) Host(request []byte) ([]byte, error) {
	block, _ := pem.Decode(request)
	if block == nil {
		return nil, errors.New("the certificate request is not PEM")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil {
		return nil, err
	}
	return a.sign(&x509.Certificate{Subject: r.Subject, NotAfter: time.Now().Add(issuedValidity), KeyUsage: x509.KeyUsageDigitalSignature}, r.PublicKey)
}

// List returns a revocation list of those certificates, valid for a year, in DER.
func (a *Authority) List(revoked ...*x509.Certificate) ([]byte, error) {
	now := time.Now()
	list := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(listValidity)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
	}
	return x509.CreateRevocationList(rand.Reader, list, a.Certificate, a.key)
}

func (a *Authority) sign(template *x509.Certificate, key crypto.PublicKey) (der []byte, err error) {
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	template.NotBefore = time.Now().Add(-time.Minute)
	if template.NotAfter.After(a.Certificate.NotAfter) {
		template.NotAfter = a.Certificate.NotAfter
	}
	return x509.CreateCertificate(rand.Reader, template, a.Certificate, key, a.key)
}
