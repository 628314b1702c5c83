package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keyd/dukpt"
	"keyd/policies"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "policy",
		GroupID: "service",
		Short:   "Look at a policy file and ask it",
		Long: `Reads a policy file as the service does, without a service. docs/policies.md says what
can be written in one.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(policyCheck(), policyExplain())
	return c
}

// checkedPolicy is the answer of keyd policy check, as JSON.
type checkedPolicy struct {
	File    string `json:"file"`
	Good    bool   `json:"good"`
	Digest  string `json:"digest,omitempty"`
	Line    int    `json:"line,omitempty"` // 0: the fault is the whole file's
	Problem string `json:"problem,omitempty"`
}

func policyCheck() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a policy before a reload does",
		Long: `Reads the file as the service does: every name, method, usage, identity, limit and
condition. Status 0 means that the service will take it.`,
		Example: "  keyd policy check /etc/keyd/policy.yaml",
		Args:    oneFile,
	}
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		answer := checkedPolicy{File: args[0]}
		p, failed := policies.Load(args[0])
		if failed == nil {
			answer.Good, answer.Digest = true, p.Digest()
		} else {
			answer.Problem = failed.Error()
			var wrong *policies.Error
			if errors.As(failed, &wrong) {
				answer.Line, answer.Problem = wrong.Line, wrong.Problem
			}
		}
		switch {
		case asJSON:
			if err := printJSON(answer); err != nil {
				return err
			}
		case answer.Good:
			fmt.Printf("%s: good (SHA-256 %s)\n", args[0], p.Digest())
		}
		return failed
	}
	return c
}

func policyExplain() *cobra.Command {
	var out output
	var identity, method, address, at string
	var keys, serials []string
	var terminal policies.Terminal
	var legacy bool
	c := &cobra.Command{
		Use:   "explain FILE",
		Short: "Why would this identity be allowed or refused this?",
		Long: `Asks the policy in FILE what it would decide, and shows what every rule of every role of
the identity makes of it: which part fits and which does not, with its line. Nothing is
carried out and no service is asked.

A key is NAME, or NAME:USAGE with its X9.143 usage. Without a usage the answer says which
ones the rules take. What conditions may look at besides follows after commas:
NAME:USAGE,algorithm=A,mode=E,version=2,direction=outgoing,peer=GROUP,ksn=HEX.

