package policies

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Policy is a parsed policy. It does not change and may be used by any number of
// goroutines. The zero value, like a nil pointer, allows nothing.
type Policy struct {
	text   []byte
	digest [32]byte
	exact  map[string]*grants // by SPIFFE ID, or identity of a terminal
	fleets map[string]*grants // by SPIFFE ID up to the last slash; that of all terminals by terminalPrefix
	limits limits
	voids  *Voids // nil: nothing may be voided
}

// Request is a question to a policy.
type Request struct {
	Identity string // SPIFFE ID from the client's certificate, or [TerminalIdentity]
	Method   string // "PinService/TranslatePinData"
	Keys     []Key  // every key that the method would use

	// Terminal is the one that the request is about, for conditions only. nil for methods
	// that are about none; a condition that asks for it does not hold then.
	Terminal *Terminal

	// Legacy is true for keys in the legacy form: bare cryptograms, which PCI PIN 18-3 does not
	// allow. Only a rule that says so (legacy: true) covers the request then.
	Legacy bool

	// Address is the client's, and At is when the request came. Conditions ask for them;
	// one that needs what is not known (the zero value) does not hold.
	Address netip.Addr
	At      time.Time
}

// Key is a key as the policy sees it. What follows Usage is for conditions only, and
// empty where it is not known. Nothing of it is authenticated here: the module believes
// the seal alone.
type Key struct {
	Name string

	// Usage is the X9.143 key usage, two characters. It is empty when there is no key
	// of that name; then the name alone decides, so that a caller who may use such a
	// name learns that the key is missing and a stranger does not.
	Usage string

	Algorithm string   // of X9.143: "T" TDES, "A" AES, "H" HMAC
	Mode      string   // mode of use of X9.143, one character
	Version   uint32   // counts from 1
	Direction string   // "incoming", "outgoing" or "both", from the key's header
	Peers     []string // peer groups, from the key's header; "*" is every group
	KSN       string   // key serial number in 20 (TDES) or 24 (AES) upper-case hex digits
}

// Terminal is a terminal as a condition sees it. What the inventory does not have of it is empty.
type Terminal struct {
	ID    string
	Owner string // of a list: the one that it is limited to, empty for none
	Model string // likewise
}

// Decision is the answer to a [Request]. The zero value denies.
type Decision struct {
	Allowed bool
	Rule    string // the rule that allows it, as role and position from 0: "switch[0]"
	Why     string // one sentence for officers and logs, without secrets; never for the caller
	Demand  Demand // what the rule asks of the operation; the zero value asks nothing
}

// Demand is what a rule asks of an operation that it allows. The policy reports it; the
// operation has to insist.
type Demand struct {
	Custody Custody
}

// Custody says where clear values may exist.
type Custody uint8

// The demands for custody.
const (
	AnyCustody   Custody = iota // in the token or in a module's memory
	TokenCustody                // in the token only, or the operation is refused
)

// String returns "any" or "token".
func (c Custody) String() string {
	if c == TokenCustody {
		return "token"
	}
	return "any"
}

// grants is what one entry of the list of identities may do.
type grants struct {
	id    string // as the file has it, a fleet's with its /*
	line  int
	roles []role
	rules [][]*rule // by position in [Methods], in the order of the roles
	all   int       // number of rules
	limit *Limit    // nil: the entry has none
}

// role is a role with its rules.
type role struct {
	name  string
	rules []*rule
}

type rule struct {
	label     string // "switch[0]"
	methods   []int
	names     map[string]struct{} // key names without wildcards
	patterns  []string            // key names with wildcards
	anyName   bool
	given     []string // key names as the file has them
	usages    []string
	anyUsage  bool
	when      *condition // nil: none
	custody   Custody
	legacy    bool   // it covers the legacy form as well
	permitted string // why a request that the rule covers is allowed
	lines     lines
}

// lines are where a rule and its parts begin in the file. What is not there is 0.
type lines struct{ rule, methods, keys, usages, when, custody, legacy int }

