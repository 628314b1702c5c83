package module

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyagreement"
	"keyd/keyblock"
	"keyd/receipt"
	"keyd/tr34"
)

// holder is somebody who has a certificate and its key.
type holder struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// issue makes a certificate under another, or under itself; change makes it another one.
func (o *office) issue(by *holder, name string, curve elliptic.Curve, change ...func(*x509.Certificate)) *holder {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	o.must(err)
	return o.holding(by, name, key, change...)
}

func (o *office) holding(by *holder, name string, key crypto.Signer, change ...func(*x509.Certificate)) *holder {
	o.t.Helper()
	h := &holder{key: key}
	h.cert = o.certify(by, h, name, key.Public(), change...)
	return h
}

func (o *office) certify(by, of *holder, name string, public crypto.PublicKey, change ...func(*x509.Certificate)) *x509.Certificate {
	o.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	o.must(err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, c := range change {
		c(template)
	}
	issuer, key := template, crypto.Signer(nil)
	if by == nil {
		key = of.key
	} else {
		issuer, key = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, public, key)
	o.must(err)
	c, err := x509.ParseCertificate(der)
	o.must(err)
	return c
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

// factory is an office whose officers believe a maker of terminals, and have base derivation
// keys and a key pair with which the host signs.
type factory struct {
	*office
	maker, issuer *holder
	host, rsaHost *x509.Certificate
	hostAuthority *holder
	injections    atomic.Uint32
}

func newFactory(t testing.TB) *factory {
	f := &factory{office: newOffice(t)}
	f.maker = f.issue(nil, "maker", elliptic.P521(), authority)
	f.issuer = f.issue(f.maker, "issuing", elliptic.P521(), authority)
	f.hostAuthority = f.holding(nil, "acquirer", rsaKey(17), authority)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: f.maker.cert.Raw, Uses: []string{"terminals"}}, ValidFor: 3600}))
	f.created(&ceremony.KeySpec{Name: "host", Version: 1, Usage: "S0", Algorithm: "E", Length: 66, Mode: "S", Exportability: "N", Peers: []string{"acquirer"}})
	load := loading(f.bdk("bdk", "A", 16))
	load.ValidFor = 3600
	f.must(f.through(load, componentA, componentB))
	f.host = f.certified("host")
	return f
}

// newTokenFactory has a key pair for TR-34 besides.
func newTokenFactory(t testing.TB) *factory {
	f := newFactory(t)
	f.created(&ceremony.KeySpec{Name: "rsa-host", Version: 1, Usage: "S0", Algorithm: "R", Length: 256, Mode: "S", Exportability: "N"})
	f.rsaHost = f.certified("rsa-host")
	return f
}

// certified is the certificate of a host's key pair.
func (f *factory) certified(name string) *x509.Certificate {
	f.t.Helper()
	der, err := f.client.CertificateRequest(f.t.Context(), f.key(name, 1), hsm.CertificateSubject{CommonName: name})
	f.must(err)
	request, err := x509.ParseCertificateRequest(der)
	f.must(err)
	return f.certify(f.hostAuthority, nil, name, request.PublicKey)
}

// rsaKey is one of a few keys of 3,072 bits, which are made once; those from 16 have 2,048 bits.
func rsaKey(n int) *rsa.PrivateKey {
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	if rsaKeys.made == nil {
		rsaKeys.made = make(map[int]*rsa.PrivateKey)
	}
	if rsaKeys.made[n] == nil {
		bits := 3072
		if n >= 16 {
			bits = 2048
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		rsaKeys.made[n] = key
	}
	return rsaKeys.made[n]
}

var rsaKeys struct {
	sync.Mutex
	made map[int]*rsa.PrivateKey
}

func (f *factory) bdk(name, algorithm string, length uint16, change ...func(*ceremony.KeySpec)) *ceremony.KeySpec {
	k := &ceremony.KeySpec{Name: name, Version: 1, Usage: "B0", Algorithm: algorithm, Length: length, Mode: "X", Exportability: "N", Direction: hsm.DirectionIncoming, KSNCheck: hsm.KSNMonotonic, InjectionHosts: []string{"host", "rsa-host"}}
	for _, c := range change {
		c(k)
	}
	return k
}

func (f *factory) created(k *ceremony.KeySpec) hsm.Key {
	f.t.Helper()
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Create, Key: k, ValidFor: 3600}))
	return f.key(k.Name, 1)
}

// device is one more of the maker's.
func (f *factory) device(curve elliptic.Curve, change ...func(*x509.Certificate)) *holder {
	return f.issue(f.issuer, "device", curve, change...)
}

func (h *holder) sign(digest []byte, hash crypto.Hash) ([]byte, error) {
	return h.key.Sign(rand.Reader, digest, hash)
}

func (f *factory) begin(d *holder, curve keyagreement.Curve, chain ...*x509.Certificate) *keyagreement.Terminal {
	f.t.Helper()
	t, err := keyagreement.NewTerminal(rand.Reader, curve, append([]*x509.Certificate{d.cert}, chain...), d.sign)
	f.must(err)
	return t
}

