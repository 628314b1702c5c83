package ceremony

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyd/hsm"
)

// Kind is what a ceremony does.
type Kind string

// The kinds.
const (
	Init    Kind = "init"    // the first roster and master keys of a token
	Load    Kind = "load"    // a key from officers' components, XORed
	Create  Kind = "create"  // a random key, made in the module
	Import  Kind = "import"  // a key from a key block (X9.143) under a key that is here
	Export  Kind = "export"  // a key as a key block under a key that is here
	Stop    Kind = "stop"    // a version of a key is not used any more; one officer alone
	Start   Kind = "start"   // it is used again
	Delete  Kind = "delete"  // it is destroyed after a time, and not used until then
	Restore Kind = "restore" // a deletion is called off; the key stays stopped
	Change  Kind = "change"  // of the roster or the quorum
	Masters Kind = "masters" // master keys of the next generation
	Retire  Kind = "retire"  // older master keys are destroyed, once every key is sealed anew
	Attach  Kind = "attach"  // a key that the token already holds
	Adopt   Kind = "adopt"   // the register of a lost token with the same master keys is taken over
	Join    Kind = "join"    // the token goes by the register of others with the same master keys

	Trust    Kind = "trust"    // certificates that end at an authority are believed
	Distrust Kind = "distrust" // they are no more; one officer alone
)

// Definition says what a ceremony does: what officers review, and sign the digest of.
type Definition struct {
	Kind Kind `json:"kind"`

	Key        *KeySpec   `json:"key,omitempty"`         // Load, Create, Import, Attach: the key that comes to be
	Components int        `json:"components,omitempty"`  // Load: how many officers enter one
	CheckValue string     `json:"check_value,omitempty"` // Load, Import, Attach: what the key must have; Init: the masters
	Overlap    int64      `json:"overlap,omitempty"`     // Load, Create, Import, Attach: seconds for which the version before is still used
	Block      string     `json:"block,omitempty"`       // Import: the key block
	Under      *KeyRef    `json:"under,omitempty"`       // Import, Export: the key block protection key
	Target     *KeyRef    `json:"target,omitempty"`      // Export, Stop, Start, Delete, Restore
	Export     *BlockForm `json:"export,omitempty"`
	Wait       int64      `json:"wait,omitempty"`   // Delete: seconds until nothing can bring it back
	Object     string     `json:"object,omitempty"` // Attach: label of the token's object

	Roster     *Roster     `json:"roster,omitempty"`  // Init, Change
	MasterKeys *MasterSpec `json:"masters,omitempty"` // Init, Masters

	Register string `json:"register,omitempty"` // Adopt, Join: digest of the register

	// Stopped are versions of keys that are not used once the register is taken over: those
	// that officers have stopped or deleted since it was written, as their records say.
	Stopped []KeyRef `json:"stopped,omitempty"` // Adopt

	Authority *Authority `json:"authority,omitempty"` // Trust

	// Distrusted are fingerprints of authorities: those that are not believed any more. In a
	// takeover, those that officers have distrusted since the register was written.
	Distrusted []string `json:"distrusted,omitempty"` // Distrust, Adopt

	// AllowWeaker lets a key be wrapped by a key block protection key that is weaker than it.
	// It takes two officers, whatever the roster says.
	AllowWeaker bool `json:"allow_weaker,omitempty"` // Import, Export

	Approvals int    `json:"approvals,omitempty"` // more than the roster demands
	ValidFor  int64  `json:"valid_for"`           // seconds in which the ceremony has to be finished
	Reason    string `json:"reason,omitempty"`    // for the record; at most 256 printable characters
}

// KeyRef names a version of a key.
type KeyRef struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
}

// BlockForm says what a key block looks like that is written.
type BlockForm struct {
	Version       string     `json:"version"`                  // "B", "C", "D"
	Exportability string     `json:"exportability"`            // that of the block: "E", "N", "S"
	KeyVersion    string     `json:"key_version,omitempty"`    // two characters; "00" when empty
	Mode          string     `json:"mode,omitempty"`           // mode of use in the block; the key's own when empty
	KSN           string     `json:"initial_key_id,omitempty"` // B0 keys: the initial key for this KSN is exported, not the BDK: upper-case hex, 10 bytes TDES, 8 bytes AES
	Label         string     `json:"label,omitempty"`          // LB block
	Time          bool       `json:"time,omitempty"`           // TS block with the time of export
	CheckValues   bool       `json:"check_values,omitempty"`   // KC and KP blocks
	Blocks        []Optional `json:"blocks,omitempty"`         // others, written as they are
}

