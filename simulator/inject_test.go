package simulator

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyagreement"
	blocks "keyd/keyblock/software"
	"keyd/pinblock"
	"keyd/receipt"
	"keyd/tr34"
)

// taken checks what a device says once it has taken the keys of keys().
func taken(t *testing.T, d *Device) {
	t.Helper()
	i, err := d.Info()
	if err != nil {
		t.Fatal(err)
	}
	if i.Waiting != "" || i.Received == nil || i.Current != nil || len(i.Received.Registers) != 2 {
		t.Fatalf("%+v", i)
	}
	if r := i.Received.Registers; r[0].KSN != "123456789012345600000001" || r[1].KSN != "FFFF9876543210E00001" || r[0].KeyID != "bdk-aes" {
		t.Errorf("%+v", r)
	}
	confirm, err := d.Receipt()
	if err != nil {
		t.Fatal(err)
	}
	text, err := receipt.Text([16]byte(bytes.Repeat([]byte{0xAB}, 16)), confirm.KeyCheckValues)
	if err != nil {
		t.Fatal(err)
	}
	c, err := blocks.Cipher('A', keys()[1].value)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(confirm.Mac, blocks.CMAC(c, text)) {
		t.Error("the receipt has another MAC")
	}
	for n, k := range keys() {
		check, err := blocks.CheckValue(k.header.Algorithm, k.value)
		if err != nil || confirm.KeyCheckValues[n] != upperHex(check) {
			t.Errorf("check value %d is %s, %v", n, confirm.KeyCheckValues[n], err)
		}
	}
	if _, err := d.Send(Under{Register: "pin"}, Message{Text: []byte("x")}); !errors.Is(err, errNoKeys) {
		t.Errorf("keys that are not confirmed are used: %v", err)
	}
	for range 2 { // the answer may be lost, and the receipt sent again
		if err := d.Confirmed(confirm.InjectionId); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := d.Receipt(); err != nil || !bytes.Equal(again.Mac, confirm.Mac) {
		t.Errorf("another receipt afterwards: %v", err)
	}
}

// TestKeyAgreement from every kind of key that may sign for a curve.
func TestKeyAgreement(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "P-521")
	for _, algorithm := range []string{"P-256", "P-384", "P-521", "RSA-3072"} {
		d, _ := newDevice(t, algorithm, maker, h.ca)
		r := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
		if err := r.Take(h.agree(r.Message().GetKeyAgreement(), keys())); err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		taken(t, d)
	}
	d, _ := newDevice(t, "RSA-2048", maker, h.ca)
	if r, err := d.Ask(keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{}); err == nil || r != nil {
		t.Error("RSA-2048 signs for a curve")
	}
}

// TestTR34 in both passes: the request is the same until it is answered, also for a device that
// was started again.
func TestTR34(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "RSA-2048")
	d, c := newDevice(t, "RSA-3072", maker, h.ca)
	if _, err := d.Ask(keydv1.InjectionMethod_TR34_TWO_PASS, AskOptions{}); err == nil {
		t.Error("a device that is bound to no host asks")
	}
	mustBind(t, d, h)
	mustBind(t, d, h)
	first := mustAsk(t, d, keydv1.InjectionMethod_TR34_TWO_PASS, AskOptions{})
	r := mustAsk(t, OpenDevice(d.path), keydv1.InjectionMethod_TR34_TWO_PASS, AskOptions{})
	token := r.Message().GetTr34RandomToken()
	if !bytes.Equal(token, first.Message().GetTr34RandomToken()) {
		t.Fatal("another request")
	}
	random, err := tr34.ReadRandomToken(token)
	if err != nil {
		t.Fatal(err)
	}
	answer := h.token(maker, c, tr34.Freshness{Random: random}, keys())
	if err := r.Take(answer); err != nil {
		t.Fatal(err)
	}
	taken(t, d)
	if err := first.Take(answer); !errors.Is(err, ErrAskedAgain) {
		t.Errorf("an answer is taken twice: %v", err)
	}
	other, theirs := newDevice(t, "RSA-3072", maker, h.ca)
	mustBind(t, other, h)
	swapped := mustAsk(t, other, keydv1.InjectionMethod_TR34_TWO_PASS, AskOptions{})
	if random, err = tr34.ReadRandomToken(swapped.Message().GetTr34RandomToken()); err != nil {
		t.Fatal(err)
	}
	if err := swapped.Take(h.token(maker, c, tr34.Freshness{Random: random}, keys())); !errors.Is(err, tr34.ErrRecipient) {
		t.Errorf("a token for another device is taken: %v", err)
	}
	if err := swapped.Take(h.token(maker, theirs, tr34.Freshness{Random: random}, keys())); err != nil {
		t.Error(err)
	}
	fresh := mustAsk(t, d, keydv1.InjectionMethod_TR34_TWO_PASS, AskOptions{Fresh: true})
	if err := fresh.Take(answer); !errors.Is(err, tr34.ErrRandom) {
		t.Errorf("an old token is taken: %v", err)
	}

	one := mustAsk(t, d, keydv1.InjectionMethod_TR34_ONE_PASS, AskOptions{})
	stamped := h.token(maker, c, tr34.Freshness{Time: time.Now(), CRL: h.list}, keys())
	if err := one.Take(stamped); err != nil {
		t.Fatal(err)
	}
	one = mustAsk(t, d, keydv1.InjectionMethod_TR34_ONE_PASS, AskOptions{Anew: true})
	if !one.Message().Anew {
		t.Error("it does not ask anew")
	}
	if err := one.Take(stamped); !errors.Is(err, tr34.ErrStale) {
		t.Errorf("a stale token is taken: %v", err)
	}
}

