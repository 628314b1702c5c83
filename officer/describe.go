package officer

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
	"unicode"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/keyblock"
)

// Line is a line of a text for people: a name and what stands beside it.
type Line struct{ Name, Text string }

// CheckValueLine is the name of the line with the check value that a definition demands.
const CheckValueLine = "must have check value"

// described collects what is worth saying.
type described []Line

func (l *described) add(name, format string, a ...any) {
	if text := fmt.Sprintf(format, a...); text != "" {
		*l = append(*l, Line{printable(name), printable(text)})
	}
}

// printable keeps what could move a cursor away from a terminal: a definition may be
// somebody else's.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Describe writes a definition as an officer reviews it: all that it says, and nothing
// else.
func Describe(d *ceremony.Definition) []Line {
	var l described
	l.add("kind", "%s: %s", d.Kind, Does(d.Kind))
	l.add("reason", "%s", d.Reason)
	if d.Key != nil {
		l.key(d.Key)
	}
	if d.Target != nil {
		l.add("key", "%s", d.Target)
	}
	if d.Components != 0 {
		l.add("components", "%d, each by another officer", d.Components)
	}
	if d.CheckValue != "" {
		l.add(CheckValueLine, "%s", d.CheckValue)
	}
	if d.Overlap != 0 {
		l.add("version before", "used for another %s", span(d.Overlap))
	} else if d.Key != nil && d.Key.Version > 1 {
		l.add("version before", "not used any more, from that moment on")
	}
	if d.Under != nil {
		l.add("under", "%s", d.Under)
	}
	if d.Block != "" {
		l.add("key block", "%s", d.Block)
	}
	if d.Export != nil {
		l.export(d.Export)
	}
	if d.AllowWeaker {
		l.add("ALLOWED", "the key block protection key may be weaker than the key")
	}
	if d.Wait != 0 {
		l.add("destroyed", "after %s; until then it can be restored", span(d.Wait))
	}
	if d.Object != "" {
		l.add("object in the token", "%s", d.Object)
	}
	if d.Register != "" {
		l.add("register", "%s, of a token with the same master keys", ceremony.FormatFingerprint(d.Register))
	}
	for _, ref := range d.Stopped {
		l.add("not used any more", "%s", ref.String())
	}
	if d.Authority != nil {
		l.authority(d.Authority)
	}
	for _, fingerprint := range d.Distrusted {
		l.add("not believed any more", "the authority with the fingerprint %s", ceremony.FormatFingerprint(fingerprint))
	}
	if d.Roster != nil {
		l = append(l, describeRoster(d.Roster)...)
	}
	if m := d.MasterKeys; m != nil {
		l.add("master keys", "of %s, XORed: by %s", count(len(m.Holders), "share", "shares"), strings.Join(m.Holders, ", "))
		if m.Generation > 1 {
			l.add("generation", "%d, which another token has", m.Generation)
		}
		if len(m.Previous) > 0 {
			l.add("shares of the present ones", "by %s", strings.Join(m.Previous, ", "))
		}
	}
	if d.Approvals != 0 {
		l.add("approvals", "at least %d", d.Approvals)
	}
	return l
}

// Does says what a kind of ceremony does.
func Does(k ceremony.Kind) string {
	return map[ceremony.Kind]string{
		ceremony.Init: "the first roster and master keys of a token", ceremony.Load: "a key from officers' components",
		ceremony.Create: "a random key, made in the module", ceremony.Import: "a key from a key block",
		ceremony.Export: "a key leaves, as a key block", ceremony.Stop: "the key is not used any more",
		ceremony.Start: "a stopped key is used again", ceremony.Delete: "the key is destroyed",
		ceremony.Restore: "a deletion is called off; the key stays stopped", ceremony.Change: "another roster, or another quorum",
		ceremony.Masters: "master keys of the next generation", ceremony.Retire: "older master keys are destroyed", ceremony.Attach: "a key that the token already holds",
		ceremony.Adopt: "the register of a lost token, or one that was restored, is taken over with all its keys",
		ceremony.Trust: "certificates that end at an authority are believed", ceremony.Distrust: "certificates that end at an authority are not believed any more",
		ceremony.Join: "this token goes by the register of others from now on: their officers, their keys",
	}[k]
}

