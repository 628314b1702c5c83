package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/policies"
)

// newCounters are the fronts of two hosts with a token each and one database, at which the same shop
// may void payments. Terminals, approvers and public keys lie in the directory of the first.
func newCounters(t *testing.T) (*fleet, []*counter) {
	t.Helper()
	f := newFleetOf(t, string(policies.Dev), "a", "b")
	first := f.nodes[0]
	for _, name := range officers { // commands look for officers' keys there
		key, err := os.ReadFile(first.papers(name + ".key"))
		first.must(err)
		first.must(os.WriteFile(filepath.Join(first.service.dir, "officers", name+".key"), key, 0o600))
	}
	d := f.desk(first)
	for _, k := range sampled.keys {
		spec := &ceremony.KeySpec{
			Name: k.Name, Version: 1, Usage: "B0", Algorithm: "A", Length: 16, Mode: "X", Exportability: "N", Direction: hsm.DirectionIncoming, Peers: []string{"*"}, Formats: []hsm.Format{hsm.Format4},
		}
		if k.Name == "bdk-supervisor" {
			spec.PINKind = hsm.PINRecord
		}
		d.finish(d.components(spec, unhex(t, k.Value)))
	}
	d.finish(d.components(&ceremony.KeySpec{Name: "pvk-visa", Version: 1, Usage: "V2", Algorithm: "T", Length: 16, Mode: "V", Exportability: "N"}, unhex(t, pvkVisa)))
	d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: &ceremony.KeySpec{Name: "pin-records", Version: 1, Usage: "V0", Algorithm: "A", Length: 16, Mode: "C", Exportability: "N"}})
	list := make([]*counter, len(f.nodes))
	for i, n := range f.nodes {
		n.must(os.WriteFile(filepath.Join(n.service.dir, "address"), []byte(n.address+"\n"), 0o644))
		list[i] = &counter{shop: &shop{service: n.service, papers: tempDir(t)}}
	}
	c := list[0]
	c.must("pin", "prepare", "--dir", c.dir)
	c.must("void", "prepare", "--dir", c.dir)
	c.pin = randomPIN(t)
	c.entered("set", dora, true, c.begin("enrol", "1"), c.pin)
	list[1].pin = c.pin
	waitUntil(t, "the other host has the keys and the authority", func() bool {
		return list[1].status().Tokens[0].EpochLoaded == c.status().Tokens[0].EpochLoaded
	})
	return f, list
}