// TestUnbindAndRebind: a device that leaves its host has no key of it any more.
func TestUnbindAndRebind(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "RSA-2048")
	other := newHostOf(t, h.ca, "RSA-2048")
	d, c := newDevice(t, "RSA-3072", maker, h.ca)
	mustBind(t, d, h)
	if err := d.Bind([][]byte{other.certificate.Raw}, nil, other.credential()); err == nil {
		t.Error("it is bound to another host by itself")
	}
	r := mustAsk(t, d, keydv1.InjectionMethod_TR34_ONE_PASS, AskOptions{})
	if err := r.Take(h.token(maker, c, tr34.Freshness{Time: time.Now(), CRL: h.list}, keys())); err != nil {
		t.Fatal(err)
	}
	taken(t, d)
	request := func(rebind bool) tr34.Freshness {
		t.Helper()
		token, err := d.BindingRequest(rebind)
		if err != nil {
			t.Fatal(err)
		}
		random, err := tr34.ReadRandomToken(token)
		if err != nil {
			t.Fatal(err)
		}
		return tr34.Freshness{Random: random, CRL: h.list}
	}
	to := tr34.Recipient{Device: c, Now: time.Now()}
	token, err := h.side(maker).RebindToken(to, other.certificate, request(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unbind(token); err == nil {
		t.Error("a token to rebind unbinds")
	}
	if err := d.Rebind(token); err != nil {
		t.Fatal(err)
	}
	i, err := d.Info()
	if err != nil || i.Host == nil || !i.Host.Equal(other.certificate) || i.Current != nil || i.Received != nil {
		t.Fatalf("%+v, %v", i, err)
	}
	if err := d.Rebind(token); err == nil {
		t.Error("the token counts twice")
	}
	fresh := request(false)
	foreign, err := h.side(maker).UnbindToken(to, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unbind(foreign); !errors.Is(err, tr34.ErrSigner) {
		t.Errorf("the host of before unbinds it: %v", err)
	}
	token, err = other.side(maker).UnbindToken(to, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unbind(token); err != nil {
		t.Fatal(err)
	}
	if i, err = d.Info(); err != nil || i.Host != nil {
		t.Fatalf("%+v, %v", i, err)
	}
	mustBind(t, d, h)
}

// TestWhatADeviceRefuses: a file is as it was before, and the right answer is still taken.
func TestWhatADeviceRefuses(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "P-521")
	strangers, err := newAuthority("Hosts", "P-256") // of the same name
	if err != nil {
		t.Fatal(err)
	}
	stranger := newHostOf(t, strangers, "P-521")
	revoked := newHostOf(t, h.ca, "P-521")
	d, _ := newDevice(t, "P-256", maker, h.ca)
	list, err := h.ca.List(revoked.certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Bind([][]byte{h.certificate.Raw}, list, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Bind([][]byte{stranger.certificate.Raw}, nil, nil); !errors.Is(err, ErrHost) {
		t.Errorf("a stranger's certificate: %v", err)
	}
	for name, try := range map[string]struct {
		by     *host
		change func(all []given, r *keydv1.InjectKeysResponse) []given
		after  func(r *keydv1.InjectKeysResponse)
		want   error
	}{
		"a host of another authority": {by: stranger, want: ErrHost},
		"a host that was revoked":     {by: revoked, want: ErrHost},
		"an altered answer":           {after: func(r *keydv1.InjectKeysResponse) { r.Answer[len(r.Answer)/2] ^= 1 }},
		"a key too few": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given {
			return all[:3]
		}, after: func(r *keydv1.InjectKeysResponse) { r.Keys = said(keys()) }, want: ErrAnswer},
		"no receipt key": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given {
			return all[:1]
		}, want: ErrAnswer},
		"two keys swapped": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given {
			all[0], all[1] = all[1], all[0]
			return all
		}, want: ErrAnswer},
		"an exportable key": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given {
			all[2].header.Exportability = 'E'
			return all
		}, want: ErrAnswer},
		"another mode": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given {
			all[0].header.Mode = 'B'
			return all
		}, want: ErrAnswer},
		"another number than said": {after: func(r *keydv1.InjectKeysResponse) {
			r.Keys[2].KeySerialNumber = bytes.Clone(r.Keys[2].KeySerialNumber)
			r.Keys[2].KeySerialNumber[7] ^= 1
		}, want: ErrAnswer},
		"another length than said": {after: func(r *keydv1.InjectKeysResponse) { r.Keys[0].Length = 32 }, want: ErrAnswer},
		"another usage than said":  {after: func(r *keydv1.InjectKeysResponse) { r.Keys[2].Usage = "P0" }, want: ErrAnswer},
		"a key under a weaker one": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given {
			all[0].value = bytes.Repeat([]byte{9}, 32) // P-256 carries 128 bits
			all[0].said.Length = 32
			return all
		}, want: ErrAnswer},
		"key blocks besides":            {after: func(r *keydv1.InjectKeysResponse) { r.KeyBlocks = []string{"D0016K1AD00N0000"} }, want: ErrAnswer},
		"an identifier that is none":    {after: func(r *keydv1.InjectKeysResponse) { r.InjectionId = "AB" }, want: ErrAnswer},
		"an identifier in upper case":   {after: func(r *keydv1.InjectKeysResponse) { r.InjectionId = "AB" + injectionID[2:] }, want: ErrAnswer},
		"a TDES key of a single part":   {change: single, want: ErrAnswer},
		"an initial key with no number": {change: func(all []given, _ *keydv1.InjectKeysResponse) []given { all[2].header.Blocks = nil; return all }, want: ErrAnswer},
	} {
		r := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
		all, by := keys(), h
		if try.by != nil {
			by = try.by
		}
		if try.change != nil {
			all = try.change(all, nil)
		}
		answer := by.agree(r.Message().GetKeyAgreement(), all)
		if try.after != nil {
			try.after(answer)
		}
		before, err := os.ReadFile(d.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Take(answer); err == nil || try.want != nil && !errors.Is(err, try.want) {
			t.Errorf("%s: %v, want %v", name, err, try.want)
		}
		if after, err := os.ReadFile(d.path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the file changed, %v", name, err)
		}
	}
	r := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
	if err := r.Take(h.agree(r.Message().GetKeyAgreement(), keys())); err != nil {
		t.Fatal(err)
	}
	taken(t, d)
}

