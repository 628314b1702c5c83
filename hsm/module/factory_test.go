package module

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/keyagreement"
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
