package policies

import (
	"fmt"
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
		{"switch", translate, []Key{{"in.1", "B0"}, {"out.1", "P0"}}, "switch[0]", "switch[0]"},
		{"switch", translate, []Key{{"in.", "P0"}}, "switch[0]", ""},
		{"switch", translate, []Key{{"in.1", "B0"}, {"out.2", "P0"}}, "", `key "out.2" with usage "P0"`},
		{"switch", translate, []Key{{"out.2", "P0"}, {"in.1", "B0"}}, "", `key "out.2"`},
		{"switch", translate, []Key{{"in.1", "V2"}}, "", `usage "V2"`},
		{"switch", translate, []Key{{"IN.1", "B0"}}, "", `key "IN.1"`},
		{"switch", verify, []Key{{"in.1", "P0"}, {"pvk", "V2"}}, "switch[1]", ""},
		{"switch", verify, []Key{{"in.1", "B0"}, {"pvk", "V2"}}, "", `usage "B0"`},
		{"switch", status, nil, "", "no rule of role switch covers " + status},

		// A key that does not exist: the name alone decides.
		{"switch", translate, []Key{{"in.gone", ""}, {"out.1", "P0"}}, "switch[0]", ""},
		{"switch", translate, []Key{{"other", ""}, {"out.1", "P0"}}, "", `key "other"`},
		{"switch", translate, []Key{{"in.gone", ""}, {"out.1", "V2"}}, "", `key "out.1"`},
		{"empty", translate, []Key{{"gone", ""}}, "", "covers key"},
		{"switch", translate, []Key{{"", "B0"}}, "", "covers key"},
		{"all", translate, []Key{{"", "B0"}}, "", "covers key"},
		{"all", translate, []Key{{"", ""}}, "", "covers key"},

		// Rules and roles do not add up.
		{"both", translate, []Key{{"a", "P0"}, {"b", "P0"}}, "first[0]", ""},
		{"both", translate, []Key{{"d", "P0"}, {"c", "P0"}}, "second[0]", ""},
		{"both", translate, []Key{{"a", "P0"}, {"d", "P0"}}, "", "no single rule of roles first, second"},

		// A fleet is one segment deep; an exact entry adds to it.
		{"terminal/17", translate, []Key{{"c", "P0"}}, "second[0]", ""},
		{"terminal/special", translate, []Key{{"c", "P0"}}, "second[0]", ""},
		{"terminal/special", translate, []Key{{"in.1", "P0"}}, "switch[0]", ""},
		{"terminal/17", translate, []Key{{"in.1", "P0"}}, "", "role second"},
		{"terminal", translate, []Key{{"c", "P0"}}, "", "no entry"},
		{"terminal/", translate, []Key{{"c", "P0"}}, "", "no entry"},
		{"terminal/a/b", translate, []Key{{"c", "P0"}}, "", "no entry"},
		{"terminals", translate, []Key{{"c", "P0"}}, "", "no entry"},

		{"idle", translate, []Key{{"c", "P0"}}, "", "has no role"},
		{"idle", status, nil, "", "has no role"},
		{"empty", translate, []Key{{"c", "P0"}}, "", "roles empty, hollow"},
		{"stranger", translate, []Key{{"c", "P0"}}, "", "no entry for"},
		{"SWITCH", translate, []Key{{"in.1", "P0"}}, "", "no entry for"},
		{"switch ", translate, []Key{{"in.1", "P0"}}, "", "no entry for"},

		{"all", translate, []Key{{"anything", "K0"}, {"else", ""}}, "all[0]", ""},
		{"all", status, nil, "all[0]", ""},
		{"monitor", status, nil, "monitor[0]", "line"},
		{"monitor", translate, []Key{{"c", "P0"}}, "", "no rule of role monitor"},

		// What a caller of this package must not ask.
		{"all", translate, nil, "", "without a key"},
		{"all", status, []Key{{"c", "P0"}}, "", "works with no key"},
		{"all", "PinService/Unknown", []Key{{"c", "P0"}}, "", "table of methods"},
		{"all", "PinService/*", []Key{{"c", "P0"}}, "", "table of methods"},
		{"all", "", nil, "", "table of methods"},
		{"all", "/keyd.v1." + status, nil, "", "table of methods"},
	} {
		d := p.Authorize(Request{"spiffe://bank.example/" + c.identity, c.method, c.keys})
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
		if d := p.Authorize(Request{identity, status, nil}); d.Allowed {
			t.Errorf("%q: %+v", identity, d)
		}
	}
}

