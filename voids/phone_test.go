package voids

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/passkey"
	"keyd/policies"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

const pageActor = "page"

// withPhones lets supervisors approve on phones: by a passkey all of the first tier, and by a PIN below it.
func (b *bench) withPhones() {
	b.t.Helper()
	text := strings.Replace(policyText, "  code_host: void.example.com\n", "  code_host: void.example.com\n  phone: {page_key: page, set_pin: true}\n", 1)
	text = strings.Replace(text, "tiers:\n", "tiers:\n      - {up_to: 20000, methods: [[SUPERVISOR_PIN], [PHONE_PASSKEY], [PHONE_PIN]]}\n      - {up_to: 30000, methods: [[SUPERVISOR_PIN], [PHONE_PASSKEY]]}\n", 1)
	text = strings.Replace(text, "per_day: 3\n", "per_day: 30\n", 1)
	if strings.Count(text, "PHONE_PASSKEY") != 2 || !strings.Contains(text, "page_key") {
		b.t.Fatal("the policy of the tests has changed")
	}
	b.setPolicy(text)
}

func (b *bench) asserts(name string, v *OnPhone) ByPasskey {
	b.t.Helper()
	digest, err := v.Void.Fields.Digest()
	if err != nil {
		b.t.Fatal(err)
	}
	user := phoneOf(name)
	random := make([]byte, 16)
	_, _ = rand.Read(random)
	return ByPasskey{User: user[:], Assertion: passkey.Assertion{ID: random, ClientData: []byte("{}"), AuthenticatorData: []byte("data"), Signature: assertionOf(name, digest)}}
}

func (b *bench) types(name string, kind byte) ByPIN {
	b.t.Helper()
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	block := make([]byte, 16)
	_, _ = rand.Read(block)
	block[0] = kind
	return ByPIN{Name: name, Point: own.PublicKey().Bytes(), Block: block}
}

func (b *bench) looked(s *Service, text string, passkey, pin bool) *OnPhone {
	b.t.Helper()
	v, err := s.Look(b.t.Context(), text)
	if err != nil || v.Passkey != passkey || v.PIN != pin || (v.Key != nil) != pin {
		b.t.Fatalf("%+v, %v", v, err)
	}
	return v
}

// A void is approved by a passkey on one front, and the answer is the same on the other; what is wrong
// costs a try once, and burns nothing.
func TestByPasskey(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.withPhones()
		one, two := b.front(), b.front()
		c := b.create(one, "pay-1", 25_000)
		v := b.looked(one, c.URL, true, false)
		if !v.PaidAt.Equal(b.now().Add(-time.Minute)) {
			t.Errorf("it was paid at %s", v.PaidAt)
		}
		forged := b.asserts("dora", v)
		forged.Signature = []byte("x")
		for _, s := range []*Service{one, two, one} {
			a, err := s.ApproveByPasskey(t.Context(), pageActor, c.Code, forged)
			if err != nil || a.Verified || a.Token != "" || a.Void.State != flow.Created || a.Void.Tries != 2 || a.Void.Outcome.Result != flow.ResultWrong {
				t.Errorf("%+v, %v", a, err)
			}
		}
		if a, err := two.ApproveByPasskey(t.Context(), pageActor, c.Code, b.asserts("eve", v)); err != nil || a.Verified || a.Void.Tries != 1 {
			t.Errorf("nobody's: %+v, %v", a, err)
		}
		good := b.asserts("dora", v)
		for i, s := range []*Service{two, one, two} {
			a, err := s.ApproveByPasskey(t.Context(), pageActor, c.Code, good)
			if err != nil || !a.Verified || a.Void.State != flow.Authorized || a.Void.Version != v.Void.Version+3 {
				t.Fatalf("%d: %+v, %v", i, a, err)
			}
			b.good(a.Token, a.Void.Fields, voidtoken.PhonePasskey)
			if i == 1 { // what was approved stays so
				b.records.revoked = true
				b.sleep(3 * time.Minute) // the code's time is over
			}
		}
		if n := b.boundary.signed.Load(); n != 1 {
			t.Errorf("%d tokens were signed", n)
		}
		_, err := one.ApproveByPasskey(t.Context(), pageActor, c.Code, b.asserts("dora", v))
		want(t, "another assertion, after the code's time", fault.VoidCodeRefused, err)
		_, err = one.Scan(t.Context(), switchID, Scan{Request: "s", Code: c.Code, Merchant: "m-17"})
		want(t, "a code that is burnt", fault.VoidCodeRefused, err)
		a, err := two.Token(t.Context(), v.Void.Fields.Void)
		if err != nil || !a.Verified {
			t.Fatalf("%+v, %v", a, err)
		}
		b.good(a.Token, a.Void.Fields, voidtoken.PhonePasskey)
		if _, err := one.Confirm(t.Context(), switchID, "x", v.Void.Fields.Void, true); err != nil {
			t.Fatal(err)
		}
		if a, err := two.Token(t.Context(), v.Void.Fields.Void); err != nil || a.Verified || a.Token != "" || a.Void.State != flow.Confirmed {
			t.Errorf("a token of a void that is over: %+v, %v", a, err)
		}
	})
}