// Optional is an optional block of a key block.
type Optional struct {
	ID   string `json:"id"`
	Data string `json:"data"`
}

// MasterSpec says whose shares master keys are made of.
type MasterSpec struct {
	Holders  []string `json:"holders"`            // officers, each of whom has one share of 32 bytes
	Previous []string `json:"previous,omitempty"` // Masters: who has a share of the present ones

	// Generation is that of the shares, of Init: 1 when it is 0, a later one for a token that
	// takes the place of another.
	Generation uint32 `json:"generation,omitempty"`
}

// FirstGeneration returns the generation of the master keys that a token begins with.
func (m *MasterSpec) FirstGeneration() uint32 { return max(m.Generation, 1) }

// Holder returns whose share belongs in a place, from 1: first come the shares of the master
// keys that are made, then those of the present ones.
func (m *MasterSpec) Holder(place int) string {
	if all := slices.Concat(m.Holders, m.Previous); place >= 1 && place <= len(all) {
		return all[place-1]
	}
	return ""
}

// MasterShareSize is the size of an officer's share of master keys, in bytes.
const MasterShareSize = 32

// Limits of definitions.
const (
	MaxComponents = 9
	MinValidFor   = 60             // a minute
	MaxValidFor   = 30 * 24 * 3600 // 30 days
	MaxOverlap    = 366 * 24 * 3600
	MinWait       = 3 * 24 * 3600 // as in AWS Payment Cryptography
	MaxWait       = 180 * 24 * 3600
	MaxBlock      = 9999 // characters of a key block
	MaxStopped    = 300  // versions of keys that are stopped with a register
	maxReason     = 256
	maxLabel      = 128
)

// ErrDefinition is wrapped by errors about a definition. They are for its author.
var ErrDefinition = errors.New("definition refused")

func wrong(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrDefinition, fmt.Errorf(format, a...))
}

// Validate checks everything that a definition itself shows. What it takes of the roster,
// and whether the keys that it names are there, is checked by the module.
func (d *Definition) Validate() error {
	shape, ok := shapes[d.Kind]
	if !ok {
		return wrong("kind is none of %s", strings.Join(kindNames(), ", "))
	}
	if d.ValidFor < MinValidFor || d.ValidFor > MaxValidFor {
		return wrong("valid_for is from one minute to 30 days")
	}
	if len(d.Reason) > maxReason || !printable(d.Reason) {
		return wrong("reason has at most %d printable ASCII characters", maxReason)
	}
	if d.Approvals < 0 || d.Approvals > MaxOfficers {
		return wrong("approvals is at most %d", MaxOfficers)
	}
	for _, field := range []struct {
		name    string
		present bool
	}{
		{"key", d.Key != nil}, {"components", d.Components != 0}, {"check_value", d.CheckValue != ""}, {"overlap", d.Overlap != 0},
		{"block", d.Block != ""}, {"under", d.Under != nil}, {"target", d.Target != nil}, {"export", d.Export != nil},
		{"wait", d.Wait != 0}, {"allow_weaker", d.AllowWeaker}, {"object", d.Object != ""}, {"roster", d.Roster != nil}, {"masters", d.MasterKeys != nil}, {"register", d.Register != ""},
		{"stopped", d.Stopped != nil}, {"authority", d.Authority != nil}, {"distrusted", d.Distrusted != nil},
	} {
		switch needed := slices.Contains(shape.needs, field.name); {
		case needed && !field.present:
			return wrong("a definition of kind %s needs %s", d.Kind, field.name)
		case field.present && !needed && !slices.Contains(shape.takes, field.name):
			return wrong("%s does not belong to a definition of kind %s", field.name, d.Kind)
		}
	}
	return errors.Join(d.validateKey(), d.validateBlock(), d.validateRoster(), d.validateAuthorities())
}

