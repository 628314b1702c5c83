package quorum_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/token"
)

// initialised is a bench whose token was set up by three officers, of whom carol and alice
// have shares of its master keys.
func initialised(t *testing.T, shares ...[]byte) *bench {
	t.Helper()
	b := bare(t)
	r, err := b.propose(b.initDefinition())
	b.must(err)
	r.accept(shares...)
	_, err = r.finishInit()
	b.must(err)
	b.do(func(s *token.Session) (err error) { b.epoch, err = register.First(s); return err })
	b.sealed = make(map[ceremony.KeyRef]hsm.Key)
	b.restart()
	return b
}

func (b *bench) reseal(key hsm.Key) (sealed []byte, err error) {
	err = b.token.Do(func(s *token.Session) error { sealed, err = b.engine.Reseal(s, key.Sealed); return err })
	return sealed, err
}

// replacing is the ceremony in which bob and carol bring shares of the next master keys, and
// carol and alice those of the present ones.
func replacing(b *bench) *run {
	b.Helper()
	return b.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Masters, MasterKeys: &ceremony.MasterSpec{Holders: []string{"bob", "carol"}, Previous: []string{"carol", "alice"}}})
}

// Master keys of another generation take the place of those that are here: keys that were
// sealed by these are used until they are retired, and can be sealed anew until then; what
// was sealed anew is the same key, also in another process.
func TestMasterKeysAreReplaced(t *testing.T) {
	present := [][]byte{random(32), random(32)}
	b := initialised(t, present...)
	values := map[string][]byte{"zone": random(32), "pek": random(16), "leaves": random(16)}
	b.load(spec("zone", "K1", "A", 32, "B", "N"), values["zone"])
	b.load(spec("pek", "P0", "T", 16, "B", "N"), values["pek"])
	b.load(spec("leaves", "P0", "T", 16, "B", "E"), values["leaves"])
	fingerprint := b.entry("pek", 1).Fingerprint
	if same, err := b.reseal(b.sealed[*ref("pek")]); err != nil || !bytes.Equal(same, b.sealed[*ref("pek")].Sealed) {
		t.Errorf("sealed anew under what sealed it: %v", err)
	}

	r := replacing(b)
	if r.opening.Need != (ceremony.Need{Components: 4, Approvals: 2}) {
		t.Errorf("%+v", r.opening.Need)
	}
	for i, share := range [][]byte{random(32), random(32), present[0], present[1]} {
		r.submit([]string{"bob", "carol", "carol", "alice"}[i], i+1, share)
		_, err := r.check()
		b.must(err)
	}
	_, err := r.carryOut()
	refused(t, err, fault.QuorumMissing)
	r.approve("alice", "bob")
	before := b.current().Generation
	out, err := r.carryOut()
	b.must(err)
	b.restart() // nothing counts yet
	if b.current().Generation != before {
		t.Fatal("the generation changed before the commit")
	}
	b.must(b.usable(ref("pek")))
	again, err := r.carryOut()
	b.must(err)
	if err := b.commitEpoch(out.Epoch); err == nil && !bytes.Equal(out.Epoch, again.Epoch) {
		t.Error("an epoch was committed whose master keys are no more")
	}
	r.commit(again)
	_, _, err = ceremony.VerifyRecord(b.identity, again.Record)
	b.must(err)
	if b.current().Generation != 2 || b.current().Oldest != 1 {
		t.Fatalf("generation %d, oldest %d", b.current().Generation, b.current().Oldest)
	}

	for name := range values {
		b.must(b.usable(ref(name))) // as it was
		key := b.sealed[*ref(name)]
		sealed, err := b.reseal(key)
		b.must(err)
		parsed, err := hsm.ParseSealed(sealed)
		b.must(err)
		if parsed.Header.Generation != 2 {
			t.Errorf("%s is of generation %d", name, parsed.Header.Generation)
		}
		altered := bytes.Clone(key.Sealed)
		altered[len(altered)-20] ^= 1
		_, err = b.reseal(hsm.Key{Name: name, Sealed: altered})
		refused(t, err, fault.KeySealInvalid)
		b.sealed[*ref(name)] = hsm.Key{Name: name, Sealed: sealed}
		b.must(b.usable(ref(name)))
	}
	works(t, b, b.sealed[*ref("pek")], values["pek"])
	old := b.sealed[*ref("pek")]

	// A value is known as it was, whichever master keys seal.
	known := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("copy", "P0", "T", 16, "B", "N"), Components: 2})
	known.submitAll(values["pek"])
	_, err = known.check()
	refused(t, err, fault.KeyValueRefused)
	b.load(spec("fresh", "K1", "A", 32, "B", "N"), random(32))

	// Another change has to wait for the end of this one.
	_, err = b.begin("bob", &ceremony.Definition{Kind: ceremony.Masters, MasterKeys: &ceremony.MasterSpec{Holders: []string{"bob", "carol"}, Previous: []string{"bob", "carol"}}})
	refused(t, err, fault.Conflict)
	b.perform(&ceremony.Definition{Kind: ceremony.Retire})
	b.restart()
	for name := range values {
		b.must(b.usable(ref(name)))
	}
	works(t, b, old, values["pek"])
	b.do(func(s *token.Session) error {
		for _, label := range []string{"keyd master 1 wrap token", "keyd master 1 wrap module", "keyd master 1 mac", "keyd master 1 resealing"} {
			if err := s.DestroyMaster(label); err == nil {
				t.Errorf("%q outlives its generation", label)
			}
		}
		return nil
	})
	if b.entry("pek", 1).Fingerprint != fingerprint {
		t.Error("fingerprints changed")
	}
	_, err = b.begin("bob", &ceremony.Definition{Kind: ceremony.Retire})
	refused(t, err, fault.Conflict)
	s := &shelf{bench: b}
	_, err = s.export("leaves", "fresh", ceremony.BlockForm{Version: "D", Exportability: "N"})
	b.must(err)
}