// A PIN on a phone costs a try of the PIN and of the void, and counts up to its tier.
func TestByPINOnAPhone(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.withPhones()
		s := b.front()
		c := b.create(s, "pay-1", 12_300)
		v := b.looked(s, c.Code, true, true)
		bad := b.types("dora", wrong)
		for range 2 {
			a, err := s.ApproveByPIN(t.Context(), pageActor, c.Code, bad)
			if err != nil || a.Verified || a.Void.State != flow.Created || a.Void.Tries != 2 || b.records.taken != 1 {
				t.Errorf("%+v, %v, %d tries", a, err, b.records.taken)
			}
		}
		good := b.types("dora", right)
		for range 2 {
			a, err := s.ApproveByPIN(t.Context(), pageActor, c.Code, good)
			if err != nil || !a.Verified || b.records.taken != 2 {
				t.Fatalf("%+v, %v, %d tries", a, err, b.records.taken)
			}
			b.good(a.Token, v.Void.Fields, voidtoken.PhonePIN)
		}
		_, err := s.ApproveByPIN(t.Context(), pageActor, c.Code, ByPIN{Name: "dora", Point: good.Point, Block: good.Block[:8]})
		want(t, "a short block", fault.RequestInvalid, err)
		_, err = s.ApproveByPIN(t.Context(), pageActor, c.Code, ByPIN{Name: "dora", Point: make([]byte, 65), Block: good.Block})
		want(t, "no point", fault.RequestInvalid, err)
		_, err = s.ApproveByPIN(t.Context(), pageActor, c.Code, ByPIN{Name: "do ra", Point: good.Point, Block: good.Block})
		want(t, "no name", fault.RequestInvalid, err)

		above := b.create(s, "pay-2", 25_000)
		b.looked(s, above.Code, true, false)
		asked := b.boundary.asked.Load()
		a, err := s.ApproveByPIN(t.Context(), pageActor, above.Code, b.types("dora", right))
		if err != nil || a.Verified || a.Void.Outcome.Result != flow.ResultMethodNotAllowed || b.boundary.asked.Load() != asked || b.records.taken != 2 {
			t.Errorf("above the tier: %+v, %v", a, err)
		}
		b.looked(s, b.create(s, "pay-3", 40_000).Code, false, false)
		for i := range 3 {
			if a, err = s.ApproveByPIN(t.Context(), pageActor, b.create(s, "pay-4", 100).Code, b.types("nobody", wrong)); i == 0 && (err != nil || a.Void.Tries != 2) {
				t.Errorf("%+v, %v", a, err)
			}
			if _, err := s.Cancel(t.Context(), switchID, b.request(), a.Void.Fields.Void); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A PIN is typed for the host that has signed the code: at another nothing is signed for it, a module is not
// asked, and no try is taken. What a phone was answered there is answered everywhere.
func TestCodesOfAnotherHostOnPhones(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.withPhones()
		s, own := b.front(), b.policy
		b.put("code.b", "S0", &b.boundary.token.PublicKey)
		other := *own
		other.CodeKey, other.CodeKeys = "code.b", []string{"code"}
		c := b.create(s, "pay-1", 12_300)
		b.policy = &other
		v := b.looked(s, c.Code, true, false)
		good := b.types("dora", right)
		for _, p := range []ByPIN{good, b.types("dora", wrong), b.types("nobody", wrong)} {
			_, err := s.ApproveByPIN(t.Context(), pageActor, c.Code, p)
			want(t, "at another host", fault.PolicyDenied, err)
		}
		if b.records.taken != 0 || b.boundary.asked.Load() != 0 || b.boundary.pageKeys.Load() != 0 {
			t.Errorf("%d tries were taken, a module was asked %d times, %d page keys were signed", b.records.taken, b.boundary.asked.Load(), b.boundary.pageKeys.Load())
		}
		if a, err := s.ApproveByPasskey(t.Context(), pageActor, c.Code, ByPasskey{User: make([]byte, 32)}); err != nil || a.Verified || a.Void.Tries != 2 {
			t.Errorf("nobody's passkey: %+v, %v", a, err)
		}
		b.policy = own
		for i, policy := range []*policies.Voids{own, &other} {
			b.policy = policy
			a, err := s.ApproveByPIN(t.Context(), pageActor, c.Code, good)
			if err != nil || !a.Verified || a.Void.Tries != 2 || b.records.taken != 1 {
				t.Fatalf("%d: %+v, %v", i, a, err)
			}
			b.good(a.Token, v.Void.Fields, voidtoken.PhonePIN)
		}

		b.policy = own
		d := b.create(s, "pay-2", 12_300)
		b.policy = &other
		v = b.looked(s, d.Code, true, false)
		if a, err := s.ApproveByPasskey(t.Context(), pageActor, d.Code, b.asserts("dora", v)); err != nil || !a.Verified {
			t.Errorf("a passkey at another host: %+v, %v", a, err)
		}
	})
}