// shapes says which fields a kind needs and which it may have.
var shapes = map[Kind]struct{ needs, takes []string }{
	Init:    {needs: []string{"roster", "masters"}, takes: []string{"check_value"}},
	Load:    {needs: []string{"key", "components"}, takes: []string{"check_value", "overlap"}},
	Create:  {needs: []string{"key"}, takes: []string{"overlap"}},
	Import:  {needs: []string{"key", "block", "under"}, takes: []string{"check_value", "overlap", "allow_weaker"}},
	Export:  {needs: []string{"target", "under", "export"}, takes: []string{"allow_weaker"}},
	Stop:    {needs: []string{"target"}},
	Start:   {needs: []string{"target"}},
	Delete:  {needs: []string{"target", "wait"}},
	Restore: {needs: []string{"target"}},
	Change:  {needs: []string{"roster"}},
	Masters: {needs: []string{"masters"}},
	Retire:  {},
	Adopt:   {needs: []string{"register"}, takes: []string{"stopped", "distrusted"}},
	Join:    {needs: []string{"register"}},
	Attach:  {needs: []string{"key", "object"}, takes: []string{"check_value", "overlap"}},

	Trust:    {needs: []string{"authority"}},
	Distrust: {needs: []string{"distrusted"}},
}

func kindNames() []string {
	return []string{"init", "load", "create", "import", "export", "stop", "start", "delete", "restore", "change", "masters", "retire", "attach", "adopt", "join", "trust", "distrust"}
}

func (d *Definition) validateKey() error {
	if d.Key != nil {
		if err := d.Key.Validate(); err != nil {
			return err
		}
	}
	if d.Key != nil && d.Key.IsPair() && d.Kind != Create {
		return wrong("a key pair is made in the token: kind create")
	}
	if d.Components != 0 && (d.Components < 2 || d.Components > MaxComponents) {
		return wrong("components is from 2 to %d", MaxComponents)
	}
	if d.CheckValue != "" && !(len(d.CheckValue) == 6 && upperHex(d.CheckValue)) {
		return wrong("check_value has six upper-case hex digits")
	}
	if d.Overlap < 0 || d.Overlap > MaxOverlap || d.Overlap != 0 && d.Key.Version < 2 {
		return wrong("overlap is for a key version from 2 on, and at most 366 days")
	}
	if d.Wait != 0 && (d.Wait < MinWait || d.Wait > MaxWait) {
		return wrong("wait is from 3 to 180 days")
	}
	if len(d.Object) > maxLabel || !printable(d.Object) {
		return wrong("object is a label of at most %d printable ASCII characters", maxLabel)
	}
	for _, ref := range []*KeyRef{d.Under, d.Target} {
		if ref != nil && (!validKeyName(ref.Name) || ref.Version == 0) {
			return wrong("under and target each need the name and the version of a key")
		}
		if ref != nil && strings.HasPrefix(ref.Name, hsm.TerminalPrefix) {
			return wrong("under and target: keys whose names begin with %q are a terminal's, which modules make and no ceremony changes", hsm.TerminalPrefix)
		}
	}
	return d.validateStopped()
}

func (d *Definition) validateStopped() error {
	if d.Stopped != nil && (len(d.Stopped) == 0 || len(d.Stopped) > MaxStopped) {
		return wrong("stopped names 1 to %d versions of keys", MaxStopped)
	}
	seen := make(map[KeyRef]bool, len(d.Stopped))
	for _, ref := range d.Stopped {
		switch {
		case !validKeyName(ref.Name) || ref.Version == 0:
			return wrong("stopped needs the name and the version of each key")
		case seen[ref]:
			return wrong("stopped: %s comes twice", ref.String())
		}
		seen[ref] = true
	}
	return nil
}

func (d *Definition) validateAuthorities() error {
	if d.Distrusted != nil && (len(d.Distrusted) == 0 || len(d.Distrusted) > MaxAuthorities) {
		return wrong("distrusted names 1 to %d authorities", MaxAuthorities)
	}
	for i, fingerprint := range d.Distrusted {
		if !validDigest(fingerprint) || slices.Contains(d.Distrusted[:i], fingerprint) {
			return wrong("distrusted has fingerprints of 64 lower-case hex digits, each once")
		}
	}
	if d.Authority == nil {
		return nil
	}
	return d.Authority.validate()
}

