package voids

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/audit"
	"keyd/fault"
	"keyd/store"
	"keyd/voids/code"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// A void goes from its creation to the switch's word, and the same request gets the same answer at
// each step, on another front as well.
func TestLife(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		one, two := b.front(), b.front()
		ctx := t.Context()
		create := Create{Request: "c", Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: 12300, Currency: voidtoken.CNY, Payment: b.payment(12300), Slip: true}
		c, err := one.Create(ctx, switchID, create)
		if err != nil || c.Void.Outcome.Result != flow.ResultCreated || c.Void.Fee != 74 || c.Slip == "" || !strings.HasPrefix(c.URL, "HTTPS://VOID.EXAMPLE.COM/V/") {
			t.Fatalf("%+v, %v", c, err)
		}
		again, err := two.Create(ctx, switchID, create)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("again: %+v, %v, want %+v", again, err, c)
		}
		create.Amount, create.Payment = 1, b.payment(1)
		_, err = two.Create(ctx, switchID, create)
		want(t, "the same request for another amount", fault.RequestReplayed, err)

		scan := Scan{Request: "s", Code: c.URL, Merchant: "m-17"}
		v, err := two.Scan(ctx, switchID, scan)
		if err != nil || v.State != flow.Scanned || !slices.Contains(v.Outcome.Next, flow.Authorize) {
			t.Fatalf("%+v, %v", v, err)
		}
		if again, err := one.Scan(ctx, switchID, scan); err != nil || again.State != flow.Scanned || again.Version != v.Version {
			t.Errorf("again: %+v, %v", again, err)
		}

		bad, err := b.authorize(one, v, "a", b.pin(v.Fields, "dora", wrong))
		if err != nil || bad.Verified || bad.Token != "" || bad.Void.Outcome.Result != flow.ResultWrong || bad.Void.Tries != 2 {
			t.Fatalf("%+v, %v", bad, err)
		}
		asked := b.boundary.asked.Load()
		if again, err := b.authorize(two, v, "a", b.pin(v.Fields, "dora", right)); err != nil || again.Verified || again.Void.Tries != 2 || b.boundary.asked.Load() != asked {
			t.Errorf("the same request with the right PIN: %+v, %v", again, err)
		}
		pin := b.pin(v.Fields, "dora", right)
		a, err := b.authorize(two, v, "b", pin)
		if err != nil || !a.Verified || a.Void.State != flow.Authorized {
			t.Fatalf("%+v, %v", a, err)
		}
		b.good(a.Token, v.Fields, voidtoken.SupervisorPIN)
		asked = b.boundary.asked.Load()
		if again, err := b.authorize(one, v, "b", pin); err != nil || again.Token != a.Token || b.boundary.asked.Load() != asked {
			t.Errorf("again: %+v, %v", again, err)
		}
		// Another caller's request of the same name is another.
		other, err := one.Authorize(ctx, "spiffe://bank.example/other", Authorize{Request: "b", Void: v.Fields.Void, PINs: []PIN{b.pin(v.Fields, "dora", right)}, Payment: b.payment(12300)})
		if err != nil || other.Verified || other.Token != "" || other.Void.Outcome.Result != flow.ResultAlreadyAuthorized {
			t.Errorf("another caller: %+v, %v", other, err)
		}
		if gone, err := one.Cancel(ctx, switchID, "x", v.Fields.Void); err != nil || gone.Outcome.Result != flow.ResultTokenIsOut || gone.State != flow.Authorized {
			t.Errorf("cancelled: %+v, %v", gone, err)
		}
		for _, s := range []*Service{one, two} {
			if done, err := s.Confirm(ctx, switchID, "d", v.Fields.Void, true); err != nil || done.State != flow.Confirmed || done.Outcome.Result != flow.ResultConfirmed {
				t.Errorf("%+v, %v", done, err)
			}
		}
		if late, err := b.authorize(one, v, "b", pin); err != nil || late.Token != a.Token {
			t.Errorf("after the confirmation: %+v, %v", late, err)
		}
		if got, err := two.Get(ctx, v.Fields.Void); err != nil || got.State != flow.Confirmed || !slices.Contains(got.Outcome.Next, flow.GoOn) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// Whoever asks how often on whichever front, a void is authorised once, and one token leaves.
