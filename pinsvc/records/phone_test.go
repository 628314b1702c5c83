package records

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/passkey"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

const origin = "https://void.example.com"

var page = hsm.Key{Name: "page"}

func onAPhone(digits string) Typed {
	return Typed{Point: pointOf("the phone of the tests"), Block: typed(digits)}
}

// pointOf is always the same for a name.
func pointOf(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	key, err := ecdh.P256().NewPrivateKey(sum[:])
	if err != nil {
		panic(err)
	}
	return key.PublicKey().Bytes()
}

func withPasskey(name string) *pinrecord.Subject {
	return &pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "merchant-8", Name: name}
}

func (o *office) setsPIN(front int, link, code, pin string) (bool, error) {
	return o.fronts[front].SetPINOnPhone(o.Context(), "page", link, page, onAPhone(code), onAPhone(pin))
}

func (o *office) setsPasskey(front int, link, code, made string) (bool, error) {
	return o.fronts[front].SetPasskeyOnPhone(o.Context(), "page", link, origin, page, o.made(link, code, made))
}

// made is a passkey that a browser has made for what a link is for, or for nothing.
func (o *office) made(link, code, name string) NewPasskey {
	o.Helper()
	var challenge [32]byte
	if r, err := o.fronts[0].linked(o.Context(), link); err == nil {
		challenge = pinrecord.PasskeyChallenge([32]byte(r.Approval), &o.fronts[0].record(r).Subject)
	}
	site, point := sha256.Sum256([]byte(passkey.RPID(origin))), pointOf(name)
	data := append(site[:], 0x45, 0, 0, 0, 0)               // present, verified, with a key
	data = append(append(data, make([]byte, 16)...), 0, 16) // whose, and the size of the identifier
	data = append(append(data, point[1:17]...), "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"...)
	data = append(append(append(data, point[1:33]...), "\x22\x58\x20"...), point[33:]...)
	client := `{"type":"webauthn.create","challenge":"` + base64.RawURLEncoding.EncodeToString(challenge[:]) + `","origin":"` + origin + `","crossOrigin":false}`
	return NewPasskey{Code: onAPhone(code), ClientData: []byte(client), AuthenticatorData: data}
}

// By a link a PIN is set on whichever front; the tries of its code are counted as at a terminal, and what
// was set once is set by nothing else.
func TestAPINByLink(t *testing.T) {
	onBoth(t, func(o *office) {
		s := supervisor("dora")
		two := o.approvals(pinrecord.Enrol, s, 1)
		begun := o.begin(two)
		if again := o.begin(two); again.Link != begun.Link || len(begun.Link) != 26 {
			o.Fatalf("%q and %q", begun.Link, again.Link)
		}
		e, err := o.fronts[1].Enrolment(o.Context(), begun.Link)
		if err != nil || e.Record.Subject != *s || LinkOf(e.Approval[:]) != begun.Link {
			o.Fatalf("%+v, %v", e, err)
		}
		for _, link := range []string{"", "A", strings.Repeat("A", 26), strings.ToLower(begun.Link), begun.Link + "A", begun.Link[:25] + "1", begun.Link[:25] + "B"} {
			_, look := o.fronts[0].Enrolment(o.Context(), link)
			o.refused(link, look, fault.PINRecordNotFound)
			_, set := o.setsPIN(0, link, theCode, "493817")
			o.refused(link, set, fault.PINRecordNotFound)
		}
		_, err = o.setsPasskey(0, begun.Link, theCode, "key")
		o.refused("a passkey for a PIN", err, fault.RequestInvalid)
		if verified, err := o.setsPIN(0, begun.Link, "00000000", "493817"); verified || err != nil {
			o.Errorf("a wrong code: %v, %v", verified, err)
		}
		_, err = o.setsPIN(1, begun.Link, theCode, "123456")
		o.refused("a weak PIN", err, fault.PINWeak)
		for front := range 2 {
			if verified, err := o.setsPIN(front, begun.Link, theCode, "493817"); !verified || err != nil {
				o.Errorf("%d: %v, %v", front, verified, err)
			}
		}
		_, err = o.setsPIN(0, begun.Link, theCode, "771203")
		o.refused("set by something else", err, fault.PINRecordState)
		_, err = o.fronts[0].Enrolment(o.Context(), begun.Link)
		o.refused("a link that was used", err, fault.PINRecordState)
		o.tries(s, "493817", true)
		o.tries(s, "771203", false)

		reset := o.begin(o.approvals(pinrecord.Reset, s, 2))
		_, err = o.fronts[0].Enrolment(o.Context(), begun.Link)
		o.refused("the link before", err, fault.PINRecordNotFound)
		o.tries(s, "493817", false)
		for range CodeTries {
			if verified, err := o.setsPIN(0, reset.Link, "00000000", "771203"); verified || err != nil {
				o.Errorf("a wrong code: %v, %v", verified, err)
			}
		}
		_, err = o.setsPIN(0, reset.Link, theCode, "771203")
		o.refused("the tries are used up", err, fault.PINRecordState)
		late := o.begin(o.approvals(pinrecord.Reset, s, 3))
		o.now = o.now.Add(2 * time.Hour)
		_, err = o.setsPIN(0, late.Link, theCode, "771203")
		o.refused("over", err, fault.PINRecordState)
	})
}