func TestNoPolicyAllowsNothing(t *testing.T) {
	for _, p := range []*Policy{nil, {}} {
		d := p.Authorize(Request{"spiffe://dev.keyd/switch", status, nil})
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
		{ugly, status, nil},
		{"spiffe://bank.example/all", ugly, nil},
		{"spiffe://bank.example/switch", translate, []Key{{ugly, ugly}}},
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
			keys = []Key{{"any", "V1"}, {"other", "V2"}}
		}
		data := strings.HasPrefix(m.Name, "PinService/") || strings.HasPrefix(m.Name, "MacService/") || strings.HasPrefix(m.Name, "DataService/")
		reset := strings.HasPrefix(m.Name, "VelocityService/") // an officer's, no switch's
		watch := m.Name == "StatusService/GetStatus"
		if !data && !reset && !watch {
			t.Errorf("%s: decide who may call it in development", m.Name)
		}
		for name, want := range map[string]bool{
			"switch": data || watch, "officer-1": reset || watch, "officer-2": reset || watch, "officer-3": reset || watch,
			"auditor": watch, "terminal-1": false, "stranger": false,
		} {
			d := dev.Authorize(Request{"spiffe://dev.keyd/" + name, m.Name, keys})
			if d.Allowed != want {
				t.Errorf("dev: %s, %s: %+v", name, m.Name, d)
			}
		}
	}

	example := mustParse(t, Example)
	for _, c := range []struct {
		path, method string
		keys         []Key
		want         bool
	}{
		{"acquirer/switch/1", translate, []Key{{"acquirer.bdk.2026", "B0"}, {"network.zpk.visa", "P0"}}, true},
		{"acquirer/switch/1", translate, []Key{{"acquirer.bdk.2026", "B0"}, {"issuer.zpk.1", "P0"}}, false},
		{"acquirer/switch/1", verify, []Key{{"acquirer.zpk.1", "P0"}, {"issuer.pvk.1", "V2"}}, false},
		{"acquirer/switch", translate, []Key{{"acquirer.bdk.2026", "B0"}, {"network.zpk.visa", "P0"}}, false},
		{"issuer/authorisation", verify, []Key{{"issuer.zpk.1", "P0"}, {"issuer.pvk.1", "V1"}}, true},
		{"issuer/authorisation", translate, []Key{{"issuer.zpk.1", "P0"}, {"issuer.zpk.2", "P0"}}, false},
		{"monitoring", status, nil, true},
		{"issuer/authorisation", status, nil, false},
	} {
		d := example.Authorize(Request{"spiffe://payments.example/" + c.path, c.method, c.keys})
		if d.Allowed != c.want {
			t.Errorf("example: %+v: %+v", c, d)
		}
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
				allowed := p.Authorize(Request{"spiffe://bank.example/switch", translate, []Key{{"in.1", "B0"}, {"out.1", "P0"}}})
				denied := p.Authorize(Request{fmt.Sprintf("spiffe://bank.example/%d", g), translate, []Key{{"in.1", "B0"}}})
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
	keys := []Key{{"in.1", "B0"}, {"out.1", "P0"}}
	for _, identity := range []string{"spiffe://bank.example/switch", "spiffe://bank.example/terminal/special"} {
		n := testing.AllocsPerRun(100, func() {
			if !p.Authorize(Request{identity, translate, keys}).Allowed {
				t.Fatal("denied")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", identity, n)
		}
	}
}

func BenchmarkAuthorize(b *testing.B) {
	p := mustParse(b, []byte(policyText))
	for name, r := range map[string]Request{
		"allowed": {"spiffe://bank.example/switch", translate, []Key{{"in.1", "B0"}, {"out.1", "P0"}}},
		"fleet":   {"spiffe://bank.example/terminal/17", translate, []Key{{"c", "P0"}, {"d", "P0"}}},
		"denied":  {"spiffe://bank.example/switch", translate, []Key{{"in.1", "B0"}, {"other", "P0"}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Authorize(r)
			}
		})
	}
}
