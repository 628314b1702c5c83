package tr34

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sampleTrust() *Trust {
	return &Trust{
		Roots:   []*x509.Certificate{sampleCertificate("root")},
		HostCAs: []*x509.Certificate{sampleCertificate("kdh_ca")}, DeviceCAs: []*x509.Certificate{sampleCertificate("krd_ca")},
		SigningDevices: true,
	}
}

// The files are those that the index says, each with its source.
func TestSampleFiles(t *testing.T) {
	text, err := os.ReadFile("testdata/index.json")
	check(t, err)
	var index []struct{ File, SHA256, Source, Licence string }
	check(t, json.Unmarshal(text, &index))
	files, err := filepath.Glob("testdata/clover/*")
	check(t, err)
	files = append(files, "testdata/device.key.pem")
	if len(index) != 12 || len(files) != len(index) {
		t.Fatalf("%d files, %d in the index", len(files), len(index))
	}
	for _, e := range index {
		data, err := os.ReadFile(filepath.Join("testdata", e.File))
		check(t, err)
		if sum := sha256.Sum256(data); !strings.EqualFold(hex.EncodeToString(sum[:]), e.SHA256) || e.Source == "" || e.Licence == "" {
			t.Errorf("%s is not the file of the index", e.File)
		}
	}
}

// CT_KRD as a terminal wrote it is read, and written again is the same to the byte.
func TestSampleCredentialToken(t *testing.T) {
	token, err := os.ReadFile("testdata/clover/ct_krd.der")
	check(t, err)
	credential, err := sampleTrust().OpenCredential(token, DeviceRole, nil, now)
	check(t, err)
	if !credential.Certificate.Equal(sampleCertificate("krd_1")) || len(credential.CAs) != 0 || len(credential.CRLs) != 0 {
		t.Errorf("read as %+v", credential)
	}
	again, err := CredentialToken(credential.Certificate)
	check(t, err)
	if !bytes.Equal(again, token) {
		t.Errorf("written as %x, want %x", again, token)
	}
}

func TestSampleHierarchy(t *testing.T) {
	trust := sampleTrust()
	host, device := sampleCertificate("kdh_1"), sampleCertificate("krd_1")
	crl := [][]byte{makeCRL(identity{sampleCertificate("kdh_ca"), sampleKey("kdh_ca")}, nil)}
	check(t, trust.Verify(host, HostRole, crl, now))
	check(t, trust.Verify(device, DeviceRole, nil, now))
	for _, c := range []struct {
		name        string
		certificate *x509.Certificate
		role        Role
		want        error
	}{
		{"a device as host", device, HostRole, ErrRole},
		{"a host as device", host, DeviceRole, ErrRole},
		{"a CA as host", sampleCertificate("kdh_ca"), HostRole, ErrRole},
		{"the root as host", sampleCertificate("root"), HostRole, ErrForeign},
	} {
		if err := trust.Verify(c.certificate, c.role, crl, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	trust.SigningDevices = false
	if err := trust.Verify(device, DeviceRole, nil, now); !errors.Is(err, ErrUsage) {
		t.Errorf("a device whose certificate only signs: %v", err)
	}
}

// A key goes from the sample host to the sample device, in both shapes.
func TestSampleKeyToken(t *testing.T) {
	trust := sampleTrust()
	crl := makeCRL(identity{sampleCertificate("kdh_ca"), sampleKey("kdh_ca")}, nil)
	key := bytes.Repeat([]byte{1, 2, 3}, 8)
	for name, p := range map[string]Profile{"default": {}, "annex B": AnnexB} {
		host := &Host{Certificate: sampleCertificate("kdh_1"), Sign: signer2048(sampleKey("kdh_1")), Trust: trust, Profile: p}
		device := &Device{Certificate: sampleCertificate("krd_1"), Decrypt: RSADecrypt(sampleKey("krd_1")), Trust: trust, Profile: p}
		token, err := host.KeyToken(entropy, Recipient{Device: device.Certificate, Now: now},
			Key{"A0000K1TD00E0000", key}, Freshness{Random: []byte("12345678"), CRL: crl}, scratch())
		check(t, err)
		out := make([]byte, 32)
		received, err := device.OpenKeyToken(token, Expectation{Host: host.Certificate, Now: now, Random: []byte("12345678")}, scratch(), out)
		check(t, err)
		if received.Header != "A0000K1TD00E0000" || !bytes.Equal(out[:received.Size], key) {
			t.Errorf("%s: %+v, %x", name, received, out)
		}
	}
}
