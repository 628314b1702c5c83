package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const asked = `version: 1
identities:
  - id: spiffe://bank.example/terminal/*
    roles: [terminal]
roles:
  terminal:
    - methods: ["MacService/VerifyMac"]
      keys: ["bdk.*"]
      usages: [B0]
      when: 'address.within("10.0.0.0/8") && keys.all(k, k.initial_key_id == identity.last)'
      custody: token
`

const askedByTerminals = `version: 1
identities:
  - {id: "terminal:*", roles: [keys]}
roles:
  keys:
    - methods: ["TerminalService/SignIn"]
`

// TestPolicyCommands is how an operator asks a policy file, without a service.
func TestPolicyCommands(t *testing.T) {
	dir := tempDir(t)
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("good.yaml", asked, 0o644)
	wrong := file("wrong.yaml", strings.Replace(asked, "identity.last", "identity.tail", 1), 0o644)
	open := file("open.yaml", asked, 0o666)
	own := file("own.yaml", askedByTerminals, 0o644)
	more := file("more.yaml", strings.Replace(askedByTerminals, "SignIn", "*", 1)+"      keys: [\"*\"]\n      usages: [\"*\"]\n", 0o644)
	signIn := func(rest ...string) []string {
		return append([]string{"policy", "explain", own, "--identity", "terminal:t-1", "--method", "TerminalService/SignIn"}, rest...)
	}
	const terminal = "spiffe://bank.example/terminal/FFFF9876543210E0"
	explain := func(rest ...string) []string {
		return append([]string{"policy", "explain", good, "--identity", terminal, "--method", "MacService/VerifyMac"}, rest...)
	}
	for name, c := range map[string]struct {
		args   []string
		status int
		out    []string // parts of standard output
		err    string   // part of standard error
	}{
		"good":            {[]string{"policy", "check", good}, 0, []string{"good.yaml: good (SHA-256 "}, ""},
		"good as JSON":    {[]string{"policy", "check", good, "-o", "json"}, 0, []string{`"good": true`, `"digest": "`}, ""},
		"wrong":           {[]string{"policy", "check", wrong}, 1, nil, "wrong.yaml: line 10: the condition is wrong at its column"},
		"wrong as JSON":   {[]string{"policy", "check", wrong, "-o", "json"}, 1, []string{`"good": false`, `"line": 10`, `undefined field 'tail'`}, "line 10"},
		"open to others":  {[]string{"policy", "check", open}, 1, nil, "chmod go-w"},
		"not there":       {[]string{"policy", "check", filepath.Join(dir, "none")}, 1, nil, "no such file"},
		"no command":      {[]string{"policy"}, 1, nil, "name what to do"},
		"unknown output":  {[]string{"policy", "check", good, "-o", "xml"}, 1, nil, "table or json"},
		"allowed":         {explain("--key", "bdk.1:B0", "--ksn", "ffff9876543210e00001", "--address", "10.1.2.3"), 0, []string{"would be allowed", "rule terminal[0] (line 7) covers it", "custody  token"}, ""},
		"usage not given": {explain("--key", "bdk.1", "--ksn", "FFFF9876543210E00001", "--address", "10.1.2.3"), 0, []string{"bdk.1 has usage B0", "not given; it takes B0"}, ""},
		"another's KSN": {explain("--key", "bdk.1:B0", "--ksn", "FFFF9876543210C00001", "--address", "10.1.2.3"), 3,
			[]string{"would be refused", "it does not hold", "keys.all(k, k.initial_key_id == identity.last)"}, "it would be refused: rule terminal[0] fits but its condition (line 10) does not hold"},
		"no KSN":         {explain("--key", "bdk.1:B0", "--address", "10.1.2.3"), 3, []string{"it looks at what was not given: ksn of bdk.1"}, "does not hold"},
		"no address":     {explain("--key", "bdk.1:B0", "--ksn", "FFFF9876543210E00001"), 3, []string{"the client's address is not known"}, "could not be evaluated"},
		"another key":    {explain("--key", "zpk.1:P0"), 3, []string{"none of bdk.*", "P0 is none of B0"}, `no rule of role terminal for MacService/VerifyMac covers key "zpk.1" with usage "P0"`},
		"no key":         {explain(), 3, nil, "was asked for without a key"},
		"as JSON":        {explain("--key", "bdk.1:B0,ksn=FFFF9876543210E00001,algorithm=T,mode=X,version=2,direction=incoming", "--address", "10.1.2.3", "-o", "json"), 0, []string{`"allowed": true`, `"demands": "token"`}, ""},
		"wrong KSN":      {explain("--key", "bdk.1:B0", "--ksn", "FFFF9876543210E00000"), 1, nil, "is no key serial number of a transaction"},
		"KSN for no key": {explain("--key", "zpk.1:P0", "--ksn", "FFFF9876543210E00001"), 1, nil, "0 keys can have one"},
		"wrong field":    {explain("--key", "bdk.1:B0,owner=x"), 1, nil, "none of algorithm, mode, version, direction, peer, ksn"},
		"wrong time":     {explain("--key", "bdk.1:B0", "--at", "noon"), 1, nil, "write it as 2026-07-01T08:30:00+02:00"},
		"wrong address":  {explain("--key", "bdk.1:B0", "--address", "host"), 1, nil, "is no IP address"},
		"a terminal":     {signIn("--terminal", "t-1"), 0, []string{"would be allowed", "rule keys[0] (line 6) covers it"}, ""},
		"for another":    {signIn("--terminal", "t-2"), 3, nil, "a terminal asks for TerminalService/SignIn about itself alone"},
		"in legacy form": {signIn("--terminal", "t-1", "--legacy"), 3, []string{"the rule does not say legacy: true"}, "says legacy: true"},
		"for terminals":  {[]string{"policy", "check", more}, 1, nil, `line 3: role "keys" has TerminalService/RegisterTerminal (line 6), which no terminal may ask for`},
		"wrong policy":   {[]string{"policy", "explain", wrong, "--identity", terminal, "--method", "x"}, 1, nil, "line 10"},
		"no identity":    {[]string{"policy", "explain", good, "--method", "x"}, 1, nil, `"identity" not set`},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			cmd := exec.CommandContext(t.Context(), keydBinary, c.args...)
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != c.status || !strings.Contains(errs.String(), c.err) || c.err == "" && errs.Len() > 0 {
				t.Errorf("status %d, want %d: %s", got, c.status, &errs)
			}
			for _, want := range c.out {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in:\n%s", want, &out)
				}
			}
			if strings.Contains(strings.Join(c.args, " "), "json") && !json.Valid(out.Bytes()) {
				t.Errorf("no JSON:\n%s", &out)
			}
		})
	}
}
