package policies

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

const policyText = `
version: 1
identities:
  - id: spiffe://bank.example/switch
    roles: [switch]
  - id: spiffe://bank.example/both
    roles: [first, second]
  - id: spiffe://bank.example/terminal/*
    roles: [second]
  - id: spiffe://bank.example/terminal/special
    roles: [switch]
  - id: spiffe://bank.example/idle
    roles: []
  - id: spiffe://bank.example/empty
    roles: [empty, hollow]
  - id: spiffe://bank.example/all
    roles: [all]
  - id: spiffe://bank.example/monitor
    roles: [monitor]
roles:
  switch:
    - methods: ["PinService/TranslatePinData"]
      keys: ["in.*", "out.1"]
      usages: ["B0", "P0"]
    - methods: ["PinService/VerifyPinData"]
      keys: ["in.*", "pvk"]
      usages: ["P0", "V2"]
  first:
    - methods: ["PinService/TranslatePinData"]
      keys: ["a", "b"]
      usages: ["P0"]
  second:
    - methods: ["PinService/TranslatePinData"]
      keys: ["c", "d"]
      usages: ["P0"]
  empty: []
  hollow:
    - methods: []
    - methods: ["PinService/*"]
      keys: []
      usages: ["*"]
    - methods: ["PinService/*"]
      keys: ["*"]
      usages: []
  all:
    - methods: ["PinService/*", "StatusService/*"]
      keys: ["*"]
      usages: ["*"]
  monitor:
    - methods: ["StatusService/GetStatus"]
`

func mustParse(t testing.TB, b []byte) *Policy {
	t.Helper()
	p, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	translate = "PinService/TranslatePinData"
	verify    = "PinService/VerifyPinData"
	status    = "StatusService/GetStatus"
)

