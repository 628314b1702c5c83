package officer

import (
	"fmt"
	"strings"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/keyblock"
)

// NextVersion returns the definition in which a key gets another, random version that may
// be used as the current one. What the current one may be used for is the service's word:
// the officers review it, and where it differs from what the module knows, the module asks
// for more officers.
func NextVersion(k *keydv1.Key) (*ceremony.KeySpec, error) {
	formats, err := Formats(k.Formats)
	if err != nil {
		return nil, err
	}
	s := &ceremony.KeySpec{
		Name: k.KeyId, Version: k.Version + 1, Usage: k.Usage, Algorithm: k.Algorithm, Length: uint16(min(k.Length, 1<<16-1)), Mode: k.ModeOfUse,
		Exportability: k.Exportability, Direction: k.Direction, Peers: k.Peers, Formats: formats, DataModes: k.DataModes,
		MACLength: uint8(min(k.MacLength, 255)), KSNCheck: k.Ksn, AllowChange: k.AllowChange, InjectionHosts: k.InjectionHosts, PINKind: k.PinKind,
	}
	if r := k.Ibm3624; r != nil {
		s.IBM3624 = &hsm.IBM3624Rule{
			DecimalizationTable: r.DecimalizationTable, Start: uint8(min(r.ValidationStart, 255)), Length: uint8(min(r.ValidationLength, 255)), Pad: r.ValidationPad,
		}
	}
	return s, nil
}

// Formats reads PIN-block formats as people and the contract write them: 0, ISO-0 or
// ISO_FORMAT_0.
func Formats(names []string) ([]hsm.Format, error) {
	var formats []hsm.Format
	for _, name := range names {
		digit := strings.TrimPrefix(strings.TrimPrefix(strings.ToUpper(name), "ISO_FORMAT_"), "ISO-")
		if len(digit) != 1 || !strings.Contains("0134", digit) {
			return nil, fmt.Errorf("%q is no PIN-block format: 0, 1, 3 or 4", name)
		}
		formats = append(formats, hsm.Format(digit[0]-'0'))
	}
	return formats, nil
}

// FromBlock fills in what a key block says of its key and the specification does not.
func FromBlock(s *ceremony.KeySpec, block string) error {
	b, err := keyblock.Parse([]byte(block))
	if err != nil {
		return fmt.Errorf("the key block: %w", err)
	}
	for _, field := range []struct {
		into *string
		text string
	}{{&s.Usage, b.Header.Usage}, {&s.Algorithm, string(b.Header.Algorithm)}, {&s.Mode, string(b.Header.Mode)}} {
		if *field.into == "" {
			*field.into = field.text
		}
	}
	return nil
}

// RosterYAML writes a roster as a definition of kind change, to be edited. key returns the
// file in which an officer's public key lies.
func RosterYAML(r *ceremony.Roster, key func(officer string) string) string {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("# The roster as the module signed it. Edit it, then: keyd ceremony begin FILE")
	line("kind: change")
	line("reason: \"\"")
	line("officers:")
	for _, o := range r.Officers {
		line("  - name: %q", o.Name)
		line("    identity: %q", o.Identity)
		line("    key: %q # %s", key(o.Name), KeyPrint(&o))
	}
	q := &r.Quorum
	line("quorum:")
	line("  components: %d", q.Components)
	line("  approvals: %d", q.Approvals)
	line("  roster: %d", q.Roster)
	line("  version_c: %t", q.VersionC)
	if len(q.Usages) > 0 {
		line("  usages:")
	}
	for _, u := range q.Usages {
		line(`    - usages: ["%s"]`, strings.Join(u.Usages, `", "`))
		line("      components: %d", u.Components)
		line("      approvals: %d", u.Approvals)
	}
	return b.String()
}
