package policies

import (
	"slices"
	"strings"
	"testing"
)

const terminalPolicy = `version: 1
limits:
  default: {per_second: 50, burst: 60}
identities:
  - {id: "terminal:*", roles: [keys], limit: {per_second: 2, burst: 3}}
  - {id: terminal:t-1, roles: [mac]}
  - {id: terminal:t-3, roles: [any]}
  - {id: spiffe://bank.example/terminal/*, roles: [keys]}
  - {id: spiffe://bank.example/switch, roles: [any]}
roles:
  keys:
    - methods: ["TerminalService/GetKeyHost", "TerminalService/ConfirmKeys"]
    - methods: ["TerminalService/InjectKeys"]
      when: 'terminal.model == "P400"'
    - methods: ["TerminalService/SignIn"]
      legacy: true
  mac:
    - methods: ["MacService/VerifyMac"]
      keys: ["*"]
      usages: ["M3"]
      when: 'keys[0].name == "terminal:" + identity.terminal + ":mac" && identity.last == "" && identity.trust_domain == "" && identity.path.size() == 0'
  any:
    - methods: ["MacService/VerifyMac"]
      keys: ["*"]
      usages: ["*"]
`

// TestTerminalsAskForThemselves: a terminal gets what its rules allow about itself and nothing
// else; what says why says the same.
func TestTerminalsAskForThemselves(t *testing.T) {
	p := mustParse(t, []byte(terminalPolicy))
	own := func(id string) *Terminal { return &Terminal{ID: id, Model: "P400"} }
	mac := func(name string) []Key { return []Key{{Name: name, Usage: "M3"}} }
	for _, c := range []struct {
		r    Request
		rule string // empty: denied
	}{
		{Request{Identity: "terminal:t-1", Method: "TerminalService/GetKeyHost", Terminal: own("t-1")}, "keys[0]"},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/ConfirmKeys", Terminal: own("t-2")}, "keys[0]"},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/InjectKeys", Terminal: own("t-2")}, "keys[1]"},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/InjectKeys", Terminal: &Terminal{ID: "t-2", Model: "P500"}}, ""},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/InjectKeys", Terminal: own("t-2"), Legacy: true}, ""},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/SignIn", Terminal: own("t-2")}, "keys[2]"},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/SignIn", Terminal: own("t-2"), Legacy: true}, "keys[2]"},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/ConfirmKeys", Terminal: own("t-2"), Legacy: true}, ""},

		{Request{Identity: "terminal:t-2", Method: "TerminalService/GetKeyHost", Terminal: own("t-1")}, ""},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/GetKeyHost", Terminal: own("")}, ""},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/GetKeyHost"}, ""},
		{Request{Identity: "terminal:", Method: "TerminalService/GetKeyHost", Terminal: own("")}, ""},
		{Request{Identity: "terminal:t-2", Method: "TerminalService/GetTerminal", Terminal: own("t-2")}, ""},
		{Request{Identity: "terminal:t-2", Method: "StatusService/GetStatus"}, ""},
		{Request{Identity: "spiffe://bank.example/terminal/t-9", Method: "TerminalService/GetKeyHost", Terminal: own("t-1")}, "keys[0]"}, // a carrier
		{Request{Identity: "spiffe://bank.example/terminal:t-1", Method: "TerminalService/GetKeyHost", Terminal: own("t-1")}, ""},

		{Request{Identity: "terminal:t-1", Method: "MacService/VerifyMac", Keys: mac("terminal:t-1:mac")}, "mac[0]"},
		{Request{Identity: "terminal:t-1", Method: "MacService/VerifyMac", Keys: mac("terminal:t-2:mac")}, ""},
		{Request{Identity: "terminal:t-2", Method: "MacService/VerifyMac", Keys: mac("terminal:t-2:mac")}, ""},

		// Whatever a rule says, session keys are those of the terminal itself.
		{Request{Identity: "terminal:t-3", Method: "MacService/VerifyMac", Keys: mac("terminal:t-3:mac")}, "any[0]"},
		{Request{Identity: "terminal:t-3", Method: "MacService/VerifyMac", Keys: mac("zone")}, "any[0]"},
		{Request{Identity: "terminal:t-3", Method: "MacService/VerifyMac", Keys: mac("terminal:t-2:mac")}, ""},
		{Request{Identity: "terminal:t-3", Method: "MacService/VerifyMac", Keys: mac("terminal:t-33:mac")}, ""},
		{Request{Identity: "terminal:t-3", Method: "MacService/VerifyMac", Keys: append(mac("terminal:t-3:mac"), mac("terminal:t-2:mac")...)}, ""},
		{Request{Identity: "terminal:t-3", Method: "MacService/VerifyMac", Keys: []Key{{Name: "terminal:t-2:gone?version=1"}}}, ""},
		{Request{Identity: "spiffe://bank.example/switch", Method: "MacService/VerifyMac", Keys: mac("terminal:t-2:mac")}, "any[0]"},
	} {
		d, x := p.Authorize(c.r), p.Explain(c.r)
		if d.Allowed != (c.rule != "") || d.Rule != c.rule || d.Why == "" || x.Allowed != d.Allowed || x.Rule != d.Rule || x.Why != d.Why {
			t.Errorf("%+v: %+v, want %q; explained: %+v", c.r, d, c.rule, x)
		}
	}
	for identity, want := range map[string]Limit{
		"terminal:t-2": {2, 3}, "terminal:t-1": {2, 3}, "terminal:": IdleLimit, "spiffe://bank.example/terminal/t-9": {50, 60}, "spiffe://bank.example/terminal:t-1": IdleLimit,
	} {
		if got := p.Limit(identity); got != want {
			t.Errorf("%s: %v, want %v", identity, got, want)
		}
	}
}