Status 0: it would be allowed. Status 3: it would be refused.`,
		Example: `  keyd policy explain policy.yaml --identity spiffe://payments.example/acquirer/switch/1 \
      --method PinService/TranslatePinData --key acquirer.bdk.1:B0 --key network.zpk.visa:P0
  keyd policy explain policy.yaml --identity spiffe://payments.example/acquirer/terminal/FFFF9876543210E0 \
      --method MacService/VerifyMac --key acquirer.bdk.1:B0 --ksn FFFF9876543210E00001 --address 10.64.2.3`,
		Args: oneFile,
	}
	f := c.Flags()
	f.StringVar(&identity, "identity", "", "SPIFFE ID of the caller's certificate, or terminal:ID of a terminal that connects with its own")
	f.StringVar(&method, "method", "", "SERVICE/METHOD, for example PinService/TranslatePinData")
	f.StringArrayVar(&keys, "key", nil, "NAME[:USAGE][,FIELD=VALUE...], once for each key of the request")
	f.StringArrayVar(&serials, "ksn", nil, "key serial number of the keys with usage B0 (or without one), in their order; a single one is for all")
	f.StringVar(&terminal.ID, "terminal", "", "terminal that the request is about")
	f.StringVar(&terminal.Owner, "terminal-owner", "", "its owner, or the one that a list is limited to")
	f.StringVar(&terminal.Model, "terminal-model", "", "its model, or the one that a list is limited to")
	f.BoolVar(&legacy, "legacy", false, "the keys would go in the legacy form: bare cryptograms")
	f.StringVar(&address, "address", "", "IP address of the caller; without it conditions about it do not hold")
	f.StringVar(&at, "at", "", "when, as 2026-07-01T08:30:00+02:00 (default: now)")
	for _, name := range []string{"identity", "method"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		r := policies.Request{Identity: identity, Method: method, Legacy: legacy, At: time.Now()}
		if strings.HasPrefix(method, "TerminalService/") {
			r.Terminal = &terminal
		}
		if at != "" {
			if r.At, err = time.Parse(time.RFC3339, at); err != nil {
				return fmt.Errorf("--at %q is no time; write it as 2026-07-01T08:30:00+02:00", at)
			}
		}
		if address != "" {
			if r.Address, err = netip.ParseAddr(address); err != nil {
				return fmt.Errorf("--address %q is no IP address", address)
			}
		}
		for _, text := range keys {
			k, err := parseKey(text)
			if err != nil {
				return fmt.Errorf("--key %q: %w", text, err)
			}
			r.Keys = append(r.Keys, k)
		}
		if err := assignSerials(r.Keys, serials); err != nil {
			return err
		}
		p, err := policies.Load(args[0])
		if err != nil {
			return err
		}
		x := p.Explain(r)
		if asJSON {
			err = printJSON(x)
		} else {
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			showExplanation(w, x)
			err = w.Flush()
		}
		if err == nil && !x.Allowed {
			err = exitError{fmt.Errorf("it would be refused: %s", x.Why), 3}
		}
		return err
	}
	return c
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// parseKey reads NAME[:USAGE][,FIELD=VALUE...]. A colon may be part of a name, so that
// only what is a usage after the last one is taken for one.
func parseKey(text string) (policies.Key, error) {
	text, rest, more := strings.Cut(text, ",")
	k := policies.Key{Name: text}
	if i := strings.LastIndexByte(text, ':'); i >= 0 && (i == len(text)-1 || policies.KnownUsage(text[i+1:])) {
		k.Name, k.Usage = text[:i], text[i+1:]
	}
	if k.Name == "" {
		return k, errors.New("a key has a name")
	}
	for more {
		var field string
		field, rest, more = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "algorithm":
			k.Algorithm = value
		case "mode":
			k.Mode = value
		case "direction":
			k.Direction = value
		case "peer":
			k.Peers = append(k.Peers, value)
		case "version":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return k, fmt.Errorf("%q is no version", value)
			}
			k.Version = uint32(n)
		case "ksn":
			var err error
			if k.KSN, err = parseSerial(value); err != nil {
				return k, err
			}
		default:
			return k, fmt.Errorf("%q is none of algorithm, mode, version, direction, peer, ksn", name)
		}
	}
	return k, nil
}

func parseSerial(text string) (string, error) {
	b, err := hex.DecodeString(text)
	if err == nil {
		var serial dukpt.KSN
		if serial, err = dukpt.ParseKSN(b); err == nil {
			return serial.String(), nil
		}
	}
	return "", fmt.Errorf("%q is no key serial number of a transaction: 20 or 24 hex digits with a counter that is not 0", text)
}

// assignSerials gives key serial numbers to the keys that can have one.
func assignSerials(keys []policies.Key, serials []string) error {
	if len(serials) == 0 {
		return nil
	}
	n := 0
	for i := range keys {
		if keys[i].KSN != "" || keys[i].Usage != "B0" && keys[i].Usage != "" {
			continue
		}
		text := serials[0]
		if len(serials) > 1 {
			if n == len(serials) {
				break
			}
			text = serials[n]
		}
		var err error
		if keys[i].KSN, err = parseSerial(text); err != nil {
			return fmt.Errorf("--ksn: %w", err)
		}
		n++
	}
	if n < len(serials) {
		return fmt.Errorf("--ksn is given %d times, and %d keys can have one: those with usage B0", len(serials), n)
	}
	return nil
}

func showExplanation(w io.Writer, x policies.Explanation) {
	verdict := "would be refused"
	if x.Allowed {
		verdict = "would be allowed"
	}
	row(w, "verdict", verdict)
	row(w, "why", x.Why)
	if x.Allowed {
		for _, k := range usagesNeeded(x) {
			row(w, "if", k)
		}
		row(w, "custody", x.Custody)
	}
	row(w, "limit", x.Limit)
	for _, e := range x.Entries {
		row(w)
		row(w, fmt.Sprintf("identity %s (line %d)", e.ID, e.Line))
		if len(e.Roles) == 0 {
			row(w, "  has no role")
		}
		for _, role := range e.Roles {
			if len(role.Rules) == 0 {
				row(w, "  role "+role.Name+" has no rule")
			}
			for _, rule := range role.Rules {
				row(w)
				row(w, "  RULE "+rule.Rule, strconv.Itoa(rule.Line), fits(rule.Fits))
				showRule(w, rule)
			}
		}
	}
}

// usagesNeeded are the usages that the rule which allows it takes, of keys whose usage
// was not given.
func usagesNeeded(x policies.Explanation) (needed []string) {
	for _, e := range x.Entries {
		for _, role := range e.Roles {
			for _, rule := range role.Rules {
				for _, k := range rule.Keys {
					if rule.Rule == x.Rule && rule.Fits && len(needed) < len(rule.Keys) && len(k.Takes) > 0 && k.Takes[0] != "*" {
						needed = append(needed, fmt.Sprintf("%s has usage %s", k.Key, strings.Join(k.Takes, " or ")))
					}
				}
			}
		}
	}
	return needed
}

func showRule(w io.Writer, rule policies.ExplainedRule) {
	part := func(what string, p policies.ExplainedPart) {
		line := strconv.Itoa(p.Line)
		if p.Line == 0 {
			line = "-"
		}
		row(w, "    "+what, line, fits(p.Fits), p.Why)
	}
	part("method", rule.Method)
	for _, k := range rule.Keys {
		part("key "+k.Key, k.Name)
		part("usage of "+k.Key, k.Usage)
	}
	if rule.Legacy != nil {
		part("legacy form", *rule.Legacy)
	}
	if rule.When != nil {
		part("when", rule.When.ExplainedPart)
		if len(rule.When.Parts) == 0 {
			for text := range strings.Lines(strings.TrimSpace(rule.When.Expression)) {
				row(w, "", "", "", "  "+strings.TrimRight(text, "\n"))
			}
		}
		for _, p := range rule.When.Parts {
			part("  and", p.ExplainedPart)
			row(w, "", "", "", "  "+p.Expression)
		}
		if len(rule.When.Missing) > 0 {
			row(w, "", "", "", "it looks at what was not given: "+strings.Join(rule.When.Missing, ", "))
		}
	}
	if rule.Custody != nil {
		row(w, "    custody", strconv.Itoa(rule.Custody.Line), "", "it demands custody: "+rule.Custody.Demands)
	}
}

func fits(yes bool) string {
	if yes {
		return "fits"
	}
	return "does not fit"
}
