package quorum_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
)

// authority returns one that is valid at the bench's time.
func (b *bench) authority(name string, uses ...string) *ceremony.Authority {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: b.now.Add(-time.Hour), NotAfter: b.now.Add(24 * time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	b.must(err)
	return &ceremony.Authority{Certificate: der, Uses: uses}
}

// It takes the officers who decide about the roster to believe an authority, and one alone to
// end it.
func TestAuthoritiesAreBelievedByDecision(t *testing.T) {
	b := newBench(t, func(r *ceremony.Roster) { r.Quorum.Roster = 3 })
	maker := b.authority("maker", ceremony.UseTerminals)
	trust := &ceremony.Definition{Kind: ceremony.Trust, Authority: maker}
	r := b.mustBegin("alice", trust)
	if r.opening.Need != (ceremony.Need{Approvals: 3}) {
		t.Errorf("%+v", r.opening.Need)
	}
	r.approve("alice", "bob")
	_, err := r.carryOut()
	refused(t, err, fault.QuorumMissing)
	r.approve("carol")
	r.finish()
	if a := b.current().Authority(maker.Fingerprint()); a == nil || !a.Has(ceremony.UseTerminals) || a.Has(ceremony.UseHosts) {
		t.Fatalf("%+v", a)
	}
	_, err = b.begin("alice", trust)
	refused(t, err, fault.Conflict)

	// For another use it is decided anew.
	both := *maker
	both.Uses = []string{ceremony.UseTerminals, ceremony.UseHosts}
	b.perform(&ceremony.Definition{Kind: ceremony.Trust, Authority: &both})
	if a := b.current().Authority(maker.Fingerprint()); len(b.current().Authorities) != 1 || !a.Has(ceremony.UseHosts) {
		t.Errorf("%+v", a)
	}

	// After a restart it is believed as before: it stands in the register.
	b.restart()
	distrust := &ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{maker.Fingerprint()}}
	lone := b.mustBegin("dave", distrust)
	if lone.opening.Need != (ceremony.Need{Approvals: 1}) {
		t.Errorf("%+v", lone.opening.Need)
	}
	lone.approve("dave")
	lone.finish()
	if len(b.current().Authorities) != 0 {
		t.Error("it is still believed")
	}
	_, err = b.begin("alice", distrust)
	refused(t, err, fault.DefinitionInvalid)
}

// Papers with which an authority was to be believed are void once it was distrusted: a front
// could have held them back.
func TestBeliefIsNotBroughtBack(t *testing.T) {
	b := newBench(t)
	maker := b.authority("maker", ceremony.UseTerminals)
	trust := &ceremony.Definition{Kind: ceremony.Trust, Authority: maker}
	held := b.mustBegin("alice", trust)
	held.approve("alice", "bob")
	b.perform(trust) // as they were told that it had failed
	leaf, err := x509.ParseCertificate(maker.Certificate)
	b.must(err)
	if b.current().Distrusts(leaf) {
		t.Error("it is distrusted already")
	}
	b.perform(&ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{maker.Fingerprint()}})
	if !b.current().Distrusts(leaf) {
		t.Error("its key is not remembered")
	}
	_, err = held.carryOut()
	refused(t, err, fault.Conflict)
	b.perform(trust) // begun afterwards
	if b.current().Authority(maker.Fingerprint()) == nil || b.current().Distrusts(leaf) {
		t.Error("officers have decided anew, and it is not believed")
	}
}

func TestAuthoritiesThatAreRefused(t *testing.T) {
	b := newBench(t)
	late := b.authority("late", ceremony.UseTerminals)
	b.now = b.now.Add(24 * time.Hour)
	_, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Trust, Authority: late})
	refused(t, err, fault.DefinitionInvalid)

	// One that has ended between beginning and end.
	ending := b.authority("ending", ceremony.UseTerminals)
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Trust, Authority: ending, ValidFor: ceremony.MaxValidFor})
	r.approve("alice", "bob")
	b.now = b.now.Add(24 * time.Hour)
	_, err = r.carryOut()
	refused(t, err, fault.DefinitionInvalid)

	// No more than there is room for; an end makes room.
	for i := range ceremony.MaxAuthorities {
		b.perform(&ceremony.Definition{Kind: ceremony.Trust, Authority: b.authority(fmt.Sprint("maker ", i), ceremony.UseTerminals)})
	}
	more := &ceremony.Definition{Kind: ceremony.Trust, Authority: b.authority("one more", ceremony.UseHosts)}
	_, err = b.begin("alice", more)
	refused(t, err, fault.Conflict)
	all := b.current().Authorities
	b.perform(&ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{all[0].Fingerprint(), all[5].Fingerprint()}})
	b.perform(more)
	if n := len(b.current().Authorities); n != ceremony.MaxAuthorities-1 {
		t.Errorf("%d are believed", n)
	}
}

// Who takes a register over says which authorities were distrusted since it was written.
func TestATakeoverEndsBelief(t *testing.T) {
	b := newBench(t)
	kept, ended := b.authority("kept", ceremony.UseTerminals), b.authority("ended", ceremony.UseTerminals)
	b.perform(&ceremony.Definition{Kind: ceremony.Trust, Authority: kept})
	b.perform(&ceremony.Definition{Kind: ceremony.Trust, Authority: ended})
	register := ceremony.Digest(b.epoch)
	_, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Adopt, Register: register, Distrusted: []string{ceremony.Digest(nil)}})
	refused(t, err, fault.DefinitionInvalid)
	b.perform(&ceremony.Definition{Kind: ceremony.Adopt, Register: register, Distrusted: []string{ended.Fingerprint()}})
	if e := b.current(); e.Authority(kept.Fingerprint()) == nil || e.Authority(ended.Fingerprint()) != nil {
		t.Errorf("%d are believed", len(e.Authorities))
	}
}
