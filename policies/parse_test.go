package policies

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseIsStrict(t *testing.T) {
	const head = "version: 1\nidentities: []\n"
	const rule = head + "roles:\n  a:\n    - "
	for name, c := range map[string]struct {
		text    string
		line    int
		problem string
	}{
		"empty":                     {"", 0, "empty"},
		"comments only":             {"# nothing\n", 0, "empty"},
		"a text":                    {"version", 1, "mapping"},
		"a list":                    {"- version: 1\n", 1, "mapping"},
		"syntax":                    {head + "roles: [\n", 3, "not valid YAML"},
		"indentation":               {"version: 1\n identities: []\n", 0, "not valid YAML"},
		"no version":                {"identities: []\nroles: {}\n", 1, `"version" is missing`},
		"version 2":                 {"version: 2\nidentities: []\nroles: {}\n", 1, "version 2 is not known"},
		"version as text":           {"version: \"1\"\nidentities: []\nroles: {}\n", 1, "an integer"},
		"version as fraction":       {"version: 1.0\nidentities: []\nroles: {}\n", 1, "an integer"},
		"version in hex":            {"version: 0x1\nidentities: []\nroles: {}\n", 1, "version 0x1"},
		"no roles":                  {"version: 1\nidentities: []\n", 1, `"roles" is missing`},
		"no identities":             {"version: 1\nroles: {}\n", 1, `"identities" is missing`},
		"roles is nothing":          {head + "roles:\n", 3, "mapping (name: value) is needed here, not nothing"},
		"roles as list":             {head + "roles: []\n", 3, "not a list"},
		"identities as mapping":     {"version: 1\nroles: {}\nidentities: {}\n", 3, "a list"},
		"unknown key":               {head + "roles: {}\nrole: {}\n", 4, `unknown key "role"; possible here: version, identities, roles`},
		"case of a key":             {head + "Roles: {}\n", 3, `unknown key "Roles"`},
		"duplicate key":             {head + "roles: {}\nversion: 1\n", 4, `"version" is set on line 1 already`},
		"duplicate role":            {head + "roles:\n  a: []\n  b: []\n\n  # again\n  a: []\n", 8, `"a" is set on line 4 already`},
		"role of spaces":            {head + "roles:\n  a b: []\n", 4, "name of a role"},
		"role is nothing":           {head + "roles:\n  a:\n", 4, "a list ([] for an empty one) is needed here, not nothing"},
		"numeric role":              {head + "roles:\n  1: []\n", 4, "a key has to be a plain text, not a number"},
		"rule is a text":            {rule + "all\n", 5, "a mapping (name: value) is needed here, not a text"},
		"unknown key in rule":       {rule + "methods: []\n      key: []\n", 6, `unknown key "key"; possible here: methods, keys, usages`},
		"duplicate key in rule":     {rule + "methods: []\n      methods: []\n", 6, `"methods" is set on line 5`},
		"rule without methods":      {rule + "keys: [\"*\"]\n", 5, `"methods" is missing`},
		"methods as text":           {rule + "methods: \"PinService/*\"\n", 5, "a list"},
		"unknown method":            {rule + "methods:\n        - PinService/VerifyPinData\n        - PinService/Verify\n", 7, `method "PinService/Verify" does not exist; write one of PinService/TranslatePinData`},
		"unknown service":           {rule + "methods: [\"PINService/*\"]\n", 5, "does not exist"},
		"every method":              {rule + "methods: [\"*\"]\n", 5, "list the services"},
		"half a wildcard":           {rule + "methods: [\"PinService/Verify*\"]\n", 5, "does not exist"},
		"wildcard of nothing":       {rule + "methods: [\"/*\"]\n", 5, "does not exist"},
		"method as number":          {rule + "methods: [7]\n", 5, "a text (put it in quotes) is needed here, not a number"},
		"method twice":              {rule + "methods: [\"PinService/*\", \"PinService/VerifyPinData\"]\n", 5, "repeats PinService/VerifyPinData"},
		"no keys":                   {rule + "methods: [\"PinService/*\"]\n      usages: [\"*\"]\n", 5, `"keys" is missing`},
		"no usages":                 {rule + "methods: [\"PinService/*\"]\n      keys: [\"*\"]\n", 5, `"usages" is missing`},
		"keys for no keys":          {rule + "methods: [\"StatusService/GetStatus\"]\n      keys: [\"*\"]\n", 6, `"keys" would limit nothing`},
		"usages for no keys":        {rule + "methods: []\n      usages: [P0]\n", 6, `"usages" would limit nothing`},
		"unquoted star":             {rule + "methods: [\"PinService/*\"]\n      keys:\n        - *\n      usages: [P0]\n", 7, `begins with * has to be in quotes, as in "*"`},
		"unquoted star in brackets": {rule + "methods: [\"PinService/*\"]\n      keys: [*]\n      usages: [P0]\n", 6, "has to be in quotes"},
		"unquoted pattern":          {rule + "methods: [\"PinService/*\"]\n      keys:\n        - *zpk\n      usages: [P0]\n", 7, "not a YAML alias; a value that begins with * has to be in quotes"},
		"empty key name":            {rule + "methods: [\"PinService/*\"]\n      keys: [\"\"]\n      usages: [P0]\n", 6, "matches no key"},
		"space in key name":         {rule + "methods: [\"PinService/*\"]\n      keys:\n        - ok\n        - \"a b\"\n      usages: [P0]\n", 8, "cannot be part of a key name"},
		"long key name":             {rule + "methods: [\"PinService/*\"]\n      keys: [" + strings.Repeat("k", 129) + "]\n      usages: [P0]\n", 6, "at most 128"},
		"range in key name":         {rule + "methods: [\"PinService/*\"]\n      keys: [\"[a-z]\"]\n      usages: [P0]\n", 6, "cannot be part"},
		"letter O for zero":         {rule + "methods: [\"PinService/*\"]\n      keys: [\"*\"]\n      usages: [B0, PO]\n", 7, `"PO" is no key usage`},
		"lower-case usage":          {rule + "methods: [\"PinService/*\"]\n      keys: [\"*\"]\n      usages: [p0]\n", 7, `"p0" is no key usage`},
		"usage pattern":             {rule + "methods: [\"PinService/*\"]\n      keys: [\"*\"]\n      usages: [\"V*\"]\n", 7, "no key usage"},
		"usages is nothing":         {rule + "methods: [\"PinService/*\"]\n      keys: [\"*\"]\n      usages:\n", 7, "not nothing"},
		"identity is a text":        {"version: 1\nroles: {}\nidentities:\n  - spiffe://a/b\n", 4, "a mapping"},
		"identity without id":       {"version: 1\nroles: {}\nidentities:\n  - roles: []\n", 4, `"id" is missing`},
		"identity without roles":    {"version: 1\nroles: {}\nidentities:\n  - id: spiffe://a/b\n", 4, `"roles" is missing; write roles: []`},
		"identity's unknown key":    {"version: 1\nroles: {}\nidentities:\n  - id: spiffe://a/b\n    role: []\n", 5, "possible here: id, roles"},
		"unknown role":              {"version: 1\nroles: {b: [], a: []}\nidentities:\n  - id: spiffe://a/b\n    roles:\n      - a\n      - c\n", 7, `role "c" is not defined; define it under roles, or correct it to one of: a, b`},
		"role where none is":        {"version: 1\nroles: {}\nidentities:\n  - id: spiffe://a/b\n    roles: [c]\n", 5, "none is defined"},
		"role twice":                {"version: 1\nroles: {a: []}\nidentities:\n  - id: spiffe://a/b\n    roles: [a, a]\n", 5, "listed twice"},
		"identity twice":            {"version: 1\nroles: {}\nidentities:\n  - id: spiffe://a/b\n    roles: []\n  - id: spiffe://a/b\n    roles: []\n", 6, "entry on line 4 already"},
		"anchor":                    {head + "roles: &r {}\n", 3, "not a YAML anchor"},
		"merge":                     {head + "roles:\n  <<: {}\n", 4, "a key has to be a plain text"},
		"tag":                       {head + "roles: !!map {}\n", 3, "not a YAML tag"},
		"block text":                {"version: 1\nroles: {}\nidentities:\n  - id: |\n      spiffe://a/b\n    roles: []\n", 4, "not a YAML literal"},
		"second document":           {head + "roles: {}\n---\nversion: 1\n", 5, "second document"},
		"directive":                 {"%YAML 1.2\n---\n" + head + "roles: {}\n", 0, "directives"},
		"not UTF-8":                 {head + "roles: {}\n# \xff\n", 4, "not UTF-8"},
		"tab":                       {head + "roles:\n\ta: []\n", 4, "tab"},
		"control character":         {head + "roles: {}\n# \x00\n", 4, "U+0000"},
		"hidden line break":         {head + "roles: {} # \u2028\n", 3, "U+2028"},
		"byte order mark":           {"\ufeff" + head + "roles: {}\n", 1, "U+FEFF"},
		"deep brackets":             {head + "roles: " + strings.Repeat("[", 1000), 3, "nested too deeply"},
		"deep lists":                {head + "roles:\n" + strings.Repeat("- ", 1000), 4, "nested too deeply"},
		"too large":                 {head + "roles: {}\n" + strings.Repeat("#\n", MaxSize/2), 0, "more than 65536 bytes"},
		"line with carriage feeds":  {"version: 1\r\nidentities: []\r\nroles: {}\r\nx: 1\r\n", 4, `unknown key "x"`},
		"old line ends":             {"version: 1\ridentities: []\r", 1, "carriage return"},
	} {
		p, err := Parse([]byte(c.text))
		var fault *Error
		if p != nil || !errors.As(err, &fault) {
			t.Errorf("%s: policy %v, error %v", name, p != nil, err)
			continue
		}
		if c.line != 0 && fault.Line != c.line || !strings.Contains(fault.Problem, c.problem) {
			t.Errorf("%s: got %q, want line %d and %q", name, err, c.line, c.problem)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", name, err)
		}
	}
}

