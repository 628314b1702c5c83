package ceremony_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"keyd/ceremony"
	"keyd/hsm"
)

var officerNames = []string{"alice", "bob", "carol", "dave"}

// cast is everybody who signs: a module and its officers.
type cast struct {
	module   *ecdsa.PrivateKey
	officers map[string]*ecdsa.PrivateKey
	roster   ceremony.Roster
	agrees   *ecdh.PrivateKey // the ceremony's key
}

// theCast is made once: tests change copies.
var theCast = sync.OnceValue(func() *cast {
	c := &cast{officers: make(map[string]*ecdsa.PrivateKey)}
	// The keys are always the same, so that the processes of a fuzzing run have one cast.
	made := byte(0)
	scalar := func(size int) []byte {
		made++
		seed := sha512.Sum512([]byte{made})
		return append(make([]byte, max(size-31, 0)), seed[:min(size, 31)]...)
	}
	key := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		return must(ecdsa.ParseRawPrivateKey(curve, scalar((curve.Params().BitSize+7)/8)))
	}
	c.module = key(elliptic.P256()) // the quickest: a test verifies thousands of signatures
	for i, name := range officerNames {
		k := key([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}[i%3])
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			panic(err)
		}
		c.officers[name] = k
		c.roster.Officers = append(c.roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://bank.example/officer/" + name, Key: der})
	}
	c.roster.Quorum = ceremony.Quorum{Components: 2, Approvals: 2, Roster: 3, Usages: []ceremony.Rule{{Usages: []string{"P0", "M1"}, Components: 3, Approvals: 1}}}
	c.agrees = must(ecdh.P521().NewPrivateKey(scalar(66)))
	return c
})

// rosterCopy is the cast's roster, to be changed.
func (c *cast) rosterCopy() *ceremony.Roster {
	r := &ceremony.Roster{Officers: slices.Clone(c.roster.Officers), Quorum: c.roster.Quorum}
	r.Quorum.Usages = slices.Clone(r.Quorum.Usages)
	return r
}

func must[A any](a A, err error) A {
	if err != nil {
		panic(err)
	}
	return a
}

// pemOf is an officer's public key as a file holds it.
func (c *cast) pemOf(name string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: c.roster.Officer(name).Key})
}

// keySpec is a specification in which nothing is wrong.
func keySpec() *ceremony.KeySpec {
	return &ceremony.KeySpec{Name: "zone/pek", Version: 1, Usage: "P0", Algorithm: "T", Length: 16, Mode: "B", Exportability: "N", Direction: hsm.DirectionBoth, Peers: []string{"acquirer-1", "*"}, Formats: []hsm.Format{hsm.Format0, hsm.Format3}}
}

// definitions is one of each kind in which nothing is wrong.
func definitions() map[ceremony.Kind]*ceremony.Definition {
	c := theCast()
	ref := &ceremony.KeyRef{Name: "zone/pek", Version: 1}
	under := &ceremony.KeyRef{Name: "zone/kbpk", Version: 3}
	all := map[ceremony.Kind]*ceremony.Definition{
		ceremony.Init:    {Roster: c.rosterCopy(), MasterKeys: &ceremony.MasterSpec{Holders: []string{"alice", "dave"}}},
		ceremony.Load:    {Key: keySpec(), Components: 3},
		ceremony.Create:  {Key: keySpec()},
		ceremony.Import:  {Key: keySpec(), Block: "D0112P0TB00N0000", Under: under},
		ceremony.Export:  {Target: ref, Under: under, Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}},
		ceremony.Stop:    {Target: ref},
		ceremony.Start:   {Target: ref},
		ceremony.Delete:  {Target: ref, Wait: ceremony.MinWait},
		ceremony.Restore: {Target: ref},
		ceremony.Change:  {Roster: c.rosterCopy()},
		ceremony.Masters: {MasterKeys: &ceremony.MasterSpec{Holders: []string{"alice", "dave"}, Previous: []string{"alice", "bob"}}},
		ceremony.Retire:  {},
		ceremony.Attach:  {Key: keySpec(), Object: "label"},
	}
	for kind, d := range all {
		d.Kind, d.ValidFor, d.Reason = kind, 3600, "ticket 17"
	}
	return all
}

