package module

import (
	"errors"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/store"
)

var nextShares = []string{
	"7D9E2B10C4A35F68E1D07B9342AC815E90F63C2D7B18A4E50C5D9F8A6E3B2714",
	"1B4C7D0E3F6A9B2C5D8E1F4A7B0C3D6E9F2A5B8C1D4E7F0A3B6C9D2E5F8A1B4C",
}

// replacement is the definition of other master keys.
func replacement() *ceremony.Definition {
	return &ceremony.Definition{
		Kind: ceremony.Masters, ValidFor: 3600,
		MasterKeys: &ceremony.MasterSpec{Holders: []string{"alice", "bob"}, Previous: []string{"alice", "bob"}},
	}
}

// shares submits shares in their places, and returns what the last was answered.
func (o *office) shares(cer *keys.Ceremony, values ...string) (*keys.Ceremony, error) {
	var err error
	names := []string{"alice", "bob", "alice", "bob"}
	for i := len(cer.Papers.Submissions); i < len(values); i++ {
		if cer, err = o.front.Submit(o.t.Context(), identityOf(names[i]), cer.ID, o.component(cer.Papers, names[i], i+1, values[i])); err != nil {
			return nil, err
		}
	}
	return cer, nil
}

func (o *office) begun(d *ceremony.Definition) (*keys.Ceremony, error) {
	encoded, err := ceremony.Encode(d)
	o.must(err)
	wish := o.sign("alice", ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded)})
	return o.front.Begin(o.t.Context(), identityOf("alice"), encoded, wish)
}

func (o *office) approved(cer *keys.Ceremony) error {
	for i, name := range []string{"alice", "bob"} {
		var err error
		if i < len(cer.Papers.Approvals) {
			continue // before the power went
		}
		if cer, err = o.front.Approve(o.t.Context(), identityOf(name), cer.ID, o.approval(cer.Papers, name, cer.CheckValue)); err != nil {
			return err
		}
	}
	return nil
}

func (o *office) sealed(name string) (hsm.Key, *hsm.Header) {
	o.t.Helper()
	r, err := o.database.Version(o.t.Context(), name, 1)
	o.must(err)
	s, err := hsm.ParseSealed(r.Sealed)
	o.must(err)
	return hsm.Key{Name: name, Sealed: r.Sealed}, s.Header
}

// TestMasterKeysAreReplacedWhileServing: keys are sealed anew one by one; those that were and
// those that were not are both used. What was sealed before is worth nothing in the end.
func TestMasterKeysAreReplacedWhileServing(t *testing.T) {
	o := newOffice(t)
	names := []string{"a", "b", "c", "d"}
	for i, name := range names {
		spec := zone(name, data)
		if i == 1 {
			spec = zone(name, data, func(k *ceremony.KeySpec) { k.Exportability = "E" }) // which the module may read
		}
		o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: spec, ValidFor: 3600}))
	}
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone("kbpk", protecting), ValidFor: 3600}))
	before, h := o.sealed("a")
	if h.Generation != 1 {
		t.Fatalf("generation %d", h.Generation)
	}
	if _, err := o.begun(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
		t.Errorf("without other master keys they are retired: %v", err)
	}
	cer, err := o.begun(replacement())
	o.must(err)
	cer, err = o.shares(cer, append(append([]string{}, nextShares...), presentShares...)...)
	o.must(err)
	o.must(o.approved(cer))
	if e := o.front.Epoch(); e.Generation != 2 || e.Oldest != 1 {
		t.Fatalf("generation %d, oldest %d", e.Generation, e.Oldest)
	}
	for _, name := range names {
		o.must(o.usable(name, 1))
	}
	// New keys are sealed by the new ones at once.
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600}))
	if _, h := o.sealed("new"); h.Generation != 2 {
		t.Errorf("a new key is sealed by generation %d", h.Generation)
	}
	if _, err := o.begun(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
		t.Errorf("master keys that still seal keys are retired: %v", err)
	}
	if _, err := o.begun(replacement()); fault.Of(err).Reason != fault.Conflict {
		t.Errorf("a third generation begins before the first is retired: %v", err)
	}
	r, err := o.front.Reseal(t.Context())
	if err != nil || r != (keys.Resealing{Done: 5}) {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := o.front.Reseal(t.Context()); err != nil || r != (keys.Resealing{}) {
		t.Errorf("again: %+v, %v", r, err)
	}
	for _, name := range names {
		k, after := o.sealed(name)
		if after.Generation != 2 {
			t.Errorf("%s is sealed by generation %d", name, after.Generation)
		}
		o.must(o.usable(name, 1))
		if name == "a" && (after.Fingerprint != h.Fingerprint || after.CheckValue != h.CheckValue || string(k.Sealed) == string(before.Sealed)) {
			t.Errorf("it is another key: %+v, %+v", after, h)
		}
	}
	o.must(o.use(before)) // until the old master keys are retired
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}))
	o.refused(o.use(before), fault.KeySealInvalid)
	for _, name := range append(names, "new") {
		o.must(o.usable(name, 1))
	}
	if _, err := o.client.Reseal(t.Context(), before); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Errorf("what was sealed before is sealed anew: %v", err)
	}
	// A module that starts now finds the master keys of the second generation; and exports work.
	o.restart()
	for _, name := range names {
		o.must(o.usable(name, 1))
	}
	o.must(o.through(&ceremony.Definition{
		Kind: ceremony.Export, Target: &ceremony.KeyRef{Name: "b", Version: 1}, Under: &ceremony.KeyRef{Name: "kbpk", Version: 1}, ValidFor: 3600,
		Export: &ceremony.BlockForm{Version: "B", Exportability: "N"},
	}))
}