func TestAuthorize(t *testing.T) {
	p := mustParse(t, []byte(policyText))
	for _, c := range []struct {
		identity, method string
		keys             []Key
		rule             string // empty: denied
		why              string // part of the sentence
	}{
		{"switch", translate, []Key{{Name: "in.1", Usage: "B0"}, {Name: "out.1", Usage: "P0"}}, "switch[0]", "switch[0]"},
		{"switch", translate, []Key{{Name: "in.", Usage: "P0"}}, "switch[0]", ""},
		{"switch", translate, []Key{{Name: "in.1", Usage: "B0"}, {Name: "out.2", Usage: "P0"}}, "", `key "out.2" with usage "P0"`},
		{"switch", translate, []Key{{Name: "out.2", Usage: "P0"}, {Name: "in.1", Usage: "B0"}}, "", `key "out.2"`},
		{"switch", translate, []Key{{Name: "in.1", Usage: "V2"}}, "", `usage "V2"`},
		{"switch", translate, []Key{{Name: "IN.1", Usage: "B0"}}, "", `key "IN.1"`},
		{"switch", verify, []Key{{Name: "in.1", Usage: "P0"}, {Name: "pvk", Usage: "V2"}}, "switch[1]", ""},
		{"switch", verify, []Key{{Name: "in.1", Usage: "B0"}, {Name: "pvk", Usage: "V2"}}, "", `usage "B0"`},
		{"switch", status, nil, "", "no rule of role switch covers " + status},

		// A key that does not exist: the name alone decides.
		{"switch", translate, []Key{{Name: "in.gone", Usage: ""}, {Name: "out.1", Usage: "P0"}}, "switch[0]", ""},
		{"switch", translate, []Key{{Name: "other", Usage: ""}, {Name: "out.1", Usage: "P0"}}, "", `key "other"`},
		{"switch", translate, []Key{{Name: "in.gone", Usage: ""}, {Name: "out.1", Usage: "V2"}}, "", `key "out.1"`},
		{"empty", translate, []Key{{Name: "gone", Usage: ""}}, "", "covers key"},
		{"switch", translate, []Key{{Name: "", Usage: "B0"}}, "", "covers key"},
		{"all", translate, []Key{{Name: "", Usage: "B0"}}, "", "covers key"},
		{"all", translate, []Key{{Name: "", Usage: ""}}, "", "covers key"},

		// Rules and roles do not add up.
		{"both", translate, []Key{{Name: "a", Usage: "P0"}, {Name: "b", Usage: "P0"}}, "first[0]", ""},
		{"both", translate, []Key{{Name: "d", Usage: "P0"}, {Name: "c", Usage: "P0"}}, "second[0]", ""},
		{"both", translate, []Key{{Name: "a", Usage: "P0"}, {Name: "d", Usage: "P0"}}, "", "no single rule of roles first, second"},

		// A fleet is one segment deep; an exact entry adds to it.
		{"terminal/17", translate, []Key{{Name: "c", Usage: "P0"}}, "second[0]", ""},
		{"terminal/special", translate, []Key{{Name: "c", Usage: "P0"}}, "second[0]", ""},
		{"terminal/special", translate, []Key{{Name: "in.1", Usage: "P0"}}, "switch[0]", ""},
		{"terminal/17", translate, []Key{{Name: "in.1", Usage: "P0"}}, "", "role second"},
		{"terminal", translate, []Key{{Name: "c", Usage: "P0"}}, "", "no entry"},
		{"terminal/", translate, []Key{{Name: "c", Usage: "P0"}}, "", "no entry"},
		{"terminal/a/b", translate, []Key{{Name: "c", Usage: "P0"}}, "", "no entry"},
		{"terminals", translate, []Key{{Name: "c", Usage: "P0"}}, "", "no entry"},

		{"idle", translate, []Key{{Name: "c", Usage: "P0"}}, "", "has no role"},
		{"idle", status, nil, "", "has no role"},
		{"empty", translate, []Key{{Name: "c", Usage: "P0"}}, "", "roles empty, hollow"},
		{"stranger", translate, []Key{{Name: "c", Usage: "P0"}}, "", "no entry for"},
		{"SWITCH", translate, []Key{{Name: "in.1", Usage: "P0"}}, "", "no entry for"},
		{"switch ", translate, []Key{{Name: "in.1", Usage: "P0"}}, "", "no entry for"},

		{"all", translate, []Key{{Name: "anything", Usage: "K0"}, {Name: "else", Usage: ""}}, "all[0]", ""},
		{"all", status, nil, "all[0]", ""},
		{"monitor", status, nil, "monitor[0]", "line"},
		{"monitor", translate, []Key{{Name: "c", Usage: "P0"}}, "", "no rule of role monitor"},

		// What a caller of this package must not ask.
		{"all", translate, nil, "", "without a key"},
		{"all", status, []Key{{Name: "c", Usage: "P0"}}, "", "works with no key"},
		{"all", "PinService/Unknown", []Key{{Name: "c", Usage: "P0"}}, "", "table of methods"},
		{"all", "PinService/*", []Key{{Name: "c", Usage: "P0"}}, "", "table of methods"},
		{"all", "", nil, "", "table of methods"},
		{"all", "/keyd.v1." + status, nil, "", "table of methods"},
	} {
		d := p.Authorize(Request{Identity: "spiffe://bank.example/" + c.identity, Method: c.method, Keys: c.keys})
		if d.Allowed != (c.rule != "") || d.Rule != c.rule || !strings.Contains(d.Why, c.why) || d.Why == "" {
			t.Errorf("%s, %s, %v: %+v; want rule %q and %q", c.identity, c.method, c.keys, d, c.rule, c.why)
		}
	}
}

