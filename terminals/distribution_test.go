package terminals

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/fault"
	"keyd/store"
	"keyd/tr34"
)

// TestTerminalsGetTheirKeys by each method: the same request the same answer, then a receipt.
func TestTerminalsGetTheirKeys(t *testing.T) {
	w := newWorld(t)
	for n, m := range []Method{KeyAgreement, TwoPass, OnePass} {
		t.Run(string(m), func(t *testing.T) {
			id := w.terminal(fmt.Sprintf("t-%d", n))
			r := w.request(id, m)
			a := w.inject(r)
			if got := a.Injection.Keys; len(got) != 3 || got[2].Name != "pin" || got[2].BDK != "bdk.aes" || !bytes.Equal(got[2].ID, []byte{1, 2, 3, 4, 0, 0, 0, 10 + byte(n)}) {
				t.Errorf("%+v", got)
			}
			asked := w.ledger.asked
			again := w.inject(r)
			if !bytes.Equal(again.Answer, a.Answer) || !slices.Equal(again.KeyBlocks, a.KeyBlocks) || again.Injection.ID != a.Injection.ID || w.ledger.asked != asked {
				t.Error("the same request got another answer")
			}
			w.state(a.Injection, store.InjectionPending)
			for what, try := range map[string]func() error{
				"another MAC": func() error {
					_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, checks(a.Injection), make([]byte, 16))
					return err
				},
				"another check value": func() error {
					_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, []string{"00AA01", "00AA02", "FFFFFF"}, mac)
					return err
				},
			} {
				want(t, what, fault.ReceiptInvalid, try())
			}
			c := w.confirm(a.Injection)
			if c.State != store.InjectionConfirmed || len(c.Statement) == 0 || c.Confirmed.IsZero() {
				t.Errorf("%+v", c)
			}
			if again := w.confirm(a.Injection); !bytes.Equal(again.Statement, c.Statement) {
				t.Error("the same receipt got another statement")
			}
			_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, []string{"00AA01", "00AA02", "FFFFFF"}, mac)
			want(t, "another receipt", fault.InjectionState, err)
			_, err = w.Inject(t.Context(), actor, r)
			if m == OnePass {
				if err != nil { // it says nothing that is new, so it is the next one
					t.Error(err)
				}
			} else {
				want(t, "the request once it is confirmed", fault.RequestReplayed, err)
			}
			if got := w.kinds(id); !slices.Equal(got[:4], []string{"registered", "key-set", "keys-sent", "keys-confirmed"}) {
				t.Errorf("events %q", got)
			}
		})
	}
}

// TestCredentialsAndProfiles: what the front writes and knows is what package tr34 does.
func TestCredentialsAndProfiles(t *testing.T) {
	w := newWorld(t)
	h, err := w.HostOf(t.Context(), w.terminal("t-1"), TwoPass)
	if err != nil {
		t.Fatal(err)
	}
	same, err := tr34.CredentialToken(parsed(t, h.Certificates[0]), h.List)
	if err != nil || !bytes.Equal(h.Credential, same) {
		t.Errorf("CT_KDH is %x, want %x (%v)", h.Credential, same, err)
	}
	if ec, err := w.HostOf(t.Context(), "t-1", KeyAgreement); err != nil || ec.Credential != nil || ec.Name != "host.ec" {
		t.Errorf("%+v, %v", ec, err)
	}
	if !slices.Equal(profiles, tr34.ProfileNames()) {
		t.Errorf("profiles %q, want %q", profiles, tr34.ProfileNames())
	}
	for _, algorithm := range []string{"T", "A", "H", ""} {
		for length := range uint32(40) {
			want := 0
			if algorithm != "" {
				want = tr34.KeyStrength(algorithm[0], int(length))
			}
			if got := strength(algorithm, length); got != want {
				t.Errorf("%s of %d bytes has %d bits, want %d", algorithm, length, got, want)
			}
		}
	}
}

