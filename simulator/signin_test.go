package simulator

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyblock"
	blocks "keyd/keyblock/software"
	"keyd/pinblock"
)

// withKeys returns a device that has the keys of keys(), confirmed; with bare under a master key of
// the legacy form.
func withKeys(t *testing.T, bare bool) *Device {
	t.Helper()
	maker, h := newMaker(t), newHost(t, "P-521")
	d, _ := newDevice(t, "P-256", maker, h.ca)
	all := keys()
	if bare {
		all[0].header.Usage, all[0].said.Usage = "K0", "K0"
	}
	r := mustAsk(t, d, keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
	if err := r.Take(h.agree(r.Message().GetKeyAgreement(), all)); err != nil {
		t.Fatal(err)
	}
	if err := d.Confirmed(injectionID); err != nil {
		t.Fatal(err)
	}
	return d
}

// session is a session key in a key block under the master key of keys().
func session(t *testing.T, name, usage, algorithm string, mode byte, value []byte) *keydv1.SessionKey {
	t.Helper()
	h := keyblock.Header{Version: 'D', Usage: usage, Algorithm: algorithm[0], Mode: mode, KeyVersion: "00", Exportability: 'N', Reserved: "00"}
	check, err := blocks.CheckValue(algorithm[0], value)
	if err != nil {
		t.Fatal(err)
	}
	return &keydv1.SessionKey{
		Name: name, KeyId: "terminal:t-1:" + name, Usage: usage, Algorithm: algorithm, KeyCheckValue: upperHex(check), NotAfter: timestamppb.New(time.Now().Add(time.Hour)),
		Form: &keydv1.SessionKey_KeyBlock{KeyBlock: wrap(t, blocks.Protection{Algorithm: 'A', Key: keys()[0].value}, h, value)},
	}
}

// TestSignIn: keys of a sign-in are opened, compared and used.
func TestSignIn(t *testing.T) {
	d := withKeys(t, false)
	value := bytes.Repeat([]byte{0x5A}, 16)
	good := &keydv1.SignInResponse{Keys: []*keydv1.SessionKey{
		session(t, "pin", "P0", "A", 'E', value), session(t, "mac", "M6", "A", 'C', value), session(t, "data", "D0", "A", 'B', value),
	}}
	for name, change := range map[string]func(k *keydv1.SessionKey){
		"another check value":  func(k *keydv1.SessionKey) { k.KeyCheckValue = "000000" },
		"another usage":        func(k *keydv1.SessionKey) { k.Usage = "D0" },
		"a usage that is none": func(k *keydv1.SessionKey) { k.Usage = "B0" },
		"another algorithm":    func(k *keydv1.SessionKey) { k.Algorithm = "T" },
		"no algorithm":         func(k *keydv1.SessionKey) { k.Algorithm = "" },
		"no end":               func(k *keydv1.SessionKey) { k.NotAfter = nil },
		"no form":              func(k *keydv1.SessionKey) { k.Form = nil },
		"a bare cryptogram":    func(k *keydv1.SessionKey) { k.Form = &keydv1.SessionKey_Cryptogram{Cryptogram: value} },
		"an altered block": func(k *keydv1.SessionKey) {
			b := []byte(k.GetKeyBlock())
			b[40] ^= 1
			k.Form = &keydv1.SessionKey_KeyBlock{KeyBlock: string(b)}
		},
		"a mode of the other side": func(k *keydv1.SessionKey) { k.Form = session(t, "pin", "P0", "A", 'D', value).Form },
		"a stronger key": func(k *keydv1.SessionKey) {
			other := session(t, "pin", "P0", "A", 'E', bytes.Repeat([]byte{1}, 32))
			k.Form, k.KeyCheckValue = other.Form, other.KeyCheckValue
		},
	} {
		answer := proto.CloneOf(good)
		change(answer.Keys[0])
		if err := d.SignIn(answer); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Send(Under{Session: true}, Message{Text: []byte("x")}); err == nil {
		t.Error("keys of a sign-in that was refused are used")
	}
	if err := d.SignIn(good); err != nil {
		t.Fatal(err)
	}
	sent, err := d.Send(Under{Session: true}, Message{Format: pinblock.ISO4, PAN: "4012345678909", PIN: []byte("1234"), Text: []byte("x"), Data: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := blocks.Cipher('A', value)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent.MAC, blocks.CMAC(c, []byte("x"))) || sent.KSN != nil || sent.PINKey.KeyId != "terminal:t-1:pin" || len(sent.Data) != 16 {
		t.Errorf("%+v", sent)
	}
	if _, err := d.Send(Under{Session: true}, Message{Format: pinblock.ISO0, PAN: "4012345678909", PIN: []byte("1234")}); err == nil {
		t.Error("format 0 under AES")
	}
	late := proto.CloneOf(good)
	for _, k := range late.Keys {
		k.NotAfter = timestamppb.New(time.Now().Add(-time.Second))
	}
	if err := d.SignIn(late); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Send(Under{Session: true}, Message{Text: []byte("x")}); err == nil {
		t.Error("a key that has ended is used")
	}
}

// TestBareSignIn: a bare master key takes cryptograms and no key blocks.
func TestBareSignIn(t *testing.T) {
	d := withKeys(t, true)
	value := bytes.Repeat([]byte{0x5A}, 32)
	c, err := blocks.Cipher('A', keys()[0].value)
	if err != nil {
		t.Fatal(err)
	}
	cryptogram := make([]byte, 16)
	c.Encrypt(cryptogram, value[:16])
	k := session(t, "mac", "M6", "A", 'C', value[:16])
	if err := d.SignIn(&keydv1.SignInResponse{Keys: []*keydv1.SessionKey{k}}); !errors.Is(err, ErrAnswer) {
		t.Errorf("a key block: %v", err)
	}
	k.Form = &keydv1.SessionKey_Cryptogram{Cryptogram: cryptogram[:8]}
	if err := d.SignIn(&keydv1.SignInResponse{Keys: []*keydv1.SessionKey{k}}); !errors.Is(err, ErrAnswer) {
		t.Errorf("half a cryptogram: %v", err)
	}
	k.Form = &keydv1.SessionKey_Cryptogram{Cryptogram: cryptogram}
	if err := d.SignIn(&keydv1.SignInResponse{Keys: []*keydv1.SessionKey{k}}); err != nil {
		t.Fatal(err)
	}
	sent, err := d.Send(Under{Session: true}, Message{Text: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if own, err := blocks.Cipher('A', value[:16]); err != nil || !bytes.Equal(sent.MAC, blocks.CMAC(own, []byte("x"))) {
		t.Error("another key came out")
	}
}

// FuzzAnswers asserts of whatever comes for a request or a sign-in: no panic, and the file is as
// it was if it was refused.
func FuzzAnswers(f *testing.F) {
	key, err := GenerateKey("P-256")
	if err != nil {
		f.Fatal(err)
	}
	maker, _, err := MakeAuthority(f.TempDir(), "Maker", "P-256")
	if err != nil {
		f.Fatal(err)
	}
	der, err := maker.Device("t-1", key.Public())
	if err != nil {
		f.Fatal(err)
	}
	d, err := NewDevice(f.TempDir()+"/device.json", "t-1", "", key)
	if err != nil {
		f.Fatal(err)
	}
	if err := d.SetCertificates([][]byte{der}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, "D0112K1AD00N0000", "master", true)
	f.Add([]byte{0x30, 0x82}, "", "receipt", false)
	f.Fuzz(func(t *testing.T, answer []byte, block, name string, bare bool) {
		r, err := d.Ask(keydv1.InjectionMethod_KEY_AGREEMENT, AskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(d.path)
		if err != nil {
			t.Fatal(err)
		}
		said := &keydv1.InjectedKey{Name: name, Usage: "K1", Algorithm: "A", Length: 16}
		if r.Take(&keydv1.InjectKeysResponse{InjectionId: injectionID, Answer: answer, Keys: []*keydv1.InjectedKey{said, said}}) == nil {
			t.Fatal("an answer of nobody's is taken")
		}
		own := &injected{Master: symmetric{"A", make([]byte, 16)}, Bare: bare}
		k := &keydv1.SessionKey{Name: name, Usage: "P0", Algorithm: "A", NotAfter: timestamppb.Now(), Form: &keydv1.SessionKey_KeyBlock{KeyBlock: block}}
		if bare {
			k.Form = &keydv1.SessionKey_Cryptogram{Cryptogram: answer}
		}
		if value, err := own.openSession(k); err != nil && value != nil {
			t.Fatal("a key with an error")
		}
		if after, err := os.ReadFile(d.path); err != nil || !bytes.Equal(before, after) {
			t.Fatal("the file changed")
		}
	})
}