// TestMasterKeysAreReplacedByTheirHoldersOnly: shares that are not the present ones, and
// shares in others' places.
func TestMasterKeysAreReplacedByTheirHoldersOnly(t *testing.T) {
	o := newOffice(t)
	o.must(o.front.Settle(t.Context()))
	cer, err := o.begun(replacement())
	o.must(err)
	if _, err := o.shares(cer, nextShares[0], nextShares[1], presentShares[0], nextShares[0]); fault.Of(err).Reason != fault.CheckValueMismatch {
		t.Errorf("shares of other master keys: %v", err)
	}
	if _, err := o.front.Submit(t.Context(), identityOf("carol"), cer.ID, o.component(cer.Papers, "carol", 1, nextShares[0])); fault.Of(err).Reason != fault.StatementMismatch {
		t.Errorf("a share of somebody who holds none: %v", err)
	}
	if e := o.front.Epoch(); e.Generation != 1 {
		t.Errorf("generation %d", e.Generation)
	}
}

// TestThePowerGoesWhileKeysAreSealedAnew breaks sealing off at every key, before it is written
// and after.
func TestThePowerGoesWhileKeysAreSealedAnew(t *testing.T) {
	o := newOffice(t)
	names := []string{"a", "b", "c"}
	for _, name := range names {
		o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone(name, data), ValidFor: 3600}))
	}
	for at := range 6 { // the ceremony's own writes
		for _, after := range []bool{false, true} {
			if e := o.front.Epoch(); e.Generation == 2 {
				break
			}
			o.stop()
			o.start(at+1, after)
			list, _, err := o.front.List(t.Context(), store.CeremonyOpen, o.now, "", 1)
			o.must(err)
			o.must(o.front.Settle(t.Context()))
			var cer *keys.Ceremony
			if len(list) > 0 {
				cer = list[0]
			} else if cer, err = o.begun(replacement()); err != nil {
				o.restart()
				continue
			}
			if cer, err = o.shares(cer, append(append([]string{}, nextShares...), presentShares...)...); err == nil {
				err = o.approved(cer)
			}
			if err != nil && !errors.Is(err, errPower) && fault.Of(err).Reason != fault.StoreUnavailable && fault.Of(err).Reason != fault.OfficerRepeated {
				t.Errorf("write %d (after it: %t): %v", at, after, err)
			}
			o.restart()
			for _, name := range names {
				o.must(o.usable(name, 1))
			}
		}
	}
	if e := o.front.Epoch(); e.Generation != 2 {
		cer, err := o.begun(replacement())
		o.must(err)
		cer, err = o.shares(cer, append(append([]string{}, nextShares...), presentShares...)...)
		o.must(err)
		o.must(o.approved(cer))
	}
	for at := range names {
		for _, after := range []bool{false, true} {
			o.stop()
			o.start(at, after)
			o.must(o.front.Settle(t.Context()))
			_, _ = o.front.Reseal(t.Context()) // the power goes at one of them
			o.restart()
			for _, name := range names {
				o.must(o.usable(name, 1))
			}
		}
	}
	if _, err := o.front.Reseal(t.Context()); err != nil {
		t.Error(err)
	}
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}))
	for _, name := range names {
		if _, h := o.sealed(name); h.Generation != 2 {
			t.Errorf("%s is sealed by generation %d", name, h.Generation)
		}
		o.must(o.usable(name, 1))
	}
}
