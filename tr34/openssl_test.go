package tr34

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

// shell runs openssl cms in a folder with the world's certificates and keys.
type shell struct {
	t      *testing.T
	folder string
}

func newShell(t *testing.T, w *world) *shell {
	s := &shell{t, t.TempDir()}
	for name, i := range map[string]identity{"host": w.host, "device": w.device} {
		s.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.certificate.Raw}))
		s.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(i.key)}))
	}
	s.write("cas.pem", append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.root.certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.hostCA.certificate.Raw})...))
	return s
}

func (s *shell) write(name string, data []byte) {
	s.t.Helper()
	check(s.t, os.WriteFile(filepath.Join(s.folder, name), data, 0o600))
}

// cms gives input to openssl cms and returns what it writes.
func (s *shell) cms(input []byte, arguments ...string) []byte {
	s.t.Helper()
	s.write("in", input)
	command := exec.CommandContext(s.t.Context(), "openssl", append([]string{"cms", "-binary", "-in", "in", "-out", "out"}, arguments...)...)
	command.Dir = s.folder
	if text, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("openssl cms %v: %v\n%s", arguments, err, text)
	}
	output, err := os.ReadFile(filepath.Join(s.folder, "out"))
	check(s.t, err)
	return output
}

// OpenSSL verifies the signature and decrypts the key block of tokens that we write.
func TestOpenSSLReadsOurs(t *testing.T) {
	w := theWorld()
	s := newShell(t, w)
	for name, p := range map[string]Profile{
		"default": {}, "SHA-1": {OAEP: crypto.SHA1}, "mixed": {MGF: crypto.SHA1}, "AES-256": {Content: AES256CBC}, "AES-192": {Content: AES192CBC},
		"TDES": {Content: TDESCBC}, "samples' order": {SampleOrder: true}, "version 1": {SignedVersion1: true},
	} {
		key := aesKey
		if p.Content == TDESCBC {
			key = Key{"B0000K1TB00E0000", bytes.Repeat([]byte{1, 2}, 12)}
		}
		for _, fresh := range []Freshness{{Random: []byte("1234567890123456")}, {Time: now, CRL: w.crl}} {
			token, err := w.sender(p).KeyToken(entropy, w.to(), key, fresh, scratch())
			check(t, err)
			content := s.cms(token, "-verify", "-inform", "DER", "-certfile", "host.pem", "-CAfile", "cas.pem", "-purpose", "any", "-attime", strconv.FormatInt(now.Unix(), 10))
			plain := s.cms(contentInfo(content), "-decrypt", "-inform", "DER", "-recip", "device.pem", "-inkey", "device.key")
			b, err := readBlock(plain)
			check(t, err)
			if !bytes.Equal(b.clear, key.Clear) || string(b.header) != key.Header || !b.host.equal(identify(w.host.certificate)) {
				t.Errorf("%s: OpenSSL reads %x", name, plain)
			}
		}
	}
}

// contentInfo wraps an EnvelopedData as OpenSSL reads it.
func contentInfo(enveloped []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tags.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(idEnvelopedData)
		b.AddASN1(tag0.Constructed(), func(b *cryptobyte.Builder) { b.AddBytes(enveloped) })
	})
	return b.BytesOrPanic()
}

// A key block that OpenSSL enveloped is opened. OpenSSL signs no attributes of ours, so the
// host signs here, and its signatures are read below.
func TestOpenSSLEnvelopes(t *testing.T) {
	w := theWorld()
	s := newShell(t, w)
	for _, c := range []struct {
		cipher string
		key    Key
		want   error
	}{
		{"-aes-128-cbc", aesKey, nil}, {"-aes-192-cbc", aesKey, nil}, {"-aes-256-cbc", aesKey, nil},
		{"-des3", Key{"B0000K1TB00E0000", bytes.Repeat([]byte{3}, 24)}, nil}, {"-des3", aesKey, ErrWeakerWrapping}, {"-camellia128", aesKey, ErrAlgorithm},
	} {
		for _, p := range []Profile{{}, {OAEP: crypto.SHA1}} {
			block, err := w.sender(p).keyBlock(make([]byte, 4096), c.key)
			check(t, err)
			arguments := []string{"-encrypt", "-outform", "DER", c.cipher, "-recip", "device.pem", "-keyopt", "rsa_padding_mode:oaep"}
			if p.OAEP == 0 {
				arguments = append(arguments, "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256")
			}
			prepared, err := w.sender(p).PrepareKeyToken(entropy, w.to(), c.key, Freshness{Random: []byte("12345678")}, scratch())
			check(t, err)
			prepared.content = inContentInfo(t, s.cms(block, arguments...))
			token, err := prepared.Finish(w.sender(p))
			check(t, err)
			out := make([]byte, 32)
			received, err := w.receiver(p).OpenKeyToken(token, w.twoPass(), scratch(), out)
			if err != c.want || err == nil && (received.Header != c.key.Header || !bytes.Equal(out[:received.Size], c.key.Clear)) {
				t.Errorf("%s: %+v, %x, %v, want %v", c.cipher, received, out, err, c.want)
			}
		}
	}
}

func inContentInfo(t *testing.T, der []byte) []byte {
	t.Helper()
	in := cryptobyte.String(der)
	var info, explicit cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !in.ReadASN1(&info, tags.SEQUENCE) || !info.ReadASN1ObjectIdentifier(&kind) || !info.ReadASN1(&explicit, tag0.Constructed()) {
		t.Fatalf("%x is no ContentInfo", der)
	}
	return explicit
}

// A SignedData that OpenSSL signed verifies here, and misses the attributes of TR-34.
func TestOpenSSLSigns(t *testing.T) {
	w := theWorld()
	s := newShell(t, w)
	enveloped := prepare(t, w, Profile{}).content
	key, err := rsaKey(w.host.certificate)
	check(t, err)
	sign := []string{"-sign", "-nodetach", "-outform", "DER", "-signer", "host.pem", "-inkey", "host.key", "-md", "sha256", "-econtent_type", "pkcs7-envelopedData"}
	for _, more := range [][]string{nil, {"-nocerts"}, {"-nosmimecap"}} {
		token := s.cms(enveloped, append(append([]string{}, sign...), more...)...)
		read, err := readToken(token)
		check(t, err)
		check(t, read.verify(idEnvelopedData, identify(w.host.certificate), key))
		if !bytes.Equal(read.content, enveloped) {
			t.Error("another content was read")
		}
		refuses(t, w, "without a random number", token, w.twoPass(), ErrAttribute)
	}
	for _, c := range []struct {
		name string
		more []string
		want error
	}{
		{"BER", []string{"-stream"}, ErrIndefinite}, {"no attributes", []string{"-noattr"}, ErrAttribute},
		{"SHA-384", []string{"-md", "sha384"}, ErrAlgorithm}, {"PSS", []string{"-keyopt", "rsa_padding_mode:pss"}, ErrAlgorithm},
	} {
		if read, err := readToken(s.cms(enveloped, append(append([]string{}, sign...), c.more...)...)); read != nil || err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
