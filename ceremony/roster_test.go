package ceremony_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"

	"keyd/ceremony"
)

// Each rule of a roster: one person never acts alone, and somebody always can.
func TestRosterRules(t *testing.T) {
	type roster = ceremony.Roster
	weak := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	p224 := must(x509.MarshalPKIXPublicKey(&weak.PublicKey))
	edPublic, _, _ := ed25519.GenerateKey(rand.Reader)
	ed := must(x509.MarshalPKIXPublicKey(edPublic))
	officers := func(n int) (list []ceremony.Officer) {
		for i := range n {
			key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			list = append(list, ceremony.Officer{Name: fmt.Sprintf("o%02d", i), Identity: fmt.Sprintf("spiffe://bank.example/o%02d", i), Key: must(x509.MarshalPKIXPublicKey(&key.PublicKey))})
		}
		return list
	}
	for _, c := range []struct {
		name   string
		change func(*roster)
		ok     bool
	}{
		{"nothing is wrong", func(*roster) {}, true},
		{"nobody", func(r *roster) { r.Officers = nil }, false},
		{"one officer", func(r *roster) { r.Officers = r.Officers[:1] }, false},
		{"two officers", func(r *roster) {
			r.Officers = r.Officers[:2]
			r.Quorum = ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}
		}, true},
		{"32 officers", func(r *roster) { r.Officers = officers(32); r.Quorum.Approvals = 32 }, true},
		{"33 officers", func(r *roster) { r.Officers = officers(33) }, false},
		{"nine components", func(r *roster) { r.Officers = officers(32); r.Quorum.Components = 9 }, true},
		{"ten components, which nobody can enter", func(r *roster) { r.Officers = officers(32); r.Quorum.Components = 10 }, false},
		{"ten components of a usage", func(r *roster) { r.Officers = officers(32); r.Quorum.Usages[0].Components = 10 }, false},
		{"another order", func(r *roster) { slices.Reverse(r.Officers) }, false},
		{"a name twice", func(r *roster) { r.Officers[1].Name = r.Officers[0].Name }, false},
		{"no name", func(r *roster) { r.Officers[0].Name = "" }, false},
		{"a name in capitals", func(r *roster) { r.Officers[0].Name = "Alice" }, false},
		{"a name that begins with a digit", func(r *roster) { r.Officers[0].Name = "1alice" }, false},
		{"a long name", func(r *roster) { r.Officers[0].Name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }, false},
		{"no identity", func(r *roster) { r.Officers[0].Identity = "" }, false},
		{"an identity that is a URL", func(r *roster) { r.Officers[0].Identity = "https://bank.example/a" }, false},
		{"an identity without a path", func(r *roster) { r.Officers[0].Identity = "spiffe://bank.example" }, false},
		{"an identity in other spelling", func(r *roster) { r.Officers[0].Identity = "spiffe://BANK.example/officer/alice" }, false},
		{"an identity twice", func(r *roster) { r.Officers[1].Identity = r.Officers[0].Identity }, false},
		{"a key twice", func(r *roster) { r.Officers[1].Key = r.Officers[0].Key }, false},
		{"no key", func(r *roster) { r.Officers[0].Key = nil }, false},
		{"a key on P-224", func(r *roster) { r.Officers[0].Key = p224 }, false},
		{"an Ed25519 key", func(r *roster) { r.Officers[0].Key = ed }, false},
		{"a key with a byte more", func(r *roster) { r.Officers[0].Key = append(slices.Clone(r.Officers[0].Key), 0) }, false},
		{"one component", func(r *roster) { r.Quorum.Components = 1 }, false},
		{"no components", func(r *roster) { r.Quorum.Components = 0 }, false},
		{"more components than officers", func(r *roster) { r.Quorum.Components = 5 }, false},
		{"one approval", func(r *roster) { r.Quorum.Approvals = 1 }, false},
		{"more approvals than officers", func(r *roster) { r.Quorum.Approvals = 5 }, false},
		{"a roster by one", func(r *roster) { r.Quorum.Roster = 1 }, false},
		{"a roster by more than there are", func(r *roster) { r.Quorum.Roster = 5 }, false},
		{"a rule without usages", func(r *roster) { r.Quorum.Usages[0].Usages = nil }, false},
		{"a rule for half a usage", func(r *roster) { r.Quorum.Usages[0].Usages = []string{"P"} }, false},
		{"a rule for a misspelt usage", func(r *roster) { r.Quorum.Usages[0].Usages = []string{"PO"} }, false},
		{"a usage in two rules", func(r *roster) { r.Quorum.Usages = append(r.Quorum.Usages, r.Quorum.Usages[0]) }, false},
		{"one component of a usage", func(r *roster) { r.Quorum.Usages[0].Components = 1 }, false},
		{"no approval of a usage", func(r *roster) { r.Quorum.Usages[0].Approvals = 0 }, false},
		{"one approval of BDKs", func(r *roster) { r.Quorum.Usages[0].Usages = []string{"P0", "B0"} }, false},
		{"one approval of verification keys", func(r *roster) { r.Quorum.Usages[0].Usages = []string{"V2"} }, false},
		{"one approval of protection keys", func(r *roster) { r.Quorum.Usages[0].Usages = []string{"K1"} }, false},
	} {
		r := theCast().rosterCopy()
		c.change(r)
		if err := r.Validate(); c.ok != (err == nil) || err != nil && !errors.Is(err, ceremony.ErrRoster) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOfficersAreFound(t *testing.T) {
	r := theCast().rosterCopy()
	for _, name := range officerNames {
		if o := r.Officer(name); o == nil || o.Name != name || r.Identified(o.Identity) != o {
			t.Errorf("%s was not found", name)
		}
	}
	for _, name := range []string{"", "al", "alicea", "mallory", "zoe", "Alice"} {
		if r.Officer(name) != nil || r.Identified("spiffe://bank.example/officer/"+name) != nil {
			t.Errorf("%q was found", name)
		}
	}
}

// How many officers it takes, by kind, usage and roster. It is never fewer than two, but for a
// stop, and for keys of which the roster says so.
func TestNeed(t *testing.T) {
	q := theCast().roster.Quorum // components 2, approvals 2, roster 3; P0 and M1: 3, 1
	for _, c := range []struct {
		kind      ceremony.Kind
		usage     string
		sensitive bool
		change    func(*ceremony.Definition)
		want      ceremony.Need
	}{
		{ceremony.Load, "P0", false, nil, ceremony.Need{Components: 3, Approvals: 2}},
		{ceremony.Load, "K1", false, func(d *ceremony.Definition) { d.Components = 2 }, ceremony.Need{Components: 2, Approvals: 2}},
		{ceremony.Load, "K1", false, func(d *ceremony.Definition) { d.Components, d.Approvals = 4, 3 }, ceremony.Need{Components: 4, Approvals: 3}},
		{ceremony.Create, "P0", false, nil, ceremony.Need{Approvals: 1}},
		{ceremony.Create, "P0", false, func(d *ceremony.Definition) { d.Approvals = 4 }, ceremony.Need{Approvals: 4}},
		{ceremony.Create, "P0", true, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Create, "D0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Create, "B0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Import, "P0", false, nil, ceremony.Need{Approvals: 1}},
		{ceremony.Import, "P0", true, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Import, "P0", false, func(d *ceremony.Definition) { d.AllowWeaker = true }, ceremony.Need{Approvals: 2}},
		{ceremony.Export, "P0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Start, "P0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Delete, "P0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Restore, "P0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Attach, "P0", false, nil, ceremony.Need{Approvals: 2}},
		{ceremony.Stop, "K1", false, nil, ceremony.Need{Approvals: 1}},
		{ceremony.Stop, "K1", false, func(d *ceremony.Definition) { d.Approvals = 2 }, ceremony.Need{Approvals: 2}},
		{ceremony.Change, "", false, nil, ceremony.Need{Approvals: 3}},
		{ceremony.Init, "", false, nil, ceremony.Need{Components: 2, Approvals: 3}},
		{ceremony.Masters, "", false, nil, ceremony.Need{Components: 4, Approvals: 3}},
		{ceremony.Retire, "", false, nil, ceremony.Need{Approvals: 3}},
	} {
		d := definitions()[c.kind]
		if c.change != nil {
			c.change(d)
		}
		if got := q.Need(d, c.usage, c.sensitive); got != c.want {
			t.Errorf("%s %s sensitive %v: %+v, want %+v", c.kind, c.usage, c.sensitive, got, c.want)
		}
	}
	// A roster that asks for nothing, which Validate refuses, still needs two.
	var none ceremony.Quorum
	for kind, d := range definitions() {
		want := 2
		switch kind {
		case ceremony.Stop, ceremony.Create, ceremony.Import:
			want = 1
		}
		if got := none.Need(d, "P0", false); got.Approvals != want || kind == ceremony.Load && got.Components < 2 {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

func TestUsagesThatTakeTwoOfficers(t *testing.T) {
	for usage, want := range map[string]bool{"B0": true, "B1": true, "V0": true, "V2": true, "K0": true, "K1": true, "P0": false, "D0": false, "M3": false, "C0": false, "": false} {
		if ceremony.AlwaysDual(usage) != want {
			t.Errorf("%q: %v", usage, !want)
		}
	}
}