// Authorize decides about a request. It allows what a single rule of one of the
// identity's roles covers, and nothing else: the rule names the method and, where the
// method works with keys, every key by name and usage, and its condition holds. A request
// that names no key for a method that works with keys is denied, and so is one that names
// keys for a method that does not.
//
// A condition that cannot be evaluated does not hold. Of several rules that cover the
// request, one that demands nothing goes before one that does, and then the first one:
// a further rule never takes anything away.
//
// Called by the front only.
func (p *Policy) Authorize(r Request) Decision {
	method, wrong := p.question(&r)
	if wrong != "" {
		return Decision{Why: wrong}
	}
	var s *scene
	found := p.exact[r.Identity].find(method, &r, &s, nil)
	if found == nil || found.custody != AnyCustody {
		found = p.fleet(r.Identity).find(method, &r, &s, found)
	}
	if found != nil {
		return found.allows()
	}
	own, fleet := p.entries(r.Identity)
	return Decision{Why: denial(r, method, own, fleet)}
}

// find returns the rule that allows the request, or else the one that was found before.
// The scene is made when a condition needs it.
func (g *grants) find(method int, r *Request, s **scene, before *rule) *rule {
	if g == nil {
		return before
	}
	for _, rule := range g.rules[method] {
		if before != nil && rule.custody != AnyCustody || !rule.covers(r) {
			continue
		}
		if rule.when != nil {
			if *s == nil {
				*s = newScene(*r)
			}
			if holds, _ := rule.when.holds(*s); !holds { // denial says why
				continue
			}
		}
		if rule.custody == AnyCustody {
			return rule
		}
		before = rule
	}
	return before
}

// allows is the decision about a request that the rule covers.
func (r *rule) allows() Decision {
	return Decision{Allowed: true, Rule: r.label, Why: r.permitted, Demand: Demand{r.custody}}
}

// question returns the position of the method in [Methods], or what is wrong with the
// request whatever the rules say.
func (p *Policy) question(r *Request) (method int, wrong string) {
	if p == nil {
		return 0, "no policy is loaded"
	}
	method, ok := methodIndex[r.Method]
	if !ok {
		return 0, fmt.Sprintf("method %s is not in the table of methods", quoted(r.Method))
	}
	if Methods[method].Keys != (len(r.Keys) > 0) {
		if Methods[method].Keys {
			return 0, fmt.Sprintf("%s was asked for without a key", r.Method)
		}
		return 0, fmt.Sprintf("%s works with no key but was asked for with one", r.Method)
	}
	if r.Legacy && !Methods[method].Legacy {
		return 0, fmt.Sprintf("%s has no legacy form but was asked for in it", r.Method)
	}
	return method, forItself(r, method)
}

// forItself says what a terminal, and nobody else, is refused whatever the rules say: what is
// neither about its own keys nor an operation with keys, and session keys of another.
func forItself(r *Request, method int) string {
	id, ok := terminalOf(r.Identity)
	switch {
	case !ok:
		return ""
	case !Methods[method].forTerminals():
		return fmt.Sprintf("%s is nothing that a terminal may ask for", r.Method)
	case Methods[method].Own && (id == "" || r.Terminal == nil || r.Terminal.ID != id):
		return fmt.Sprintf("a terminal asks for %s about itself alone", r.Method)
	}
	for i := range r.Keys { // which have such names and no other
		if name := r.Keys[i].Name; strings.HasPrefix(name, terminalPrefix) && !strings.HasPrefix(name, r.Identity+":") {
			return fmt.Sprintf("a terminal asks for %s with its own session keys alone", r.Method)
		}
	}
	return ""
}

// entries returns the entry of the identity itself and that of its fleet. Either may be
// nil.
func (p *Policy) entries(identity string) (own, fleet *grants) {
	if p == nil {
		return nil, nil
	}
	return p.exact[identity], p.fleet(identity)
}