// inject asks for keys by key agreement as a front does, for the device of a request.
func (f *factory) inject(request []byte, change func(*hsm.InjectByAgreement), keys ...hsm.InitialKey) (*hsm.Injected, error) {
	r := hsm.InjectByAgreement{Request: request, Injection: f.injection(keys...)}
	r.Host, r.HostCertificates = f.key("host", 1), [][]byte{f.host.Raw}
	if parsed, err := keyagreement.ReadRequest(request); err == nil {
		r.Device = deviceOf(parsed.Certificates[0])
	}
	if change != nil {
		change(&r)
	}
	i, err := f.client.InjectByAgreement(f.t.Context(), r)
	if err != nil && i != nil {
		f.t.Error("something comes with an error")
	}
	return i, err
}

// injection is a front's wish for keys.
func (f *factory) injection(keys ...hsm.InitialKey) hsm.Injection {
	i := hsm.Injection{ID: [16]byte{byte(f.injections.Add(1))}, Terminal: "t-1", Master: hsm.MasterSpec{Algorithm: "A", Length: 16}, Keys: keys}
	for n := range i.Keys {
		if i.Keys[n].Name == "" {
			i.Keys[n].Name = fmt.Sprintf("key%d", n)
		}
	}
	return i
}

func deviceOf(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// opened unwraps a block, as a terminal does, under a key of that algorithm.
func (f *factory) opened(algorithm string, kbpk []byte, text string) (*keyblock.Block, []byte) {
	f.t.Helper()
	block, err := keyblock.Parse([]byte(text))
	f.must(err)
	f.must(errors.Join(block.Header.Validate(), block.Header.CheckBlocks()))
	kind, err := sealing.KeyType(algorithm, len(kbpk))
	f.must(err)
	var value []byte
	f.must(f.token.Do(func(s *token.Session) error {
		object, err := s.Import(kind, token.MaySign, kbpk)
		if err != nil {
			return err
		}
		out := make([]byte, 64)
		n, err := keyblocks.Unwrap(s, keyblocks.KBPK{Algorithm: algorithm, Length: len(kbpk), Key: object}, block, out)
		value = out[:n]
		return errors.Join(err, s.Destroy(object))
	}))
	return block, value
}

// checkValue is that of a key that a terminal has.
func (f *factory) checkValue(algorithm string, value []byte) (check string) {
	f.t.Helper()
	f.must(f.token.Do(func(s *token.Session) (err error) {
		check, err = sealing.CheckValue(s, algorithm, value)
		return err
	}))
	return check
}

// mac is the CMAC that a terminal makes.
func (f *factory) mac(algorithm string, key, text []byte) []byte {
	f.t.Helper()
	kind, err := sealing.KeyType(algorithm, len(key))
	f.must(err)
	out := make([]byte, 16)
	f.must(f.token.Do(func(s *token.Session) error {
		object, err := s.Import(kind, token.MaySign, key)
		if err != nil {
			return err
		}
		mechanism := uint(pkcs11.CKM_AES_CMAC)
		if algorithm == "T" {
			mechanism = pkcs11.CKM_DES3_CMAC
		}
		n, err := s.Sign(mechanism, object, out, text)
		out = out[:n]
		return errors.Join(err, s.Destroy(object))
	}))
	return out
}

// has is what a terminal has after an injection.
type has struct {
	record *receipt.Record
	values [][]byte // of all keys, in the order of the record
	given  *hsm.Injected
}

// open has a terminal open key blocks, compares them with the record, and looks at the headers.
// first are keys that came otherwise.
func (f *factory) open(given *hsm.Injected, algorithm string, kbpk []byte, blocks []string, first ...[]byte) *has {
	f.t.Helper()
	encoded, _, err := receipt.Split(given.Record)
	f.must(err)
	h := &has{given: given, values: first}
	h.record, err = receipt.ParseRecord(encoded)
	f.must(err)
	for _, text := range blocks {
		block, value := f.opened(algorithm, kbpk, text)
		k := &h.record.Keys[len(h.values)]
		mode := map[string]byte{"K1": 'D', "K0": 'D', "M6": 'G', "B1": 'X'}[k.Usage]
		if b := &block.Header; b.Usage != k.Usage || string(b.Algorithm) != k.Algorithm || b.Mode != mode || b.Exportability != 'N' || len(value) != int(k.Length) {
			f.t.Errorf("%s: %s of %d bytes, the record says %+v", k.Name, block.HeaderText, len(value), k)
		}
		if k.Usage == "B1" {
			name := map[string]string{"A": "IK", "T": "KS"}[k.Algorithm]
			if said, there := block.Header.Find(name); !there || said != k.ID {
				f.t.Errorf("%s: it names %q, the record %q", k.Name, said, k.ID)
			}
		}
		h.values = append(h.values, value)
	}
	if len(h.values) != len(h.record.Keys) {
		f.t.Fatalf("%d keys, the record has %d", len(h.values), len(h.record.Keys))
	}
	for i, k := range h.record.Keys {
		if check := f.checkValue(k.Algorithm, h.values[i]); check != k.CheckValue {
			f.t.Errorf("%s: check value %s, the record says %s", k.Name, check, k.CheckValue)
		}
	}
	return h
}

// receipt is what the terminal says.
func (f *factory) receipt(h *has) hsm.ConfirmInjection {
	f.t.Helper()
	id, err := hex.DecodeString(h.record.Injection)
	f.must(err)
	text, err := receipt.Text([16]byte(id), h.record.CheckValues())
	f.must(err)
	return hsm.ConfirmInjection{
		Record: h.given.Record, ReceiptKey: hsm.Key{Name: "terminal:" + h.record.Terminal + ":receipt", Sealed: h.given.ReceiptKey}, CheckValues: h.record.CheckValues(),
		MAC: f.mac(h.record.Keys[1].Algorithm, h.values[1], text),
	}
}

func (h *has) master() hsm.Key {
	return hsm.Key{Name: "terminal:" + h.record.Terminal + ":master", Sealed: h.given.Master}
}

// agreed is a terminal's side of a key agreement.
func (f *factory) agreed(tm *keyagreement.Terminal, curve keyagreement.Curve, given *hsm.Injected) *has {
	f.t.Helper()
	kbpk := make([]byte, curve.KeySize())
	answer, err := tm.Answer(given.Answer, func(chain []*x509.Certificate) error {
		if !chain[0].Equal(f.host) {
			return errors.New("another host")
		}
		return nil
	}, kbpk)
	f.must(err)
	return f.open(given, "A", kbpk, answer.Blocks)
}

// confirmed confirms an injection, and looks at the statement.
func (f *factory) confirmed(h *has) {
	f.t.Helper()
	said := f.receipt(h)
	statement, err := f.client.ConfirmInjection(f.t.Context(), said)
	f.must(err)
	confirmed, err := receipt.Open(statement)
	f.must(err)
	der, err := x509.MarshalPKIXPublicKey(confirmed.Identity)
	f.must(err)
	if ceremony.Digest(der) != f.identity || confirmed.Record.Injection != h.record.Injection || !bytes.Equal(confirmed.Receipt.MAC, said.MAC) || confirmed.At < confirmed.Record.At {
		f.t.Errorf("%+v", confirmed)
	}
}

// token34 asks for a key token as a front does.
func (f *factory) token34(d *holder, change func(*hsm.InjectByToken), keys ...hsm.InitialKey) (*hsm.Injected, error) {
	r := hsm.InjectByToken{Injection: f.injection(keys...), DeviceCertificates: [][]byte{d.cert.Raw, f.issuer.cert.Raw}}
	r.Host, r.HostCertificates, r.Device = f.key("rsa-host", 1), [][]byte{f.rsaHost.Raw}, deviceOf(d.cert)
	r.RandomToken = f.random("12345678")
	r.HostList = f.hostList()
	if change != nil {
		change(&r)
	}
	i, err := f.client.InjectByToken(f.t.Context(), r)
	if err != nil && i != nil {
		f.t.Error("something comes with an error")
	}
	return i, err
}

// random is RT_KRD.
func (f *factory) random(number string) []byte {
	f.t.Helper()
	encoded, err := tr34.RandomToken([]byte(number))
	f.must(err)
	return encoded
}

// hostList is the revocation list of the hosts' authority.
func (f *factory) hostList() []byte {
	f.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: f.now.Add(-time.Hour), NextUpdate: f.now.Add(time.Hour),
	}, f.hostAuthority.cert, f.hostAuthority.key)
	f.must(err)
	return der
}