// What is said of a code: nothing of one that is not genuine, and the state of one that is burnt or over.
func TestCodesOnPhones(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	c := b.create(s, "pay-1", 12_300)
	_, err := s.Look(t.Context(), c.Code)
	want(t, "a policy without phones", fault.PolicyDenied, err)
	_, err = s.PageKey(t.Context())
	want(t, "a policy without phones", fault.PolicyDenied, err)
	b.withPhones()
	altered := []byte(c.Code)
	altered[30] = 'A' + (altered[30]-'A'+1)%26
	foreign := newBench(t, onSQLite(t))
	foreign.withPhones()
	another := foreign.create(foreign.front(), "pay-1", 12_300)
	for what, text := range map[string]string{
		"altered": string(altered), "another service's": another.Code, "on paper": c.Slip, "nothing": "", "another host's": strings.Replace(c.URL, "VOID.", "EVIL.", 1), "no code": "A",
	} {
		for _, err := range func() []error {
			_, look := s.Look(t.Context(), text)
			_, pin := s.ApproveByPIN(t.Context(), pageActor, text, b.types("dora", right))
			_, key := s.ApproveByPasskey(t.Context(), pageActor, text, ByPasskey{User: make([]byte, 32)})
			return []error{look, pin, key}
		}() {
			if want(t, what, fault.VoidCodeRefused, err); fault.Of(err).Detail() != "" {
				t.Errorf("%s: %v says why", what, err)
			}
		}
	}
	if v := b.looked(s, c.Code, true, true); v.Void.State != flow.Created {
		t.Errorf("%+v", v.Void)
	}
	if _, err := s.Scan(t.Context(), switchID, Scan{Request: "s", Code: c.Code, Merchant: "m-17"}); err != nil {
		t.Fatal(err)
	}
	if v := b.looked(s, c.Code, false, false); v.Void.State != flow.Scanned {
		t.Errorf("%+v", v.Void)
	}
	if a, err := s.ApproveByPIN(t.Context(), pageActor, c.Code, b.types("dora", right)); err != nil || a.Verified || a.Void.State != flow.Scanned || a.Void.Outcome.Result != flow.ResultCodeUsed {
		t.Errorf("a code that a terminal has burnt: %+v, %v", a, err)
	}
	b.sleep(3 * time.Minute)
	_, err = s.Look(t.Context(), c.Code)
	if want(t, "over", fault.VoidCodeRefused, err); fault.Of(err).Detail() == "" {
		t.Error("a code that is genuine and over is not told so")
	}
}

