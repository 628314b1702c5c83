package policies

import (
	"errors"
	"strings"
	"testing"
	"time"

	"keyd/voids/fees"
	"keyd/voidtoken"
)

const voidsHead = "version: 1\nidentities: []\nroles: {}\n"

const goodVoids = `voids:
  token_key: token
  code_key: code?version=2
  token_life: 300
  code_life: 120
  slip_life: 3600
  code_host: void.example.com:8443
  phone: {page_key: page, set_pin: true}
  merchants:
    m-17:
      currency: 156
      per_day: 20
      age: 43200
      day_begins: -3600
      tries: 3
      life: 600
      confirm: 301
      tiers:
        - {up_to: 50000, methods: [[SUPERVISOR_PIN], [REMOTE_APPROVAL]]}
        - {up_to: 60000, methods: [[CARDHOLDER_PIN, SUPERVISOR_PIN], [PHONE_PASSKEY]]}
  fees:
    currency: 156
    categories: {standard: {rate: 0.60%}, debit: {rate: 0.5%, cap: 2500}}
    merchants:
      m-17: {standard: {rate: 0.00%}}
`

func TestVoids(t *testing.T) {
	if v := mustParse(t, []byte(voidsHead)).Voids(); v != nil {
		t.Errorf("without a section: %+v", v)
	}
	if v := (*Policy)(nil).Voids(); v != nil {
		t.Errorf("without a policy: %+v", v)
	}
	v := mustParse(t, []byte(voidsHead+goodVoids)).Voids()
	if v.TokenKey != "token" || v.CodeKey != "code?version=2" || v.TokenLife != 5*time.Minute || v.CodeLife != 2*time.Minute || v.SlipLife != time.Hour || v.CodeHost != "void.example.com:8443" || v.Rules.Default != nil {
		t.Errorf("%+v", v)
	}
	if v.Phone == nil || *v.Phone != (Phone{PageKey: "page", SetPIN: true}) || v.Origin() != "https://void.example.com:8443" {
		t.Errorf("%+v, %s", v.Phone, v.Origin())
	}
	l := v.Rules.Merchants["m-17"]
	if l.Currency != voidtoken.CNY || l.PerDay != 20 || l.DayBegins != -3600 || l.Confirm != 301 || len(l.Tiers) != 2 || l.Tiers[1].Methods[0][0] != voidtoken.SupervisorPIN || l.Tiers[1].Methods[0][1] != voidtoken.CardholderPIN {
		t.Errorf("%+v", l)
	}
	for category, want := range map[fees.Category]int64{fees.StandardMerchant: 0, fees.DebitCard: 2500} {
		if fee, err := v.Fees.Fee("m-17", category, 1_000_000, voidtoken.CNY); err != nil || fee != want {
			t.Errorf("%s: %d, %v, want %d", category, fee, err, want)
		}
	}
	for name, text := range map[string][]byte{"dev": Dev, "example": Example} {
		if mustParse(t, text).Voids() == nil {
			t.Errorf("%s has no section about voids", name)
		}
	}
}