func TestIdentities(t *testing.T) {
	for id, want := range map[string]string{
		"spiffe://bank.example/switch":            "",
		"spiffe://bank.example/a/b/c":             "",
		"spiffe://bank.example/terminal/*":        "",
		"spiffe://bank.example/a/b/*":             "",
		"spiffe://bank.example":                   "names a trust domain",
		"spiffe://bank.example/*":                 "whole trust domain",
		"spiffe://bank.example/":                  "no SPIFFE ID",
		"spiffe://bank.example//x":                "no SPIFFE ID",
		"spiffe://bank.example/a/../b":            "no SPIFFE ID",
		"spiffe://bank.example/a*":                "no SPIFFE ID",
		"spiffe://bank.example/*/a":               "no SPIFFE ID",
		"spiffe://bank.example/a/**":              "no SPIFFE ID",
		"spiffe://bank.example/a/*/*":             "no SPIFFE ID",
		"spiffe://*/a":                            "no SPIFFE ID",
		"spiffe://Bank.example/a":                 "no SPIFFE ID",
		"spiffe://bank.example:443/a":             "no SPIFFE ID",
		"spiffe://user@bank.example/a":            "no SPIFFE ID",
		"spiffe://bank.example/a?b":               "no SPIFFE ID",
		"spiffe://bank.example/%61":               "no SPIFFE ID",
		"SPIFFE://bank.example/a":                 "SPIFFE",
		"https://bank.example/a":                  "no SPIFFE ID",
		"bank.example/a":                          "no SPIFFE ID",
		"":                                        "no SPIFFE ID",
		"spiffe://a/" + strings.Repeat("x", 2048): "at most 2048",
		"spiffe://bank.example/a ":                "no SPIFFE ID",
		"spiffe://bank.example/\u0430":            "no SPIFFE ID",
	} {
		err := checkIdentity(id)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", id, err, want)
		}
	}
}

