package keyagreement

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// holder is somebody with a certificate.
type holder struct {
	key   crypto.Signer
	chain []*x509.Certificate
}

func newHolder(t testing.TB, key crypto.Signer) holder {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "holder"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return holder{key, []*x509.Certificate{c}}
}

func (h holder) sign(digest []byte, hash crypto.Hash) ([]byte, error) {
	return h.key.Sign(rand.Reader, digest, hash)
}

func onCurve(t testing.TB, c elliptic.Curve) holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return newHolder(t, key)
}

func withRSA(t testing.TB, bits int) holder {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return newHolder(t, key)
}

func believe([]*x509.Certificate) error { return nil }

var blocks = []string{"D0112K1AB00N0000" + strings.Repeat("0F", 48), "D0144B1TX00E0100KS18FFFF9876543210E00000" + strings.Repeat("A5", 52)}

// begun is a run of which the host has answered.
func begun(t testing.TB, curve Curve, terminal, host holder) (tm *Terminal, answer, hostKey []byte) {
	t.Helper()
	tm, err := NewTerminal(rand.Reader, curve, terminal.chain, terminal.sign)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ReadRequest(tm.Request())
	if err != nil {
		t.Fatal(err)
	}
	if r.Curve != curve || !r.Certificates[0].Equal(terminal.chain[0]) {
		t.Fatalf("%v %d", r.Curve, len(r.Certificates))
	}
	hostKey = make([]byte, curve.KeySize())
	h, err := r.Agree(rand.Reader, host.chain, hostKey)
	if err != nil {
		t.Fatal(err)
	}
	if answer, err = h.Answer(blocks, host.sign); err != nil {
		t.Fatal(err)
	}
	return tm, answer, hostKey
}

func TestBothSidesAgree(t *testing.T) {
	p256, p384, p521, rsa3072 := onCurve(t, elliptic.P256()), onCurve(t, elliptic.P384()), onCurve(t, elliptic.P521()), withRSA(t, 3072)
	seen := map[string]bool{}
	for name, c := range map[string]struct {
		curve          Curve
		terminal, host holder
	}{
		"P-256": {P256, p256, onCurve(t, elliptic.P256())}, "P-384": {P384, p384, p521}, "P-521": {P521, p521, onCurve(t, elliptic.P521())},
		"RSA host": {P256, p256, rsa3072}, "RSA terminal": {P256, rsa3072, p384},
	} {
		for range 2 {
			tm, answer, hostKey := begun(t, c.curve, c.terminal, c.host)
			key := make([]byte, c.curve.KeySize())
			got, err := tm.Answer(answer, func(chain []*x509.Certificate) error {
				if len(chain) != 1 || !chain[0].Equal(c.host.chain[0]) {
					t.Errorf("%s: another's certificates", name)
				}
				return nil
			}, key)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(key, hostKey) || seen[string(key)] || len(got.Blocks) != 2 || got.Blocks[0] != blocks[0] || got.Blocks[1] != blocks[1] {
				t.Errorf("%s: %x, %x, %v", name, key, hostKey, got.Blocks)
			}
			seen[string(key)] = true
			if _, err := tm.Answer(answer, believe, key); !errors.Is(err, ErrUsed) {
				t.Errorf("%s: the same answer twice: %v", name, err)
			}
		}
	}
}

// OpenSSL computes the shared point and the derivation by itself.
func TestOpenSSLDerivesTheSame(t *testing.T) {
	for curve, p := range curves {
		terminal, host := onCurve(t, elliptic.P521()), onCurve(t, elliptic.P521())
		tm, answer, key := begun(t, curve, terminal, host)
		dir := t.TempDir()
		private, err := x509.MarshalPKCS8PrivateKey(tm.own)
		if err != nil {
			t.Fatal(err)
		}
		body, _, _, err := open(answer)
		if err != nil {
			t.Fatal(err)
		}
		var digest []byte
		if !body.ReadASN1Bytes(&digest, 4) {
			t.Fatal("no digest")
		}
		var other party
		if err := other.read(&body, curve); err != nil {
			t.Fatal(err)
		}
		public, err := x509.MarshalPKIXPublicKey(other.point)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]*pem.Block{"own.pem": {Type: "PRIVATE KEY", Bytes: private}, "other.pem": {Type: "PUBLIC KEY", Bytes: public}} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		openssl := func(args ...string) []byte {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), "openssl", args...)
			cmd.Dir = dir
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("openssl %s: %v", strings.Join(args, " "), err)
			}
			return out
		}
		z := openssl("pkeyutl", "-derive", "-inkey", "own.pem", "-peerkey", "other.pem")
		u, v := sha256.Sum256(terminal.chain[0].Raw), sha256.Sum256(host.chain[0].Raw)
		supplement := sha256.Sum256(bytes.Join([][]byte{tm.Request(), other.point.Bytes(), other.random[:]}, nil))
		info := fmt.Sprintf("00000008%X00000020%X00000020%X00000020%X", "A"+fmt.Sprint(8*p.size)+"KBPK", u, v, supplement)
		got := openssl("kdf", "-keylen", fmt.Sprint(p.size), "-kdfopt", "digest:"+strings.ReplaceAll(p.hash.String(), "-", ""), "-kdfopt", fmt.Sprintf("hexsecret:%X", z), "-kdfopt", "hexinfo:"+info, "-binary", "SSKDF")
		if !bytes.Equal(got, key) {
			t.Errorf("%s: %X, OpenSSL has %X", curve, key, got)
		}
	}
}

