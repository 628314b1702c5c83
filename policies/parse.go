package policies

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// MaxSize bounds a policy file, in bytes. It also bounds the time that a hostile file
// costs the YAML parser, which is quadratic in the number of keys of a mapping.
const MaxSize = 64 << 10

// Parse reads a policy. An error is an [*Error] with the line of a fault and what to
// do about it; there is no policy then.
func Parse(b []byte) (*Policy, error) {
	p, err := parse(b)
	if err != nil {
		return nil, adviseQuotes(err, b)
	}
	return p, nil
}

func parse(b []byte) (*Policy, error) {
	root, err := parseYAML(b)
	if err != nil {
		return nil, err
	}
	p := &Policy{
		text:   bytes.Clone(b),
		digest: sha256.Sum256(b),
		exact:  make(map[string]*grants),
		fleets: make(map[string]*grants),
	}
	if err := p.fill(root); err != nil {
		return nil, err
	}
	return p, nil
}

// Load opens a file and reads the policy in it, see [Read].
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	return Read(f)
}

// Read reads a policy from a regular file that only its owner may write, and does not
// close it. An error begins with the path, and with the line where it is about one.
func Read(f *os.File) (*Policy, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := checkFile(info); err != nil {
		return nil, fmt.Errorf("policy %s: %w", f.Name(), err)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", f.Name(), err)
	}
	return p, nil
}

func checkFile(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("not a regular file")
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("others than the owner may write it (mode %04o), so anyone of them could give permissions; run chmod go-w on it", mode)
	}
	return nil
}

