package ceremony

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"keyd/keyblock"
)

// Roster is the officers of a module, and how many of them it takes.
type Roster struct {
	Officers []Officer `json:"officers"` // in the order of their names
	Quorum   Quorum    `json:"quorum"`
}

// Officer is one security officer.
type Officer struct {
	Name     string `json:"name"`     // 1 to 32 lower-case letters, digits and hyphens
	Identity string `json:"identity"` // SPIFFE ID of the officer's TLS certificate
	Key      []byte `json:"key"`      // public signing key, SubjectPublicKeyInfo in DER
}

// Quorum is how many officers it takes. No roster can ask for fewer than two where
// [Quorum.Need] says so.
type Quorum struct {
	Components int    `json:"components"` // least number of components of a key that is loaded
	Approvals  int    `json:"approvals"`  // of anything that brings in, takes out or changes a key
	Roster     int    `json:"roster"`     // of a change of roster, quorum or master keys
	Usages     []Rule `json:"usages,omitempty"`
	VersionC   bool   `json:"version_c,omitempty"` // key blocks of version C may be written
}

// Rule is another number for keys of some usages.
type Rule struct {
	Usages     []string `json:"usages"` // X9.143 codes
	Components int      `json:"components"`
	Approvals  int      `json:"approvals"` // 1 lets one officer create or import such keys alone
}

// MaxOfficers bounds a roster.
const MaxOfficers = 32

// ErrRoster is wrapped by errors of rosters.
var ErrRoster = errors.New("roster refused")

// Validate checks the roster for what would let one person act alone, or nobody act.
func (r *Roster) Validate() error {
	if len(r.Officers) < 2 || len(r.Officers) > MaxOfficers {
		return fmt.Errorf("%w: it has 2 to %d officers", ErrRoster, MaxOfficers)
	}
	keys, identities := make(map[string]bool), make(map[string]bool)
	for i, o := range r.Officers {
		if !validName(o.Name) {
			return fmt.Errorf("%w: officer %d: a name has 1 to 32 lower-case letters, digits and hyphens, and begins with a letter", ErrRoster, i+1)
		}
		if i > 0 && r.Officers[i-1].Name >= o.Name {
			return fmt.Errorf("%w: officers stand in the order of their names, each once", ErrRoster)
		}
		if id, err := spiffeid.FromString(o.Identity); err != nil || id.Path() == "" || id.String() != o.Identity {
			return fmt.Errorf("%w: officer %s: the identity is no SPIFFE ID", ErrRoster, o.Name)
		}
		if _, err := ParseKey(o.Key); err != nil {
			return fmt.Errorf("%w: officer %s: %w", ErrRoster, o.Name, err)
		}
		if keys[string(o.Key)] || identities[o.Identity] {
			return fmt.Errorf("%w: officer %s has the key or the identity of another", ErrRoster, o.Name)
		}
		keys[string(o.Key)], identities[o.Identity] = true, true
	}
	return r.Quorum.validate(len(r.Officers))
}

func (q *Quorum) validate(officers int) error {
	within := func(what string, n, least, most int) error {
		if n < least || n > most {
			return fmt.Errorf("%w: quorum.%s must be from %d to %d (the roster has %d officers)", ErrRoster, what, least, most, officers)
		}
		return nil
	}
	components := min(officers, MaxComponents) // more could never be entered
	if err := errors.Join(within("components", q.Components, 2, components), within("approvals", q.Approvals, 2, officers), within("roster", q.Roster, 2, officers)); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, rule := range q.Usages {
		if len(rule.Usages) == 0 {
			return fmt.Errorf("%w: quorum.usages: a rule names no usage", ErrRoster)
		}
		least := 1
		for _, u := range rule.Usages {
			if _, known := keyblock.LookUpUsage(u); !known || seen[u] { // of a misspelt one nobody would notice that it asks for nothing
				return fmt.Errorf("%w: quorum.usages: a usage is one of X9.143, and stands in one rule", ErrRoster)
			}
			seen[u] = true
			if AlwaysDual(u) {
				least = 2
			}
		}
		if err := errors.Join(within("usages.components", rule.Components, 2, components), within("usages.approvals", rule.Approvals, least, officers)); err != nil {
			return err
		}
	}
	return nil
}

// AlwaysDual reports whether keys of a usage never come in by one officer alone: base
// derivation keys, keys that verify PINs, and keys that carry other keys.
func AlwaysDual(usage string) bool {
	return usage != "" && (usage[0] == 'B' || usage[0] == 'V' || CarriesKeys(usage))
}

// CarriesKeys reports whether keys of a usage wrap other keys.
func CarriesKeys(usage string) bool { return usage != "" && usage[0] == 'K' }

// Officer returns the officer with that name, nil if there is none.
func (r *Roster) Officer(name string) *Officer {
	i, ok := slices.BinarySearchFunc(r.Officers, name, func(o Officer, name string) int { return strings.Compare(o.Name, name) })
	if !ok {
		return nil
	}
	return &r.Officers[i]
}

// Identified returns the officer with that SPIFFE ID, nil if there is none.
func (r *Roster) Identified(identity string) *Officer {
	for i := range r.Officers {
		if r.Officers[i].Identity == identity {
			return &r.Officers[i]
		}
	}
	return nil
}

// Verifier returns the officer's public key.
func (o *Officer) Verifier() (*ecdsa.PublicKey, error) { return ParseKey(o.Key) }

// Fingerprint returns the roster's digest, in hex.
func (r *Roster) Fingerprint() (string, error) {
	b, err := Encode(r)
	if err != nil {
		return "", err
	}
	return Digest(b), nil
}

// rule returns what the roster says for a usage.
func (q *Quorum) rule(usage string) Rule {
	for _, r := range q.Usages {
		if slices.Contains(r.Usages, usage) {
			return r
		}
	}
	return Rule{Components: q.Components, Approvals: q.Approvals}
}

func validName(s string) bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