func single(all []given, _ *keydv1.InjectKeysResponse) []given {
	all[3].value, all[3].said.Length = all[3].value[:8], 8
	return all
}

// TestAnswerToAnEarlierRequest: a device takes one that it asked for last.
func TestAnswerToAnEarlierRequest(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "P-521")
	d, _ := newDevice(t, "P-384", maker, h.ca)
	first := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{Curve: keyagreement.P256})
	second := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
	if err := first.Take(h.agree(first.Message().GetKeyAgreement(), keys())); !errors.Is(err, ErrAskedAgain) {
		t.Errorf("%v", err)
	}
	if err := second.Take(h.agree(first.Message().GetKeyAgreement(), keys())); err == nil {
		t.Error("an answer to another request is taken")
	}
}

// TestTransactions: the KSN moves by one for each transaction, before anything leaves, and what
// is refused moves nothing.
func TestTransactions(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "P-521")
	d, _ := newDevice(t, "P-256", maker, h.ca)
	r := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
	if err := r.Take(h.agree(r.Message().GetKeyAgreement(), keys())); err != nil {
		t.Fatal(err)
	}
	taken(t, d)
	const pan = "4012345678909"
	sent, err := d.Send(Under{Register: "pin"}, Message{Format: pinblock.ISO4, PAN: pan, PIN: []byte("1234"), Text: []byte("amount 10"), Data: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	if upperHex(sent.KSN) != "123456789012345600000001" || len(sent.PINBlock) != 16 || len(sent.MAC) != 16 || len(sent.Data) != 32 || sent.PINKey.KeyId != "bdk-aes" {
		t.Errorf("%+v", sent)
	}
	for name, m := range map[string]Message{
		"format 0 under AES":   {Format: pinblock.ISO0, PAN: pan, PIN: []byte("1234")},
		"a PIN of letters":     {Format: pinblock.ISO4, PAN: pan, PIN: []byte("12x4")},
		"half a block of data": {Data: make([]byte, 8)},
		"no PAN":               {Format: pinblock.ISO4, PIN: []byte("1234")},
	} {
		if sent, err := d.Send(Under{Register: "pin"}, m); err == nil || sent != nil {
			t.Errorf("%s: %+v", name, sent)
		}
	}
	if _, err := d.Send(Under{Register: "none"}, Message{Text: []byte("x")}); err == nil {
		t.Error("a register that is not there")
	}
	next, err := d.Send(Under{Register: "pin"}, Message{Text: []byte("x")})
	if err != nil || upperHex(next.KSN) != "123456789012345600000002" {
		t.Errorf("%+v, %v", next, err)
	}
	tdes, err := d.Send(Under{Register: "data"}, Message{Format: pinblock.ISO3, PAN: pan, PIN: []byte("1234"), Text: []byte("x")})
	if err != nil || upperHex(tdes.KSN) != "FFFF9876543210E00001" || len(tdes.MAC) != 8 || tdes.MACKey.Algorithm != keydv1.MacKey_ISO9797_ALGORITHM3 {
		t.Errorf("%+v, %v", tdes, err)
	}
}

// TestAuthorityStays: one that is there is opened, and not made anew.
func TestAuthorityStays(t *testing.T) {
	dir := t.TempDir() + "/maker"
	if a, err := OpenAuthority(dir); !errors.Is(err, os.ErrNotExist) || a != nil {
		t.Errorf("there is none: %v", err)
	}
	first, made, err := MakeAuthority(dir, "Maker", "P-256")
	if err != nil || !made {
		t.Fatal(err)
	}
	again, made, err := MakeAuthority(dir, "Other", "P-256")
	if err != nil || made || !again.Certificate.Equal(first.Certificate) {
		t.Errorf("%v, %v", made, err)
	}
	other, err := newAuthority("Maker", "P-256")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Host([]byte("no request")); err == nil {
		t.Error("a host is certified without a request")
	}
}

// TestStateIsReadStrictly: a file that was altered anywhere is refused, or is what it says.
func TestStateIsReadStrictly(t *testing.T) {
	maker, h := newMaker(t), newHost(t, "RSA-2048")
	d, _ := newDevice(t, "RSA-2048", maker, h.ca)
	mustBind(t, d, h)
	whole, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "cut": whole[:len(whole)-1], "white space": append(bytes.Clone(whole), '\n'), "twice": slices.Concat(whole, whole),
		"another version": bytes.Replace(whole, []byte(`"version":1`), []byte(`"version":2`), 1),
		"a name too many": bytes.Replace(whole, []byte(`{"version"`), []byte(`{"x":1,"version"`), 1),
		"no terminal":     bytes.Replace(whole, []byte(`"t-1"`), []byte(`""`), 1),
		"larger":          make([]byte, maxDeviceState+1),
	} {
		if s, err := decodeState(b); !errors.Is(err, ErrDeviceState) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := os.Stat(d.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	key, err := GenerateKey("P-256")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewDevice(d.path, "t-2", "", key); err == nil {
		t.Error("a terminal is overwritten")
	}
}

// FuzzDeviceState asserts: no panic, and what is read is written the same.
func FuzzDeviceState(f *testing.F) {
	key, err := GenerateKey("P-256")
	if err != nil {
		f.Fatal(err)
	}
	d, err := NewDevice(f.TempDir()+"/device.json", "t-1", "", key)
	if err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(d.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	under := &voidUnderWay{Request: "r-1", Payment: "pay-1", Code: make([]byte, 32), Void: strings.Repeat("ab", 16), Authorize: []byte{0x0a, 1, 'r'}}
	if err := d.keepVoid(under); err != nil {
		f.Fatal(err)
	}
	if b, err = os.ReadFile(d.path); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			if s != nil || !errors.Is(err, ErrDeviceState) {
				t.Fatal("a state with an error, or another error")
			}
			return
		}
		if again, err := s.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatal("it is written otherwise")
		}
	})
}