func (d *Definition) validateBlock() error {
	if len(d.Block) > MaxBlock || !printable(d.Block) {
		return wrong("block has at most %d printable ASCII characters", MaxBlock)
	}
	x := d.Export
	if x == nil {
		return nil
	}
	switch {
	case x.Version != "B" && x.Version != "C" && x.Version != "D":
		return wrong("export.version is B, C or D: A is read, not written")
	case len(x.Exportability) != 1 || !strings.Contains("ENS", x.Exportability):
		return wrong("export.exportability is E, N or S")
	case len(x.KeyVersion) != 0 && (len(x.KeyVersion) != 2 || !alphanumeric(x.KeyVersion)):
		return wrong("export.key_version has two letters or digits")
	case len(x.Mode) > 1 || !alphanumeric(x.Mode):
		return wrong("export.mode is one letter")
	case x.KSN != "" && len(x.KSN) != 20 && len(x.KSN) != 16 || !upperHex(x.KSN):
		return wrong("export.initial_key_id has 20 (TDES) or 16 (AES) upper-case hex digits")
	case x.KSN != "" && x.Mode != "":
		return wrong("export.mode_of_use does not go with export.initial_key_id: an initial key derives keys (X)")
	case len(x.Label) > maxLabel || !printable(x.Label):
		return wrong("export.label has at most %d printable ASCII characters", maxLabel)
	}
	for _, o := range x.Blocks {
		if len(o.ID) != 2 || !alphanumeric(o.ID) || len(o.Data) > 4096 || !printable(o.Data) {
			return wrong("export.blocks has ids of two letters or digits, and printable ASCII data of at most 4096 characters")
		}
		if o.ID == "KC" || o.ID == "KP" || o.ID == "PB" {
			return wrong("export.blocks: %s is made by the module (check_values)", o.ID)
		}
	}
	return nil
}

func (d *Definition) validateRoster() error {
	if d.Roster != nil {
		if err := d.Roster.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrDefinition, err)
		}
	}
	if d.Register != "" && !validDigest(d.Register) {
		return wrong("register is a digest: 64 lower-case hex digits")
	}
	m := d.MasterKeys
	if m == nil {
		return nil
	}
	if len(m.Holders) < 2 || len(m.Holders) > MaxComponents {
		return wrong("masters.holders names 2 to %d officers", MaxComponents)
	}
	if d.Kind == Masters && (len(m.Previous) < 2 || len(m.Previous) > MaxComponents) {
		return wrong("masters.previous names 2 to %d officers, who have the shares of the present master keys", MaxComponents)
	}
	if d.Kind == Init && m.Previous != nil {
		return wrong("masters.previous belongs to kind masters")
	}
	if d.Kind == Masters && m.Generation != 0 {
		return wrong("masters.generation belongs to kind init")
	}
	for field, names := range map[string][]string{"holders": m.Holders, "previous": m.Previous} {
		for i, h := range names {
			if !validName(h) || d.Roster != nil && d.Roster.Officer(h) == nil {
				return wrong("masters.%s: %q is no officer of the roster", field, h)
			}
			if slices.Contains(names[:i], h) {
				return wrong("masters.%s: %q comes twice", field, h)
			}
		}
	}
	return nil
}

// Need is how many officers a ceremony takes.
type Need struct {
	Components int `json:"components"` // distinct officers who enter components
	Approvals  int `json:"approvals"`  // distinct officers who approve
}

// Need returns how many officers the roster demands for a definition. Usage is that of the
// key that it is about. sensitive says that a new version of a key differs from the one
// before in what it may be used for.
func (q *Quorum) Need(d *Definition, usage string, sensitive bool) Need {
	rule := q.rule(usage)
	n := Need{Approvals: max(q.Approvals, 2)}
	switch d.Kind {
	case Stop, Distrust:
		n.Approvals = 1
	case Load:
		n.Components = max(rule.Components, d.Components, 2)
		n.Approvals = max(rule.Approvals, 2)
	case Create, Import:
		if n.Approvals = max(rule.Approvals, 1); AlwaysDual(usage) || sensitive || d.AllowWeaker {
			n.Approvals = max(rule.Approvals, 2)
		}
	case Export, Start, Delete, Restore, Attach:
		n.Approvals = max(rule.Approvals, 2)
	case Change, Retire, Adopt, Join, Trust:
		n.Approvals = max(q.Roster, 2)
	case Masters, Init:
		n.Approvals, n.Components = max(q.Roster, 2), len(d.MasterKeys.Holders)+len(d.MasterKeys.Previous)
	}
	n.Approvals = max(n.Approvals, d.Approvals)
	return n
}

// Subject returns the key that the definition is about, nil if it is about none.
func (d *Definition) Subject() *KeyRef {
	if d.Key != nil {
		return &KeyRef{Name: d.Key.Name, Version: d.Key.Version}
	}
	return d.Target
}

// Digest returns the digest of the definition's encoding, in hex.
func (d *Definition) Digest() (string, error) {
	b, err := Encode(d)
	if err != nil {
		return "", err
	}
	return Digest(b), nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func alphanumeric(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

func upperHex(s string) bool { return strings.Trim(s, "0123456789ABCDEF") == "" }