func TestAuthorizedOnce(t *testing.T) {
	const attempts = 1000
	onBoth(t, func(t *testing.T, b *bench) {
		fronts := []*Service{b.front(), b.front()}
		v := b.scanned(fronts[0], "pay-1", 12300)
		pins := make([]PIN, attempts)
		for i := range pins {
			pins[i] = b.pin(v.Fields, "dora", right)
		}
		var mu sync.Mutex
		tokens, results := map[string]int{}, map[flow.Result]int{}
		var wait sync.WaitGroup
		gate := make(chan struct{}, 50) // requests at a time: a front's own limits are not what is tried here
		for i := range attempts {
			wait.Go(func() {
				gate <- struct{}{}
				defer func() { <-gate }()
				a, err := b.authorize(fronts[i%2], v, b.request(), pins[i])
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				results[a.Void.Outcome.Result]++
				if a.Verified != (a.Token != "") || a.Verified != (a.Void.Outcome.Result == flow.ResultAuthorized) {
					t.Errorf("%+v", a)
				}
				if a.Token != "" {
					tokens[a.Token]++
				}
			})
		}
		wait.Wait()
		if len(tokens) != 1 || results[flow.ResultAuthorized] != 1 || results[flow.ResultAlreadyAuthorized] != attempts-1 {
			t.Errorf("%d tokens have left; results %v", len(tokens), results)
		}
		r, err := b.store.Void(t.Context(), v.Fields.Void)
		if err != nil || tokens[r.Token] != 1 || r.Version != 3 {
			t.Errorf("kept is another token, or more has happened: version %d, %v", r.Version, err)
		}
		t.Logf("%d modules' answers, %d tokens signed, 1 left", b.boundary.asked.Load(), b.boundary.signed.Load())
	})
}

// The same request at the same moment, on two fronts, gets the same token each time.
func TestOneRequestAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		fronts := []*Service{b.front(), b.front()}
		v := b.scanned(fronts[0], "pay-1", 12300)
		pin := b.pin(v.Fields, "dora", right)
		var mu sync.Mutex
		tokens := map[string]int{}
		var wait sync.WaitGroup
		for i := range 16 {
			wait.Go(func() {
				a, err := b.authorize(fronts[i%2], v, "same", pin)
				if err != nil || !a.Verified {
					t.Errorf("%+v, %v", a, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				tokens[a.Token]++
			})
		}
		wait.Wait()
		if len(tokens) != 1 {
			t.Errorf("%d tokens", len(tokens))
		}
	})
}