func TestVoidsAreStrict(t *testing.T) {
	for what, c := range map[string]struct{ old, new, problem string }{
		"no token key":          {"  token_key: token\n", "", `"token_key" is missing`},
		"a key of spaces":       {"token_key: token", `token_key: "a b"`, "cannot be the name of a key pair"},
		"another's of spaces":   {"  code_life", "  other_code_keys: [\"a b\"]\n  code_life", "cannot be the name of a key pair"},
		"no others":             {"  code_life", "  other_code_keys: []\n  code_life", "1 to 16 key pairs"},
		"others as text":        {"  code_life", "  other_code_keys: code-b\n  code_life", "list"},
		"a terminal's key":      {"token_key: token", `token_key: "terminal:t-1:mac"`, "cannot be the name of a key pair"},
		"no code life":          {"  code_life: 120\n", "", `"code_life" is missing`},
		"a long code":           {"code_life: 120", "code_life: 900", "from 1 to 840"},
		"a token for two days":  {"token_life: 300", "token_life: 172800", "out of range"},
		"life in hex":           {"life: 600", "life: 0x10", "0x10 is out of range"},
		"life as fraction":      {"life: 600", "life: 1.5", "an integer"},
		"a host with a path":    {"void.example.com:8443", "void.example.com/x", "host is malformed"},
		"unknown key":           {"  code_life", "  code_live: 1\n  code_life", `unknown key "code_live"`},
		"unknown key of limits": {"per_day", "per_month: 1\n      per_day", `unknown key "per_month"`},
		"a merchant of spaces":  {"    m-17:\n      currency", "    \"m 17\":\n      currency", "is no merchant's identifier"},
		"no such currency":      {"      currency: 156", "      currency: 7", "no currency in use"},
		"too many tries":        {"tries: 3", "tries: 11", "out of range"},
		"no confirmation time":  {"confirm: 301", "confirm: 300", "longer to answer than a token lives"},
		"falling tiers":         {"up_to: 60000", "up_to: 50000", "rising amounts"},
		"no tiers":              {"      tiers:\n        - {up_to: 50000, methods: [[SUPERVISOR_PIN], [REMOTE_APPROVAL]]}\n        - {up_to: 60000, methods: [[CARDHOLDER_PIN, SUPERVISOR_PIN], [PHONE_PASSKEY]]}\n", "      tiers: []\n", "at least one tier"},
		"an empty set":          {"[SUPERVISOR_PIN], ", "[], ", "cannot be authorised by this set"},
		"an unknown method":     {"[SUPERVISOR_PIN], ", "[SUPERVISOR], ", "cannot be authorised by this set"},
		"an approval and a PIN": {"[SUPERVISOR_PIN], ", "[SUPERVISOR_PIN, REMOTE_APPROVAL], ", "cannot be authorised by this set"},
		"a phone and a PIN":     {"[PHONE_PASSKEY]", "[PHONE_PASSKEY, SUPERVISOR_PIN]", "cannot be authorised by this set"},
		"a phone twice":         {"[PHONE_PASSKEY]", "[PHONE_PASSKEY, PHONE_PIN]", "cannot be authorised by this set"},
		"no section of phones":  {"  phone: {page_key: page, set_pin: true}\n", "", "without the section phone"},
		"phones without a host": {"  code_host: void.example.com:8443\n", "", "needs code_host"},
		"phones at an address":  {"void.example.com:8443", "192.0.2.1", "only for a DNS name"},
		"phones at port 443":    {"void.example.com:8443", "void.example.com:443", "host is malformed"},
		"no page key":           {"page_key: page, ", "", `"page_key" is missing`},
		"no word about PINs":    {", set_pin: true", "", `"set_pin" is missing`},
		"perhaps":               {"set_pin: true", `set_pin: "true"`, "true or false"},
		"unknown key of phones": {"set_pin: true", "set_pin: true, pins: 3", `unknown key "pins"`},
		"a set twice":           {"[SUPERVISOR_PIN], ", "[REMOTE_APPROVAL], ", "stands here twice"},
		"one person twice":      {"[CARDHOLDER_PIN, SUPERVISOR_PIN]", "[SUPERVISOR_PIN, SUPERVISOR_PIN]", "cannot be authorised by this set"},
		"a rate as number":      {"0.60%", "0.006", "a text"},
		"a broken cap":          {"cap: 2500", "cap: 25.00", "an integer"},
		"no such category":      {"standard: {rate: 0.60%}", "gold: {rate: 0.60%}", `"gold" is no category`},
		"a negative rate":       {"0.60%", "-0.60%", "a rate is a percentage"},
		"a fee without a rate":  {"{rate: 0.60%}", "{cap: 5}", `"rate" is missing`},
	} {
		text := strings.Replace(goodVoids, c.old, c.new, 1)
		if text == goodVoids {
			t.Errorf("%s: nothing was changed", what)
		}
		p, err := Parse([]byte(voidsHead + text))
		var e *Error
		if p != nil || !errors.As(err, &e) || e.Line < 4 || !strings.Contains(e.Problem, c.problem) {
			t.Errorf("%s: %v, want %q", what, err, c.problem)
		}
	}
}