func TestUsages(t *testing.T) {
	for _, code := range []string{"B0", "P0", "V1", "V2", "M1", "M3", "M6", "M7", "K0", "K1", "D0", "10", "99"} {
		if !KnownUsage(code) {
			t.Errorf("%s is not known", code)
		}
	}
	for _, code := range []string{"", "P", "P00", "PO", "Z0", "00", "09", "M9", "1A", "b0"} {
		if KnownUsage(code) {
			t.Errorf("%q is known", code)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.yaml", string(Dev), 0o644)
	p, err := Load(good)
	if err != nil || p.Digest() != mustParse(t, Dev).Digest() {
		t.Errorf("%v", err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"):     "no such file",
		dir:                               "not a regular file",
		"/dev/zero":                       "not a regular file",
		file("group", string(Dev), 0o660): "chmod go-w",
		file("world", string(Dev), 0o606): "chmod go-w",
		file("bad", "version: 1\nrole: 1\n", 0o600):        `bad: line 2: unknown key "role"`,
		file("big", strings.Repeat("#", MaxSize+1), 0o600): "more than 65536 bytes",
	} {
		p, err := Load(path)
		if p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Dev)
	f.Add(Example)
	f.Add([]byte(policyText))
	f.Add([]byte("version: 1\nidentities: [{id: spiffe://a/b, roles: [c]}]\nroles: {c: [{methods: [PinService/*], keys: ['*'], usages: [\"*\"]}]}\n"))
	f.Add([]byte("version: 1\nroles: &a {}\n<<: *a\n? b\n: - |\n  c\n"))
	f.Add([]byte(terminalPolicy))
	f.Add([]byte(explainedText))
	f.Add([]byte(conditionalText("keys.all(k, k.usage != 'B0' || k.initial_key_id == identity.last)")))
	f.Add([]byte("version: 1\nlimits: {default: unlimited, denials: {per_second: 1, burst: 2}}\nidentities: [{id: spiffe://a/b, roles: [], limit: {per_second: 3, burst: 4}}]\nroles: {}\n"))
	f.Add([]byte("---\nversion: 1\n...\n---\n%YAML 1.2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		begin := time.Now()
		defer func() {
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("%v", took)
			}
		}()
		p, err := Parse(b)
		if err != nil {
			var fault *Error
			if p != nil || !errors.As(err, &fault) || fault.Problem == "" || fault.Line < 0 {
				t.Errorf("policy %v beside %#v", p != nil, err)
			}
			return
		}
		// Nothing is allowed to whom the file does not name.
		for _, m := range Methods {
			var keys []Key
			if m.Keys {
				keys = []Key{{Name: "k", Usage: "P0"}}
			}
			if d := p.Authorize(Request{Identity: "spiffe://nobody.invalid/nobody", Method: m.Name, Keys: keys}); d.Allowed && !strings.Contains(string(b), "nobody") {
				t.Errorf("%s: %+v", m.Name, d)
			}
			// What is allowed to those whom it names is what the explanation says.
			for id := range p.exact {
				r := Request{Identity: id, Method: m.Name, Keys: keys}
				if d, x := p.Authorize(r), p.Explain(r); d.Allowed != x.Allowed || d.Why != x.Why {
					t.Errorf("%s, %s: %+v and %+v", id, m.Name, d, x)
				}
			}
		}
		if l := p.Denials(); l.PerSecond < 1 || l.Burst < 1 {
			t.Errorf("denials: %+v", l)
		}
	})
}