// authority describes a certificate, which may have been checked or not.
func (l *described) authority(a *ceremony.Authority) {
	l.add("fingerprint", "%s", ceremony.FormatFingerprint(a.Fingerprint()))
	l.add("believed for", "%s", strings.Join(a.Uses, ", "))
	c, err := a.Parse()
	if err != nil {
		l.add("NO AUTHORITY", "%v", err)
		return
	}
	l.add("subject", "%s", c.Subject)
	if string(c.RawIssuer) != string(c.RawSubject) {
		l.add("issuer", "%s: this is no root, and nothing above it counts", c.Issuer)
	}
	l.add("serial number", "%X", c.SerialNumber)
	l.add("key", "%s", AuthorityKey(c))
	l.add("valid", "%s to %s", c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
}

// AuthorityKey says what key a certificate has.
func AuthorityKey(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return key.Curve.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

func (l *described) key(k *ceremony.KeySpec) {
	l.add("key", "%s", &ceremony.KeyRef{Name: k.Name, Version: k.Version})
	l.add("usage", "%s", UsageName(k.Usage))
	l.add("algorithm", "%s, %d bytes", AlgorithmName(k.Algorithm), k.Length)
	l.add("mode of use", "%s", ModeName(k.Mode))
	l.add("exportability", "%s", ExportabilityName(k.Exportability))
	l.add("direction", "%s", k.Direction)
	l.add("peer groups", "%s", strings.Join(k.Peers, ", "))
	var formats []string
	for _, f := range k.Formats {
		formats = append(formats, f.String())
	}
	if len(formats) == 0 && (k.Usage == "P0" || k.Usage == "B0" && len(k.DataModes) == 0 && k.MACLength == 0) {
		formats = []string{"NONE: no PIN block can be used with it"}
	}
	l.add("PIN-block formats", "%s", strings.Join(formats, ", "))
	l.add("data modes", "%s", strings.Join(k.DataModes, ", "))
	if k.MACLength != 0 {
		l.add("least MAC", "%d bytes", k.MACLength)
	}
	switch {
	case k.KSNCheck != "":
		l.add("key serial numbers", "%s: each is accepted once", k.KSNCheck)
	case k.Usage == "B0":
		l.add("key serial numbers", "NOT CHECKED: one can be used again")
	}
	if r := k.IBM3624; r != nil {
		l.add("IBM 3624", "table %s; validation data: %d digits of the PAN from digit %d on, filled with %s", r.DecimalizationTable, r.Length, int(r.Start)+1, r.Pad)
	}
	if k.AllowChange {
		l.add("ALLOWED", "values for changed PINs, in ways that tell more than a try does")
	}
	if len(k.InjectionHosts) > 0 {
		l.add("ALLOWED", "its initial keys go to terminals over the network, each to one device, from the hosts %s", strings.Join(k.InjectionHosts, ", "))
	}
	switch k.PINKind {
	case hsm.PINRecord:
		l.add("PINs", "of PIN records, and no others")
	default:
		l.add("PINs", "%s", k.PINKind)
	}
	if k.NotBefore != 0 {
		l.add("valid from", "%s", At(k.NotBefore))
	}
	if k.NotAfter != 0 {
		l.add("valid until", "%s", At(k.NotAfter))
	}
}

func (l *described) export(x *ceremony.BlockForm) {
	l.add("key block version", "%s", x.Version)
	l.add("exportability there", "%s", ExportabilityName(x.Exportability))
	if x.KSN != "" {
		l.add("what leaves", "the initial key of %s, not the BDK", x.KSN)
	}
	l.add("key version there", "%s", x.KeyVersion)
	if x.Mode != "" {
		l.add("mode of use there", "%s", ModeName(x.Mode))
	}
	l.add("label", "%s", x.Label)
	if x.Time {
		l.add("time", "in the block (TS)")
	}
	if x.CheckValues {
		l.add("check values", "in the block (KC, KP)")
	}
	for _, b := range x.Blocks {
		l.add("optional block "+b.ID, "%s", b.Data)
	}
}

// describeRoster writes a roster and its quorum.
func describeRoster(r *ceremony.Roster) []Line {
	var l described
	for i := range r.Officers {
		o := &r.Officers[i]
		l.add("officer "+o.Name, "%s", o.Identity)
		l.add("  key", "%s", KeyPrint(o))
	}
	return append(l, DescribeQuorum(&r.Quorum)...)
}

// DescribeQuorum writes how many officers it takes.
func DescribeQuorum(q *ceremony.Quorum) []Line {
	var l described
	l.add("quorum", "%d components, %d approvals; %d approvals of a change of roster, quorum or master keys", q.Components, q.Approvals, q.Roster)
	for _, u := range q.Usages {
		l.add("  for "+strings.Join(u.Usages, ", "), "%d components, %s", u.Components, count(u.Approvals, "approval", "approvals"))
	}
	if q.VersionC {
		l.add("  allowed", "key blocks of version C")
	}
	return l
}

// UsageName returns a usage with its short name: "P0 PIN encryption key".
func UsageName(code string) string {
	u, ok := keyblock.LookUpUsage(code)
	if !ok {
		return code
	}
	return code + " " + u.Name
}

// AlgorithmName returns an algorithm with its name.
func AlgorithmName(code string) string { return named(code, "T", "TDES", "A", "AES", "H", "HMAC") }

// ModeName returns a mode of use with what it permits (X9.143-2021 table 4).
func ModeName(code string) string {
	return named(code, "B", "encipher and decipher, or wrap and unwrap", "C", "make and verify", "D", "decipher or unwrap only", "E", "encipher or wrap only",
		"G", "make only", "N", "no special restriction", "S", "sign only", "T", "sign and decipher", "V", "verify only", "X", "derive keys", "Y", "create key variants")
}

// ExportabilityName returns an exportability with what it means.
func ExportabilityName(code string) string {
	return named(code, "E", "under a key of this token", "N", "never", "S", "under a key of this token, also by older key blocks")
}

func named(code string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == code {
			return code + " " + pairs[i+1]
		}
	}
	return code
}

func span(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	if day := 24 * time.Hour; d%day == 0 && d > 0 {
		return count(int(d/day), "day", "days")
	}
	return d.String()
}
