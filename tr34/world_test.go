package tr34

import (
	"crypto"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// now is when all tests take place.
var now = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

// identity is a certificate and its key.
type identity struct {
	certificate *x509.Certificate
	key         *rsa.PrivateKey
}

// world is a hierarchy with the published sample keys, and a device with RSA-3072 of our own: all
// keys are fixed, so that what a fuzzer found in one process is the same in another.
type world struct {
	root, hostCA, deviceCA, host, other identity
	device, small, strange              identity // small has RSA-2048; strange is of no trusted CA
	trust                               *Trust
	crl                                 []byte // of hostCA: nobody is revoked
}

var theWorld = sync.OnceValue(makeWorld)

func makeWorld() *world {
	w := &world{}
	root, hosts, devices, host, device := sampleKey("root"), sampleKey("kdh_ca"), sampleKey("krd_ca"), sampleKey("kdh_1"), sampleKey("krd_1")
	long := sampleKey("../device")
	const ca = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	w.root = issue("root", root, identity{}, ca, nil)
	w.hostCA = issue("host CA", hosts, w.root, ca, nil)
	w.deviceCA = issue("device CA", devices, w.root, ca, nil)
	w.host = issue("host", host, w.hostCA, x509.KeyUsageDigitalSignature, nil)
	w.other = issue("other host", device, w.hostCA, x509.KeyUsageDigitalSignature, nil)
	w.device = issue("device", long, w.deviceCA, x509.KeyUsageKeyEncipherment, nil)
	w.small = issue("small device", device, w.deviceCA, x509.KeyUsageDataEncipherment, nil)
	foreign := issue("foreign CA", host, identity{}, ca, nil)
	w.strange = issue("strange device", long, foreign, x509.KeyUsageKeyEncipherment, nil)
	w.trust = &Trust{
		Roots:   []*x509.Certificate{w.root.certificate},
		HostCAs: []*x509.Certificate{w.hostCA.certificate}, DeviceCAs: []*x509.Certificate{w.deviceCA.certificate},
	}
	w.crl = makeCRL(w.hostCA, nil)
	return w
}

func (w *world) sender(p Profile) *Host {
	return &Host{Certificate: w.host.certificate, Sign: signer2048(w.host.key), Trust: w.trust, Profile: p}
}

func (w *world) receiver(p Profile) *Device {
	return &Device{Certificate: w.device.certificate, Decrypt: RSADecrypt(w.device.key), Trust: w.trust, Profile: p}
}

func (w *world) to() Recipient { return Recipient{Device: w.device.certificate, Now: now} }

// twoPass and onePass are what a device expects that sent random, or has a stamp of an hour ago.
func (w *world) twoPass() Expectation {
	return Expectation{Host: w.host.certificate, CRLs: [][]byte{w.crl}, Now: now, Random: []byte("12345678")}
}

func (w *world) onePass() Expectation {
	return Expectation{Host: w.host.certificate, Now: now, After: now.Add(-time.Hour)}
}

func signer2048(key *rsa.PrivateKey) func([]byte) ([]byte, error) {
	return func(digest []byte) ([]byte, error) { return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest) }
}

var serials = new(big.Int)

// issue makes a certificate valid for ten years around now. Without an issuer it is its own.
func issue(name string, key *rsa.PrivateKey, by identity, usage x509.KeyUsage, change func(*x509.Certificate)) identity {
	serials.Add(serials, big.NewInt(1))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Set(serials), Subject: pkix.Name{Country: []string{"XX"}, CommonName: name},
		NotBefore: now.AddDate(-5, 0, 0), NotAfter: now.AddDate(5, 0, 0), KeyUsage: usage,
		BasicConstraintsValid: true, IsCA: usage&x509.KeyUsageCertSign != 0,
	}
	if change != nil {
		change(template)
	}
	if by.certificate == nil {
		by = identity{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	must(err)
	certificate, err := x509.ParseCertificate(der)
	must(err)
	return identity{certificate, key}
}

// makeCRL makes a CRL that is valid for thirty days around now and revokes those certificates.
func makeCRL(by identity, change func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.AddDate(0, 0, -15), NextUpdate: now.AddDate(0, 0, 15)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: now})
	}
	if change != nil {
		change(list)
	}
	issuer := *by.certificate
	issuer.KeyUsage |= x509.KeyUsageCRLSign // of the sample CA, which has it not
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, by.key)
	must(err)
	return der
}

func sampleKey(name string) *rsa.PrivateKey {
	key, err := x509.ParsePKCS1PrivateKey(samplePEM(name + ".key.pem"))
	must(err)
	return key
}

func sampleCertificate(name string) *x509.Certificate {
	certificate, err := x509.ParseCertificate(samplePEM(name + ".cert.pem"))
	must(err)
	return certificate
}

func samplePEM(name string) []byte {
	text, err := os.ReadFile(filepath.Join("testdata", "clover", name))
	must(err)
	block, _ := pem.Decode(text)
	return block.Bytes
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func scratch() []byte { return make([]byte, ScratchSize) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func encryptCBC(b cipher.Block, iv, plain []byte) []byte {
	content := make([]byte, len(plain))
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(content, plain)
	return content
}

func encryptOAEP(t *testing.T, to *x509.Certificate, contentKey []byte) []byte {
	t.Helper()
	wrapped, err := rsa.EncryptOAEP(sha256.New(), entropy, to.PublicKey.(*rsa.PublicKey), contentKey, nil)
	check(t, err)
	return wrapped
}