func TestIdentityIsExact(t *testing.T) {
	p := mustParse(t, []byte(policyText))
	for _, identity := range []string{
		"", "spiffe://bank.example", "spiffe://bank.example/", "spiffe://other.example/monitor", "bank.example/monitor",
		"spiffe://bank.example/monitor/", "spiffe://bank.example/monitor\x00", "spiffe://bank.example/*", "spiffe://bank.example/terminal/../monitor",
	} {
		if d := p.Authorize(Request{Identity: identity, Method: status, Keys: nil}); d.Allowed {
			t.Errorf("%q: %+v", identity, d)
		}
	}
}

func TestNoPolicyAllowsNothing(t *testing.T) {
	for _, p := range []*Policy{nil, {}} {
		d := p.Authorize(Request{Identity: "spiffe://dev.keyd/switch", Method: status, Keys: nil})
		if d.Allowed || d.Why == "" || p.Digest() != "" {
			t.Errorf("%+v, %q", d, p.Digest())
		}
	}
}

// A caller's text stays on one line of a log and is cut.
func TestWhyIsFitForALog(t *testing.T) {
	p := mustParse(t, []byte(policyText))
	ugly := "x\n\x1b[31m\u202e" + strings.Repeat("y", 5000)
	for _, r := range []Request{
		{Identity: ugly, Method: status, Keys: nil},
		{Identity: "spiffe://bank.example/all", Method: ugly, Keys: nil},
		{Identity: "spiffe://bank.example/switch", Method: translate, Keys: []Key{{Name: ugly, Usage: ugly}}},
	} {
		d := p.Authorize(r)
		if d.Allowed || len(d.Why) > 2000 || strings.ContainsFunc(d.Why, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%d bytes: %.200q", len(d.Why), d.Why)
		}
	}
}

