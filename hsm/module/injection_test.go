package module

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
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
)

// holder is somebody who has a certificate and its key.
type holder struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// issue makes a certificate under another, or under itself; change makes it another one.
func (o *office) issue(by *holder, name string, curve elliptic.Curve, change ...func(*x509.Certificate)) *holder {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	o.must(err)
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
	host          *x509.Certificate
	hostAuthority *holder
}

func newFactory(t *testing.T) *factory {
	f := &factory{office: newOffice(t)}
	f.maker = f.issue(nil, "maker", elliptic.P521(), authority)
	f.issuer = f.issue(f.maker, "issuing", elliptic.P521(), authority)
	f.hostAuthority = f.issue(nil, "acquirer", elliptic.P521(), authority)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: f.maker.cert.Raw, Uses: []string{"terminals"}}, ValidFor: 3600}))
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Create, Key: &ceremony.KeySpec{Name: "host", Version: 1, Usage: "S0", Algorithm: "E", Length: 66, Mode: "S", Exportability: "N"}, ValidFor: 3600}))
	load := loading(f.bdk("bdk", "A", 16))
	load.ValidFor = 3600
	f.must(f.through(load, componentA, componentB))
	der, err := f.client.CertificateRequest(t.Context(), f.key("host", 1), hsm.CertificateSubject{CommonName: "host"})
	f.must(err)
	request, err := x509.ParseCertificateRequest(der)
	f.must(err)
	f.host = f.certify(f.hostAuthority, nil, "host", request.PublicKey)
	return f
}

