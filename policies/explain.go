package policies

import (
	"fmt"
	"strings"
)

// Explanation says what every rule of an identity makes of a request, and what follows.
// Allowed, Rule and Why are those of [Policy.Authorize].
type Explanation struct {
	Identity string `json:"identity"`
	Method   string `json:"method"`
	Allowed  bool   `json:"allowed"`
	Rule     string `json:"rule,omitempty"` // that allows it
	Line     int    `json:"line,omitempty"` // of that rule
	Custody  string `json:"custody,omitempty"`
	Why      string `json:"why"`
	Limit    string `json:"limit"` // of the identity's requests, in words

	Entries []ExplainedEntry `json:"entries"`
}

// ExplainedEntry is an entry of the list of identities that is about the identity: its
// own, then that of its fleet.
type ExplainedEntry struct {
	ID    string          `json:"id"`
	Line  int             `json:"line"`
	Roles []ExplainedRole `json:"roles"`
}

// ExplainedRole is a role of an entry.
type ExplainedRole struct {
	Name  string          `json:"name"`
	Rules []ExplainedRule `json:"rules"`
}

// ExplainedRule is what one rule makes of the request, part by part. Lines are those of
// the file, 0 for a part that the rule does not have.
type ExplainedRule struct {
	Rule    string           `json:"rule"` // "switch[0]"
	Line    int              `json:"line"`
	Fits    bool             `json:"fits"` // every part does
	Method  ExplainedPart    `json:"method"`
	Keys    []ExplainedKey   `json:"keys,omitempty"`
	Legacy  *ExplainedPart   `json:"legacy,omitempty"` // where it is asked for
	When    *ExplainedWhen   `json:"when,omitempty"`
	Custody *ExplainedDemand `json:"custody,omitempty"`
}

// ExplainedPart is whether one part of a rule fits the request.
type ExplainedPart struct {
	Line int    `json:"line"`
	Fits bool   `json:"fits"`
	Why  string `json:"why"`
}

// ExplainedKey is what a rule makes of one key. Takes are the usages that the rule takes
// if the key's is not known; then Usage fits as far as can be said.
type ExplainedKey struct {
	Key   string        `json:"key"`
	Name  ExplainedPart `json:"name"`
	Usage ExplainedPart `json:"usage"`
	Takes []string      `json:"takes,omitempty"`
}

// ExplainedWhen is what a rule's condition makes of the request. It is evaluated whether
// the other parts fit or not. Missing are the fields of keys that it looks at and that
// the question did not give: with them the answer may be another. Parts are what its &&
// join, each evaluated by itself.
type ExplainedWhen struct {
	ExplainedPart
	Expression string              `json:"expression"`
	Parts      []ExplainedConjunct `json:"parts,omitempty"`
	Missing    []string            `json:"missing,omitempty"`
}

// ExplainedConjunct is a part of a condition.
type ExplainedConjunct struct {
	ExplainedPart
	Expression string `json:"expression"`
}

// ExplainedDemand is what a rule demands of the operation.
type ExplainedDemand struct {
	Line    int    `json:"line"`
	Demands string `json:"demands"`
}

// Explain says what every rule of the identity makes of the request, and why the request
// is allowed or denied. It asks the rules what [Policy.Authorize] asks them, but all of
// them, and goes on where that stops. It is for operators: it tells a caller nothing.
func (p *Policy) Explain(r Request) Explanation {
	x := Explanation{Identity: r.Identity, Method: r.Method, Limit: p.Limit(r.Identity).String(), Entries: []ExplainedEntry{}}
	method, wrong := p.question(&r)
	own, fleet := p.entries(r.Identity)
	var allows *rule
	s := newScene(r)
	for _, g := range [...]*grants{own, fleet} {
		if g == nil {
			continue
		}
		entry := ExplainedEntry{ID: g.id, Line: g.line, Roles: []ExplainedRole{}}
		for _, role := range g.roles {
			explained := ExplainedRole{Name: role.name, Rules: []ExplainedRule{}}
			for _, rule := range role.rules {
				e := rule.explain(&r, s)
				if wrong != "" {
					e.Fits = false
				}
				if e.Fits && (allows == nil || allows.custody != AnyCustody && rule.custody == AnyCustody) {
					allows = rule
				}
				explained.Rules = append(explained.Rules, e)
			}
			entry.Roles = append(entry.Roles, explained)
		}
		x.Entries = append(x.Entries, entry)
	}
	switch {
	case wrong != "":
		x.Why = wrong
	case allows != nil:
		d := allows.allows()
		x.Allowed, x.Rule, x.Why, x.Line = true, d.Rule, d.Why, allows.lines.rule
		x.Custody = d.Demand.Custody.String()
	default:
		x.Why = denial(r, method, own, fleet)
	}
	return x
}

