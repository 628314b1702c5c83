package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyd/passkey"
	"keyd/voids/code"
	"keyd/voids/fees"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// Voids is what a policy says of void requests.
type Voids struct {
	TokenKey  string        // reference to the key pair that signs void tokens
	CodeKey   string        // reference to the key pair that signs codes
	CodeKeys  []string      // references to others, of other hosts, whose codes are believed as well
	TokenLife time.Duration // of a token, from its authorisation
	CodeLife  time.Duration // of a code on a screen
	SlipLife  time.Duration // of a code on paper; 0: none is made
	CodeHost  string        // of the URL form of codes; empty: there is none
	Phone     *Phone        // nil: nothing is approved or set on a phone

	Rules *flow.Rules // which payments may be voided, and how
	Fees  *fees.Table // nil: no fee is said
}

// Phone is what a policy says of supervisors' phones. There is a CodeHost then, at which they have
// passkeys.
type Phone struct {
	PageKey string // reference to the key pair with which phones agree on a key for a PIN
	SetPIN  bool   // a supervisor's PIN may be set on a phone, and not only a passkey
}

// Origin is how a phone names the site of the pages, at which its passkeys are.
func (v *Voids) Origin() string { return "https://" + strings.ToLower(v.CodeHost) }

// Voids returns what the policy says of void requests. It is nil, and nothing may be voided, where
// the file has no section about them. Nobody changes what it returns.
func (p *Policy) Voids() *Voids {
	if p == nil {
		return nil
	}
	return p.voids
}

// clocks is how far the clocks of nodes may differ: what one signs does not live too long for another.
const clocks = time.Minute

// voidSets are the sets of methods that a void can be authorised by: a module has all PINs in one
// request, and an approval by itself.
var voidSets = [][]voidtoken.Method{
	{voidtoken.SupervisorPIN},
	{voidtoken.CardholderPIN},
	{voidtoken.SupervisorPIN, voidtoken.CardholderPIN},
	{voidtoken.RemoteApproval},
	{voidtoken.PhonePasskey},
	{voidtoken.PhonePIN},
}

const voidSetsAdvice = "a set is [SUPERVISOR_PIN], [CARDHOLDER_PIN], [SUPERVISOR_PIN, CARDHOLDER_PIN], [REMOTE_APPROVAL], [PHONE_PASSKEY] or [PHONE_PIN]"