// TestRequestsThatAreRefused: each with its reason, and no number is used.
func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	id, other := w.terminal("t-1"), w.terminal("t-2")
	replay := w.request(id, TwoPass)
	w.inject(replay)
	altered := w.request(id, KeyAgreement)
	altered.Message[len(altered.Message)-1] ^= 1
	foreign := w.request(other, KeyAgreement)
	foreign.Terminal = id
	own := w.request(id, KeyAgreement)
	own.Own = [][]byte{{1, 2, 3, 4, 0, 0, 0, 1}}
	repeated := replay
	repeated.Own = [][]byte{{1, 2, 3, 4, 0, 0, 0, 1}}
	bare := w.terminal("t-bare")
	k := shop()
	k.Name, k.Methods, k.TokenHost, k.Master.Bare = "bare", []Method{KeyAgreement}, "", true
	w.set(k)
	if _, err := w.Assign(t.Context(), actor, bare, "bare"); err != nil {
		t.Fatal(err)
	}
	none := w.terminal("t-none")
	if _, err := w.Assign(t.Context(), actor, none, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.inventory.Register(t.Context(), actor, registration("t-uncertified"), false); err != nil {
		t.Fatal(err)
	}
	w.legacy = fault.New(fault.PolicyDenied, "")
	next := func() byte { // the number that follows
		a := w.inject(w.request(other, KeyAgreement))
		return a.Injection.Keys[2].ID[7]
	}
	before := next()
	asked := w.ledger.asked
	for what, c := range map[string]struct {
		r    Request
		want fault.Reason
	}{
		"no terminal":              {Request{Terminal: "none", Method: OnePass}, fault.TerminalNotFound},
		"no method":                {Request{Terminal: id}, fault.RequestInvalid},
		"no message":               {Request{Terminal: id, Method: KeyAgreement}, fault.RequestInvalid},
		"a message of no kind":     {Request{Terminal: id, Method: KeyAgreement, Message: []byte{0x30, 0}}, fault.RequestInvalid},
		"no random number":         {Request{Terminal: id, Method: TwoPass, Message: []byte{0x30, 0}}, fault.RequestInvalid},
		"a long message":           {Request{Terminal: id, Method: TwoPass, Message: make([]byte, MaxRequest+1)}, fault.RequestInvalid},
		"an altered message":       {altered, fault.RequestInvalid},
		"another terminal's":       {foreign, fault.PublicKeyKnown},
		"identifiers unasked":      {own, fault.RequestInvalid},
		"a random number again":    {repeated, fault.RequestReplayed},
		"bare keys":                {w.request(bare, KeyAgreement), fault.PolicyDenied},
		"bare keys by TR-34":       {w.request(bare, TwoPass), fault.RequestInvalid},
		"without a key set":        {w.request(none, OnePass), fault.KeySetNotFound},
		"without a certificate":    {Request{Terminal: "t-uncertified", Method: OnePass}, fault.CertificateInvalid},
		"seven identifiers":        {Request{Terminal: id, Method: OnePass, Own: make([][]byte, 7)}, fault.RequestInvalid},
		"a malformed terminal too": {Request{Terminal: "a b", Method: OnePass}, fault.RequestInvalid},
	} {
		_, err := w.Inject(t.Context(), actor, c.r)
		want(t, what, c.want, err)
	}
	if w.ledger.asked != asked {
		t.Error("a module was asked")
	}
	if got := next(); got != before+1 {
		t.Errorf("refusals have used numbers %d to %d", before+1, got-1)
	}
	if _, err := w.inventory.Suspend(t.Context(), actor, id, ""); err != nil {
		t.Fatal(err)
	}
	_, err := w.Inject(t.Context(), actor, replay)
	want(t, "the same request of a suspended one", fault.TerminalState, err)
}

// TestOwnIdentifiers are the terminal's until it has confirmed them, and nobody's afterwards.
func TestOwnIdentifiers(t *testing.T) {
	w := newWorld(t)
	k := shop()
	k.Initial = []InitialSpec{
		{Name: "pin", Key: "bdk.aes", Prefix: []byte{1, 2, 3, 4}, Own: true}, {Name: "data", Key: "bdk.aes", Prefix: []byte{9, 9, 9, 9}, Last: 9},
		{Name: "old", Key: "bdk.tdes", Prefix: []byte{0xff, 0xff, 1, 2, 3}, Own: true},
	}
	k.Methods, k.TokenHost = []Method{KeyAgreement}, ""
	w.set(k)
	id, other := w.terminal("t-1"), w.terminal("t-2")
	aes, tdes := []byte{1, 2, 3, 4, 0, 0, 0, 77}, []byte{0xff, 0xff, 1, 2, 3, 4, 5, 0xe0, 0, 0}
	with := func(id string, own ...[]byte) Request {
		r := w.request(id, KeyAgreement)
		r.Own = own
		return r
	}
	for what, own := range map[string][][]byte{
		"none": nil, "one": {aes}, "three": {aes, tdes, tdes}, "in another order": {tdes, aes}, "another prefix": {{1, 2, 3, 5, 0, 0, 0, 77}, tdes},
		"with a counter": {aes, {0xff, 0xff, 1, 2, 3, 4, 5, 0xe0, 0, 1}}, "with a high counter": {aes, {0xff, 0xff, 1, 2, 3, 4, 5, 0xf0, 0, 0}}, "short": {aes[:7], tdes}, "long": {append(aes[:8:8], 0), tdes},
	} {
		_, err := w.Inject(t.Context(), actor, with(id, own...))
		want(t, what, fault.RequestInvalid, err)
	}
	first := w.inject(with(id, aes, tdes))
	_, err := w.Inject(t.Context(), actor, with(other, aes, []byte{0xff, 0xff, 1, 2, 3, 9, 9, 0xe0, 0, 0}))
	want(t, "another terminal", fault.InitialKeyAllotted, err)
	second := w.inject(with(id, aes, tdes)) // the answer was lost
	w.state(first.Injection, store.InjectionSuperseded)
	w.confirm(second.Injection)
	_, err = w.Inject(t.Context(), actor, with(id, aes, tdes))
	want(t, "once they are confirmed", fault.InitialKeyAllotted, err)
}