// explain is what the rule makes of the request.
func (r *rule) explain(q *Request, s *scene) ExplainedRule {
	e := ExplainedRule{Rule: r.label, Line: r.lines.rule, Method: r.explainMethod(q.Method)}
	e.Fits = e.Method.Fits
	for i := range q.Keys {
		key := r.explainKey(&q.Keys[i])
		e.Fits = e.Fits && key.Name.Fits && key.Usage.Fits
		e.Keys = append(e.Keys, key)
	}
	if q.Legacy {
		e.Legacy = &ExplainedPart{Line: r.lines.legacy, Fits: r.legacy, Why: "the rule does not say legacy: true"}
		if r.legacy {
			e.Legacy.Why = "the rule covers the legacy form"
		}
		e.Fits = e.Fits && r.legacy
	}
	if r.when != nil {
		e.When = r.explainWhen(q, s)
		e.Fits = e.Fits && e.When.Fits
	}
	if r.custody != AnyCustody {
		e.Custody = &ExplainedDemand{Line: r.lines.custody, Demands: r.custody.String()}
	}
	return e
}

func (r *rule) explainMethod(method string) ExplainedPart {
	part := ExplainedPart{Line: r.lines.methods}
	names := make([]string, len(r.methods))
	for i, m := range r.methods {
		names[i] = Methods[m].Name
		part.Fits = part.Fits || names[i] == method
	}
	switch {
	case part.Fits:
		part.Why = "the rule is about " + method
	case len(names) == 0:
		part.Why = "the rule is about no method"
	default:
		part.Why = "the rule is about " + strings.Join(names, ", ")
	}
	return part
}

func (r *rule) explainKey(k *Key) ExplainedKey {
	e := ExplainedKey{
		Key:   k.Name,
		Name:  ExplainedPart{Line: r.lines.keys, Fits: r.coversName(k.Name)},
		Usage: ExplainedPart{Line: r.lines.usages, Fits: r.coversUsage(k.Usage)},
	}
	names := strings.Join(r.given, ", ")
	switch {
	case e.Name.Fits:
		e.Name.Why = "covered by " + r.coveredBy(k.Name)
	case k.Name == "":
		e.Name.Why = "a key without a name"
	case r.lines.keys == 0:
		e.Name.Why = "the rule is about methods without keys"
	case names == "":
		e.Name.Why = "the list of keys is empty"
	default:
		e.Name.Why = "none of " + names
	}
	usages := strings.Join(r.usages, ", ")
	if r.anyUsage {
		usages = "any"
	}
	switch {
	case r.lines.usages == 0:
		e.Usage.Why = "the rule is about methods without keys"
	case usages == "":
		e.Usage.Why = "the list of usages is empty"
	case k.Usage == "":
		e.Takes = []string{"*"}
		if !r.anyUsage {
			e.Takes = r.usages
		}
		e.Usage.Why = "not given; it takes " + usages
	case r.anyUsage:
		e.Usage.Why = "any usage"
	case e.Usage.Fits:
		e.Usage.Why = "one of " + usages
	default:
		e.Usage.Why = fmt.Sprintf("%s is none of %s", k.Usage, usages)
	}
	return e
}

// coveredBy returns which of the rule's key names and patterns covers a name, the first
// one, or nothing.
func (r *rule) coveredBy(name string) string {
	for _, given := range r.given {
		if name != "" && matchGlob(given, name) {
			return given
		}
	}
	return ""
}

func (r *rule) explainWhen(q *Request, s *scene) *ExplainedWhen {
	w := &ExplainedWhen{ExplainedPart: r.when.explain(s), Expression: r.when.text, Missing: r.when.missing(q.Keys)}
	w.Line = r.lines.when
	for _, part := range r.when.parts() {
		w.Parts = append(w.Parts, ExplainedConjunct{part.explain(s), part.text})
	}
	return w
}

func (c *condition) explain(s *scene) ExplainedPart {
	part := ExplainedPart{Line: c.line}
	holds, err := c.holds(s)
	switch {
	case err != nil:
		part.Why = "it could not be evaluated: " + err.Error()
	case holds:
		part.Fits, part.Why = true, "it holds"
	default:
		part.Why = "it does not hold"
	}
	return part
}

// missing returns which fields the condition looks at that no key has: "ksn of acme.bdk".
func (c *condition) missing(keys []Key) []string {
	var missing []string
	for _, name := range c.fields {
		source := name
		if name == "initial_key_id" {
			source = "ksn"
		}
		for i := range keys {
			if !keyFact(source).isSet(&keys[i]) && (source != "ksn" || keys[i].Usage == "B0" || keys[i].Usage == "") {
				missing = append(missing, fmt.Sprintf("%s of %s", source, keys[i].Name))
			}
		}
	}
	return missing
}