// What is wrong with a code is told to the merchant that it names, and to the audit log.
func TestCodes(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	c := b.create(s, "pay-1", 12300)
	mine := func(request, text, merchant string) (detail, said string) {
		t.Helper()
		entry := new(audit.Entry)
		v, err := s.Scan(context.WithValue(t.Context(), entryKey{}, entry), switchID, Scan{Request: request, Code: text, Merchant: merchant})
		if v != nil || err == nil {
			t.Fatalf("%+v", v)
		}
		want(t, text, fault.VoidCodeRefused, err)
		return fault.Of(err).Detail(), entry.Detail
	}
	resigned := func(change func(*code.Code), by *boundary) string {
		t.Helper()
		audience, err := code.AudienceOf("m-17")
		if err != nil {
			t.Fatal(err)
		}
		made := code.Code{Identifier: code.NewIdentifier(), Expiry: b.now().Add(time.Minute), Audience: audience}
		change(&made)
		p, err := code.Sign(&by.code.PublicKey, code.SignerOf(by.code), made)
		if err != nil {
			t.Fatal(err)
		}
		return p.Text()
	}
	altered := []byte(c.Code)
	altered[20] = "AB"[b2i(altered[20] == 'A')]
	stranger := &boundary{code: newKey(t)}
	foreign, err := code.AudienceOf("m-18")
	if err != nil {
		t.Fatal(err)
	}
	for what, x := range map[string]struct{ text, merchant, detail string }{
		"no code":              {"HELLO", "m-17", "is of a version that is not known"},
		"altered":              {string(altered), "m-17", "signature does not fit"},
		"altered, by others":   {string(altered), "m-18", ""},
		"another merchant's":   {c.Code, "m-18", ""},
		"forged":               {resigned(func(*code.Code) {}, stranger), "m-17", "is signed with a key that is not known here"},
		"of no void":           {resigned(func(*code.Code) {}, b.boundary), "m-17", "its void is not known here"},
		"expired":              {resigned(func(c *code.Code) { c.Expiry = b.now() }, b.boundary), "m-17", "has expired"},
		"expired, by others":   {resigned(func(c *code.Code) { c.Expiry, c.Audience = b.now(), foreign }, b.boundary), "m-17", ""},
		"too long":             {resigned(func(c *code.Code) { c.Expiry = b.now().Add(time.Hour) }, b.boundary), "m-17", "ends later"},
		"a slip":               {c.Slip, "m-17", "authorises nothing"},
		"another host's URL":   {strings.Replace(c.URL, "VOID.", "EVIL.", 1), "m-17", "URL is of another host"},
		"a slip, by others":    {c.Slip, "m-18", ""},
		"for a merchant of ''": {resigned(func(c *code.Code) { c.Audience = code.Audience{} }, b.boundary), "m-17", ""},
	} {
		detail, said := mine(b.request(), x.text, x.merchant)
		if x.detail == "" && (detail != "" || !strings.HasPrefix(said, "said to nobody: ")) || !strings.Contains(detail, x.detail) {
			t.Errorf("%s: %q, the audit log has %q", what, detail, said)
		}
	}
	if v, err := s.Get(t.Context(), c.Void.Fields.Void); err != nil || v.State != flow.Created {
		t.Fatalf("after all that: %+v, %v", v, err)
	}
	if _, err := s.Scan(t.Context(), switchID, Scan{Request: "first", Code: c.Code, Merchant: "m-17"}); err != nil {
		t.Fatal(err)
	}
	if detail, _ := mine("second", c.Code, "m-17"); detail != "it was used before" {
		t.Errorf("a copy: %q", detail)
	}
	if _, err := s.Cancel(t.Context(), switchID, "x", c.Void.Fields.Void); err != nil {
		t.Fatal(err)
	}
	if detail, _ := mine("third", c.Code, "m-17"); detail != "its void is CANCELLED" {
		t.Errorf("of one that is over: %q", detail)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A code is burnt by one of those who post it at the same moment.
func TestCodeIsBurntOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		fronts := []*Service{b.front(), b.front()}
		c := b.create(fronts[0], "pay-1", 12300)
		var mu sync.Mutex
		won := 0
		var wait sync.WaitGroup
		for i := range 32 {
			wait.Go(func() {
				_, err := fronts[i%2].Scan(t.Context(), switchID, Scan{Request: b.request(), Code: c.Code, Merchant: "m-17"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else {
					want(t, "another", fault.VoidCodeRefused, err)
				}
			})
		}
		wait.Wait()
		if won != 1 {
			t.Errorf("%d of 32 have burnt it", won)
		}
	})
}

// The rules are asked at each step, and what they refuse is an answer with what to do next.
func TestRules(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	ask := func(change func(*Create)) (*Created, error) {
		r := Create{Request: b.request(), Merchant: "m-17", Terminal: "t-1", Reference: b.request(), Amount: 100, Currency: voidtoken.CNY, Payment: b.payment(100)}
		change(&r)
		return s.Create(t.Context(), switchID, r)
	}
	yes := true
	b.scanned(s, "live", 100)
	for refusal, change := range map[flow.Refusal]func(*Create){
		flow.Settled:         func(r *Create) { r.Payment.Settled = &yes },
		flow.AlreadyVoided:   func(r *Create) { r.Payment.Voided = &yes },
		flow.AmountDiffers:   func(r *Create) { r.Payment.Amount = 99 },
		flow.MerchantDiffers: func(r *Create) { r.Payment.Merchant = "m-18" },
		flow.AboveLimit:      func(r *Create) { r.Amount, r.Payment.Amount = 90001, 90001 },
		flow.NotSameDay:      func(r *Create) { r.Payment.PaidAt = b.now().Add(-10 * time.Hour).Unix() },
		flow.AnotherVoid:     func(r *Create) { r.Reference = "live" },
	} {
		c, err := ask(change)
		if err != nil || c.Void.State != "" || c.Code != "" || c.Void.Outcome.Result != flow.ResultRefused || c.Void.Outcome.Refusal != refusal || len(c.Void.Outcome.Next) == 0 {
			t.Errorf("%s: %+v, %v", refusal, c, err)
		}
	}
	for what, change := range map[string]func(*Create){
		"no facts":            func(r *Create) { r.Payment.Settled = nil },
		"no reference":        func(r *Create) { r.Reference = "" },
		"a request of spaces": func(r *Create) { r.Request = "a b" },
		"no such category":    func(r *Create) { r.Payment.Category = "gold" },
	} {
		_, err := ask(change)
		want(t, what, fault.RequestInvalid, err)
	}
	for range 2 {
		if c, err := ask(func(*Create) {}); err != nil || c.Void.State != flow.Created {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	if c, err := ask(func(*Create) {}); err != nil || c.Void.Outcome.Refusal != flow.TooManyToday {
		t.Errorf("the fourth of a day: %+v, %v", c, err)
	}
	b.policy = nil
	if c, err := ask(func(*Create) {}); err != nil || c.Void.Outcome.Refusal != flow.MerchantNotAllowed {
		t.Errorf("without rules: %+v, %v", c, err)
	}
}

// What changes between creation and authorisation counts, and no module is asked.
func TestDecidedAnew(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	yes := true
	v := b.scanned(s, "pay-1", 12300)
	settled := b.payment(12300)
	settled.Settled = &yes
	a, err := s.Authorize(t.Context(), switchID, Authorize{Request: "a", Void: v.Fields.Void, PINs: []PIN{b.pin(v.Fields, "dora", right)}, Payment: settled})
	if err != nil || a.Token != "" || a.Void.State != flow.Declined || a.Void.Outcome.Refusal != flow.Settled || b.boundary.asked.Load() != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	v = b.scanned(s, "pay-2", 12300)
	b.policy = nil
	if a, err := b.authorize(s, v, "a", b.pin(v.Fields, "dora", right)); err != nil || a.Token != "" || a.Void.Outcome.Refusal != flow.MerchantNotAllowed || b.boundary.asked.Load() != 0 {
		t.Errorf("the policy has lost its section: %+v, %v", a, err)
	}
}

// A set of two needs both PINs in one request.
func TestTwoPINs(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	v := b.scanned(s, "pay-1", 80000)
	sup, card := func() PIN { return b.pin(v.Fields, "dora", right) }, func() PIN { return b.pin(v.Fields, cardholder, right) }
	_, err := b.authorize(s, v, b.request(), sup())
	want(t, "a supervisor alone", fault.RequestInvalid, err)
	_, err = b.authorize(s, v, b.request(), sup(), sup())
	want(t, "a supervisor twice", fault.RequestInvalid, err)
	if a, err := b.authorize(s, v, b.request(), sup(), b.pin(v.Fields, cardholder, wrong)); err != nil || a.Verified || a.Void.Tries != 2 {
		t.Errorf("%+v, %v", a, errors.Unwrap(err))
	}
	a, err := b.authorize(s, v, "both", card(), sup())
	if err != nil || !a.Verified {
		t.Fatalf("%+v, %v", a, err)
	}
	b.good(a.Token, v.Fields, voidtoken.SupervisorPIN, voidtoken.CardholderPIN)
	small := b.scanned(s, "pay-2", 100)
	_, err = b.authorize(s, small, b.request(), b.pin(small.Fields, "dora", right), b.pin(small.Fields, cardholder, right))
	want(t, "one too many", fault.RequestInvalid, err)
}

// Tries are counted by the void as well: after the last it is declined. A subject without a PIN is
// answered alike.
func TestTries(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	v := b.scanned(s, "pay-1", 100)
	for i, name := range []string{"nobody", "dora", "nobody"} {
		a, err := b.authorize(s, v, b.request(), b.pin(v.Fields, name, byte(1+b2i(name == "dora"))))
		if err != nil || a.Verified || a.Token != "" || a.Void.Tries != 2-i {
			t.Fatalf("%s: %+v, %v", name, a, err)
		}
	}
	got, err := s.Get(t.Context(), v.Fields.Void)
	if err != nil || got.State != flow.Declined || got.Outcome.Result != flow.ResultTriesUsedUp {
		t.Errorf("%+v, %v", got, err)
	}
	if a, err := b.authorize(s, v, b.request(), b.pin(v.Fields, "dora", right)); err != nil || a.Token != "" || a.Void.Outcome.Result != flow.ResultOver {
		t.Errorf("%+v, %v", a, err)
	}
	if b.records.taken != 1 {
		t.Errorf("%d tries were taken, want 1", b.records.taken)
	}
}

// A token for anything else than the void is never kept, nor answered.
func TestTokenOfAnotherVoid(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	v := b.scanned(s, "pay-1", 100)
	other := v.Fields
	other.Amount = 99
	a, err := b.authorize(s, v, b.request(), b.pin(other, "dora", right))
	if err != nil || a.Verified || a.Token != "" {
		t.Errorf("bound to another amount: %+v, %v", a, err)
	}
	for what, alter := range map[string]func(*voidtoken.Token){
		"another amount":    func(t *voidtoken.Token) { t.Amount++ },
		"another merchant":  func(t *voidtoken.Token) { t.Merchant = "m-18" },
		"another terminal":  func(t *voidtoken.Token) { t.Terminal = "t-2" },
		"another reference": func(t *voidtoken.Token) { t.Reference = "pay-2" },
		"another void":      func(t *voidtoken.Token) { t.Void = strings.Repeat("0", 32) },
		"another person":    func(t *voidtoken.Token) { t.Authorizations[0].Subject = "emil" },
		"another method":    func(t *voidtoken.Token) { t.Authorizations[0].Method = voidtoken.RemoteApproval },
		"another end":       func(t *voidtoken.Token) { t.ExpiresAt++ },
	} {
		b.boundary.alter = alter
		_, err := b.authorize(s, v, b.request(), b.pin(v.Fields, "dora", right))
		want(t, what, fault.Internal, err)
	}
	if r, err := b.store.Void(t.Context(), v.Fields.Void); err != nil || r.State != store.VoidScanned || r.Token != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// A void ends by itself: when it is looked at, and by upkeep.
func TestExpiry(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		s, other := b.front(), b.front()
		looked, swept, silent := b.scanned(s, "pay-1", 100), b.scanned(s, "pay-2", 100), b.scanned(s, "pay-3", 100)
		a, err := b.authorize(s, silent, "a", b.pin(silent.Fields, "dora", right))
		if err != nil || !a.Verified {
			t.Fatalf("%+v, %v", a, err)
		}
		b.sleep(10*time.Minute - time.Second)
		if n, err := s.Expire(t.Context()); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		b.sleep(time.Second)
		if v, err := other.Get(t.Context(), looked.Fields.Void); err != nil || v.State != flow.Expired || v.Outcome.Result != flow.ResultExpired {
			t.Errorf("%+v, %v", v, err)
		}
		if late, err := b.authorize(s, swept, "late", b.pin(swept.Fields, "dora", right)); err != nil || late.Token != "" || late.Void.State != flow.Expired {
			t.Errorf("%+v, %v", late, err)
		}
		b.sleep(time.Hour)
		if n, err := s.Expire(t.Context()); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if v, err := s.Get(t.Context(), silent.Fields.Void); err != nil || v.Outcome.Result != flow.ResultUnconfirmed || !slices.Contains(v.Outcome.Next, flow.AskSwitch) {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// Whoever watches on one front sees what another does.
func TestWatch(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		here, there := b.front(), b.front()
		c := b.create(here, "pay-1", 100)
		for _, by := range []*Service{here, there} {
			v, err := here.Get(t.Context(), c.Void.Fields.Void)
			if err != nil {
				t.Fatal(err)
			}
			w := here.Watch(c.Void.Fields.Void)
			done := make(chan error, 1)
			go func() { done <- w.Next(t.Context(), v.Version) }()
			if by == here {
				_, err = by.Scan(t.Context(), switchID, Scan{Request: "s", Code: c.Code, Merchant: "m-17"})
			} else {
				_, err = by.Cancel(t.Context(), switchID, "x", c.Void.Fields.Void)
			}
			if err := errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			w.Close()
		}
		if len(here.watchers.of) != 0 {
			t.Error("somebody still waits")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		w := here.Watch(c.Void.Fields.Void)
		defer w.Close()
		v, err := here.Get(t.Context(), c.Void.Fields.Void)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Next(ended, v.Version); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
