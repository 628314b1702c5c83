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
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyagreement"
	"keyd/keyblock"
	"keyd/receipt"
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
	injections    byte
}

func newFactory(t *testing.T) *factory {
	f := &factory{office: newOffice(t)}
	f.maker = f.issue(nil, "maker", elliptic.P521(), authority)
	f.issuer = f.issue(f.maker, "issuing", elliptic.P521(), authority)
	f.hostAuthority = f.holding(nil, "acquirer", rsaKey(2), authority)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: f.maker.cert.Raw, Uses: []string{"terminals"}}, ValidFor: 3600}))
	f.created(&ceremony.KeySpec{Name: "host", Version: 1, Usage: "S0", Algorithm: "E", Length: 66, Mode: "S", Exportability: "N", Peers: []string{"acquirer"}})
	f.created(&ceremony.KeySpec{Name: "rsa-host", Version: 1, Usage: "S0", Algorithm: "R", Length: 384, Mode: "S", Exportability: "N"})
	load := loading(f.bdk("bdk", "A", 16))
	load.ValidFor = 3600
	f.must(f.through(load, componentA, componentB))
	f.host, f.rsaHost = f.certified("host"), f.certified("rsa-host")
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
	f.injections++
	i := hsm.Injection{ID: [16]byte{f.injections}, Terminal: "t-1", Master: hsm.MasterSpec{Algorithm: "A", Length: 16}, Keys: keys}
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