// Of approvals at the same moment on two fronts, by phones and a terminal that scans, one has its way.
func TestOneOfManyPhones(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.withPhones()
		fronts := []*Service{b.front(), b.front()}
		for _, reference := range []string{"pay-1", "pay-2", "pay-3"} {
			c := b.create(fronts[0], reference, 12_300)
			v := b.looked(fronts[1], c.Code, true, true)
			var mu sync.Mutex
			authorised, scanned := 0, 0
			var all sync.WaitGroup
			for i := range 6 {
				all.Go(func() {
					s := fronts[i%2]
					var a *Authorized
					var err error
					switch i {
					case 0, 1:
						a, err = s.ApproveByPIN(t.Context(), pageActor, c.Code, b.types("dora", right))
					case 2:
						_, err := s.Scan(t.Context(), switchID, Scan{Request: "scan " + reference, Code: c.Code, Merchant: "m-17"})
						mu.Lock()
						defer mu.Unlock()
						if err == nil {
							scanned++
						}
						return
					default:
						a, err = s.ApproveByPasskey(t.Context(), pageActor, c.Code, b.asserts("dora", v))
					}
					mu.Lock()
					defer mu.Unlock()
					if err == nil && a.Verified {
						authorised++
					}
				})
			}
			all.Wait()
			if authorised+scanned != 1 {
				t.Errorf("%s: %d approvals and %d scans have burnt one code", reference, authorised, scanned)
			}
		}
	})
}

// Of wrong PINs that come at once over one code, whoever's, no more are compared than the void has tries.
func TestWrongPINsAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		b.withPhones()
		s := b.front()
		c := b.create(s, "pay-1", 12_300)
		v := b.looked(s, c.Code, true, true)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var err error
				if i%4 == 3 {
					_, err = s.ApproveByPasskey(t.Context(), pageActor, c.Code, b.asserts("eve", v))
				} else {
					_, err = s.ApproveByPIN(t.Context(), pageActor, c.Code, b.types(fmt.Sprintf("guess-%d", i), wrong))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := b.boundary.asked.Load(); n != 3 {
			t.Errorf("modules were asked %d times about a void with 3 tries", n)
		}
	})
}

// A page key is signed for as long as somebody may type, again before that is over, and only by who signs
// codes.
func TestPageKeys(t *testing.T) {
	b := newBench(t, onSQLite(t))
	b.withPhones()
	s := b.front()
	first, err := s.PageKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	message := binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), first.Point...), uint64(first.Expires.Unix()))
	digest := sha256.Sum256(message)
	if !ecdsa.Verify(&b.boundary.code.PublicKey, digest[:], new(big.Int).SetBytes(first.Signature[:32]), new(big.Int).SetBytes(first.Signature[32:])) {
		t.Error("nobody has signed it")
	}
	v := b.looked(s, b.create(s, "pay-1", 12_300).Code, true, true)
	if v.Key != first || b.boundary.pageKeys.Load() != 1 {
		t.Errorf("%d were signed", b.boundary.pageKeys.Load())
	}
	b.sleep(pageKeyLife - pageKeyLeft + time.Second)
	second, err := s.PageKey(t.Context())
	if err != nil || second == first || second.Expires.Sub(b.now()) < pageKeyLeft || b.boundary.pageKeys.Load() != 2 {
		t.Errorf("%+v, %v", second, err)
	}
	b.boundary.forgePage = true
	b.sleep(pageKeyLife)
	_, err = s.PageKey(t.Context())
	want(t, "another's signature", fault.Internal, err)
}

// FuzzRawSignature reads signatures: what is one has 64 bytes, and whatever else has none.
func FuzzRawSignature(f *testing.F) {
	key := newKey(f)
	digest := sha256.Sum256(nil)
	der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		if raw, ok := rawSignature(b); ok != (len(raw) == 64) {
			t.Errorf("%d bytes, %t", len(raw), ok)
		}
	})
}
