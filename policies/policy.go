package policies

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Policy is a parsed policy. It does not change and may be used by any number of
// goroutines. The zero value, like a nil pointer, allows nothing.
type Policy struct {
	digest [32]byte
	exact  map[string]*grants // by SPIFFE ID
	fleets map[string]*grants // by SPIFFE ID up to the last slash
}

// Request is a question to a policy.
type Request struct {
	Identity string // SPIFFE ID from the client's certificate
	Method   string // "PinService/TranslatePinData"
	Keys     []Key  // every key that the method would use
}

// Key is a key as the policy sees it.
type Key struct {
	Name string

	// Usage is the X9.143 key usage, two characters. It is empty when there is no key
	// of that name; then the name alone decides, so that a caller who may use such a
	// name learns that the key is missing and a stranger does not.
	Usage string
}

// Decision is the answer to a [Request]. The zero value denies.
type Decision struct {
	Allowed bool
	Rule    string // the rule that allows it, as role and position from 0: "switch[0]"
	Why     string // one sentence for officers and logs, without secrets; never for the caller
}

// grants is what one entry of the list of identities may do.
type grants struct {
	roles []string
	rules [][]*rule // by position in [Methods]
}

type rule struct {
	label     string // "switch[0]"
	methods   []int
	names     map[string]struct{} // key names without wildcards
	patterns  []string            // key names with wildcards
	anyName   bool
	usages    []string
	anyUsage  bool
	permitted string // why a request that the rule covers is allowed
}

// Authorize decides about a request. It allows what a single rule of one of the
// identity's roles covers, and nothing else: the rule names the method and, where the
// method works with keys, every key by name and usage. A request that names no key
// for a method that works with keys is denied, and so is one that names keys for a
// method that does not. Called by the front only.
func (p *Policy) Authorize(r Request) Decision {
	if p == nil {
		return Decision{Why: "no policy is loaded"}
	}
	method, ok := methodIndex[r.Method]
	if !ok {
		return Decision{Why: fmt.Sprintf("method %s is not in the table of methods", quoted(r.Method))}
	}
	if Methods[method].Keys != (len(r.Keys) > 0) {
		if Methods[method].Keys {
			return Decision{Why: fmt.Sprintf("%s was asked for without a key", r.Method)}
		}
		return Decision{Why: fmt.Sprintf("%s works with no key but was asked for with one", r.Method)}
	}
	own := p.exact[r.Identity]
	if d, ok := own.authorize(method, r.Keys); ok {
		return d
	}
	var fleet *grants
	if prefix, ok := fleetOf(r.Identity); ok {
		fleet = p.fleets[prefix]
		if d, ok := fleet.authorize(method, r.Keys); ok {
			return d
		}
	}
	return Decision{Why: denial(r, method, own, fleet)}
}

// Digest returns the SHA-256 of the file that the policy was parsed from as 64
// lower-case hex digits, for logs and status. A policy that was not parsed has none.
func (p *Policy) Digest() string {
	if p == nil || p.digest == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(p.digest[:])
}

func (g *grants) authorize(method int, keys []Key) (Decision, bool) {
	if g == nil {
		return Decision{}, false
	}
	for _, rule := range g.rules[method] {
		if rule.covers(keys) {
			return Decision{Allowed: true, Rule: rule.label, Why: rule.permitted}, true
		}
	}
	return Decision{}, false
}

func (r *rule) covers(keys []Key) bool {
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
			roles = append(roles, g.roles...)
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
	for _, k := range r.Keys {
		if !slices.ContainsFunc(rules, func(r *rule) bool { return r.coversKey(&k) }) {
			return fmt.Sprintf("no rule of %s for %s covers key %s with usage %s", roleList(roles), r.Method, quoted(k.Name), quoted(k.Usage))
		}
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
