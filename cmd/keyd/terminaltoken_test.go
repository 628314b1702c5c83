package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/tr34"
)

// pair is a key pair with a certificate, in files.
type pair struct {
	key         *rsa.PrivateKey
	certificate *x509.Certificate
	certFile    string
	keyFile     string
}

func newPair(t *testing.T, dir, name string, by *pair) *pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer, template.KeyUsage = by.certificate, by.key, x509.KeyUsageDigitalSignature
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	must(t, err)
	p := &pair{key: key, certFile: filepath.Join(dir, name+".crt"), keyFile: filepath.Join(dir, name+".key")}
	p.certificate, err = x509.ParseCertificate(der)
	must(t, err)
	must(t, os.WriteFile(p.certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(p.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A key token is shown in every form in which people have it, its signature is verified, and it
// opens with the device's key: the check value is there, the key is not.
func TestTokensAreShown(t *testing.T) {
	dir := t.TempDir()
	hosts, devices := newPair(t, dir, "hosts", nil), newPair(t, dir, "devices", nil)
	host, device := newPair(t, dir, "host", hosts), newPair(t, dir, "device", devices)
	h := tr34.Host{
		Certificate: host.certificate,
		Sign:        func(digest []byte) ([]byte, error) { return rsa.SignPKCS1v15(nil, host.key, crypto.SHA256, digest) },
		Trust: &tr34.Trust{
			Roots: []*x509.Certificate{hosts.certificate, devices.certificate}, HostCAs: []*x509.Certificate{hosts.certificate}, DeviceCAs: []*x509.Certificate{devices.certificate}, SigningDevices: true,
		},
	}
	key, err := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	must(t, err)
	token, err := h.KeyToken(rand.Reader, tr34.Recipient{Device: device.certificate, Now: time.Now()}, tr34.Key{Header: "B0000K1TB00E0000", Clear: key}, tr34.Freshness{Random: []byte("12345678")}, make([]byte, tr34.ScratchSize))
	must(t, err)
	for name, text := range map[string][]byte{
		"der": token, "pem": pem.EncodeToMemory(&pem.Block{Type: "CMS", Bytes: token}),
		"hex": []byte(strings.ToUpper(hex.EncodeToString(token)) + "\n"), "base64": []byte(base64.StdEncoding.EncodeToString(token)),
	} {
		file := filepath.Join(dir, "token."+name)
		must(t, os.WriteFile(file, text, 0o600))
		out, err := runShow(t, file, "--signer", host.certFile, "--device", device.certFile, "--device-key", device.keyFile)
		must(t, err)
		for _, part := range []string{"key (KT_KDH)", "CN=hosts", "B0000K1TB00E0000", "SHA-256", "08D7B4", "by that certificate's key"} {
			if !strings.Contains(out, part) {
				t.Errorf("%s: no %q in\n%s", name, part, out)
			}
		}
		if strings.Contains(strings.ToUpper(out), "0123456789ABCDEF") {
			t.Errorf("%s: the key is shown", name)
		}
	}
	file := filepath.Join(dir, "token.der")
	if out, err := runShow(t, file, "--signer", device.certFile); err == nil || out != "" {
		t.Errorf("signed by the device: %v", err)
	}
	if _, err := runShow(t, file, "--device", host.certFile, "--device-key", host.keyFile); err == nil {
		t.Error("the host opens it")
	}
	must(t, os.WriteFile(file, bytes.Repeat([]byte("x"), 100), 0o600))
	if _, err := runShow(t, file); err == nil {
		t.Error("text is a token")
	}
}

// runShow returns what keyd terminal token show prints.
func runShow(t *testing.T, args ...string) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	stdout := os.Stdout
	os.Stdout = w
	c := terminalTokenShow()
	c.SetArgs(args)
	c.SilenceErrors, c.SilenceUsage = true, true
	ran := c.Execute()
	os.Stdout = stdout
	must(t, w.Close())
	out := new(bytes.Buffer)
	_, err = out.ReadFrom(r)
	must(t, err)
	return out.String(), ran
}