// A device gets a master key, a key for its receipt, and the initial keys of its own, which are
// those that the standards say, on every curve; what it confirms is signed.
func TestDevicesGetTheirKeysByAgreement(t *testing.T) {
	f := newFactory(t)
	tdes := f.created(f.bdk("tdes", "T", 16, func(k *ceremony.KeySpec) { k.KSNCheck = "" }))
	value := xor(t, componentA, componentB)
	for n, c := range []struct {
		curve  keyagreement.Curve
		master hsm.MasterSpec
	}{
		{keyagreement.P256, hsm.MasterSpec{Algorithm: "A", Length: 16}}, {keyagreement.P256, hsm.MasterSpec{Algorithm: "T", Length: 16}},
		{keyagreement.P384, hsm.MasterSpec{Algorithm: "A", Length: 24}}, {keyagreement.P384, hsm.MasterSpec{Algorithm: "T", Length: 24, Bare: true}},
		{keyagreement.P521, hsm.MasterSpec{Algorithm: "A", Length: 32}}, {keyagreement.P521, hsm.MasterSpec{Algorithm: "A", Length: 32, Bare: true}},
	} {
		d := f.device(elliptic.P521())
		tm := f.begin(d, c.curve, f.issuer.cert)
		id, _ := hex.DecodeString(fmt.Sprintf("12345678%08X", n))
		ksn, _ := hex.DecodeString(fmt.Sprintf("FFFF98765432%02X000000", 2*n)[:20])
		got, err := f.inject(tm.Request(), func(r *hsm.InjectByAgreement) { r.Master = c.master }, hsm.InitialKey{BDK: f.key("bdk", 1), ID: id}, hsm.InitialKey{BDK: tdes, ID: ksn})
		f.must(err)
		h := f.agreed(tm, c.curve, got)
		r := h.record
		if want := deviceOf(d.cert); r.Device != hex.EncodeToString(want[:]) || r.Terminal != "t-1" || r.Method != receipt.ByAgreement || r.Host != "host" || r.At != f.now.Unix() ||
			r.Keys[2].BDK != "bdk" || r.Keys[2].ID != fmt.Sprintf("%X", id) || r.Keys[3].ID != fmt.Sprintf("%X", ksn) {
			t.Errorf("%s: %+v", c.curve, r)
		}
		initial, err := dukpt.ParseInitialKSN(append(bytes.Clone(id), 0, 0, 0, 0))
		f.must(err)
		path, err := dukpt.NewInitialKeyPath(initial, dukpt.AES128)
		f.must(err)
		want := make([]byte, 16)
		f.must(software.AESDerive(want, value, path))
		if !bytes.Equal(h.values[2], want) {
			t.Errorf("%s: initial key %X, want %X", c.curve, h.values[2], want)
		}
		f.confirmed(h)
	}
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

// Each initial key is one device's, however often and by however many at once it is asked for,
// and whatever name its base derivation key has.
func TestAnInitialKeyIsOneDevices(t *testing.T) {
	f := newFactory(t)
	key := hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte("12345678")}
	const devices = 6
	var mu sync.Mutex
	var owner *holder
	var wait sync.WaitGroup
	for range devices {
		d := f.device(elliptic.P256())
		wait.Go(func() {
			tm := f.begin(d, keyagreement.P256, f.issuer.cert)
			_, err := f.inject(tm.Request(), nil, key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && owner == nil:
				owner = d
			case err == nil:
				t.Error("two devices have it")
			case fault.Of(err).Reason != fault.InitialKeyAllotted:
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if owner == nil {
		t.Fatal("nobody has it")
	}
	// It may ask again, with another certificate of the same key too.
	_, err := f.inject(f.begin(owner, keyagreement.P256, f.issuer.cert).Request(), nil, key)
	f.must(err)
	renewed := &holder{key: owner.key, cert: f.certify(f.issuer, nil, "renewed", owner.key.Public())}
	_, err = f.inject(f.begin(renewed, keyagreement.P256, f.issuer.cert).Request(), nil, key)
	f.must(err)
	// One that belongs to another takes all that come with it down.
	other := f.device(elliptic.P256())
	free := hsm.InitialKey{BDK: key.BDK, ID: []byte("12345679")}
	_, err = f.inject(f.begin(other, keyagreement.P256, f.issuer.cert).Request(), nil, free, key)
	f.refused(err, fault.InitialKeyAllotted)
	_, err = f.inject(f.begin(owner, keyagreement.P256, f.issuer.cert).Request(), nil, free)
	f.must(err)
	// What officers have exported belongs to those who got it, and the other way round.
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Create, Key: &ceremony.KeySpec{Name: "kif", Version: 1, Usage: "K1", Algorithm: "A", Length: 32, Mode: "E", Exportability: "N"}, ValidFor: 3600}))
	export := func(id string) error {
		return f.through(&ceremony.Definition{
			Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "bdk", Version: 1}, Under: &ceremony.KeyRef{Name: "kif", Version: 1},
			Export: &ceremony.BlockForm{Version: "D", Exportability: "N", KSN: id}, ValidFor: 3600,
		})
	}
	f.refused(export(fmt.Sprintf("%X", "12345678")), fault.InitialKeyAllotted)
	f.must(export("AAAAAAAABBBBBBBB"))
	_, err = f.inject(f.begin(other, keyagreement.P256, f.issuer.cert).Request(), nil, hsm.InitialKey{BDK: key.BDK, ID: []byte{0xAA, 0xAA, 0xAA, 0xAA, 0xBB, 0xBB, 0xBB, 0xBB}})
	f.refused(err, fault.InitialKeyAllotted)
}

