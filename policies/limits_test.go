package policies

import (
	"errors"
	"strings"
	"testing"
)

func TestLimits(t *testing.T) {
	const rest = `roles:
  a:
    - methods: ["StatusService/GetStatus"]
  none: []
identities:
  - {id: spiffe://b/plain, roles: [a]}
  - {id: spiffe://b/own, roles: [a], limit: {per_second: 5, burst: 7}}
  - {id: spiffe://b/free, roles: [a], limit: unlimited}
  - {id: spiffe://b/fleet/*, roles: [a], limit: {per_second: 2, burst: 3}}
  - {id: spiffe://b/fleet/special, roles: [a], limit: {per_second: 50, burst: 50}}
  - {id: spiffe://b/fleet/plain, roles: []}
  - {id: spiffe://b/idle, roles: [none]}
  - {id: spiffe://b/idle-own, roles: [], limit: {per_second: 1, burst: 1}}
`
	given := mustParse(t, []byte("version: 1\nlimits:\n  default: {per_second: 100, burst: 200}\n  denials: {per_second: 3, burst: 30}\n"+rest))
	silent := mustParse(t, []byte("version: 1\n"+rest))
	open := mustParse(t, []byte("version: 1\nlimits: {default: unlimited}\n"+rest))
	for _, c := range []struct {
		p        *Policy
		identity string
		want     Limit
	}{
		{given, "plain", Limit{100, 200}}, {silent, "plain", DefaultLimit}, {open, "plain", Limit{}},
		{given, "own", Limit{5, 7}}, {given, "free", Limit{}},
		{given, "fleet/1", Limit{2, 3}}, {given, "fleet/special", Limit{50, 50}}, {given, "fleet/plain", Limit{2, 3}},
		{given, "fleet/1/2", IdleLimit}, {given, "stranger", IdleLimit}, {open, "stranger", IdleLimit},
		{given, "idle", IdleLimit}, {open, "idle", IdleLimit}, {given, "idle-own", Limit{1, 1}},
		{nil, "plain", IdleLimit}, {new(Policy), "plain", IdleLimit},
	} {
		if got := c.p.Limit("spiffe://b/" + c.identity); got != c.want {
			t.Errorf("%s: %v, want %v", c.identity, got, c.want)
		}
	}
	if given.Denials() != (Limit{3, 30}) || silent.Denials() != DefaultDenials || (*Policy)(nil).Denials() != DefaultDenials || new(Policy).Denials() != DefaultDenials {
		t.Errorf("%v, %v", given.Denials(), silent.Denials())
	}
}

func TestLimitsAreChecked(t *testing.T) {
	const head = "version: 1\nidentities: []\nroles: {}\n"
	for text, c := range map[string]struct {
		line    int
		problem string
	}{
		"limits: unlimited\n":                   {4, "a mapping"},
		"limits: []\n":                          {4, "a mapping"},
		"limits:\n  requests: unlimited\n":      {5, `unknown key "requests"; possible here: default, denials`},
		"limits:\n  default: none\n":            {5, `"none" is no limit; write {per_second: 100, burst: 200} or unlimited`},
		"limits:\n  default: 5\n":               {5, "a mapping"},
		"limits:\n  default: {per_second: 5}\n": {5, `"burst" is missing`},
		"limits:\n  default:\n    burst: 5\n":   {6, `"per_second" is missing`},
		"limits:\n  default:\n    per_second: 5\n    burst: 5\n    hour: 1\n": {8, `unknown key "hour"`},
		"limits:\n  default:\n    per_second: 0\n    burst: 5\n":              {6, "0 is out of range; write a number from 1 to 1000000"},
		"limits:\n  default:\n    per_second: 5\n    burst: 1000001\n":        {7, "out of range"},
		"limits:\n  default:\n    per_second: -1\n    burst: 5\n":             {6, "out of range"},
		"limits:\n  default:\n    per_second: 1.5\n    burst: 5\n":            {6, "an integer is needed here"},
		"limits:\n  default:\n    per_second: 0x10\n    burst: 5\n":           {6, "out of range"},
		"limits:\n  default:\n    per_second: 010\n    burst: 5\n":            {6, "out of range"},
		"limits:\n  default:\n    per_second: 1_000\n    burst: 5\n":          {6, "out of range"},
		"limits:\n  default:\n    per_second: \"5\"\n    burst: 5\n":          {6, "an integer"},
		"limits:\n  denials: unlimited\n":                                     {5, "denials have to be limited"},
		"limits: {}\nlimits: {}\n":                                            {5, "is set on line 4 already"},
	} {
		p, err := Parse([]byte(head + text))
		var fault *Error
		if p != nil || !errors.As(err, &fault) || fault.Line != c.line || !strings.Contains(fault.Problem, c.problem) {
			t.Errorf("%q: %v, want line %d and %q", text, err, c.line, c.problem)
		}
	}
	_, err := Parse([]byte("version: 1\nroles: {}\nidentities:\n  - id: spiffe://a/b\n    roles: []\n    limit:\n      per_second: 1\n"))
	var fault *Error
	if !errors.As(err, &fault) || fault.Line != 7 || !strings.Contains(fault.Problem, `"burst" is missing`) {
		t.Errorf("%v", err)
	}
}

func TestCustodyIsChecked(t *testing.T) {
	for rule, c := range map[string]struct {
		line    int
		problem string
	}{
		"methods: [\"PinService/*\"]\n      keys: [\"*\"]\n      usages: [\"*\"]\n      custody: module\n":  {8, `"module" cannot be demanded; write custody: token`},
		"methods: [\"PinService/*\"]\n      keys: [\"*\"]\n      usages: [\"*\"]\n      custody: [token]\n": {8, "a text"},
		"methods: [\"PinService/*\"]\n      custody:\n":                                                     {6, "not nothing"},
		"methods: [\"StatusService/GetStatus\"]\n      custody: token\n":                                    {6, "StatusService/GetStatus has no custody that could be demanded"},
		"methods: [\"MacService/*\", \"VelocityService/*\"]\n      keys: [\"*\"]\n      custody: token\n":   {7, "VelocityService/ResetVerifications has no custody"},
	} {
		p, err := Parse([]byte("version: 1\nidentities: []\nroles:\n  a:\n    - " + rule))
		var fault *Error
		if p != nil || !errors.As(err, &fault) || fault.Line != c.line || !strings.Contains(fault.Problem, c.problem) {
			t.Errorf("%q: %v, want line %d and %q", rule, err, c.line, c.problem)
		}
	}
}