// file writes a file of a folder and returns its path.
func file(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// play is a ceremony whose papers are complete.
type play struct {
	*cast
	definition []byte
	opening    *ceremony.Opening
	digest     string
	papers     ceremony.Proceedings
}

const opened, expires = 1_900_000_000, 1_900_003_600

// newPlay opens a ceremony for a definition as a module would, of which nothing is looked up.
func newPlay(d *ceremony.Definition) *play {
	c := theCast()
	p := &play{cast: c, definition: must(ceremony.Encode(d))}
	usage := ""
	if d.Key != nil {
		usage = d.Key.Usage
	}
	p.open(ceremony.Opening{
		ID: strings.Repeat("0123456789abcdef", 2), Kind: d.Kind, Definition: ceremony.Digest(p.definition), Identity: must(ceremony.KeyFingerprint(&c.module.PublicKey)),
		Roster: must(c.roster.Fingerprint()), Epoch: 7, Need: c.roster.Quorum.Need(d, usage, false), Opened: opened, Expires: expires, Officer: "alice", Key: c.agrees.PublicKey().Bytes(),
	})
	p.papers.Definition = p.definition
	return p
}

func (p *play) open(o ceremony.Opening) {
	p.opening = &o
	encoded := must(ceremony.Encode(&o))
	p.papers.Opening = ceremony.Signed{Document: encoded, Signature: must(ceremony.Sign(p.module, ceremony.OfOpening, encoded))}
	p.digest = ceremony.Digest(encoded)
}

// sign fills in what every statement has.
func (p *play) sign(officer string, s ceremony.Statement) ceremony.Signed {
	s.Officer, s.Definition, s.Identity, s.Roster, s.Opening, s.Time = officer, ceremony.Digest(p.definition), p.opening.Identity, p.opening.Roster, p.digest, opened+1
	return must(s.Sign(p.officers[officer]))
}

func (p *play) submission(officer string, index int) ceremony.Submission {
	sealed := must(ceremony.SealComponent(p.opening, p.digest, officer, index, []byte("a component of "+officer)))
	return ceremony.Submission{Sealed: sealed, Statement: p.sign(officer, ceremony.Statement{Action: ceremony.Submit, Index: index, Component: ceremony.Digest(sealed), CheckValue: "0A1B2C"})}
}

func (p *play) submit(officers ...string) {
	for i, o := range officers {
		p.papers.Submissions = append(p.papers.Submissions, p.submission(o, i+1))
	}
}

func (p *play) approve(check string, officers ...string) {
	var digests []string
	for _, s := range p.papers.Submissions {
		digests = append(digests, ceremony.Digest(s.Sealed))
	}
	for _, o := range officers {
		p.papers.Approvals = append(p.papers.Approvals, p.sign(o, ceremony.Statement{Action: ceremony.Approve, CheckValue: check, Components: digests}))
	}
}

// loading is a ceremony of kind load with all its papers.
func loading() *play {
	p := newPlay(definitions()[ceremony.Load])
	p.submit("alice", "bob", "carol")
	p.approve("D00DAD", "carol", "dave")
	return p
}

// record is a module's account of it.
func (p *play) record(change func(*ceremony.Record)) ceremony.Signed {
	r := &ceremony.Record{Proceedings: p.papers, Roster: must(ceremony.Encode(&p.roster)), Time: opened + 10,
		Outcome: ceremony.Outcome{Epoch: 8, Key: &ceremony.KeyRef{Name: "zone/pek", Version: 1}, Usage: "P0", CheckValue: "D00DAD"}}
	r.Submissions = slices.Clone(r.Submissions)
	for i := range r.Submissions {
		r.Submissions[i].Sealed = nil
	}
	if change != nil {
		change(r)
	}
	encoded := must(ceremony.Encode(r))
	return ceremony.Signed{Document: encoded, Signature: must(ceremony.Sign(p.module, ceremony.OfRecord, encoded))}
}