// What a front that was taken over may try.
func TestInjectionsThatAreRefused(t *testing.T) {
	f := newFactory(t)
	foreign := f.issue(nil, "another maker", elliptic.P256(), authority)
	good := hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte("12345678")}
	device := f.device(elliptic.P256())
	request := f.begin(device, keyagreement.P256, f.issuer.cert).Request()
	forbidden := f.created(f.bdk("forbidden", "A", 16, func(k *ceremony.KeySpec) { k.InjectionHosts = nil }))
	strong := f.created(f.bdk("strong", "A", 32))
	zonal := f.created(zone("zonal"))
	altered := bytes.Clone(request)
	altered[len(altered)/2] ^= 1
	for name, c := range map[string]struct {
		request []byte
		keys    []hsm.InitialKey
		change  func(*hsm.InjectByAgreement)
		want    fault.Reason
	}{
		"no request":                         {nil, nil, nil, fault.RequestInvalid},
		"seven keys":                         {request, make([]hsm.InitialKey, 7), nil, fault.RequestInvalid},
		"another maker's":                    {f.begin(f.issue(foreign, "device", elliptic.P256()), keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"its own authority":                  {f.begin(f.issue(nil, "device", elliptic.P256()), keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"without its issuer":                 {f.begin(device, keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"the host's own authority":           {f.begin(f.issue(f.hostAuthority, "device", elliptic.P256()), keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"an authority":                       {f.begin(f.issuer, keyagreement.P256).Request(), nil, nil, fault.CertificateInvalid},
		"a device signs for a device":        {f.begin(f.issue(device, "device", elliptic.P256()), keyagreement.P256, device.cert, f.issuer.cert).Request(), nil, nil, fault.CertificateUntrusted},
		"expired":                            {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.NotAfter = f.now.Add(-time.Minute) }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateExpired},
		"not yet valid":                      {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.NotBefore = f.now.Add(time.Minute) }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateExpired},
		"for enciphering only":               {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateInvalid},
		"a host":                             {f.begin(f.issue(f.issuer, "KDH 1", elliptic.P256()), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateRole},
		"a TLS server":                       {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateRole},
		"a base derivation key that may not": {request, []hsm.InitialKey{{BDK: forbidden, ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"no base derivation key":             {request, []hsm.InitialKey{{BDK: zonal, ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"AES-256 by P-256":                   {request, []hsm.InitialKey{{BDK: strong, ID: good.ID}}, nil, fault.ExportForbidden},
		"an identifier that is none":         {request, []hsm.InitialKey{{BDK: good.BDK, ID: []byte("1234567")}}, nil, fault.KSNInvalid},
		"a key under another's name":         {request, []hsm.InitialKey{{BDK: hsm.Key{Name: "strong", Sealed: good.BDK.Sealed}, ID: good.ID}}, nil, fault.KeySealInvalid},
		"another's certificate as host's":    {request, nil, func(r *hsm.InjectByAgreement) { r.HostCertificates = [][]byte{f.hostAuthority.cert.Raw} }, fault.RequestInvalid},
		"a host's key that does not sign":    {request, nil, func(r *hsm.InjectByAgreement) { r.Host = zonal }, fault.KeyUsageMismatch},
		"no host's certificate":              {request, nil, func(r *hsm.InjectByAgreement) { r.HostCertificates = nil }, fault.RequestInvalid},
	} {
		keys := c.keys
		if keys == nil {
			keys = []hsm.InitialKey{good}
		}
		_, err := f.inject(c.request, c.change, keys...)
		if err == nil || fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := f.inject(altered, nil, good); err == nil {
		t.Error("an altered request")
	}
	// None of it has bound the key, or the request: the device gets it.
	_, err := f.inject(request, nil, good)
	f.must(err)

	// From the officers' decision on, nothing leaves for that maker's devices, nor of that key.
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "bdk", Version: 1}, ValidFor: 3600}))
	_, err = f.inject(request, nil, good)
	f.refused(err, fault.KeyDisabled)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Start, Target: &ceremony.KeyRef{Name: "bdk", Version: 1}, ValidFor: 3600}))
	// An issuer of the maker's that was believed by itself is not by way of the maker either.
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: f.issuer.cert.Raw, Uses: []string{"terminals"}}, ValidFor: 3600}))
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{ceremony.Digest(f.issuer.cert.Raw)}, ValidFor: 3600}))
	_, err = f.inject(request, nil, good)
	f.refused(err, fault.CertificateUntrusted)
	direct := f.begin(f.issue(f.maker, "device", elliptic.P256()), keyagreement.P256).Request()
	_, err = f.inject(direct, nil, hsm.InitialKey{BDK: good.BDK, ID: []byte("12345670")})
	f.must(err)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{ceremony.Digest(f.maker.cert.Raw)}, ValidFor: 3600}))
	_, err = f.inject(direct, nil, good)
	f.refused(err, fault.CertificateUntrusted)
}
