package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	keydv1 "keyd/api/keyd/v1"
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
	f.desk(first).furnish(first.production)
	list := make([]*counter, len(f.nodes))
	for i, n := range f.nodes {
		n.must(os.WriteFile(filepath.Join(n.service.dir, "address"), []byte(n.address+"\n"), 0o644))
		list[i] = &counter{shop: &shop{service: n.service, papers: tempDir(t)}}
	}
	c := list[0]
	c.must("pin", "prepare", "--dir", c.dir)
	f.pairs(list)
	c.pin = randomPIN(t)
	c.entered("set", dora, true, c.begin("enrol", "1"), c.pin)
	list[1].pin = c.pin
	waitUntil(t, "the other host has the keys and the authority", func() bool {
		return list[1].status().Tokens[0].EpochLoaded == c.status().Tokens[0].EpochLoaded
	})
	return f, list
}

// furnish brings the keys of a shop into a production service, and has its commands find the officers'
// keys.
func (d *desk) furnish(p *production) {
	d.t.Helper()
	for _, name := range officers {
		key, err := os.ReadFile(p.papers(name + ".key"))
		p.must(err)
		p.must(os.WriteFile(filepath.Join(d.dir, "officers", name+".key"), key, 0o600))
	}
	for _, k := range sampled.keys {
		d.finish(d.components(baseKey(k.Name, 1), unhex(d.t, k.Value)))
	}
	d.finish(d.components(&ceremony.KeySpec{Name: "pvk-visa", Version: 1, Usage: "V2", Algorithm: "T", Length: 16, Mode: "V", Exportability: "N"}, unhex(d.t, pvkVisa)))
	d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: datumKey(1)})
}

// baseKey is a base derivation key of AES terminals, for PINs of supervisors where the name says so.
func baseKey(name string, version uint32) *ceremony.KeySpec {
	spec := &ceremony.KeySpec{
		Name: name, Version: version, Usage: "B0", Algorithm: "A", Length: 16, Mode: "X", Exportability: "N", Direction: hsm.DirectionIncoming, Peers: []string{"*"}, Formats: []hsm.Format{hsm.Format4},
	}
	if name == "bdk-supervisor" {
		spec.PINKind, spec.Peers = hsm.PINRecord, nil
	}
	return spec
}

func datumKey(version uint32) *ceremony.KeySpec {
	return &ceremony.KeySpec{Name: "pin-records", Version: version, Usage: "V0", Algorithm: "A", Length: 16, Mode: "C", Exportability: "N"}
}

func signingPair(name string, version uint32) *ceremony.KeySpec {
	return &ceremony.KeySpec{Name: name, Version: version, Usage: "S0", Algorithm: "E", Length: 32, Mode: "S", Exportability: "N"}
}

func pagePair(name string, version uint32) *ceremony.KeySpec {
	return &ceremony.KeySpec{Name: name, Version: version, Usage: "K3", Algorithm: "E", Length: 32, Mode: "X", Exportability: "N", PINKind: hsm.PINRecord}
}

// pairs has officers make key pairs at each host, whose policy names them and the code keys of the
// others, and sends phones to one host, whichever that is. The switch gets the public keys of all.
func (f *fleet) pairs(list []*counter) {
	f.Helper()
	public := map[string][]byte{}
	f.phones = "localhost:" + port(freeAddress(f.T))
	for i, n := range f.nodes {
		other := f.nodes[len(f.nodes)-1-i]
		d := f.desk(n)
		for _, what := range []string{"void-tokens", "void-codes"} {
			name := what + "." + n.name
			d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: signingPair(name, 1)})
			k, err := keydv1.NewKeyServiceClient(n.connect(n.tls("officer-1"))).GetKey(n.ctx(), &keydv1.GetKeyRequest{KeyId: name})
			n.must(err)
			public[what] = append(public[what], pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.PublicKey})...)
		}
		d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: pagePair("void-page."+n.name, 1)})
		text := strings.Replace(string(policies.Dev), "token_key: void-tokens\n  code_key: void-codes\n",
			fmt.Sprintf("token_key: void-tokens.%s\n  code_key: void-codes.%s\n  other_code_keys: [void-codes.%s]\n", n.name, n.name, other.name), 1)
		text = strings.Replace(text, "page_key: void-page\n", "page_key: void-page."+n.name+"\n", 1)
		text = strings.Replace(text, "localhost:8443\"", f.phones+"\"", 1)
		n.write(filepath.Join(n.production.dir, "config", "policy.yaml"), text, 0o644)
		n.must(n.service.cmd.Process.Signal(syscall.SIGHUP))
		digest := sha256.Sum256([]byte(text))
		waitUntil(f.T, "the policy is in force", func() bool { return n.status().GetPolicy().GetDigest() == hex.EncodeToString(digest[:]) })
	}
	first := list[0]
	f.nodes[0].must(os.MkdirAll(first.file("voids"), 0o755))
	for what, text := range public {
		f.nodes[0].must(os.WriteFile(first.file("voids", what+".pem"), text, 0o644))
	}
}
