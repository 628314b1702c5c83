package policies

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const explainedText = `version: 1
identities:
  - id: spiffe://bank.example/switch/*
    roles: [switch, night]
  - id: spiffe://bank.example/switch/1
    roles: [first]
roles:
  first:
    - methods: ["StatusService/GetStatus"]
  switch:
    - methods: ["PinService/TranslatePinData"]
      keys: ["in.*", "out.1"]
      usages: [B0, P0]
      when: 'address.within("10.0.0.0/8")'
    - methods: ["PinService/VerifyPinData"]
      keys: ["in.*", "pvk"]
      usages: [P0, V2]
  night:
    - methods: ["PinService/*"]
      keys: ["in.*", "out.*"]
      usages: ["*"]
      when: |
        now.during("Mon-Sun 22:00-06:00", "Europe/Zurich") &&
        keys.all(k, k.initial_key_id != "x")
      custody: token
`

func TestExplain(t *testing.T) {
	p := mustParse(t, []byte(explainedText))
	r := Request{
		Identity: "spiffe://bank.example/switch/1", Method: translate,
		Keys:    []Key{{Name: "in.7", Usage: "B0"}, {Name: "out.2"}},
		Address: netip.MustParseAddr("192.0.2.1"),
		At:      time.Date(2026, 7, 1, 21, 0, 0, 0, time.UTC),
	}
	x := p.Explain(r)
	if !x.Allowed || x.Rule != "night[0]" || x.Line != 19 || x.Custody != "token" || x.Limit != DefaultLimit.String() {
		t.Errorf("%+v", x)
	}
	if len(x.Entries) != 2 || x.Entries[0].ID != "spiffe://bank.example/switch/1" || x.Entries[0].Line != 5 || x.Entries[1].ID != "spiffe://bank.example/switch/*" || x.Entries[1].Line != 3 {
		t.Fatalf("%+v", x.Entries)
	}
	status := x.Entries[0].Roles[0].Rules[0]
	if status.Fits || status.Method.Fits || status.Method.Why != "the rule is about StatusService/GetStatus" || status.Keys[0].Name.Fits || status.Keys[0].Name.Why != "the rule is about methods without keys" {
		t.Errorf("%+v", status)
	}
	first := x.Entries[1].Roles[0].Rules[0]
	if first.Fits || !first.Method.Fits || first.Method.Line != 11 ||
		!first.Keys[0].Name.Fits || first.Keys[0].Name.Why != "covered by in.*" || first.Keys[0].Name.Line != 12 || first.Keys[0].Usage.Why != "one of B0, P0" || first.Keys[0].Usage.Line != 13 ||
		first.Keys[1].Name.Fits || first.Keys[1].Name.Why != "none of in.*, out.1" || !slices.Equal(first.Keys[1].Takes, []string{"B0", "P0"}) || !strings.Contains(first.Keys[1].Usage.Why, "it takes B0, P0") ||
		first.When == nil || first.When.Fits || first.When.Line != 14 || first.When.Why != "it does not hold" || first.Custody != nil {
		t.Errorf("%+v, %+v", first, first.When)
	}
	night := x.Entries[1].Roles[1].Rules[0]
	if len(night.When.Parts) != 2 || night.When.Parts[0].Expression != `now.during("Mon-Sun 22:00-06:00", "Europe/Zurich")` || night.When.Parts[0].Line != 23 || !night.When.Parts[0].Fits ||
		night.When.Parts[1].Expression != `keys.all(k, k.initial_key_id != "x")` || night.When.Parts[1].Line != 24 || !night.When.Parts[1].Fits || len(first.When.Parts) != 0 {
		t.Errorf("%+v", night.When.Parts)
	}
	if !night.Fits || night.When == nil || !night.When.Fits || night.When.Line != 22 || night.Custody.Demands != "token" || night.Custody.Line != 25 ||
		!slices.Equal(night.Keys[1].Takes, []string{"*"}) || !slices.Equal(night.When.Missing, []string{"ksn of in.7", "ksn of out.2"}) {
		t.Errorf("%+v, %+v", night, night.When)
	}
	if _, err := json.Marshal(x); err != nil {
		t.Error(err)
	}

	r.At, r.Keys[1] = time.Time{}, Key{Name: "out.2", Usage: "P0"}
	x = p.Explain(r)
	if why := x.Entries[1].Roles[1].Rules[0].When.Why; x.Allowed || why != "it could not be evaluated: the time is not known" || !strings.Contains(x.Why, "night[0] fits but its condition (line 22)") {
		t.Errorf("%s: %+v", why, x)
	}
	for identity, why := range map[string]string{"spiffe://bank.example/x": "no entry", "": "no entry"} {
		if x := p.Explain(Request{Identity: identity, Method: translate, Keys: r.Keys}); x.Allowed || !strings.Contains(x.Why, why) || len(x.Entries) != 0 || x.Limit != IdleLimit.String() {
			t.Errorf("%q: %+v", identity, x)
		}
	}
	if x := (*Policy)(nil).Explain(r); x.Allowed || x.Why == "" {
		t.Errorf("no policy: %+v", x)
	}
}

