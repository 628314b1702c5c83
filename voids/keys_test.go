package voids

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"keyd/fault"
	"keyd/pinrecord"
	"keyd/store"
	"keyd/voidtoken"
)

// A void that could never be authorised is not made: the key pair that signs its token is looked at
// before there is one, and what to do is said.
func TestNoVoidWithoutAKeyForItsToken(t *testing.T) {
	b := newBench(t, onSQLite(t))
	long, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b.put("long", "S0", &long.PublicKey)
	b.putAs(store.Disabled, "stopped", "S0", &b.boundary.token.PublicKey)
	s := b.front()
	create := func(request string) (*Created, error) {
		return s.Create(t.Context(), switchID, Create{
			Request: request, Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: 12300, Currency: voidtoken.CNY, Payment: b.payment(12300), Slip: true,
		})
	}
	for key, c := range map[string]struct {
		reason fault.Reason
		says   string
	}{
		"absent":  {fault.KeyNotFound, "the key absent, which the policy names for void tokens: have officers make it (usage S0), or name another in the policy"},
		"stopped": {fault.KeyDisabled, "the key stopped, which the policy names for void tokens: have officers make it"},
		"pvk":     {fault.KeyUsageMismatch, "the key pvk, which the policy names, is no ECDSA key pair of usage S0"},
		"long":    {fault.KeyUsageMismatch, "on P-256 or P-384"},
	} {
		b.setPolicy(strings.Replace(policyText, "token_key: token", "token_key: "+key, 1))
		if made, err := create("r-" + key); err == nil || fault.Of(err).Reason != c.reason || !strings.Contains(err.Error(), c.says) || made != nil {
			t.Errorf("%s: %+v, %v", key, made, err)
		}
		digest := requestOf(switchID, ActionCreate, "r-"+key, 0)
		if _, err := b.store.VoidOfRequest(t.Context(), digest[:]); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: there is a void: %v", key, err)
		}
	}
	b.setPolicy(policyText)
	made, err := create("r-absent")
	if err != nil || made.Code == "" {
		t.Errorf("with a key: %+v, %v", made, err)
	}
}

// Whose PIN is of another merchant or terminal loses no try by a void that it could not authorise.
func TestNoTryOfAnotherMerchantsPIN(t *testing.T) {
	b := newBench(t, onSQLite(t))
	s := b.front()
	v := b.scanned(s, "pay-1", 12300)
	for name, change := range map[string]func(*pinrecord.Subject){
		"another merchant": func(p *pinrecord.Subject) { p.Merchant = "m-18" },
		"another terminal": func(p *pinrecord.Subject) { p.Terminal = "t-2" },
	} {
		pin := b.pin(v.Fields, "dora", right)
		change(pin.Subject)
		asked, taken := b.boundary.asked.Load(), b.records.taken
		_, err := b.authorize(s, v, b.request(), pin)
		want(t, name, fault.RequestInvalid, err)
		if b.records.taken != taken || b.boundary.asked.Load() != asked {
			t.Errorf("%s: a try was taken, or a module asked", name)
		}
	}
	if a, err := b.authorize(s, v, b.request(), b.pin(v.Fields, "dora", right)); err != nil || !a.Verified || a.Void.Tries != 3 {
		t.Errorf("its own: %+v, %v", a, err)
	}
}