// fill builds the policy from the top level of the file.
func (p *Policy) fill(root node) error {
	top, err := root.fields("version", "identities", "roles", "limits", "voids")
	if err != nil {
		return err
	}
	version, err := top.need("version", "write version: 1")
	if err != nil {
		return err
	}
	if n, err := version.integer(); err != nil {
		return err
	} else if n != "1" {
		return version.fault("version %s is not known here; this keyd reads version: 1", n)
	}
	rolesField, err := top.need("roles", "write roles: {} for none")
	if err != nil {
		return err
	}
	roles, err := parseRoles(rolesField.node)
	if err != nil {
		return err
	}
	p.limits = limits{DefaultLimit, DefaultDenials}
	if f, ok := top["limits"]; ok {
		if p.limits, err = parseLimits(f.node); err != nil {
			return err
		}
	}
	if f, ok := top["voids"]; ok {
		if p.voids, err = parseVoids(f.node); err != nil {
			return err
		}
	}
	identities, err := top.need("identities", "write identities: [] for none")
	if err != nil {
		return err
	}
	entries, err := identities.list()
	if err != nil {
		return err
	}
	seen := make(map[string]int)
	for _, entry := range entries {
		if err := p.addIdentity(entry, roles, seen); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) addIdentity(entry node, roles map[string][]*rule, seen map[string]int) error {
	fields, err := entry.fields("id", "roles", "limit")
	if err != nil {
		return err
	}
	idField, err := fields.need("id", "write the SPIFFE ID of the client certificate, or terminal:ID")
	if err != nil {
		return err
	}
	id, err := idField.text()
	if err != nil {
		return err
	}
	if err := checkIdentity(id); err != nil {
		return idField.fault("%v", err)
	}
	if line, ok := seen[id]; ok {
		return idField.fault("%q has an entry on line %d already; put all its roles there", id, line)
	}
	seen[id] = idField.line
	rolesField, err := fields.need("roles", "write roles: [] for none")
	if err != nil {
		return err
	}
	names, err := rolesField.texts()
	if err != nil {
		return err
	}
	g := &grants{id: id, line: entry.line, rules: make([][]*rule, len(Methods))}
	if f, ok := fields["limit"]; ok {
		l, err := parseLimit(f.node)
		if err != nil {
			return err
		}
		g.limit = &l
	}
	for _, name := range names {
		rules, ok := roles[name.value]
		if !ok {
			return name.fault("role %q is not defined; define it under roles, or correct it to one of: %s", name.value, known(roles))
		}
		if slices.ContainsFunc(g.roles, func(r role) bool { return r.name == name.value }) {
			return name.fault("role %q is listed twice; remove one", name.value)
		}
		if err := canAsk(id, name, rules); err != nil {
			return err
		}
		g.roles = append(g.roles, role{name.value, rules})
		g.all += len(rules)
		for _, r := range rules {
			for _, m := range r.methods {
				g.rules[m] = append(g.rules[m], r)
			}
		}
	}
	if prefix, ok := strings.CutSuffix(id, fleetSuffix); ok {
		p.fleets[prefix+"/"] = g
	} else if id == terminalPrefix+"*" {
		p.fleets[terminalPrefix] = g
	} else {
		p.exact[id] = g
	}
	return nil
}

// canAsk refuses a role for terminals that has a method for which none may ever ask: it would
// look like a permission.
func canAsk(id string, name text, rules []*rule) error {
	if _, ok := terminalOf(id); !ok {
		return nil
	}
	for _, r := range rules {
		for _, m := range r.methods {
			if !Methods[m].forTerminals() {
				return name.fault("role %q has %s (line %d), which no terminal may ask for; give terminals a role of their own: GetKeyHost, InjectKeys, ConfirmKeys and SignIn of TerminalService, and operations with keys", name.value, Methods[m].Name, r.lines.methods)
			}
		}
	}
	return nil
}

func parseRoles(n node) (map[string][]*rule, error) {
	fields, err := n.anyFields()
	if err != nil {
		return nil, err
	}
	roles := make(map[string][]*rule)
	conditions := 0
	for _, f := range fields {
		if !roleName(f.name) {
			return nil, f.keyFault("%q cannot be the name of a role; use 1 to 64 letters, digits, hyphens and underscores", f.name)
		}
		entries, err := f.list()
		if err != nil {
			return nil, err
		}
		rules := make([]*rule, 0, len(entries))
		for i, entry := range entries {
			r, err := parseRule(entry)
			if err != nil {
				return nil, err
			}
			if r.when != nil {
				if conditions++; conditions > maxConditions {
					return nil, &Error{Line: r.lines.when, Problem: fmt.Sprintf("this is condition number %d of the file; at most %d are allowed", conditions, maxConditions)}
				}
			}
			r.label = fmt.Sprintf("%s[%d]", f.name, i)
			r.permitted = fmt.Sprintf("rule %s (line %d) covers it", r.label, entry.line)
			if r.legacy {
				r.permitted += ", the legacy form too"
			}
			if r.custody == TokenCustody {
				r.permitted += ", with custody of the token only"
			}
			rules = append(rules, r)
		}
		roles[f.name] = rules
	}
	return roles, nil
}

func parseRule(n node) (*rule, error) {
	fields, err := n.fields("methods", "keys", "usages", "when", "custody", "legacy")
	if err != nil {
		return nil, err
	}
	methods, err := fields.need("methods", "name the methods that the rule is about")
	if err != nil {
		return nil, err
	}
	r := new(rule)
	r.lines.rule, r.lines.methods = n.line, methods.keyLine
	usesKeys, err := r.addMethods(methods.node)
	if err != nil {
		return nil, err
	}
	if f, ok := fields["when"]; ok {
		r.lines.when = f.keyLine
		if r.when, err = f.condition(); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["custody"]; ok {
		r.lines.custody = f.keyLine
		if err := r.addCustody(f); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["legacy"]; ok {
		r.lines.legacy = f.keyLine
		if err := r.addLegacy(f); err != nil {
			return nil, err
		}
	}
	if !usesKeys {
		for _, name := range []string{"keys", "usages"} {
			if extra, ok := fields[name]; ok {
				return nil, extra.keyFault("no method of this rule works with keys, so %q would limit nothing; remove it", name)
			}
		}
		return r, nil
	}
	keys, err := fields.need("keys", "a method of this rule works with keys; name them, or write [\"*\"] for every key")
	if err != nil {
		return nil, err
	}
	r.lines.keys = keys.keyLine
	if err := r.addKeys(keys.node); err != nil {
		return nil, err
	}
	usages, err := fields.need("usages", "a method of this rule works with keys; name their usages, such as P0 or B0, or write [\"*\"]")
	if err != nil {
		return nil, err
	}
	r.lines.usages = usages.keyLine
	if err := r.addUsages(usages.node); err != nil {
		return nil, err
	}
	return r, nil
}

// condition reads an expression: a text on one line, or a block that begins with |.
func (f field) condition() (*condition, error) {
	text, line, err := f.expression()
	if err != nil {
		return nil, err
	}
	c, err := newCondition(text, line)
	var wrong *conditionError
	if errors.As(err, &wrong) {
		return nil, &Error{Line: line + wrong.line - 1, Problem: wrong.problem}
	}
	return c, err
}

// addCustody reads what a rule demands of the operation. A demand on a method whose
// answer says nothing of custody could not be met.
func (r *rule) addCustody(f field) error {
	text, err := f.text()
	if err != nil {
		return err
	}
	if text != TokenCustody.String() {
		return f.fault("%q cannot be demanded; write custody: token, or leave it out", text)
	}
	for _, m := range r.methods {
		if !Methods[m].Custody {
			return f.keyFault("%s has no custody that could be demanded; put it into a rule of its own", Methods[m].Name)
		}
	}
	r.custody = TokenCustody
	return nil
}

// addLegacy reads whether the rule covers the legacy form. On a method that has none it would
// allow nothing.
func (r *rule) addLegacy(f field) error {
	if !f.isTrue() {
		return f.fault("write legacy: true, or leave it out")
	}
	for _, m := range r.methods {
		if !Methods[m].Legacy {
			return f.keyFault("%s has no legacy form; put it into a rule of its own", Methods[m].Name)
		}
	}
	r.legacy = true
	return nil
}

// addMethods reports whether one of the methods works with keys.
func (r *rule) addMethods(n node) (usesKeys bool, err error) {
	entries, err := n.texts()
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		found := matchMethods(entry.value)
		if len(found) == 0 {
			if entry.value == "*" {
				return false, entry.fault("%q is too wide for methods; list the services, as in \"PinService/*\"", entry.value)
			}
			return false, entry.fault("method %q does not exist; write one of %s, or \"SERVICE/*\"", entry.value, methodNames())
		}
		for _, m := range found {
			if slices.Contains(r.methods, m) {
				return false, entry.fault("%q repeats %s of the same rule; remove one", entry.value, Methods[m].Name)
			}
			r.methods = append(r.methods, m)
			usesKeys = usesKeys || Methods[m].Keys
		}
	}
	return usesKeys, nil
}

func (r *rule) addKeys(n node) error {
	entries, err := n.texts()
	if err != nil {
		return err
	}
	r.names = make(map[string]struct{})
	for _, entry := range entries {
		if err := checkGlob(entry.value); err != nil {
			return entry.fault("%v", err)
		}
		r.given = append(r.given, entry.value)
		switch {
		case strings.Trim(entry.value, "*") == "":
			r.anyName = true
		case strings.ContainsAny(entry.value, "*?"):
			r.patterns = append(r.patterns, entry.value)
		default:
			r.names[entry.value] = struct{}{}
		}
	}
	return nil
}

func (r *rule) addUsages(n node) error {
	entries, err := n.texts()
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch {
		case entry.value == "*":
			r.anyUsage = true
		case !KnownUsage(entry.value):
			return entry.fault("%q is no key usage of ANSI X9.143; write two characters such as P0, B0, V1, V2, or \"*\"", entry.value)
		default:
			r.usages = append(r.usages, entry.value)
		}
	}
	return nil
}

func roleName(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

func known(roles map[string][]*rule) string {
	if len(roles) == 0 {
		return "(none is defined)"
	}
	names := make([]string, 0, len(roles))
	for name := range roles {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func methodNames() string {
	names := make([]string, len(Methods))
	for i, m := range Methods {
		names[i] = m.Name
	}
	return strings.Join(names, ", ")
}