// tr34Device is the terminal's side of TR-34.
func (f *factory) tr34Device(d *holder, profile string) *tr34.Device {
	f.t.Helper()
	p, known := tr34.ProfileNamed(profile)
	if !known {
		f.t.Fatalf("no profile %q", profile)
	}
	authorities := []*x509.Certificate{f.hostAuthority.cert}
	return &tr34.Device{Certificate: d.cert, Decrypt: tr34.RSADecrypt(d.key.(*rsa.PrivateKey)), Trust: &tr34.Trust{Roots: authorities, HostCAs: authorities}, Profile: p}
}

// taken is a terminal's side of a key token, with the random number that it sent; "" is one-pass.
func (f *factory) taken(d *holder, profile, random string, given *hsm.Injected) *has {
	f.t.Helper()
	expect := tr34.Expectation{Host: f.rsaHost, Now: f.now, Random: []byte(random), CRLs: [][]byte{f.hostList()}}
	if random == "" {
		expect.Random, expect.After = nil, f.now.Add(-time.Minute)
	}
	master := make([]byte, 32)
	got, err := f.tr34Device(d, profile).OpenKeyToken(given.Answer, expect, make([]byte, tr34.ScratchSize), master)
	f.must(err)
	master = master[:got.Size]
	header, _, err := keyblock.ParseHeader([]byte(got.Header))
	f.must(err)
	f.must(header.Validate())
	if header.Usage != "K1" || header.Mode != 'D' || header.Exportability != 'N' {
		f.t.Errorf("the master key comes as %s", got.Header)
	}
	return f.open(given, string(header.Algorithm), master, given.KeyBlocks, master)
}