func (f *factory) bdk(name, algorithm string, length uint16, change ...func(*ceremony.KeySpec)) *ceremony.KeySpec {
	k := &ceremony.KeySpec{Name: name, Version: 1, Usage: "B0", Algorithm: algorithm, Length: length, Mode: "X", Exportability: "N", Direction: hsm.DirectionIncoming, KSNCheck: hsm.KSNMonotonic, InjectionHosts: []string{"host"}}
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

// inject asks for initial keys as a front does.
func (f *factory) inject(request []byte, change func(*hsm.InjectByAgreement), keys ...hsm.InitialKey) (*hsm.Injected, error) {
	r := hsm.InjectByAgreement{Request: request, Host: f.key("host", 1), HostCertificates: [][]byte{f.host.Raw}, Keys: keys}
	if change != nil {
		change(&r)
	}
	i, err := f.client.InjectByAgreement(f.t.Context(), r)
	if err != nil && i != nil {
		f.t.Error("something comes with an error")
	}
	return i, err
}

// opened unwraps a block with the key that was agreed on.
func (f *factory) opened(kbpk []byte, text string) (*keyblock.Block, []byte) {
	f.t.Helper()
	block, err := keyblock.Parse([]byte(text))
	f.must(err)
	var value []byte
	f.must(f.token.Do(func(s *token.Session) error {
		object, err := s.Import(pkcs11.CKK_AES, token.MaySign, kbpk)
		if err != nil {
			return err
		}
		out := make([]byte, 64)
		n, err := keyblocks.Unwrap(s, keyblocks.KBPK{Algorithm: "A", Length: len(kbpk), Key: object}, block, out)
		value = out[:n]
		return err
	}))
	return block, value
}

// A device gets the initial keys of its own, which are those that the standards say, on every
// curve.
func TestDevicesGetTheirInitialKeys(t *testing.T) {
	f := newFactory(t)
	tdes := f.created(f.bdk("tdes", "T", 16, func(k *ceremony.KeySpec) { k.KSNCheck = "" }))
	value := xor(t, componentA, componentB)
	for n, curve := range []keyagreement.Curve{keyagreement.P256, keyagreement.P384, keyagreement.P521} {
		d := f.device(elliptic.P521())
		tm := f.begin(d, curve, f.issuer.cert)
		id, _ := hex.DecodeString(fmt.Sprintf("12345678%08X", n))
		ksn, _ := hex.DecodeString(fmt.Sprintf("FFFF98765432%02X000000", n)[:20])
		got, err := f.inject(tm.Request(), nil, hsm.InitialKey{BDK: f.key("bdk", 1), ID: id}, hsm.InitialKey{BDK: tdes, ID: ksn})
		f.must(err)
		if want := sha256.Sum256(d.cert.RawSubjectPublicKeyInfo); !bytes.Equal(got.Device, want[:]) || len(got.CheckValues) != 2 {
			t.Errorf("%s: %x %v", curve, got.Device, got.CheckValues)
		}
		kbpk := make([]byte, curve.KeySize())
		answer, err := tm.Answer(got.Answer, func(chain []*x509.Certificate) error {
			if !chain[0].Equal(f.host) {
				t.Error("another host")
			}
			return nil
		}, kbpk)
		f.must(err)
		for i, text := range answer.Blocks {
			block, key := f.opened(kbpk, text)
			h := &block.Header
			if h.Usage != "B1" || h.Mode != 'X' || h.Exportability != 'N' {
				t.Errorf("%s: %s", curve, block.HeaderText)
			}
			if said, there := h.Find([]string{"IK", "KS"}[i]); !there || said != fmt.Sprintf("%X", [][]byte{id, ksn}[i]) {
				t.Errorf("%s: it names %q", curve, said)
			}
			f.must(f.token.Do(func(s *token.Session) error {
				check, err := sealing.CheckValue(s, string(h.Algorithm), key)
				if err == nil && check != got.CheckValues[i] {
					t.Errorf("%s: check value %s, it says %s", curve, check, got.CheckValues[i])
				}
				return err
			}))
			if i == 1 {
				continue
			}
			initial, err := dukpt.ParseInitialKSN(append(bytes.Clone(id), 0, 0, 0, 0))
			f.must(err)
			path, err := dukpt.NewInitialKeyPath(initial, dukpt.AES128)
			f.must(err)
			want := make([]byte, 16)
			f.must(software.AESDerive(want, value, path))
			if !bytes.Equal(key, want) {
				t.Errorf("%s: initial key %X, want %X", curve, key, want)
			}
		}
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
	list := func(of *holder, serials ...*x509.Certificate) []byte {
		template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: f.now.Add(-time.Hour), NextUpdate: f.now.Add(time.Hour)}
		for _, c := range serials {
			template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: f.now})
		}
		der, err := x509.CreateRevocationList(rand.Reader, template, of.cert, of.key)
		f.must(err)
		return der
	}
	altered := bytes.Clone(request)
	altered[len(altered)/2] ^= 1
	for name, c := range map[string]struct {
		request []byte
		keys    []hsm.InitialKey
		change  func(*hsm.InjectByAgreement)
		want    fault.Reason
	}{
		"no request":                         {nil, nil, nil, fault.RequestInvalid},
		"no key":                             {request, []hsm.InitialKey{}, nil, fault.RequestInvalid},
		"nine keys":                          {request, make([]hsm.InitialKey, 9), nil, fault.RequestInvalid},
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
		"revoked":                            {request, nil, func(r *hsm.InjectByAgreement) { r.RevocationLists = [][]byte{list(f.issuer, device.cert)} }, fault.CertificateRevoked},
		"its issuer is revoked":              {request, nil, func(r *hsm.InjectByAgreement) { r.RevocationLists = [][]byte{list(f.maker, f.issuer.cert)} }, fault.CertificateRevoked},
		"a list that is none":                {request, nil, func(r *hsm.InjectByAgreement) { r.RevocationLists = [][]byte{{0x30, 0}} }, fault.RequestInvalid},
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
	// None of it has bound the key: the device gets it; nor does a list that does not name it matter.
	_, err := f.inject(request, func(r *hsm.InjectByAgreement) {
		r.RevocationLists = [][]byte{list(f.issuer, f.issuer.cert), list(f.maker)}
	}, good)
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