// A passkey is enrolled, found, reset and revoked as a PIN is, and is no PIN.
func TestAPasskeysLife(t *testing.T) {
	onBoth(t, func(o *office) {
		s := withPasskey("dora")
		digest := s.Digest()
		f := &voidtoken.Fields{Merchant: "merchant-8", Terminal: "t-1"}
		live := func(want bool) []byte {
			o.Helper()
			for _, front := range o.fronts {
				p, err := front.Passkey(o.Context(), digest[:], f, origin)
				if err != nil || p.decoy == want || len(p.Record) == 0 {
					o.Fatalf("%+v, %v; live is %v", p, err, want)
				}
				if want {
					return p.Record
				}
				if _, _, sealed, err := pinrecord.ParsePasskey(p.Record); err != nil || bytes.Equal(sealed, mac) {
					o.Errorf("the decoy: %v", err)
				}
				if verified, err := p.Settle(true, fault.New(fault.KeySealInvalid, "")); verified || err != nil {
					o.Errorf("%v, %v", verified, err)
				}
			}
			return nil
		}
		live(false)
		first := o.begin(o.approvals(pinrecord.Enrol, s, 1))
		live(false)
		_, err := o.setsPIN(0, first.Link, theCode, "493817")
		o.refused("a PIN for a passkey", err, fault.RequestInvalid)
		_, err = o.fronts[0].SetPasskeyOnPhone(o.Context(), "page", first.Link, "https://evil.example", page, o.made(first.Link, theCode, "one"))
		o.refused("made elsewhere", err, fault.RequestInvalid)
		for n := range 2 {
			if verified, err := o.setsPasskey(n, first.Link, theCode, "one"); !verified || err != nil {
				o.Fatalf("%v, %v", verified, err)
			}
		}
		o.is(s, Active, 1)
		record := live(true)
		for what, other := range map[string]*voidtoken.Fields{"another merchant": {Merchant: "merchant-9", Terminal: "t-1"}} {
			if p, err := o.fronts[0].Passkey(o.Context(), digest[:], other, origin); err != nil || !p.decoy || p.Name != "dora" {
				o.Errorf("%s: %+v, %v", what, p, err)
			}
		}
		_, _, err = o.fronts[0].Set(o.Context(), actor, s, entry(theCode), entry("493817"))
		o.refused("set at a terminal", err, fault.RequestInvalid)
		_, err = o.fronts[0].Verify(o.Context(), actor, s, entry("493817"))
		o.refused("verified at a terminal", err, fault.RequestInvalid)
		_, err = o.fronts[0].Change(o.Context(), actor, s, entry("493817"), entry("602914"))
		o.refused("changed at a terminal", err, fault.RequestInvalid)
		_, err = o.fronts[0].Attempt(o.Context(), actor, s)
		o.refused("tried", err, fault.RequestInvalid)
		_, err = o.fronts[0].Begin(o.Context(), actor, o.approvals(pinrecord.Unblock, s, 1), time.Time{})
		o.refused("unblocked", err, fault.PINRecordState)

		second := o.begin(o.approvals(pinrecord.Reset, s, 2))
		live(false) // at once
		if verified, err := o.setsPasskey(1, second.Link, theCode, "two"); !verified || err != nil {
			o.Fatalf("%v, %v", verified, err)
		}
		if bytes.Equal(live(true), record) {
			o.Error("the passkey before is there")
		}
		list, _, err := o.fronts[0].List(o.Context(), "merchant-8", "", 10)
		if err != nil || len(list) != 1 || list[0].Subject != *s {
			o.Errorf("%+v, %v", list, err)
		}
		if _, err := o.fronts[0].Revoke(o.Context(), actor, s, "the phone was lost"); err != nil {
			o.Fatal(err)
		}
		live(false)
		o.modules.away = true
		_, err = o.fronts[0].Passkey(o.Context(), digest[:], f, origin)
		o.refused("no module", err, fault.ModuleUnavailable)
		_, err = o.setsPasskey(1, second.Link, theCode, "two")
		o.refused("the link is over", err, fault.PINRecordNotFound)
	})
}