// fleet returns the entry of the fleet that the identity belongs to, or nil.
func (p *Policy) fleet(identity string) *grants {
	if prefix, ok := fleetOf(identity); ok {
		return p.fleets[prefix]
	}
	return nil
}

// Digest returns the SHA-256 of the file that the policy was parsed from as 64
// lower-case hex digits, for logs and status. A policy that was not parsed has none.
func (p *Policy) Digest() string {
	if p == nil || p.digest == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(p.digest[:])
}

// Text returns the file that the policy was parsed from, nil for none.
func (p *Policy) Text() []byte {
	if p == nil {
		return nil
	}
	return bytes.Clone(p.text)
}

func (r *rule) covers(q *Request) bool {
	return r.coversForm(q) && r.coversKeys(q.Keys)
}

func (r *rule) coversForm(q *Request) bool { return r.legacy || !q.Legacy }

func (r *rule) coversKeys(keys []Key) bool {
	for i := range keys {
		if !r.coversKey(&keys[i]) {
			return false
		}
	}
	return true
}

func (r *rule) coversKey(k *Key) bool {
	return r.coversName(k.Name) && r.coversUsage(k.Usage)
}

func (r *rule) coversName(name string) bool {
	if name == "" {
		return false
	}
	if r.anyName {
		return true
	}
	if _, ok := r.names[name]; ok {
		return true
	}
	for _, pattern := range r.patterns {
		if matchGlob(pattern, name) {
			return true
		}
	}
	return false
}

func (r *rule) coversUsage(usage string) bool {
	if r.anyUsage {
		return true
	}
	if usage == "" {
		return len(r.usages) > 0 // an empty list allows nothing, a missing key neither
	}
	return slices.Contains(r.usages, usage)
}

// denial says what is missing for the request.
func denial(r Request, method int, entries ...*grants) string {
	var roles []string
	var rules []*rule
	for _, g := range entries {
		if g != nil {
			for _, role := range g.roles {
				roles = append(roles, role.name)
			}
			rules = append(rules, g.rules[method]...)
		}
	}
	switch {
	case !slices.ContainsFunc(entries, func(g *grants) bool { return g != nil }):
		return fmt.Sprintf("the policy has no entry for %s", quoted(r.Identity))
	case len(roles) == 0:
		return fmt.Sprintf("%s has no role", quoted(r.Identity))
	case len(rules) == 0:
		return fmt.Sprintf("no rule of %s covers %s", roleList(roles), r.Method)
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if !slices.ContainsFunc(rules, func(r *rule) bool { return r.coversKey(k) }) {
			return fmt.Sprintf("no rule of %s for %s covers key %s with usage %s", roleList(roles), r.Method, quoted(k.Name), quoted(k.Usage))
		}
	}
	if r.Legacy && !slices.ContainsFunc(rules, func(rule *rule) bool { return rule.legacy }) {
		return fmt.Sprintf("no rule of %s for %s says legacy: true, and the keys would go in the legacy form", roleList(roles), r.Method)
	}
	// The condition of the first rule that fits otherwise is what to look at.
	for _, rule := range rules {
		if rule.when == nil || !rule.covers(&r) {
			continue
		}
		if _, err := rule.when.holds(newScene(r)); err != nil {
			return fmt.Sprintf("rule %s fits but its condition (line %d) could not be evaluated: %v", rule.label, rule.lines.when, err)
		}
		return fmt.Sprintf("rule %s fits but its condition (line %d) does not hold", rule.label, rule.lines.when)
	}
	return fmt.Sprintf("no single rule of %s for %s covers all keys of the request", roleList(roles), r.Method)
}

func roleList(roles []string) string {
	if len(roles) == 1 {
		return "role " + roles[0]
	}
	return "roles " + strings.Join(roles, ", ")
}

// quoted makes a caller's string fit for one line of a log.
func quoted(s string) string {
	const most = 256
	if len(s) > most {
		s = s[:most] + "..."
	}
	return fmt.Sprintf("%+q", s)
}