func TestShippedPolicies(t *testing.T) {
	dev := mustParse(t, Dev)
	for _, m := range Methods {
		var keys []Key
		if m.Keys {
			keys = []Key{{Name: "any", Usage: "V1"}, {Name: "other", Usage: "V2"}}
		}
		data := slices.Contains([]string{"PinService", "MacService", "DataService"}, strings.Split(m.Name, "/")[0])
		reset := strings.HasPrefix(m.Name, "VelocityService/") // an officer's, no switch's
		watch := m.Name == "StatusService/GetStatus"
		nodes, forget := m.Name == "FleetService/ListNodes", m.Name == "FleetService/ForgetNode"
		log := strings.HasPrefix(m.Name, "AuditService/") // the auditor's, and nobody else's
		read := slices.Contains([]string{"GetKey", "ListKeys", "ListKeyVersions", "GetAlias", "ListAliases", "ListTagsForResource"}, strings.TrimPrefix(m.Name, "KeyService/"))
		change := slices.Contains([]string{ // with other officers, or what only an officer may do
			"CeremonyService/GetModule", "CeremonyService/BeginCeremony", "CeremonyService/SubmitComponent", "CeremonyService/ApproveCeremony",
			"CeremonyService/AbortCeremony", "CeremonyService/GetCeremony", "CeremonyService/ListCeremonies", "CeremonyService/ListAuthorities",
			"KeyService/CreateKey", "KeyService/ImportKey", "KeyService/ExportKey", "KeyService/AttachKey",
			"KeyService/StopKeyUsage", "KeyService/StartKeyUsage", "KeyService/DeleteKey", "KeyService/RestoreKey",
			"KeyService/CreateAlias", "KeyService/UpdateAlias", "KeyService/DeleteAlias", "KeyService/TagResource", "KeyService/UntagResource",
			"KeyService/GetCertificateSigningRequest", // the key signs
		}, m.Name)
		terminals := strings.HasPrefix(m.Name, "TerminalService/")
		look := terminals && !m.Own && (strings.HasPrefix(m.Name, "TerminalService/Get") || strings.HasPrefix(m.Name, "TerminalService/List"))
		backup := m.Name == "BackupService/CreateBackup"
		pins := strings.HasPrefix(m.Name, "PinRecordService/")
		data = data || strings.HasPrefix(m.Name, "VoidService/") || pins && m.Keys // what has a PIN comes from the switch, the rest is the officers'
		if !data && !reset && !watch && !nodes && !forget && !read && !change && !log && !terminals && !backup && !pins {
			t.Errorf("%s: decide who may call it in development", m.Name)
		}
		officer := reset || watch || nodes || forget || read || change || terminals && !m.Own || backup || pins && !m.Keys
		for name, want := range map[string]bool{
			"switch": data || watch, "officer-1": officer, "officer-2": officer, "officer-3": officer,
			"auditor": watch || nodes || read || look || log, "terminal-1": m.Own, "stranger": false,
		} {
			d := dev.Authorize(Request{Identity: "spiffe://dev.keyd/" + name, Method: m.Name, Keys: keys})
			if d.Allowed != want {
				t.Errorf("dev: %s, %s: %+v", name, m.Name, d)
			}
		}
		for _, legacy := range []bool{false, true} {
			r := Request{Identity: TerminalIdentity("t-1"), Method: m.Name, Keys: keys, Terminal: &Terminal{ID: "t-1"}, Legacy: legacy}
			if d := dev.Authorize(r); d.Allowed != (m.Own && (m.Legacy || !legacy)) {
				t.Errorf("dev: a terminal, %s, legacy %t: %+v", m.Name, legacy, d)
			}
		}
	}

	example := mustParse(t, Example)
	for _, c := range []struct {
		path, method string
		keys         []Key
		want         bool
	}{
		{"acquirer/switch/1", translate, []Key{{Name: "acquirer.bdk.2026", Usage: "B0"}, {Name: "network.zpk.visa", Usage: "P0"}}, true},
		{"acquirer/switch/1", translate, []Key{{Name: "acquirer.bdk.2026", Usage: "B0"}, {Name: "issuer.zpk.1", Usage: "P0"}}, false},
		{"acquirer/switch/1", verify, []Key{{Name: "acquirer.zpk.1", Usage: "P0"}, {Name: "issuer.pvk.1", Usage: "V2"}}, false},
		{"acquirer/switch", translate, []Key{{Name: "acquirer.bdk.2026", Usage: "B0"}, {Name: "network.zpk.visa", Usage: "P0"}}, false},
		{"issuer/authorisation", verify, []Key{{Name: "issuer.zpk.1", Usage: "P0"}, {Name: "issuer.pvk.1", Usage: "V1"}}, true},
		{"issuer/authorisation", translate, []Key{{Name: "issuer.zpk.1", Usage: "P0"}, {Name: "issuer.zpk.2", Usage: "P0"}}, false},
		{"acquirer/switch/1", "MacService/GenerateMac", []Key{{Name: "network.mac.1", Usage: "M6"}}, true},
		{"acquirer/switch/1", "MacService/GenerateMac", []Key{{Name: "issuer.mac.1", Usage: "M6"}}, false},
		{"acquirer/switch/1", "DataService/ReEncryptData", []Key{{Name: "acquirer.bdk.1", Usage: "B0"}, {Name: "acquirer.data.1", Usage: "D0"}}, true},
		{"acquirer/switch/1", "DataService/DecryptData", []Key{{Name: "acquirer.data.1", Usage: "D0"}}, false},
		{"acquirer/terminal/FFFF9876543210E0", "MacService/VerifyMac", []Key{{Name: "acquirer.bdk.1", Usage: "B0", KSN: tdesKSN}}, true},
		{"acquirer/terminal/FFFF9876543210C0", "MacService/VerifyMac", []Key{{Name: "acquirer.bdk.1", Usage: "B0", KSN: tdesKSN}}, false},
		{"acquirer/terminal/FFFF9876543210E0", "MacService/GenerateMac", []Key{{Name: "acquirer.bdk.1", Usage: "B0", KSN: tdesKSN}}, false},
		{"issuer/authorisation", "DataService/VerifyCardValidationData", []Key{{Name: "issuer.cvk.1", Usage: "C0"}}, true},
		{"issuer/authorisation", "DataService/GenerateCardValidationData", []Key{{Name: "issuer.cvk.1", Usage: "C0"}}, false},
		{"monitoring", status, nil, true},
		{"issuer/authorisation", status, nil, false},
		{"officers/one", "CeremonyService/ApproveCeremony", nil, true},
		{"officers/one", "KeyService/CreateKey", nil, true},
		{"officers/one", "KeyService/TagResource", []Key{{Name: "network.zpk.1", Usage: "P0"}}, true},
		{"officers/one", "KeyService/TagResource", []Key{{Name: "house.kek.1", Usage: "K1"}}, false},
		{"officers/one", "VelocityService/ResetTranslations", nil, true},
		{"officers/one", translate, []Key{{Name: "acquirer.bdk.2026", Usage: "B0"}, {Name: "network.zpk.visa", Usage: "P0"}}, false},
		{"auditor", "KeyService/GetKey", []Key{{Name: "issuer.pvk.1", Usage: "V2"}}, true},
		{"auditor", "KeyService/GetKey", []Key{{Name: "house.kek.1", Usage: "K1"}}, false},
		{"auditor", "KeyService/ListKeys", nil, true},
		{"auditor", "KeyService/TagResource", []Key{{Name: "issuer.pvk.1", Usage: "V2"}}, false},
		{"auditor", "KeyService/DeleteKey", nil, false},
		{"auditor", "CeremonyService/GetCeremony", nil, false},
		{"auditor", "AuditService/ListEntries", nil, true},
		{"monitoring", "AuditService/ListEntries", nil, false},
		{"officers/one", "AuditService/GetCheckpoint", nil, false},
		{"acquirer/switch/1", "KeyService/ListKeys", nil, false},
		{"backup", "BackupService/CreateBackup", nil, true},
		{"backup", status, nil, false},
		{"officers/one", "BackupService/CreateBackup", nil, false},
		{"monitoring", "KeyService/ListKeys", nil, false},
	} {
		d := example.Authorize(Request{Identity: "spiffe://payments.example/" + c.path, Method: c.method, Keys: c.keys, Address: netip.MustParseAddr("10.64.0.7")})
		if d.Allowed != c.want {
			t.Errorf("example: %+v: %+v", c, d)
		}
	}
	if l := dev.Limit("spiffe://dev.keyd/switch"); !l.Unlimited() {
		t.Errorf("dev: the switch has %v", l)
	}
	if l := example.Limit("spiffe://payments.example/acquirer/terminal/1"); l != (Limit{2, 10}) {
		t.Errorf("example: a terminal has %v", l)
	}
	if dev.Digest() == example.Digest() || len(dev.Digest()) != 64 {
		t.Errorf("digests %q and %q", dev.Digest(), example.Digest())
	}
}

func TestMethodsTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, m := range Methods {
		service, method, ok := strings.Cut(m.Name, "/")
		if !ok || service == "" || method == "" || strings.ContainsAny(m.Name, "*. ") || seen[m.Name] {
			t.Errorf("row %+v", m)
		}
		seen[m.Name] = true
		if row, ok := LookupMethod(m.Name); !ok || row != m {
			t.Errorf("%s is looked up as %+v, %t", m.Name, row, ok)
		}
	}
	if row, ok := LookupMethod("PinService/Nothing"); ok || row != (Method{}) {
		t.Errorf("found %+v", row)
	}
}

func TestMatchGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true}, {"*", "a/b.c", true}, {"**", "a", true},
		{"a", "a", true}, {"a", "A", false}, {"a", "ab", false}, {"a", "", false},
		{"a*", "a", true}, {"a*", "abc", true}, {"a*", "ba", false},
		{"*a", "a", true}, {"*a", "ba", true}, {"*a", "ab", false}, {"*a", "aa", true},
		{"a*c", "ac", true}, {"a*c", "abcbc", true}, {"a*c", "abcb", false},
		{"a*b*c", "aXbYbZc", true}, {"a*b*c", "acb", false},
		{"?", "a", true}, {"?", "", false}, {"?", "ab", false}, {"a?c", "a.c", true},
		{"?*", "", false}, {"?*", "a", true}, {"*?", "abc", true}, {"*??", "a", false},
		{"*.zpk.*", "x.zpk.y", true}, {"*.zpk.*", "zpk", false},
		{"a.b", "aXb", false}, {"a+", "aa", false}, {"a~", "a~", true},
	} {
		if got := matchGlob(c.pattern, c.name); got != c.want {
			t.Errorf("%q on %q: %t", c.pattern, c.name, got)
		}
	}
	// The worst pattern for the longest name takes bounded work and ends.
	if matchGlob(strings.Repeat("*a", maxKeyName/2), strings.Repeat("a", maxKeyName-1)+"b") {
		t.Error("the worst pattern matched")
	}
}