// What no browser sends is refused before a try is taken or a module is asked: who has a link could go on with it.
func TestNothingIsAskedWithWhatIsNone(t *testing.T) {
	onBoth(t, func(o *office) {
		pin, key := o.begin(o.approvals(pinrecord.Enrol, supervisor("dora"), 1)), o.begin(o.approvals(pinrecord.Enrol, withPasskey("dora"), 1))
		asked := o.modules.asked
		none := Typed{Point: make([]byte, 65), Block: typed(theCode)}
		good := onAPhone(theCode)
		for what, typed := range map[string][2]Typed{"the code's point": {none, good}, "the PIN's point": {good, none}, "a short block": {good, {Point: good.Point, Block: good.Block[:8]}}} {
			_, err := o.fronts[0].SetPINOnPhone(o.Context(), "page", pin.Link, page, typed[0], typed[1])
			o.refused(what, err, fault.RequestInvalid)
		}
		for what, change := range map[string]func(*NewPasskey){
			"the code's point":        func(p *NewPasskey) { p.Code = none },
			"no client data":          func(p *NewPasskey) { p.ClientData = []byte("{}") },
			"for another challenge":   func(p *NewPasskey) { p.ClientData = o.made(pin.Link, theCode, "one").ClientData },
			"half authenticator data": func(p *NewPasskey) { p.AuthenticatorData = p.AuthenticatorData[:100] },
		} {
			made := o.made(key.Link, theCode, "one")
			change(&made)
			_, err := o.fronts[1].SetPasskeyOnPhone(o.Context(), "page", key.Link, origin, page, made)
			o.refused(what, err, fault.RequestInvalid)
		}
		if n := o.modules.asked - asked; n != 0 {
			o.Errorf("modules were asked %d times", n)
		}
		if verified, err := o.setsPasskey(0, key.Link, theCode, "one"); !verified || err != nil {
			o.Errorf("%v, %v", verified, err)
		}
	})
}

// The same request many times at the same moment is set once, and each has the answer of that.
func TestTheSameByLinkAtOnce(t *testing.T) {
	onBoth(t, func(o *office) {
		begun := o.begin(o.approvals(pinrecord.Enrol, supervisor("dora"), 1))
		before := o.modules.compared
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if verified, err := o.setsPIN(0, begun.Link, theCode, "493817"); !verified || err != nil {
					o.Errorf("%v, %v", verified, err)
				}
			})
		}
		all.Wait()
		if n := o.modules.compared - before; n != 1 {
			o.Errorf("%d were compared", n)
		}
	})
}

// A hundred wrong codes at the same moment on two fronts are three comparisons.
func TestNoFourthCodeByLink(t *testing.T) {
	onBoth(t, func(o *office) {
		begun := o.begin(o.approvals(pinrecord.Enrol, withPasskey("dora"), 1))
		before := o.modules.compared
		var all sync.WaitGroup
		for n := range 100 {
			all.Go(func() {
				if verified, err := o.setsPasskey(n%2, begun.Link, "00000000", "key"); verified || err != nil && fault.Of(err).Reason != fault.PINRecordState && fault.Of(err).Reason != fault.Conflict {
					o.Errorf("%v, %v", verified, err)
				}
			})
		}
		all.Wait()
		if n := o.modules.compared - before; n != CodeTries {
			o.Errorf("%d were compared", n)
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(LinkOf(make([]byte, 32)))
	f.Add(strings.Repeat("=", 26))
	f.Fuzz(func(t *testing.T, link string) {
		name, err := parseLink(link)
		if err != nil {
			if name != nil || fault.Of(err).Reason != fault.PINRecordNotFound {
				t.Errorf("%x, %v", name, err)
			}
			return
		}
		if LinkOf(name) != link {
			t.Errorf("%q is %x", link, name)
		}
	})
}