// TestTerminalsNeverMore: whatever methods a role for a terminal has, either the file is wrong
// or the method is one that terminals may ask for; and not even a policy that was made
// otherwise lets a terminal ask for more.
func TestTerminalsNeverMore(t *testing.T) {
	all := mustParse(t, []byte("version: 1\nidentities: [{id: \"spiffe://bank.example/all\", roles: [all]}]\nroles:\n  all:\n    - methods: ["+everyService()+"]\n      keys: [\"*\"]\n      usages: [\"*\"]\n"))
	all.fleets[terminalPrefix] = all.exact["spiffe://bank.example/all"]
	allowed := 0
	for _, m := range Methods {
		text := "version: 1\nidentities: [{id: \"terminal:*\", roles: [r]}]\nroles:\n  r:\n    - methods: [\"" + m.Name + "\"]\n"
		r := Request{Identity: "terminal:t-1", Method: m.Name, Terminal: &Terminal{ID: "t-1"}}
		if m.Keys {
			text += "      keys: [\"*\"]\n      usages: [\"*\"]\n"
			r.Keys = []Key{{Name: "k", Usage: "P0"}}
		}
		service := strings.Split(m.Name, "/")[0]
		may := slices.Contains([]string{"PinService", "MacService", "DataService"}, service) ||
			slices.Contains([]string{"TerminalService/GetKeyHost", "TerminalService/InjectKeys", "TerminalService/ConfirmKeys", "TerminalService/SignIn"}, m.Name)
		if may {
			allowed++
		}
		if _, err := Parse([]byte(text)); (err == nil) != may {
			t.Errorf("%s in a role for terminals: %v", m.Name, err)
		}
		if d := all.Authorize(r); d.Allowed != may {
			t.Errorf("%s: %+v", m.Name, d)
		}
	}
	if allowed < 14 {
		t.Errorf("only %d methods", allowed)
	}
}

func everyService() string {
	var services []string
	for _, m := range Methods {
		if s := `"` + strings.Split(m.Name, "/")[0] + `/*"`; !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	return strings.Join(services, ", ")
}

// TestLegacyForm: it has to be said, rule by rule, where there is one.
func TestLegacyForm(t *testing.T) {
	text := func(rule string) []byte {
		return []byte("version: 1\nidentities: [{id: spiffe://bank.example/tms, roles: [r]}]\nroles:\n  r:\n    - " + rule + "\n")
	}
	for rule, want := range map[string]string{
		`{methods: ["TerminalService/SignIn"], legacy: true}`:                                 "",
		`{methods: ["TerminalService/SignIn"], legacy: false}`:                                "write legacy: true",
		`{methods: ["TerminalService/SignIn"], legacy: "true"}`:                               "write legacy: true",
		`{methods: ["TerminalService/SignIn"], legacy: yes}`:                                  "write legacy: true",
		`{methods: ["TerminalService/SignIn"], legacy: [true]}`:                               "write legacy: true",
		`{methods: ["TerminalService/SignIn"], legacy: true, legacy: true}`:                   "legacy",
		`{methods: ["TerminalService/SignIn", "TerminalService/ConfirmKeys"], legacy: true}`:  "ConfirmKeys has no legacy form",
		`{methods: ["MacService/VerifyMac"], keys: ["*"], usages: ["M3"], legacy: true}`:      "VerifyMac has no legacy form",
		`{methods: ["TerminalService/InjectKeys"], when: 'terminal.id == "t"', legacy: true}`: "",
	} {
		p, err := Parse(text(rule))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
		if err == nil && !p.exact["spiffe://bank.example/tms"].roles[0].rules[0].legacy {
			t.Errorf("%s: not taken up", rule)
		}
	}
	p := mustParse(t, text(`{methods: ["TerminalService/SignIn"]}`))
	r := Request{Identity: "spiffe://bank.example/tms", Method: "TerminalService/SignIn", Terminal: &Terminal{ID: "t"}, Legacy: true}
	if d := p.Authorize(r); d.Allowed || !strings.Contains(d.Why, "legacy: true") {
		t.Errorf("%+v", d)
	}
	x := p.Explain(r)
	if part := x.Entries[0].Roles[0].Rules[0].Legacy; x.Allowed || part == nil || part.Fits || part.Line != 0 {
		t.Errorf("%+v", x)
	}
	// A rule that says so does not lend it to another.
	p = mustParse(t, text("{methods: [\"TerminalService/SignIn\"], when: 'terminal.id == \"t\"'}\n    - {methods: [\"TerminalService/SignIn\"], when: 'terminal.id == \"u\"', legacy: true}"))
	if d := p.Authorize(r); d.Allowed || !strings.Contains(d.Why, "condition") {
		t.Errorf("%+v", d)
	}
	r.Terminal.ID = "u"
	if d := p.Authorize(r); !d.Allowed || d.Rule != "r[1]" {
		t.Errorf("%+v", d)
	}
}

func TestIdentitiesOfTerminals(t *testing.T) {
	for id, want := range map[string]bool{
		"terminal:t-1": true, "terminal:*": true, "terminal:0._-Z": true, "terminal:" + strings.Repeat("a", 64): true,
		"terminal:": false, "terminal:" + strings.Repeat("a", 65): false, "terminal:t*": false, "terminal:**": false, "terminal:-t": false, "terminal:t/1": false,
		"terminal:t 1": false, "terminal:ü": false, "terminal:t\x00": false, "Terminal:t-1": false, "terminal": false, "terminal://t-1": false, "terminal:/*": false,
	} {
		if err := checkIdentity(id); (err == nil) != want {
			t.Errorf("%q: %v", id, err)
		}
	}
}