// drawPolicy draws a file in which everything that a rule can have comes often.
func drawPolicy(t *rapid.T) *Policy {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	list := func(label string, from ...string) string {
		return "[" + strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(from), 0, 3, rapid.ID[string]).Draw(t, label), ", ") + "]"
	}
	var b strings.Builder
	b.WriteString("version: 1\nidentities:\n")
	for _, id := range []string{"spiffe://a/s/1", "spiffe://a/s/*", "spiffe://a/t"} {
		fmt.Fprintf(&b, "  - {id: %s, roles: %s}\n", id, list("roles", "x", "y", "z"))
	}
	b.WriteString("roles:\n")
	for _, role := range []string{"x", "y", "z"} {
		n := rapid.IntRange(0, 3).Draw(t, "rules")
		if n == 0 {
			fmt.Fprintf(&b, "  %s: []\n", role)
			continue
		}
		fmt.Fprintf(&b, "  %s:\n", role)
		for range n {
			methods := pick("methods", "PinService/*", "PinService/VerifyPinData", "StatusService/GetStatus", "MacService/*")
			fmt.Fprintf(&b, "    - methods: [\"%s\"]\n", methods)
			if methods != "StatusService/GetStatus" {
				fmt.Fprintf(&b, "      keys: %s\n      usages: %s\n", list("keys", `"*"`, `"k.*"`, "k.1", "?.2"), list("usages", `"*"`, "P0", "B0", "V2"))
				if rapid.Bool().Draw(t, "custody") {
					b.WriteString("      custody: token\n")
				}
			}
			if when := pick("when", "", "", "true", "false", `address.within("10.0.0.0/8")`, `now < timestamp("2026-01-01T00:00:00Z")`, `keys.exists(k, k.usage == "B0")`,
				`keys[0].name == "k.1"`, `keys.all(k, k.usage != "B0" || k.initial_key_id == "FFFF9876543210E0")`, `identity.path[1] == "1"`,
				`identity.path[1] == "1" && address.within("10.0.0.0/8") && keys.exists(k, k.usage == "P0")`); when != "" {
				fmt.Fprintf(&b, "      when: '%s'\n", when)
			}
		}
	}
	p, err := Parse([]byte(b.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	return p
}

func drawRequest(t *rapid.T) Request {
	r := Request{
		Identity: rapid.SampledFrom([]string{"spiffe://a/s/1", "spiffe://a/s/2", "spiffe://a/t", "spiffe://a/u", ""}).Draw(t, "identity"),
		Method:   rapid.SampledFrom([]string{translate, verify, status, "MacService/VerifyMac", "None/None"}).Draw(t, "method"),
		Address:  rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1")}).Draw(t, "address"),
		At:       rapid.SampledFrom([]time.Time{{}, time.Unix(1e9, 0), time.Unix(2e9, 0)}).Draw(t, "at"),
	}
	n := rapid.IntRange(0, 3).Draw(t, "keys")
	if r.Method == status && rapid.IntRange(0, 3).Draw(t, "no keys") > 0 {
		n = 0
	}
	for range n {
		r.Keys = append(r.Keys, Key{
			Name:  rapid.SampledFrom([]string{"k.1", "k.2", "j.2", "j", ""}).Draw(t, "name"),
			Usage: rapid.SampledFrom([]string{"P0", "B0", "V2", "K0", ""}).Draw(t, "usage"),
			KSN:   rapid.SampledFrom([]string{"", tdesKSN, aesKSN, "x"}).Draw(t, "ksn"),
		})
	}
	return r
}

// TestExplainIsWhatDecides: whatever the policy and the request, the explanation's
// verdict is the decision's, and follows from its parts.
func TestExplainIsWhatDecides(t *testing.T) {
	allowed := 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		for range 8 {
			r := drawRequest(t)
			d, x := p.Authorize(r), p.Explain(r)
			if d.Allowed {
				allowed++
			}
			if x.Allowed != d.Allowed || x.Rule != d.Rule || x.Why != d.Why || d.Allowed && x.Custody != d.Demand.Custody.String() {
				t.Fatalf("%+v: decided %+v, explained %+v", r, d, x)
			}
			fits := false
			for _, e := range x.Entries {
				for _, role := range e.Roles {
					for _, rule := range role.Rules {
						parts := rule.Method.Fits && (rule.When == nil || rule.When.Fits)
						for _, k := range rule.Keys {
							parts = parts && k.Name.Fits && k.Usage.Fits
							if strings.HasPrefix(k.Name.Why, "covered by ") != k.Name.Fits || k.Name.Why == "covered by " {
								t.Fatalf("%+v", k)
							}
						}
						if w := rule.When; w != nil && len(w.Parts) > 0 &&
							w.Fits == slices.ContainsFunc(w.Parts, func(p ExplainedConjunct) bool { return !p.Fits }) {
							t.Fatalf("%+v: condition %+v", r, w)
						}
						_, known := LookupMethod(r.Method)
						if rule.Fits && !parts || parts && !rule.Fits && known && (len(r.Keys) > 0) == (r.Method != status) {
							t.Fatalf("%+v: rule %+v", r, rule)
						}
						fits = fits || rule.Fits
					}
				}
			}
			if fits != x.Allowed {
				t.Fatalf("a rule fits: %t; %+v", fits, x)
			}
		}
	})
	if allowed == 0 {
		t.Error("nothing was allowed in any draw: this proves little")
	}
}

// A further rule never takes anything away, a demand included.
func TestRulesOnlyAdd(t *testing.T) {
	rule := func(rest string) string {
		return "    - {methods: [PinService/TranslatePinData], keys: ['*'], usages: ['*']" + rest + "}\n"
	}
	for name, c := range map[string]struct {
		rules string
		rule  string
		want  Custody
	}{
		"demand":                {rule(", custody: token"), "a[0]", TokenCustody},
		"demand, then none":     {rule(", custody: token") + rule(""), "a[1]", AnyCustody},
		"none, then demand":     {rule("") + rule(", custody: token"), "a[0]", AnyCustody},
		"two demands":           {rule(", custody: token") + rule(", custody: token"), "a[0]", TokenCustody},
		"none that is not good": {rule(", custody: token") + rule(", when: 'false'"), "a[0]", TokenCustody},
	} {
		p := mustParse(t, []byte("version: 1\nidentities: [{id: 'spiffe://bank.example/terminal/*', roles: [a]}]\nroles:\n  a:\n"+c.rules))
		if d := p.Authorize(asked()); !d.Allowed || d.Rule != c.rule || d.Demand.Custody != c.want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