func TestAuthorizeConcurrently(t *testing.T) {
	p := mustParse(t, []byte(policyText))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 500 {
				allowed := p.Authorize(Request{Identity: "spiffe://bank.example/switch", Method: translate, Keys: []Key{{Name: "in.1", Usage: "B0"}, {Name: "out.1", Usage: "P0"}}})
				denied := p.Authorize(Request{Identity: fmt.Sprintf("spiffe://bank.example/%d", g), Method: translate, Keys: []Key{{Name: "in.1", Usage: "B0"}}})
				if !allowed.Allowed || denied.Allowed {
					t.Error(allowed, denied)
				}
			}
		})
	}
	wg.Wait()
}

func TestAllowedPathDoesNotAllocate(t *testing.T) {
	p := mustParse(t, []byte(policyText))
	keys := []Key{{Name: "in.1", Usage: "B0"}, {Name: "out.1", Usage: "P0"}}
	for _, identity := range []string{"spiffe://bank.example/switch", "spiffe://bank.example/terminal/special"} {
		n := testing.AllocsPerRun(100, func() {
			if !p.Authorize(Request{Identity: identity, Method: translate, Keys: keys}).Allowed {
				t.Fatal("denied")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", identity, n)
		}
	}
}

// BenchmarkWhen is BenchmarkAuthorize/fleet with conditions.
func BenchmarkWhen(b *testing.B) {
	for name, when := range map[string]string{
		"none":    "",
		"true":    "true",
		"network": `address.within("10.0.0.0/8")`,
		"hours":   `now.during("Mon-Sun 00:00-24:00", "Europe/Zurich")`,
		"own-ksn": `keys.all(k, k.usage != "B0" || k.initial_key_id == identity.last)`,
	} {
		b.Run(name, func(b *testing.B) {
			text := conditionalText(when)
			if when == "" {
				text = strings.Replace(text, "      when: ''\n", "", 1)
			}
			p, r := mustParse(b, []byte(text)), asked()
			b.ReportAllocs()
			for b.Loop() {
				if !p.Authorize(r).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

func BenchmarkAuthorize(b *testing.B) {
	p := mustParse(b, []byte(policyText))
	for name, r := range map[string]Request{
		"allowed": {Identity: "spiffe://bank.example/switch", Method: translate, Keys: []Key{{Name: "in.1", Usage: "B0"}, {Name: "out.1", Usage: "P0"}}},
		"fleet":   {Identity: "spiffe://bank.example/terminal/17", Method: translate, Keys: []Key{{Name: "c", Usage: "P0"}, {Name: "d", Usage: "P0"}}},
		"denied":  {Identity: "spiffe://bank.example/switch", Method: translate, Keys: []Key{{Name: "in.1", Usage: "B0"}, {Name: "other", Usage: "P0"}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Authorize(r)
			}
		})
	}
}
