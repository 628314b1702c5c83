package module

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/receipt"
	"keyd/tr34"
)

// rsaDevice is a device with an RSA key.
func (f *factory) rsaDevice(n int, change ...func(*x509.Certificate)) *holder {
	change = append([]func(*x509.Certificate){func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }}, change...)
	return f.holding(f.issuer, "device", rsaKey(n), change...)
}

// A device gets its keys by a key token of TR-34, in every profile, with a random number and with
// a time stamp.
func TestDevicesGetTheirKeysByToken(t *testing.T) {
	f := newTokenFactory(t)
	tdes := f.created(f.bdk("tdes", "T", 16, func(k *ceremony.KeySpec) { k.KSNCheck = "" }))
	long, short := f.rsaDevice(0), f.rsaDevice(16, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	aes := hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte("12345678")}
	ksn, _ := hex.DecodeString("FFFF9876543210E00000")
	last := hsm.InitialKey{BDK: tdes, ID: ksn}
	otherKSN, _ := hex.DecodeString("FFFF9876543210C00000")
	for i, c := range []struct {
		device  *holder
		master  hsm.MasterSpec
		profile string
		random  string
		keys    []hsm.InitialKey
	}{
		{long, hsm.MasterSpec{Algorithm: "A", Length: 16}, "", "12345678", []hsm.InitialKey{aes, last}},
		{long, hsm.MasterSpec{Algorithm: "A", Length: 16}, "annex-b", "", []hsm.InitialKey{aes, last}},
		{long, hsm.MasterSpec{Algorithm: "A", Length: 16}, "rfc-oaep-sha1", "1234567890123456", nil},
		{long, hsm.MasterSpec{Algorithm: "T", Length: 16}, "annex-b-mgf1-sha1", "", nil},
		{long, hsm.MasterSpec{Algorithm: "T", Length: 16}, "rfc-mgf1-sha1", "another number", nil},
		{long, hsm.MasterSpec{Algorithm: "T", Length: 24}, "annex-b-tdes", "a third number", nil},
		{short, hsm.MasterSpec{Algorithm: "T", Length: 16}, "rfc", "12345678", []hsm.InitialKey{{BDK: tdes, ID: otherKSN}}},
		{short, hsm.MasterSpec{Algorithm: "T", Length: 24}, "annex-b-oaep-sha1", "", []hsm.InitialKey{{BDK: tdes, ID: otherKSN}}},
	} {
		got, err := f.token34(c.device, func(r *hsm.InjectByToken) {
			r.Master, r.Profile = c.master, c.profile
			if r.RandomToken = nil; c.random != "" {
				r.RandomToken = f.random(c.random)
			}
		}, c.keys...)
		f.must(err)
		h := f.taken(c.device, c.profile, c.random, got)
		method := receipt.ByTwoPass
		if c.random == "" {
			method = receipt.ByOnePass
		}
		if h.record.Method != method || h.record.Host != "rsa-host" || len(h.record.Keys) != 2+len(c.keys) {
			t.Errorf("%d: %+v", i, h.record)
		}
		f.confirmed(h)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	f := newTokenFactory(t)
	device, short := f.rsaDevice(0), f.rsaDevice(16)
	good := hsm.InitialKey{BDK: f.key("bdk", 1), ID: []byte("12345678")}
	tdes := f.created(f.bdk("tdes", "T", 16, func(k *ceremony.KeySpec) { k.KSNCheck = "" }))
	one := f.created(f.bdk("one", "A", 16, func(k *ceremony.KeySpec) { k.InjectionHosts = []string{"host"} }))
	foreign := f.holding(nil, "another maker", rsaKey(18), authority)
	ksn, _ := hex.DecodeString("FFFF9876543210E00000")
	for name, c := range map[string]struct {
		device *holder
		keys   []hsm.InitialKey
		change func(*hsm.InjectByToken)
		want   fault.Reason
	}{
		"AES under RSA-2048":                  {short, nil, nil, fault.ExportForbidden},
		"AES-192 under RSA-3072":              {device, nil, func(r *hsm.InjectByToken) { r.Master.Length = 24 }, fault.ExportForbidden},
		"AES-256 under RSA-3072":              {device, nil, func(r *hsm.InjectByToken) { r.Master.Length = 32 }, fault.ExportForbidden},
		"an AES key under a TDES master key":  {device, nil, func(r *hsm.InjectByToken) { r.Master.Algorithm = "T" }, fault.ExportForbidden},
		"a bare master key":                   {device, nil, func(r *hsm.InjectByToken) { r.Master.Bare = true }, fault.RequestInvalid},
		"a master key of single DES":          {device, nil, func(r *hsm.InjectByToken) { r.Master = hsm.MasterSpec{Algorithm: "T", Length: 8} }, fault.RequestInvalid},
		"a master key for HMAC":               {device, nil, func(r *hsm.InjectByToken) { r.Master = hsm.MasterSpec{Algorithm: "H", Length: 32} }, fault.RequestInvalid},
		"no master key":                       {device, nil, func(r *hsm.InjectByToken) { r.Master = hsm.MasterSpec{} }, fault.RequestInvalid},
		"a curve":                             {f.device(elliptic.P256()), nil, nil, fault.RequestInvalid},
		"another maker's":                     {f.holding(foreign, "device", rsaKey(0)), nil, nil, fault.CertificateUntrusted},
		"another's certificate":               {device, nil, func(r *hsm.InjectByToken) { r.DeviceCertificates[0] = short.cert.Raw }, fault.PublicKeyKnown},
		"a host":                              {f.holding(f.issuer, "KDH 7", rsaKey(0)), nil, nil, fault.CertificateRole},
		"an authority":                        {f.holding(f.issuer, "device", rsaKey(0), authority), nil, nil, fault.CertificateInvalid},
		"another host of the key":             {device, []hsm.InitialKey{{BDK: one, ID: good.ID}}, nil, fault.KeyUsageMismatch},
		"a host with a curve":                 {device, nil, func(r *hsm.InjectByToken) { r.Host, r.HostCertificates = f.key("host", 1), [][]byte{f.host.Raw} }, fault.RequestInvalid},
		"another's certificate as the host's": {device, nil, func(r *hsm.InjectByToken) { r.HostCertificates = [][]byte{short.cert.Raw} }, fault.RequestInvalid},
		"a profile that is none":              {device, nil, func(r *hsm.InjectByToken) { r.Profile = "annex-c" }, fault.RequestInvalid},
		"a random number that is none":        {device, nil, func(r *hsm.InjectByToken) { r.RandomToken = []byte("12345678") }, fault.RequestInvalid},
		"one pass without a list":             {device, nil, func(r *hsm.InjectByToken) { r.RandomToken, r.HostList = nil, nil }, fault.RequestInvalid},
		"a list that is none":                 {device, nil, func(r *hsm.InjectByToken) { r.HostList = []byte{0x30, 0} }, fault.RequestInvalid},
		"no identifier":                       {device, nil, func(r *hsm.InjectByToken) { r.Terminal = "" }, fault.RequestInvalid},
		"an identifier with a colon":          {device, nil, func(r *hsm.InjectByToken) { r.Terminal = "t-1:x" }, fault.RequestInvalid},
		"an initial key called master":        {device, []hsm.InitialKey{{Name: "master", BDK: good.BDK, ID: good.ID}}, nil, fault.RequestInvalid},
		"two initial keys of one name":        {device, []hsm.InitialKey{{Name: "pin", BDK: good.BDK, ID: good.ID}, {Name: "pin", BDK: tdes, ID: ksn}}, nil, fault.RequestInvalid},
	} {
		keys := c.keys
		if keys == nil {
			keys = []hsm.InitialKey{good}
		}
		if _, err := f.token34(c.device, c.change, keys...); err == nil || fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	// None of it has bound the key: another device gets it.
	_, err := f.token34(f.rsaDevice(4), nil, good)
	f.must(err)
}

// A request is answered with one choice of keys, whatever a front that was taken over has kept.
func TestARequestGetsOneChoiceOfKeys(t *testing.T) {
	f := newTokenFactory(t)
	device := f.rsaDevice(0)
	key := func(n byte) hsm.InitialKey {
		return hsm.InitialKey{Name: "pin", BDK: f.key("bdk", 1), ID: []byte{1, 2, 3, 4, 5, 6, 7, n}}
	}
	first, err := f.token34(device, nil, key(1))
	f.must(err)
	for name, change := range map[string]func(*hsm.InjectByToken){
		"another identifier": func(r *hsm.InjectByToken) { r.Keys = []hsm.InitialKey{key(2)} },
		"one more": func(r *hsm.InjectByToken) {
			r.Keys = append(r.Keys, hsm.InitialKey{Name: "data", BDK: key(3).BDK, ID: key(3).ID})
		},
		"none":                      func(r *hsm.InjectByToken) { r.Keys = nil },
		"another master key":        func(r *hsm.InjectByToken) { r.Keys, r.Master = nil, hsm.MasterSpec{Algorithm: "T", Length: 16} },
		"one that is another's":     func(r *hsm.InjectByToken) { r.Keys = []hsm.InitialKey{key(9)} },
		"another identifier, again": func(r *hsm.InjectByToken) { r.Keys = []hsm.InitialKey{key(2)} },
	} {
		_, err := f.token34(device, change, key(1))
		if fault.Of(err).Reason != fault.RequestReplayed {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same choice may go once more: its answer may have been lost. It is another master key.
	again, err := f.token34(device, nil, key(1))
	f.must(err)
	a, b := f.taken(device, "", "12345678", first), f.taken(device, "", "12345678", again)
	if slices.Equal(a.values[0], b.values[0]) || slices.Equal(a.values[1], b.values[1]) || !slices.Equal(a.values[2], b.values[2]) {
		t.Error("a master key came twice, or an initial key did not")
	}
	// Another device may have sent the same number, and this one sends another.
	_, err = f.token34(f.rsaDevice(4), nil, key(4))
	f.must(err)
	_, err = f.token34(device, func(r *hsm.InjectByToken) { r.RandomToken = f.random("87654321") }, key(2))
	f.must(err)
	// What was refused has bound nothing: the one of another request is free for another device.
	_, err = f.token34(f.rsaDevice(5), nil, key(3))
	f.must(err)
	// Nor is a request bound by what the ledger refused: it may be asked for with other numbers.
	fresh := func(r *hsm.InjectByToken) { r.RandomToken = f.random("fresh one") }
	_, err = f.token34(device, fresh, key(4))
	f.refused(err, fault.InitialKeyAllotted)
	_, err = f.token34(device, fresh, key(5))
	f.must(err)
}

// A device forgets its host, or gets another, by a token for its random number.
func TestBindingTokens(t *testing.T) {
	f := newTokenFactory(t)
	device := f.rsaDevice(0)
	next := f.holding(f.hostAuthority, "KDH of another acquirer", rsaKey(19))
	ask := func(change func(*hsm.MakeBindingToken)) ([]byte, error) {
		r := hsm.MakeBindingToken{
			Host: f.key("rsa-host", 1), HostCertificates: [][]byte{f.rsaHost.Raw}, DeviceCertificates: [][]byte{device.cert.Raw, f.issuer.cert.Raw}, Device: deviceOf(device.cert),
			RandomToken: f.random("12345678"),
		}
		if change != nil {
			change(&r)
		}
		return f.client.MakeBindingToken(t.Context(), r)
	}
	rebind := func(r *hsm.MakeBindingToken) { r.NewHost, r.HostList = [][]byte{next.cert.Raw}, f.hostList() }
	expect := tr34.Expectation{Host: f.rsaHost, Now: f.now, Random: []byte("12345678"), CRLs: [][]byte{f.hostList()}}
	for _, profile := range tr34.ProfileNames() {
		made, err := ask(func(r *hsm.MakeBindingToken) { r.Profile = profile })
		f.must(err)
		f.must(f.tr34Device(device, profile).OpenUnbindToken(made, expect))
	}
	// Officers say which authorities vouch for hosts; those of terminals do not.
	_, err := ask(rebind)
	f.refused(err, fault.CertificateUntrusted)
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: f.hostAuthority.cert.Raw, Uses: []string{"hosts"}}, ValidFor: 3600}))
	for _, profile := range tr34.ProfileNames() {
		made, err := ask(func(r *hsm.MakeBindingToken) { rebind(r); r.Profile = profile })
		f.must(err)
		credential, err := f.tr34Device(device, profile).OpenRebindToken(made, expect)
		f.must(err)
		if !credential.Certificate.Equal(next.cert) {
			t.Errorf("%s: bound to %s", profile, credential.Certificate.Subject)
		}
	}
	for name, c := range map[string]struct {
		change func(*hsm.MakeBindingToken)
		want   fault.Reason
	}{
		"another device":             {func(r *hsm.MakeBindingToken) { r.Device[0] ^= 1 }, fault.PublicKeyKnown},
		"a maker's device as a host": {func(r *hsm.MakeBindingToken) { rebind(r); r.NewHost = [][]byte{device.cert.Raw, f.issuer.cert.Raw} }, fault.CertificateInvalid},
		"a maker's other as a host": {func(r *hsm.MakeBindingToken) {
			rebind(r)
			r.NewHost = [][]byte{f.holding(f.issuer, "KDH", rsaKey(19)).cert.Raw, f.issuer.cert.Raw}
		}, fault.CertificateUntrusted},
		"a host with a curve":   {func(r *hsm.MakeBindingToken) { rebind(r); r.NewHost = [][]byte{f.host.Raw} }, fault.RequestInvalid},
		"a host without a list": {func(r *hsm.MakeBindingToken) { rebind(r); r.HostList = nil }, fault.RequestInvalid},
		"no random number":      {func(r *hsm.MakeBindingToken) { r.RandomToken = nil }, fault.RequestInvalid},
		"a host as a device": {func(r *hsm.MakeBindingToken) {
			r.DeviceCertificates, r.Device = [][]byte{next.cert.Raw}, deviceOf(next.cert)
		}, fault.CertificateRole},
		"another's certificate":     {func(r *hsm.MakeBindingToken) { r.HostCertificates = [][]byte{next.cert.Raw} }, fault.RequestInvalid},
		"a pair that does not sign": {func(r *hsm.MakeBindingToken) { r.Host = f.key("bdk", 1) }, fault.KeyUsageMismatch},
	} {
		made, err := ask(c.change)
		if err == nil || made != nil || fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	f.must(f.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "rsa-host", Version: 1}, ValidFor: 3600}))
	_, err = ask(nil)
	f.refused(err, fault.KeyDisabled)
	_, err = f.token34(device, nil)
	f.refused(err, fault.KeyDisabled)
}