// TestAnew: who asks for another answer gets other keys in one-pass, and by the other methods
// needs another message; what is pending stays then.
func TestAnew(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	r := w.request(id, OnePass)
	anew := r
	anew.Anew = true
	first := w.inject(anew) // nothing was given before
	second := w.inject(anew)
	if second.Injection.ID == first.Injection.ID || bytes.Equal(second.Answer, first.Answer) || bytes.Equal(second.Injection.Keys[2].ID, first.Injection.Keys[2].ID) {
		t.Errorf("the answer of before: %+v, %+v", first.Injection, second.Injection)
	}
	w.state(first.Injection, store.InjectionSuperseded)
	if again := w.inject(r); again.Injection.ID != second.Injection.ID || !bytes.Equal(again.Answer, second.Answer) {
		t.Errorf("%+v, want the answer that is pending", again.Injection)
	}
	for range 8 { // to the ten of a day
		second = w.inject(anew)
	}
	_, err := w.Inject(t.Context(), actor, anew)
	want(t, "the eleventh", fault.RateLimited, err)
	w.confirm(w.inject(r).Injection)
	w.state(second.Injection, store.InjectionConfirmed)

	for _, m := range []Method{KeyAgreement, TwoPass} {
		id := w.terminal("t-" + strings.ToLower(string(m[:3])))
		r := w.request(id, m)
		a := w.inject(r)
		asked := w.ledger.asked
		anew := r
		anew.Anew = true
		_, err := w.Inject(t.Context(), actor, anew)
		want(t, string(m), fault.RequestReplayed, err)
		if again := w.inject(r); again.Injection.ID != a.Injection.ID || w.ledger.asked != asked {
			t.Errorf("%s: another answer, or a module was asked", m)
		}
		other := w.request(id, m)
		other.Anew = true
		w.confirm(w.inject(other).Injection)
	}
}

// TestAnewAfterAFailure: where nothing was given the same injection is begun again, so that no
// number is used up.
func TestAnewAfterAFailure(t *testing.T) {
	for _, m := range []Method{KeyAgreement, TwoPass, OnePass} {
		w := newWorld(t)
		r := w.request(w.terminal("t-1"), m)
		r.Anew = true
		w.ledger.before = fault.New(fault.ModuleUnavailable, "")
		for range 12 {
			_, err := w.Inject(t.Context(), actor, r)
			want(t, string(m), fault.ModuleUnavailable, err)
		}
		w.ledger.before = nil
		if got := w.inject(r).Injection.Keys[2].ID[7]; got != 10 {
			t.Errorf("%s: number %d, want 10", m, got)
		}
	}
}

// TestAnewAtOnce: of those who carry the same request at the same moment nobody gets the answer
// that the terminal cannot use.
func TestAnewAtOnce(t *testing.T) {
	w := newWorld(t)
	r := w.request(w.terminal("t-1"), OnePass)
	old := w.inject(r)
	r.Anew = true
	var all sync.WaitGroup
	var given atomic.Int64
	for range 4 {
		all.Go(func() {
			switch a, err := w.Inject(t.Context(), actor, r); {
			case err == nil && a.Injection.ID != old.Injection.ID:
				given.Add(1)
			case err == nil || fault.Of(err).Reason != fault.Conflict:
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	all.Wait()
	if given.Load() == 0 {
		t.Error("nobody got new keys")
	}
}

// TestTooManyInjections: ten a day that are not confirmed.
func TestTooManyInjections(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	for range 10 {
		w.inject(w.request(id, KeyAgreement))
	}
	_, err := w.Inject(t.Context(), actor, w.request(id, KeyAgreement))
	want(t, "the eleventh", fault.RateLimited, err)
	w.now = w.now.AddDate(0, 0, 1).Add(time.Second)
	w.inject(w.request(id, KeyAgreement))
}
