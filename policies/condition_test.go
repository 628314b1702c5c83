package policies

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// conditional returns a policy with one rule that has this condition.
func conditional(t testing.TB, when string) *Policy {
	t.Helper()
	return mustParse(t, []byte(conditionalText(when)))
}

func conditionalText(when string) string {
	return `version: 1
identities:
  - id: spiffe://bank.example/terminal/*
    roles: [terminal]
roles:
  terminal:
    - methods: ["PinService/*", "MacService/*", "StatusService/GetStatus"]
      keys: ["*"]
      usages: ["*"]
      when: '` + strings.ReplaceAll(when, "'", "''") + `'
`
}

const (
	tdesKSN = "FFFF9876543210E00001"     // initial key ID FFFF9876543210E0
	aesKSN  = "123456789012345600000001" // initial key ID 1234567890123456
)

// asked is a request that a test then changes.
func asked(change ...func(*Request)) Request {
	r := Request{
		Identity: "spiffe://bank.example/terminal/FFFF9876543210E0",
		Method:   translate,
		Keys: []Key{
			{Name: "acme.bdk.1", Usage: "B0", Algorithm: "T", Mode: "X", Version: 3, Direction: "incoming", Peers: []string{"acquirer", "issuer"}, KSN: tdesKSN},
			{Name: "acme.zpk.1", Usage: "P0", Algorithm: "A", Mode: "E", Version: 1, Direction: "outgoing"},
		},
		Address: netip.MustParseAddr("10.1.2.3"),
		At:      time.Date(2026, 7, 1, 6, 30, 0, 0, time.UTC), // a Wednesday; 08:30 in Zurich
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func TestConditions(t *testing.T) {
	other := func(r *Request) { r.Identity = "spiffe://bank.example/terminal/other" }
	aes := func(r *Request) {
		r.Identity = "spiffe://bank.example/terminal/1234567890123456"
		r.Keys[0].KSN, r.Keys[0].Algorithm = aesKSN, "A"
	}
	for _, c := range []struct {
		when   string
		change []func(*Request)
		want   bool
	}{
		{"true", nil, true},
		{"false", nil, false},
		{"method == 'PinService/TranslatePinData'", nil, true},
		{"method.startsWith('Mac')", nil, false},

		{"identity.id == 'spiffe://bank.example/terminal/FFFF9876543210E0'", nil, true},
		{"identity.trust_domain == 'bank.example'", nil, true},
		{"identity.path == ['terminal', 'FFFF9876543210E0']", nil, true},
		{"size(identity.path) == 2 && identity.path[0] == 'terminal'", nil, true},
		{"identity.last == identity.path[1]", nil, true},
		{"identity.path[7] == 'x'", nil, false}, // there is none: an error, which denies

		{"keys.all(k, k.name.startsWith('acme.'))", nil, true},
		{"keys.exists(k, k.algorithm == 'T')", nil, true},
		{"keys.exists_one(k, k.mode == 'X')", nil, true},
		{"keys.all(k, k.version == 1)", nil, false},
		{"keys.filter(k, k.usage == 'B0').all(k, k.direction == 'incoming')", nil, true},
		{"keys.filter(k, k.usage == 'B0').all(k, 'issuer' in k.peers)", nil, true},
		{"keys.exists(k, 'network' in k.peers)", nil, false},
		{"keys.all(k, size(k.peers) > 0)", nil, false}, // the other key has none
		{"keys.map(k, k.usage) == ['B0', 'P0']", nil, true},
		{"keys.all(k, k.usage in ['B0', 'P0'])", nil, true},
		{"size(keys) == 2 && keys[1].ksn == ''", nil, true},
		{"keys[0].ksn == '" + tdesKSN + "'", nil, true},
		{"keys[1].initial_key_id == ''", nil, true},
		{"has(keys[0].ksn) && !has(keys[1].ksn)", nil, true},

		// A terminal uses only its own key serial numbers.
		{"keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", nil, true},
		{"keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", []func(*Request){other}, false},
		{"keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", []func(*Request){aes}, true},
		{"keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", []func(*Request){func(r *Request) { r.Keys[0].KSN = "" }}, false},
		{"keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", []func(*Request){func(r *Request) { r.Keys[0].KSN = "FFFF9876543210C00001" }}, false},
		{"keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", []func(*Request){func(r *Request) { r.Keys[0].KSN = "no hex" }}, false},

		{"address.within('10.1.0.0/16')", nil, true},
		{"address.within('10.1.0.0/16')", []func(*Request){func(r *Request) { r.Address = netip.MustParseAddr("::ffff:10.1.2.3") }}, true},
		{"address.within('10.2.0.0/16') || address.within('2001:db8::/32')", nil, false},
		{"address.within('2001:db8::/32')", []func(*Request){func(r *Request) { r.Address = netip.MustParseAddr("2001:db8::1") }}, true},
		{"address.within('fe80::/10')", []func(*Request){func(r *Request) { r.Address = netip.MustParseAddr("fe80::1%eth0") }}, true},
		{"address.within('0.0.0.0/0')", []func(*Request){func(r *Request) { r.Address = netip.Addr{} }}, false},
		{"!address.within('10.0.0.0/8')", []func(*Request){func(r *Request) { r.Address = netip.Addr{} }}, false},

		{"now.during('Mon-Fri 08:00-18:00', 'Europe/Zurich')", nil, true},
		{"now.during('Mon-Fri 08:00-18:00', 'UTC')", nil, false},
		{"!now.during('Mon-Fri 08:00-18:00', 'UTC')", []func(*Request){func(r *Request) { r.At = time.Time{} }}, false},
		{"now < timestamp('2026-07-02T00:00:00Z')", nil, true},
		{"now < timestamp('2026-07-01T00:00:00Z')", nil, false},

		{"terminal.owner == identity.last", []func(*Request){func(r *Request) { r.Terminal = &Terminal{ID: "t-1", Owner: "FFFF9876543210E0"} }}, true},
		{"terminal.id == 't-1' && terminal.model.startsWith('P')", []func(*Request){func(r *Request) { r.Terminal = &Terminal{ID: "t-1", Model: "P400"} }}, true},
		{"has(terminal.owner)", []func(*Request){func(r *Request) { r.Terminal = &Terminal{ID: "t-1"} }}, false},
		{"terminal.owner == ''", nil, false},
		{"terminal.owner != 'x'", nil, false},

		// What is needed is there, whatever cannot be evaluated beside it.
		{"method.startsWith('Pin') || address.within('10.0.0.0/8')", []func(*Request){func(r *Request) { r.Address = netip.Addr{} }}, true},
	} {
		p := conditional(t, c.when)
		d := p.Authorize(asked(c.change...))
		if d.Allowed != c.want {
			t.Errorf("%s: %+v, want %t", c.when, d, c.want)
		}
	}
}

// A condition that cannot be evaluated denies and says why, on one line without what
// the caller sent.
func TestConditionErrorDenies(t *testing.T) {
	for when, c := range map[string]struct {
		change func(*Request)
		why    string
	}{
		"address.within('10.0.0.0/8')":                             {func(r *Request) { r.Address = netip.Addr{} }, "rule terminal[0] fits but its condition (line 10) could not be evaluated: the client's address is not known"},
		"terminal.owner == 'x'":                                    {func(*Request) {}, "the request is about no terminal"},
		"now.during('Mon-Fri 08:00-18:00', 'UTC')":                 {func(r *Request) { r.At = time.Time{} }, "the time is not known"},
		"identity.path[5] == ''":                                   {func(*Request) {}, "index out of bounds"},
		"identity.path.all(a, identity.path.all(b, a + b != 'x'))": {func(r *Request) { r.Identity += strings.Repeat("/a", 900) }, "cost"},
		"method == 'x'":                                            {func(*Request) {}, "rule terminal[0] fits but its condition (line 10) does not hold"},
	} {
		r := asked(c.change)
		r.Identity = strings.Replace(r.Identity, "/a/", "/", 1)
		p := conditional(t, when)
		if when == "identity.path.all(a, identity.path.all(b, a + b != 'x'))" {
			// Such an identity has no fleet: its own entry.
			p.exact[r.Identity] = p.fleets["spiffe://bank.example/terminal/"]
		}
		if d := p.Authorize(r); d.Allowed || !strings.Contains(d.Why, c.why) || strings.Contains(d.Why, "\n") {
			t.Errorf("%s: %+v, want %q", when, d, c.why)
		}
	}
}

// Another rule that covers the request is not disturbed by one whose condition fails.
func TestConditionIsOfOneRule(t *testing.T) {
	p := mustParse(t, []byte(`version: 1
identities:
  - {id: spiffe://bank.example/terminal/*, roles: [a]}
roles:
  a:
    - {methods: ["PinService/*"], keys: ["*"], usages: ["*"], when: 'identity.path[9] == ""'}
    - {methods: ["PinService/*"], keys: ["acme.*"], usages: ["*"], when: 'true'}
    - {methods: ["PinService/*"], keys: ["acme.*"], usages: ["*"]}
`))
	if d := p.Authorize(asked()); !d.Allowed || d.Rule != "a[1]" {
		t.Errorf("%+v", d)
	}
}

func TestConditionsAreChecked(t *testing.T) {
	for when, want := range map[string]string{
		"":                                       "Syntax error",
		"keys":                                   "is a list(keyd.Key); it has to be true or false",
		"1":                                      "is a int; it has to be true or false",
		"true &&":                                "column 8: Syntax error",
		"identity":                               "has to be true or false",
		"identity == 'x'":                        "no matching overload",
		"identity.name == 'x'":                   "undefined field 'name'",
		"keys[0].owner == 'x'":                   "undefined field 'owner'",
		"keys.name == 'x'":                       "does not support field selection",
		"user == 'x'":                            "undeclared reference to 'user'",
		"keys[0].version == '1'":                 "no matching overload",
		"method == 1":                            "no matching overload",
		"address == '10.0.0.1'":                  "no matching overload",
		"address.within(method)":                 "the network of within() has to be written out in quotes",
		"address.within('10.0.0.1/8')":           "has bits behind its mask; write \"10.0.0.0/8\"",
		"address.within('10.0.0.1')":             "is no network",
		"address.within('::ffff:10.0.0.0/104')":  "",
		"address.startsWith('10.')":              "no matching overload",
		"now.during('Mon-Fri 8-18', 'UTC')":      "\"8\" is no time of day",
		"now.during('Mo-Fr 08:00-18:00', 'UTC')": "are no days of the week",
		"now.during('Mon-Fri 08:00-18:00', 'Zurich')":                "is no time zone",
		"now.during('Mon-Fri 08:00-18:00', 'Local')":                 "is no time zone",
		"now.during('Mon-Fri 08:00-18:00', '../../etc/passwd')":      "is no time zone",
		"now.during('Mon-Fri 08:00-18:00', identity.last)":           "written out",
		"now.getHours('Europe/Zurich') > 8":                          "undeclared reference",
		"now < timestamp('tomorrow')":                                "invalid timestamp",
		"keys.all(k, k.usage == 'PO')":                               `"PO" is no key usage`,
		"keys.all(k, k.usage in ['P0', 'b0'])":                       `"b0" is no key usage`,
		"method.matches('(a+)+$')":                                   "undeclared reference to 'matches'",
		"dyn(method) == 1":                                           "undeclared reference to 'dyn'",
		"string(1) == '1'":                                           "undeclared reference to 'string'",
		"1 * 2 == 2":                                                 "undeclared reference",
		"keyd.Key{name: 'x'} == keys[0]":                             "a keyd.Key cannot be made",
		"google.protobuf.Any{} == 1":                                 "undeclared reference",
		"[1, 'a'] == [1, 'a']":                                       "expected type",
		"keys.all(a, keys.all(b, keys.all(c, a != b && b != c)))":    "nesting",
		"'" + strings.Repeat("a", 1100) + "' == method":              "at most 1024",
		strings.Repeat("(", 500) + "true" + strings.Repeat(")", 500): "the condition",
		strings.Repeat("[", 40) + strings.Repeat("]", 40) + "== []":  "the condition",
		"true" + strings.Repeat(" ? true : true", 60):                "the condition",
		"keys.all(k, identity.path.all(s, identity.id.contains(k.name + s + method + k.ksn + k.usage + identity.id)))": "steps",
	} {
		p, err := Parse([]byte(conditionalText(when)))
		var fault *Error
		if want == "" {
			if err == nil {
				t.Errorf("%.60s: accepted", when)
			}
			continue
		}
		if p != nil || !errors.As(err, &fault) || fault.Line != 10 || !strings.Contains(fault.Problem, want) || strings.ContainsAny(fault.Problem, "\n") || len(fault.Problem) > 800 {
			t.Errorf("%.60s: policy %t, %v; want %q", when, p != nil, err, want)
		}
	}
}

// Lines are those of the file, in a block too.
func TestConditionBlock(t *testing.T) {
	text := func(block string) string {
		return strings.Replace(conditionalText("X"), "'X'", block, 1)
	}
	p := mustParse(t, []byte(text("|\n        // a terminal's own\n        keys.all(k,\n          k.usage != \"B0\" || k.initial_key_id == identity.last)\n")))
	if d := p.Authorize(asked()); !d.Allowed {
		t.Errorf("%+v", d)
	}
	for block, line := range map[string]int{
		"|\n        true &&\n        foo\n":                                 12,
		"|\n        true &&\n\n        address.within(\"10/8\")\n":          13,
		"|\n        true\n      custody: none\n":                            12,
		">\n        true\n":                                                 10,
		"|\n" + strings.Repeat("        true &&\n", 150) + "        true\n": 11,
		"7":    10,
		"true": 10,
		"":     10,
	} {
		_, err := Parse([]byte(text(block)))
		var fault *Error
		if !errors.As(err, &fault) || fault.Line != line {
			t.Errorf("%q: %v, want line %d", block, err, line)
		}
	}
}

func TestNumberOfConditions(t *testing.T) {
	file := func(n int) []byte {
		var b strings.Builder
		b.WriteString("version: 1\nidentities: []\nroles:\n  a:\n")
		for range n {
			b.WriteString("    - {methods: [StatusService/GetStatus], when: 'true == true'}\n")
		}
		return []byte(b.String())
	}
	mustParse(t, file(maxConditions))
	_, err := Parse(file(maxConditions + 1))
	var fault *Error
	if !errors.As(err, &fault) || fault.Line != 5+maxConditions || !strings.Contains(fault.Problem, "at most 128") {
		t.Errorf("%v", err)
	}
}

// The worst files that the limits let through are read, and asked, in bounded time.
func TestHostileConditionsAreBounded(t *testing.T) {
	worst := map[string]string{
		"loops":  "identity.path.all(a, keys.all(b, " + strings.Repeat("a != b.name && ", 3) + "true))",
		"lists":  "[" + strings.Repeat("1,", 490) + "1].all(a, true)",
		"joins":  strings.Repeat("identity.id + ", 65) + "method != method",
		"choice": strings.Repeat("(method == 'a' ? ", 16) + "true" + strings.Repeat(" : false)", 16),
		"types":  strings.Repeat("[", 12) + "1" + strings.Repeat("]", 12) + " == " + strings.Repeat("[", 12) + "2" + strings.Repeat("]", 12),
		"maps":   "{" + strings.Repeat("'a': {'b': 1},", 60) + "'c': {'d': 2}} != {}",
		"noise":  strings.Repeat("a.b(", 20) + strings.Repeat("]}", 200),
	}
	for name, when := range worst {
		var b strings.Builder
		b.WriteString("version: 1\nidentities:\n  - {id: spiffe://bank.example/terminal/*, roles: [a]}\nroles:\n  a:\n")
		for b.Len() < MaxSize-1500 && strings.Count(b.String(), "when") < maxConditions {
			fmt.Fprintf(&b, "    - {methods: [PinService/TranslatePinData], keys: ['*'], usages: ['*'], when: '%s'}\n", strings.ReplaceAll(when, "'", "''"))
		}
		begin := time.Now()
		p, err := Parse([]byte(b.String()))
		parsed := time.Since(begin)
		begin = time.Now()
		d := p.Authorize(asked(func(r *Request) { r.Identity = "spiffe://bank.example/terminal/" + strings.Repeat("x", 1900) }))
		t.Logf("%s: read in %v (%v), asked in %v: %.100s", name, parsed, err, time.Since(begin), d.Why)
		if took := time.Since(begin) + parsed; took > 20*time.Second {
			t.Errorf("%s: %v", name, took)
		}
	}
}

func TestHours(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		text, zone, at string
		want           bool
	}{
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-07-01T06:00:00Z", true}, // summer time: 08:00
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-07-01T05:59:59Z", false},
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-07-01T15:59:59Z", true},
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-07-01T16:00:00Z", false},
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-01-07T06:59:59Z", false}, // winter time
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-01-07T07:00:00Z", true},
		{"Mon-Fri 08:00-18:00", "Europe/Zurich", "2026-07-04T10:00:00Z", false}, // Saturday
		{"Mon-Fri 08:00-18:00", "Asia/Shanghai", "2026-07-03T00:00:00Z", true},
		{"Sat,Sun 00:00-24:00", "UTC", "2026-07-05T23:59:59Z", true},
		{"Sat,Sun 00:00-24:00", "UTC", "2026-07-06T00:00:00Z", false},
		{"Fri-Mon 10:00-11:00", "UTC", "2026-07-06T10:30:00Z", true},
		{"Fri-Mon 10:00-11:00", "UTC", "2026-07-07T10:30:00Z", false},
		// Past midnight they belong to the day on which they begin.
		{"Fri 22:00-06:00", "UTC", "2026-07-03T22:00:00Z", true},
		{"Fri 22:00-06:00", "UTC", "2026-07-04T05:59:00Z", true},
		{"Fri 22:00-06:00", "UTC", "2026-07-04T06:00:00Z", false},
		{"Fri 22:00-06:00", "UTC", "2026-07-03T05:00:00Z", false},
	} {
		h, err := parseHours(c.text, c.zone)
		if err != nil || h.cover(at(c.at)) != c.want {
			t.Errorf("%s %s at %s: %v, want %t", c.text, c.zone, c.at, err, c.want)
		}
	}
	for _, text := range []string{"", "Mon", "08:00-18:00", "Mon 08:00", "Mon 08:00-", "Mon 8:00-9:00", "Mon 25:00-26:00", "Mon 08:60-09:00", "Mon 24:00-08:00",
		"Mon 24:01-08:00", "Mon 08:00-08:00", "Mon-Tue-Wed 08:00-09:00", "mon 08:00-09:00", "Mon, Tue 08:00-09:00", "Mon  08:00-09:00", "Mon +8:00-09:00", ",Mon 08:00-09:00"} {
		if _, err := parseHours(text, "UTC"); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

// FuzzCondition: no expression makes the parser or an evaluation panic or hang.
func FuzzCondition(f *testing.F) {
	for _, when := range []string{
		"true", "keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)", "address.within('10.0.0.0/8')",
		"now.during('Mon-Fri 08:00-18:00', 'Europe/Zurich')", "now < timestamp('2026-07-02T00:00:00Z')", "identity.path.exists(s, s in ['a', 'b'])",
		"keys.map(k, k.name + k.ksn).filter(n, n.contains('a')) == []", "has(keys[0].ksn) ? size(keys) > 1 : method.endsWith('x')",
		"[[[1]]] == [[[2]]]", "{'a': {'b': 1}}.all(k, k == 'a')", "keys.exists_one(a, keys.exists(b, a == b))",
	} {
		f.Add(when, "spiffe://bank.example/terminal/x", "k", tdesKSN)
	}
	f.Fuzz(func(t *testing.T, when, identity, name, ksn string) {
		begin := time.Now()
		c, err := newCondition(when, 7)
		if err != nil {
			var wrong *conditionError
			if c != nil || !errors.As(err, &wrong) || wrong.problem == "" || wrong.line < 1 || strings.Contains(wrong.problem, "\n") {
				t.Errorf("%v beside %#v", c, err)
			}
		} else {
			r := Request{Identity: identity, Method: translate, Keys: []Key{{Name: name, KSN: ksn}, {Name: "b", Usage: "B0"}}, Address: netip.IPv6Loopback(), At: begin}
			if _, err := c.holds(newScene(r)); err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 2*maxDenialText) {
				t.Errorf("%q", err)
			}
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%v", took)
		}
	})
}