// A bit that changes anywhere is found, and then nothing is computed.
func TestAlteredMessages(t *testing.T) {
	terminal, host := onCurve(t, elliptic.P256()), onCurve(t, elliptic.P256())
	tm, answer, _ := begun(t, P256, terminal, host)
	for at := range tm.Request() {
		b := bytes.Clone(tm.Request())
		b[at] ^= 1 << (at % 8)
		if _, err := ReadRequest(b); err == nil {
			t.Errorf("request, byte %d", at)
		}
	}
	key := make([]byte, P256.KeySize())
	for at := range answer {
		b := bytes.Clone(answer)
		b[at] ^= 1 << (at % 8)
		_, err := tm.Answer(b, func([]*x509.Certificate) error { t.Errorf("answer, byte %d: believed", at); return nil }, key)
		if err == nil || errors.Is(err, ErrUsed) {
			t.Errorf("answer, byte %d: %v", at, err)
		}
	}
	for size := range answer {
		if _, err := tm.Answer(answer[:size], believe, key); err == nil {
			t.Errorf("the first %d bytes of an answer", size)
		}
	}
	if !bytes.Equal(key, make([]byte, len(key))) {
		t.Error("a key was computed")
	}
	if _, err := tm.Answer(answer, believe, key); err != nil { // altered ones do not end the run
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	p256, p384, p521 := onCurve(t, elliptic.P256()), onCurve(t, elliptic.P384()), onCurve(t, elliptic.P521())
	rsa2048 := withRSA(t, 2048)
	key := make([]byte, MaxKeySize)

	// To begin.
	for name, c := range map[string]struct {
		curve Curve
		with  holder
		want  error
	}{
		"no curve": {0, p256, ErrCurve}, "no certificate": {P256, holder{key: p256.key}, ErrCertificate},
		"P-256 signs for P-384": {P384, p256, ErrWeaker}, "RSA-2048 signs for P-256": {P256, rsa2048, ErrWeaker}, "P-384 signs for P-521": {P521, p384, ErrWeaker},
		"P-224": {P256, onCurve(t, elliptic.P224()), ErrCertificate}, "another's certificate": {P256, holder{p256.key, p384.chain}, ErrSign},
	} {
		if _, err := NewTerminal(rand.Reader, c.curve, c.with.chain, c.with.sign); !errors.Is(err, c.want) {
			t.Errorf("terminal, %s: %v", name, err)
		}
	}
	tm, _, _ := begun(t, P384, p384, p384)
	r, err := ReadRequest(tm.Request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Agree(rand.Reader, p256.chain, key[:24]); !errors.Is(err, ErrWeaker) {
		t.Errorf("a host that is weaker: %v", err)
	}
	if _, err := r.Agree(rand.Reader, nil, key[:24]); !errors.Is(err, ErrCertificate) {
		t.Errorf("a host without certificate: %v", err)
	}
	h, err := r.Agree(rand.Reader, p384.chain, key[:24])
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]string{
		"no block": nil, "version B": {"B" + blocks[0][1:]}, "too short": {"D0016"}, "a line feed": {blocks[0] + "\n"}, "17 blocks": make([]string, 17), "a long one": {"D" + strings.Repeat("0", MaxBlock)},
	} {
		if _, err := h.Answer(list, p384.sign); !errors.Is(err, ErrBlock) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Answer(blocks, p521.sign); !errors.Is(err, ErrSign) {
		t.Errorf("another's signature: %v", err)
	}

	// To take.
	second, answer, _ := begun(t, P384, p384, p384)
	if _, err := tm.Answer(answer, believe, key[:24]); !errors.Is(err, ErrOther) {
		t.Errorf("the answer to another request: %v", err)
	}
	if _, err := second.Answer(make([]byte, MaxMessage+1), believe, key[:24]); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	foreign := errors.New("foreign")
	clear(key)
	if _, err := second.Answer(answer, func([]*x509.Certificate) error { return foreign }, key[:24]); !errors.Is(err, foreign) || !bytes.Equal(key, make([]byte, len(key))) {
		t.Errorf("a host that is not believed: %v", err)
	}
	if _, err := second.Answer(answer, believe, key[:24]); !errors.Is(err, ErrUsed) {
		t.Errorf("after a host that was not believed: %v", err)
	}
}

// Points that are none, or of another curve, are refused before anything is computed.
func TestInvalidPoints(t *testing.T) {
	terminal := onCurve(t, elliptic.P521())
	good, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := good.PublicKey().Bytes()
	off := bytes.Clone(point)
	off[64] ^= 1
	large, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		point []byte
		want  error
	}{
		"good": {point, nil}, "not on the curve": {off, ErrPoint}, "infinity": {[]byte{0}, ErrPoint}, "nothing": {nil, ErrPoint}, "compressed": {append([]byte{2}, point[1:33]...), ErrPoint},
		"of another curve": {large.PublicKey().Bytes(), ErrPoint}, "beyond the field": {append([]byte{4}, bytes.Repeat([]byte{0xFF}, 64)...), ErrPoint},
	} {
		tm, err := NewTerminal(rand.Reader, P256, terminal.chain, terminal.sign)
		if err != nil {
			t.Fatal(err)
		}
		body, whole, _, err := open(tm.Request())
		if err != nil {
			t.Fatal(err)
		}
		_ = body
		changed := bytes.Replace(whole, append([]byte{4, 65}, tm.self.point.Bytes()...), append([]byte{4, byte(len(c.point))}, c.point...), 1)
		changed = relength(t, changed, len(c.point)-65)
		message, err := sign(terminal.chain[0], P256, ofRequest, changed, terminal.sign)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRequest(message); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// relength corrects the length of a SEQUENCE, whose length takes two bytes behind 0x82.
func relength(t testing.TB, b []byte, by int) []byte {
	t.Helper()
	if b[1] != 0x82 {
		t.Fatalf("length %s", hex.EncodeToString(b[:4]))
	}
	n := int(b[2])<<8 + int(b[3]) + by
	b = bytes.Clone(b)
	b[2], b[3] = byte(n>>8), byte(n)
	return b
}

// FuzzRequest: what is accepted is signed by its certificate, and was not altered.
func FuzzRequest(f *testing.F) {
	terminal := onCurve(f, elliptic.P256())
	tm, err := NewTerminal(rand.Reader, P256, terminal.chain, terminal.sign)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tm.Request())
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRequest(b)
		if err == nil && (len(r.Certificates) == 0 || r.Curve.KeySize() == 0) {
			t.Error("half a request")
		}
	})
}

// FuzzAnswer: whatever comes, a terminal believes what its host has signed, or refuses.
func FuzzAnswer(f *testing.F) {
	terminal, host := onCurve(f, elliptic.P256()), onCurve(f, elliptic.P256())
	tm, answer, _ := begun(f, P256, terminal, host)
	f.Add(answer)
	f.Fuzz(func(t *testing.T, b []byte) {
		run := *tm
		key := make([]byte, P256.KeySize())
		if _, err := run.Answer(b, believe, key); err == nil && !bytes.Equal(b, answer) {
			c := host.chain[0]
			if !bytes.Contains(b, c.Raw) {
				return // whoever fuzzes has made a host of his own
			}
			t.Error("another answer of the host's")
		}
	})
}

func BenchmarkRun(b *testing.B) {
	for curve, c := range map[Curve]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384(), P521: elliptic.P521()} {
		terminal, host := onCurve(b, c), onCurve(b, c)
		b.Run(curve.String(), func(b *testing.B) {
			for b.Loop() {
				tm, answer, _ := begun(b, curve, terminal, host)
				if _, err := tm.Answer(answer, believe, make([]byte, curve.KeySize())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
