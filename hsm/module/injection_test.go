package module

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keyagreement"
	"keyd/receipt"
)

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
	elsewhere := f.created(f.bdk("elsewhere", "A", 16, func(k *ceremony.KeySpec) { k.InjectionHosts = []string{"rsa-host"} }))
	terminal := f.injected("t-2", hsm.MasterSpec{Algorithm: "A", Length: 32})
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
		"no request":                          {nil, nil, nil, fault.RequestInvalid},
		"seven keys":                          {request, make([]hsm.InitialKey, 7), nil, fault.RequestInvalid},
		"another maker's":                     {f.begin(f.issue(foreign, "device", elliptic.P256()), keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"its own authority":                   {f.begin(f.issue(nil, "device", elliptic.P256()), keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"without its issuer":                  {f.begin(device, keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"the host's own authority":            {f.begin(f.issue(f.hostAuthority, "device", elliptic.P256()), keyagreement.P256).Request(), nil, nil, fault.CertificateUntrusted},
		"an authority":                        {f.begin(f.issuer, keyagreement.P256).Request(), nil, nil, fault.CertificateInvalid},
		"a device signs for a device":         {f.begin(f.issue(device, "device", elliptic.P256()), keyagreement.P256, device.cert, f.issuer.cert).Request(), nil, nil, fault.CertificateUntrusted},
		"expired":                             {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.NotAfter = f.now.Add(-time.Minute) }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateExpired},
		"not yet valid":                       {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.NotBefore = f.now.Add(time.Minute) }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateExpired},
		"for enciphering only":                {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateInvalid},
		"a host":                              {f.begin(f.issue(f.issuer, "KDH 1", elliptic.P256()), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateRole},
		"a TLS server":                        {f.begin(f.device(elliptic.P256(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), keyagreement.P256, f.issuer.cert).Request(), nil, nil, fault.CertificateRole},
		"a base derivation key that may not":  {request, []hsm.InitialKey{{BDK: forbidden, ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"no base derivation key":              {request, []hsm.InitialKey{{BDK: zonal, ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"AES-256 by P-256":                    {request, []hsm.InitialKey{{BDK: strong, ID: good.ID}}, nil, fault.ExportForbidden},
		"an identifier that is none":          {request, []hsm.InitialKey{{BDK: good.BDK, ID: []byte("1234567")}}, nil, fault.KSNInvalid},
		"a key under another's name":          {request, []hsm.InitialKey{{BDK: hsm.Key{Name: "strong", Sealed: good.BDK.Sealed}, ID: good.ID}}, nil, fault.KeySealInvalid},
		"another's certificate as host's":     {request, nil, func(r *hsm.InjectByAgreement) { r.HostCertificates = [][]byte{f.hostAuthority.cert.Raw} }, fault.RequestInvalid},
		"a host's key that does not sign":     {request, nil, func(r *hsm.InjectByAgreement) { r.Host = zonal }, fault.KeyUsageMismatch},
		"another device's request":            {request, nil, func(r *hsm.InjectByAgreement) { r.Device = deviceOf(f.issuer.cert) }, fault.PublicKeyKnown},
		"another host of the key":             {request, []hsm.InitialKey{{BDK: elsewhere, ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"AES-256 as master key by P-256":      {request, nil, func(r *hsm.InjectByAgreement) { r.Master.Length = 32 }, fault.ExportForbidden},
		"bare AES-192 as master key by P-256": {request, nil, func(r *hsm.InjectByAgreement) { r.Master = hsm.MasterSpec{Algorithm: "A", Length: 24, Bare: true} }, fault.ExportForbidden},
		"a master key of one byte":            {request, nil, func(r *hsm.InjectByAgreement) { r.Master.Length = 1 }, fault.RequestInvalid},
		"a terminal with a colon":             {request, nil, func(r *hsm.InjectByAgreement) { r.Terminal = "t:master" }, fault.RequestInvalid},
		"a terminal of 65 letters":            {request, nil, func(r *hsm.InjectByAgreement) { r.Terminal = strings.Repeat("t", 65) }, fault.RequestInvalid},
		"a host's certificate that is none":   {request, nil, func(r *hsm.InjectByAgreement) { r.HostCertificates = [][]byte{{0x30, 0}} }, fault.RequestInvalid},
		"six certificates of the host":        {request, nil, func(r *hsm.InjectByAgreement) { r.HostCertificates = slices.Repeat(r.HostCertificates, 6) }, fault.RequestInvalid},
		"a terminal's master key as host":     {request, nil, func(r *hsm.InjectByAgreement) { r.Host = terminal.master() }, fault.KeyUsageMismatch},
		"a terminal's key as BDK":             {request, []hsm.InitialKey{{BDK: terminal.master(), ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"no host's certificate":               {request, nil, func(r *hsm.InjectByAgreement) { r.HostCertificates = nil }, fault.RequestInvalid},
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

// A request that was kept is answered again only with the keys that it got, so that nobody uses up
// identifiers with it; and not at all after the keys of another choice.
func TestARequestThatWasKept(t *testing.T) {
	f := newFactory(t)
	device := f.device(elliptic.P256())
	tm := f.begin(device, keyagreement.P256, f.issuer.cert)
	key := func(n byte) hsm.InitialKey {
		return hsm.InitialKey{Name: "pin", BDK: f.key("bdk", 1), ID: []byte{1, 2, 3, 4, 5, 6, 7, n}}
	}
	other := f.device(elliptic.P256())
	_, err := f.inject(f.begin(other, keyagreement.P256, f.issuer.cert).Request(), nil, key(9))
	f.must(err)
	// What the ledger refuses leaves the request free: the front goes on with another number.
	_, err = f.inject(tm.Request(), nil, key(9))
	f.refused(err, fault.InitialKeyAllotted)
	first, err := f.inject(tm.Request(), nil, key(1))
	f.must(err)
	for n := byte(2); n < 6; n++ {
		_, err = f.inject(tm.Request(), nil, key(n))
		f.refused(err, fault.RequestReplayed)
	}
	_, err = f.inject(tm.Request(), func(r *hsm.InjectByAgreement) { r.Master.Bare = true }, key(1))
	f.refused(err, fault.RequestReplayed)
	// Those numbers are still anybody's.
	_, err = f.inject(f.begin(other, keyagreement.P256, f.issuer.cert).Request(), nil, key(2))
	f.must(err)
	// The answer may have been lost. The second is as good as the first; the terminal takes one.
	again, err := f.inject(tm.Request(), nil, key(1))
	f.must(err)
	if bytes.Equal(first.Answer, again.Answer) || bytes.Equal(first.Master, again.Master) {
		t.Error("the same answer: a master key came twice")
	}
	f.confirmed(f.agreed(tm, keyagreement.P256, again))
	if _, err := tm.Answer(first.Answer, func([]*x509.Certificate) error { return nil }, make([]byte, 16)); err == nil {
		t.Error("the terminal takes a second answer")
	}
}

// While the modules cannot remember whose a key is, none leaves.
func TestNothingLeavesWithoutTheLedger(t *testing.T) {
	f := newTokenFactory(t)
	device, long := f.device(elliptic.P256()), f.rsaDevice(0)
	key := hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte("12345678")}
	good, err := os.ReadFile(f.ledger)
	f.must(err)
	for name, content := range map[string][]byte{"cut": good[:len(good)-1], "other bytes": bytes.Repeat([]byte("x"), 256), "empty": nil} {
		f.must(os.WriteFile(f.ledger, content, 0o600))
		if i, err := f.inject(f.begin(device, keyagreement.P256, f.issuer.cert).Request(), nil, key); fault.Of(err).Reason != fault.LedgerUnavailable || i != nil {
			t.Errorf("%s: by key agreement: %v", name, err)
		}
		if i, err := f.token34(long, nil, key); fault.Of(err).Reason != fault.LedgerUnavailable || i != nil {
			t.Errorf("%s: by token: %v", name, err)
		}
		if i, err := f.token34(long, nil); fault.Of(err).Reason != fault.LedgerUnavailable || i != nil {
			t.Errorf("%s: by token, without an initial key: %v", name, err)
		}
	}
	f.must(os.WriteFile(f.ledger, good, 0o600))
	_, err = f.inject(f.begin(device, keyagreement.P256, f.issuer.cert).Request(), nil, key)
	f.must(err)
}

// What an injection has made in the token is gone when it ends, well or not.
func TestInjectionsLeaveNothingInTheToken(t *testing.T) {
	f := newTokenFactory(t)
	key := func(n byte) hsm.InitialKey {
		return hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte{1, 2, 3, 4, 5, 6, 7, n}}
	}
	device := f.rsaDevice(0)
	h := f.injected("t-1", hsm.MasterSpec{Algorithm: "T", Length: 16}, key(1))
	specs := []hsm.SessionKeySpec{f.spec("P0", "T", 16), f.spec("M3", "T", 16)}
	all := func() {
		f.injected("t-2", hsm.MasterSpec{Algorithm: "A", Length: 32})
		_, err := f.inject(f.begin(f.device(elliptic.P256()), keyagreement.P256, f.issuer.cert).Request(), nil, key(1))
		f.refused(err, fault.InitialKeyAllotted)
		_, err = f.inject(f.begin(f.device(elliptic.P256()), keyagreement.P256, f.issuer.cert).Request(), func(r *hsm.InjectByAgreement) { r.Keys[0].ID = nil }, key(2))
		f.refused(err, fault.KSNInvalid)
		_, err = f.token34(device, nil, key(3))
		f.must(err)
		_, err = f.client.MakeSessionKeys(t.Context(), h.master(), specs)
		f.must(err)
		_, err = f.client.MakeSessionKeys(t.Context(), h.master(), append(specs[:1:1], f.spec("D0", "A", 16)))
		f.refused(err, fault.ExportForbidden)
		f.confirmed(h)
	}
	all() // what is kept of keys that are used again is kept
	before := f.sessionKeys()
	for range 3 {
		all()
	}
	if after := f.sessionKeys(); after != before {
		t.Errorf("%d secret keys of sessions are in the token, before there were %d", after, before)
	}
}

// sessionKeys counts the secret keys in the token that no module keeps for good.
func (f *factory) sessionKeys() int {
	f.t.Helper()
	ctx := pkcs11.New(f.fresh.Path)
	slot, _, err := f.fresh.Library.FindToken(f.fresh.Label)
	f.must(err)
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	f.must(err)
	defer ctx.CloseSession(session) //nolint:errcheck // the end of the test
	f.must(ctx.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)}))
	found, _, err := ctx.FindObjects(session, 10_000)
	f.must(err)
	f.must(ctx.FindObjectsFinal(session))
	return len(found)
}