// parseVoids reads the top level's voids.
func parseVoids(n node) (*Voids, error) {
	fields, err := n.fields("token_key", "code_key", "other_code_keys", "token_life", "code_life", "slip_life", "code_host", "phone", "default", "merchants", "fees")
	if err != nil {
		return nil, err
	}
	v := &Voids{Rules: new(flow.Rules)}
	if v.TokenKey, err = fields.keyReference("token_key"); err != nil {
		return nil, err
	}
	if v.CodeKey, err = fields.keyReference("code_key"); err != nil {
		return nil, err
	}
	if f, ok := fields["other_code_keys"]; ok {
		if v.CodeKeys, err = f.keyReferences(); err != nil {
			return nil, err
		}
	}
	if v.TokenLife, err = fields.seconds("token_life", 1, int64((voidtoken.MaxLife-clocks)/time.Second)); err != nil {
		return nil, err
	}
	if v.CodeLife, err = fields.seconds("code_life", 1, int64((code.LongestLive-clocks)/time.Second)); err != nil {
		return nil, err
	}
	if _, ok := fields["slip_life"]; ok {
		if v.SlipLife, err = fields.seconds("slip_life", 1, int64((code.LongestSlip-clocks)/time.Second)); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["code_host"]; ok {
		if v.CodeHost, err = f.codeHost(); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["phone"]; ok {
		if v.Phone, err = v.phone(f); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["default"]; ok {
		if v.Rules.Default, err = v.limits(f.node); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["merchants"]; ok {
		if err := v.merchants(f.node); err != nil {
			return nil, err
		}
	}
	if f, ok := fields["fees"]; ok {
		if v.Fees, err = parseFees(f.node); err != nil {
			return nil, err
		}
	}
	if err := v.Rules.Validate(); err != nil {
		return nil, n.fault("%v", err)
	}
	return v, nil
}

// keyReference returns the name of a key: what can be one is for the inventory to say.
func (s fieldSet) keyReference(name string) (string, error) {
	f, err := s.need(name, "name the key pair that officers have made for it")
	if err != nil {
		return "", err
	}
	return f.pairReference()
}

// mostCodeKeys is how many hosts have key pairs of their own: each costs a look at every scan.
const mostCodeKeys = 16

func (n node) keyReferences() (list []string, err error) {
	entries, err := n.list()
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 || len(entries) > mostCodeKeys {
		return nil, n.fault("name 1 to %d key pairs, or leave it out", mostCodeKeys)
	}
	for _, e := range entries {
		name, err := e.pairReference()
		if err != nil {
			return nil, err
		}
		list = append(list, name)
	}
	return list, nil
}

func (n node) pairReference() (string, error) {
	text, err := n.text()
	if err != nil {
		return "", err
	}
	if len(text) == 0 || len(text) > 160 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.HasPrefix(text, "terminal:") {
		return "", n.fault("%q cannot be the name of a key pair", text)
	}
	return text, nil
}

func (s fieldSet) seconds(name string, least, most int64) (time.Duration, error) {
	f, err := s.need(name, fmt.Sprintf("write seconds from %d to %d", least, most))
	if err != nil {
		return 0, err
	}
	n, err := f.between(least, most)
	return time.Duration(n) * time.Second, err
}

// between returns a whole number, in decimal digits and nothing else.
func (n node) between(least, most int64) (int64, error) {
	digits, err := n.integer()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v < least || v > most || strconv.FormatInt(v, 10) != digits {
		return 0, n.fault("%s is out of range; write a whole number from %d to %d", digits, least, most)
	}
	return v, nil
}

func (f field) codeHost() (string, error) {
	host, err := f.text()
	if err != nil {
		return "", err
	}
	slip, err := code.NewSlip(code.Code{Identifier: code.Identifier{1}, Expiry: time.Unix(1, 0)})
	if err != nil {
		return "", err
	}
	if _, err := slip.URL(host); err != nil {
		return "", f.fault("%q: %v", host, err)
	}
	return host, nil
}

// phone reads what is said of phones. Their passkeys are at a host that has a name.
func (v *Voids) phone(f field) (*Phone, error) {
	if v.CodeHost == "" {
		return nil, f.keyFault("what is done on phones needs code_host, where they find the pages")
	}
	if !passkey.ValidOrigin(v.Origin()) {
		return nil, f.keyFault("phones have passkeys only for a DNS name: code_host is %q", v.CodeHost)
	}
	fields, err := f.fields("page_key", "set_pin")
	if err != nil {
		return nil, err
	}
	p := new(Phone)
	if p.PageKey, err = fields.keyReference("page_key"); err != nil {
		return nil, err
	}
	set, err := fields.need("set_pin", "write whether supervisors may set PINs on phones")
	if err != nil {
		return nil, err
	}
	p.SetPIN, err = set.boolean()
	return p, err
}

func (v *Voids) merchants(n node) error {
	list, err := n.anyFields()
	if err != nil {
		return err
	}
	v.Rules.Merchants = make(map[string]flow.Limits, len(list))
	for _, f := range list {
		if !voidtoken.ValidName(f.name) {
			return f.keyFault("%q is no merchant's identifier; use 1 to 64 letters, digits and ._-, the first a letter or a digit", f.name)
		}
		l, err := v.limits(f.node)
		if err != nil {
			return err
		}
		v.Rules.Merchants[f.name] = *l
	}
	return nil
}

// limits reads those of one merchant, or the default.
func (v *Voids) limits(n node) (*flow.Limits, error) {
	fields, err := n.fields("currency", "per_day", "age", "day_begins", "tries", "life", "confirm", "tiers")
	if err != nil {
		return nil, err
	}
	l := new(flow.Limits)
	const some = 1_000_000
	var currency, perDay, tries int64
	for _, c := range []struct {
		name        string
		into        *int64
		least, most int64
		optional    bool
	}{
		{"currency", &currency, 1, 999, false},
		{"per_day", &perDay, 1, some, false},
		{"age", &l.Age, 1, flow.MaxAge, false},
		{"day_begins", &l.DayBegins, -86399, 86399, true},
		{"tries", &tries, 1, flow.MaxTries, false},
		{"life", &l.Life, 1, flow.MaxLife, false},
		{"confirm", &l.Confirm, 1, flow.MaxConfirm, false},
	} {
		if _, ok := fields[c.name]; !ok && c.optional {
			continue
		}
		f, err := fields.need(c.name, fmt.Sprintf("write a whole number from %d to %d", c.least, c.most))
		if err != nil {
			return nil, err
		}
		if *c.into, err = f.between(c.least, c.most); err != nil {
			return nil, err
		}
	}
	l.Currency, l.PerDay, l.Tries = voidtoken.Currency(currency), int(perDay), int(tries)
	if !l.Currency.Valid() {
		return nil, fields["currency"].fault("%d is the number of no currency in use (ISO 4217)", currency)
	}
	if l.Confirm <= int64(v.TokenLife/time.Second) {
		return nil, fields["confirm"].fault("the switch has longer to answer than a token lives, token_life: write more than %d", int64(v.TokenLife/time.Second))
	}
	f, err := fields.need("tiers", "write up to which amount which methods suffice")
	if err != nil {
		return nil, err
	}
	tiers, err := f.list()
	if err != nil {
		return nil, err
	}
	for _, entry := range tiers {
		tier, err := v.tier(entry)
		if err != nil {
			return nil, err
		}
		if len(l.Tiers) > 0 && tier.UpTo <= l.Tiers[len(l.Tiers)-1].UpTo {
			return nil, entry.fault("tiers have rising amounts; put this one in its place")
		}
		l.Tiers = append(l.Tiers, *tier)
	}
	if len(l.Tiers) == 0 {
		return nil, f.fault("there is at least one tier; leave the whole merchant out where nothing may be voided")
	}
	return l, nil
}

func (v *Voids) tier(n node) (*flow.Tier, error) {
	fields, err := n.fields("up_to", "methods")
	if err != nil {
		return nil, err
	}
	f, err := fields.need("up_to", "write an amount in minor units: 50000 for 500.00 CNY")
	if err != nil {
		return nil, err
	}
	t := new(flow.Tier)
	if t.UpTo, err = f.between(1, 1<<53); err != nil {
		return nil, err
	}
	if f, err = fields.need("methods", "write the sets that suffice, as in [[SUPERVISOR_PIN], [REMOTE_APPROVAL]]"); err != nil {
		return nil, err
	}
	sets, err := f.list()
	if err != nil {
		return nil, err
	}
	if len(sets) == 0 {
		return nil, f.fault("a tier has at least one set of methods")
	}
	for _, entry := range sets {
		names, err := entry.texts()
		if err != nil {
			return nil, err
		}
		var set []voidtoken.Method
		for _, name := range names {
			set = append(set, voidtoken.Method(name.value))
		}
		at := slices.IndexFunc(voidSets, func(known []voidtoken.Method) bool {
			return len(known) == len(set) && !slices.ContainsFunc(known, func(m voidtoken.Method) bool { return !slices.Contains(set, m) })
		})
		if at < 0 {
			return nil, entry.fault("a void cannot be authorised by this set; %s", voidSetsAdvice)
		}
		if slices.ContainsFunc(t.Methods, func(other []voidtoken.Method) bool { return slices.Equal(other, voidSets[at]) }) {
			return nil, entry.fault("this set stands here twice; remove one")
		}
		if v.Phone == nil && slices.ContainsFunc(voidSets[at], voidtoken.Method.OnPhone) {
			return nil, entry.fault("nothing is approved on a phone without the section phone, which names page_key")
		}
		t.Methods = append(t.Methods, slices.Clone(voidSets[at]))
	}
	return t, nil
}

// parseFees reads a fee table.
func parseFees(n node) (*fees.Table, error) {
	fields, err := n.fields("currency", "categories", "merchants")
	if err != nil {
		return nil, err
	}
	f, err := fields.need("currency", "write the number of a currency (ISO 4217), such as 156")
	if err != nil {
		return nil, err
	}
	currency, err := f.between(1, 999)
	if err != nil {
		return nil, err
	}
	t := &fees.Table{Currency: voidtoken.Currency(currency)}
	if f, err = fields.need("categories", "write rules for all merchants, as in standard: {rate: 0.60%}"); err != nil {
		return nil, err
	}
	if t.Categories, err = parseFeeRules(f.node); err != nil {
		return nil, err
	}
	if f, ok := fields["merchants"]; ok {
		list, err := f.anyFields()
		if err != nil {
			return nil, err
		}
		t.Merchants = make(map[string]map[fees.Category]fees.Rule, len(list))
		for _, m := range list {
			if t.Merchants[m.name], err = parseFeeRules(m.node); err != nil {
				return nil, err
			}
		}
	}
	if err := t.Validate(); err != nil {
		return nil, n.fault("%v", err)
	}
	return t, nil
}

func parseFeeRules(n node) (map[fees.Category]fees.Rule, error) {
	list, err := n.anyFields()
	if err != nil {
		return nil, err
	}
	rules := make(map[fees.Category]fees.Rule, len(list))
	for _, f := range list {
		if !fees.Category(f.name).Valid() {
			return nil, f.keyFault("%q is no category; there are %v", f.name, fees.Categories())
		}
		fields, err := f.fields("rate", "cap")
		if err != nil {
			return nil, err
		}
		rate, err := fields.need("rate", "write a percentage, such as 0.60%")
		if err != nil {
			return nil, err
		}
		text, err := rate.text()
		if err != nil {
			return nil, err
		}
		var rule fees.Rule
		if rule.Rate, err = fees.ParseRate(text); err != nil {
			return nil, rate.fault("%v", err)
		}
		if c, ok := fields["cap"]; ok {
			amount, err := c.between(1, 1<<53)
			if err != nil {
				return nil, err
			}
			most := fees.Minor(amount)
			rule.Cap = &most
		}
		rules[fees.Category(f.name)] = rule
	}
	return rules, nil
}