// What was sealed by master keys that are retired is no key any more, though its header is in
// the register.
func TestKeysOfRetiredMastersAreGone(t *testing.T) {
	present := [][]byte{random(32), random(32)}
	b := initialised(t, present...)
	b.load(spec("pek", "P0", "T", 16, "B", "E"), random(16))
	b.load(spec("zone", "K1", "A", 32, "B", "N"), random(32))
	r := replacing(b)
	for i, share := range [][]byte{random(32), random(32), present[0], present[1]} {
		r.submit([]string{"bob", "carol", "carol", "alice"}[i], i+1, share)
	}
	r.approve("alice", "bob")
	r.finish()
	sealed, err := b.reseal(b.sealed[*ref("zone")])
	b.must(err)
	b.sealed[*ref("zone")] = hsm.Key{Name: "zone", Sealed: sealed}
	b.perform(&ceremony.Definition{Kind: ceremony.Retire})
	for range 2 { // in the process that has unsealed it, and in one that has not
		refused(t, b.usable(ref("pek")), fault.KeySealInvalid)
		_, err = b.reseal(b.sealed[*ref("pek")])
		refused(t, err, fault.KeySealInvalid)
		_, err = (&shelf{bench: b}).export("pek", "zone", ceremony.BlockForm{Version: "D", Exportability: "N"})
		refused(t, err, fault.KeySealInvalid)
		b.restart()
	}
}

// Shares that are not those of the present master keys, or that leave the next ones to one
// officer.
func TestSharesThatAreRefused(t *testing.T) {
	present := [][]byte{random(32), random(32)}
	b := initialised(t, present...)
	share := random(32)
	for _, c := range []struct {
		name   string
		shares [][]byte
		want   fault.Reason
	}{
		{"another present share", [][]byte{random(32), random(32), present[0], random(32)}, fault.CheckValueMismatch},
		{"the present shares in each other's place", [][]byte{random(32), random(32), present[1], present[0]}, 0}, // their sum is the same
		{"a share of zeros beside another", [][]byte{random(32), make([]byte, 32), present[0], present[1]}, fault.KeyValueRefused},
		{"two shares that are the same", [][]byte{share, share, present[0], present[1]}, fault.KeyValueRefused},
		{"a share that is too short", [][]byte{random(32), random(16), present[0], present[1]}, fault.ComponentInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.TB = t
			r := replacing(b)
			defer r.abort()
			for i, share := range c.shares {
				r.submit([]string{"bob", "carol", "carol", "alice"}[i], i+1, share)
			}
			for _, o := range []string{"alice", "bob"} {
				r.papers.Approvals = append(r.papers.Approvals, r.statement(o, &ceremony.Statement{Action: ceremony.Approve, Components: r.components()}))
			}
			_, err := r.carryOut()
			if c.want == 0 {
				b.must(err)
				return
			}
			refused(t, err, c.want)
		})
	}
	for _, m := range []*ceremony.MasterSpec{{Holders: []string{"alice", "mallory"}, Previous: []string{"alice", "carol"}}, {Holders: []string{"alice", "carol"}, Previous: []string{"alice", "mallory"}}} {
		_, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Masters, MasterKeys: m})
		refused(t, err, fault.DefinitionInvalid)
	}
}

// A change of master keys that is never committed leaves nothing that could seal keys anew,
// and its epoch counts no more.
func TestUncommittedMastersLeaveNothing(t *testing.T) {
	present := [][]byte{random(32), random(32)}
	b := initialised(t, present...)
	r := replacing(b)
	for i, share := range [][]byte{random(32), random(32), present[0], present[1]} {
		r.submit([]string{"bob", "carol", "carol", "alice"}[i], i+1, share)
	}
	r.approve("alice", "bob")
	out, err := r.carryOut()
	b.must(err)
	find := func() (err error) {
		b.do(func(s *token.Session) error {
			_, err = s.Find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, "keyd master 1 resealing"))
			return nil
		})
		return err
	}
	b.must(find())
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("pek", "P0", "T", 16, "B", "N")})
	if err := find(); !errors.Is(err, token.ErrNoObject) {
		t.Errorf("what seals keys anew is still there: %v", err)
	}
	refused(t, b.commitEpoch(out.Epoch), fault.EpochStale)
	b.must(b.usable(ref("pek")))
}

// What is pinned is committed again between a change of master keys and its commit, as a front
// may: keys are sealed anew all the same.
func TestCommitAgainLeavesAChangeOfMasters(t *testing.T) {
	present := [][]byte{random(32), random(32)}
	b := initialised(t, present...)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("pek", "P0", "T", 16, "B", "N")})
	r := replacing(b)
	for i, share := range [][]byte{random(32), random(32), present[0], present[1]} {
		r.submit([]string{"bob", "carol", "carol", "alice"}[i], i+1, share)
	}
	r.approve("alice", "bob")
	out, err := r.carryOut()
	b.must(err)
	b.must(b.commitEpoch(b.epoch))
	b.must(b.commitEpoch(out.Epoch))
	if b.current().Generation != 2 {
		t.Fatalf("generation %d", b.current().Generation)
	}
	_, err = b.reseal(b.sealed[*ref("pek")])
	b.must(err)
}
