package module

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/token"
	"keyd/keys"
	"keyd/store"
)

// items are what a backup of the office's database holds.
func (o *office) items() (items []store.Item) {
	o.t.Helper()
	o.must(o.database.Export(o.t.Context(), func(i store.Item) error {
		if i.Proposal == nil && i.Row == nil {
			items = append(items, i)
		}
		return nil
	}))
	return items
}

// restored has the office go on with a database that is restored from a backup.
func (o *office) restored(items []store.Item) {
	o.t.Helper()
	o.stop()
	o.path = filepath.Join(o.t.TempDir(), "keyd.db")
	database, err := store.OpenSQLite(o.t.Context(), o.path)
	o.must(err)
	at := 0
	o.must(database.Import(o.t.Context(), func() (store.Item, error) {
		if at == len(items) {
			return store.Item{}, io.EOF
		}
		at++
		return items[at-1], nil
	}))
	o.must(database.Close())
	o.start(-1, false)
	o.must(o.front.Settle(o.t.Context()))
}

// TestARestoredDatabaseIsAcceptedByOfficers: until then no key is used, and nothing but that
// can be decided. Whatever is lost with the power on the way, the officers can go on.
func TestARestoredDatabaseIsAcceptedByOfficers(t *testing.T) {
	for _, another := range []bool{false, true} {
		t.Run(fmt.Sprintf("another token %t", another), func(t *testing.T) {
			o := newOffice(t)
			for _, name := range []string{"d", "stopped", "later"} {
				o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone(name, data), ValidFor: 3600}))
			}
			o.must(o.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "stopped", Version: 1}, ValidFor: 3600}))
			open, err := o.begun(&ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600})
			o.must(err)
			backup := o.items()
			epoch, err := o.database.CurrentEpoch(t.Context())
			o.must(err)
			if another {
				o.replaced(1, presentShares...)
			}
			o.restored(backup)
			if o.front.Ready() {
				t.Error("keys can be used")
			}
			version, digest := o.front.Restored()
			if version != epoch.Version || digest != ceremony.Digest(epoch.Sealed) {
				t.Errorf("restored with register %d, %s", version, digest)
			}
			inventory := keys.New(o.database)
			inventory.SetRestored(true)
			if _, err := inventory.Resolve(t.Context(), "d"); fault.Of(err).Reason != fault.EpochStale {
				t.Errorf("a key is resolved: %v", err)
			}
			for _, kind := range []ceremony.Kind{ceremony.Stop, ceremony.Start} {
				if _, err := o.begun(&ceremony.Definition{Kind: kind, Target: &ceremony.KeyRef{Name: "stopped", Version: 1}, ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
					t.Errorf("%s before the register is taken over: %v", kind, err)
				}
			}
			if _, err := o.begun(&ceremony.Definition{Kind: ceremony.Join, Register: digest, ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
				t.Errorf("a restored register is joined: %v", err)
			}
			// What was open in the backup changes nothing either: calling it off would begin another
			// register, by one officer alone.
			abort := o.sign("carol", ceremony.Statement{Action: ceremony.Abort, Opening: ceremony.Digest(open.Papers.Opening.Document)})
			if _, err := o.front.Abort(t.Context(), identityOf("carol"), open.ID, abort); fault.Of(err).Reason != fault.Conflict {
				t.Errorf("a ceremony is called off: %v", err)
			}
			if _, err := o.front.Approve(t.Context(), identityOf("alice"), open.ID, o.approval(open.Papers, "alice", "")); fault.Of(err).Reason != fault.Conflict {
				t.Errorf("a ceremony of the backup goes on: %v", err)
			}
			o.backdate(open.ID)

			since := []ceremony.KeyRef{{Name: "later", Version: 1}, {Name: "stopped", Version: 1}}
			adopt := &ceremony.Definition{Kind: ceremony.Adopt, Register: digest, Stopped: since, ValidFor: 3600}
			for what, c := range map[string]struct {
				d      ceremony.Definition
				reason fault.Reason
			}{
				"another register":                  {ceremony.Definition{Kind: ceremony.Adopt, Register: ceremony.Digest(nil), ValidFor: 3600}, fault.StatementMismatch},
				"a key that the register lacks":     {ceremony.Definition{Kind: ceremony.Adopt, Register: digest, Stopped: []ceremony.KeyRef{{Name: "none", Version: 1}}, ValidFor: 3600}, fault.KeyNotFound},
				"a version that the register lacks": {ceremony.Definition{Kind: ceremony.Adopt, Register: digest, Stopped: []ceremony.KeyRef{{Name: "d", Version: 2}}, ValidFor: 3600}, fault.KeyNotFound},
			} {
				if _, err := o.begun(&c.d); fault.Of(err).Reason != c.reason && !(what == "another register" && !another && fault.Of(err).Reason == fault.Conflict) {
					t.Errorf("%s: %v", what, err)
				}
			}
			// The power goes at every write.
			for at := range 12 {
				for _, after := range []bool{false, true} {
					if o.front.Ready() {
						break
					}
					o.stop()
					o.start(at, after)
					_ = o.through(adopt)
					o.restart()
				}
			}
			if !o.front.Ready() {
				o.must(o.through(adopt))
			}
			if e := o.front.Epoch(); e.Version <= version || !o.front.Ready() {
				t.Fatalf("epoch %d follows %d", e.Version, version)
			}
			if restored, err := o.database.Restored(t.Context()); restored || err != nil {
				t.Errorf("the mark stays: %v", err)
			}
			o.must(o.usable("d", 1))
			for _, ref := range since {
				if err := o.usable(ref.Name, 1); fault.Of(err).Reason != fault.KeyDisabled {
					t.Errorf("%s: %v", ref.Name, err)
				}
			}
			if !another {
				return
			}
			// Officers can start again what they had stopped with the register.
			o.must(o.through(&ceremony.Definition{Kind: ceremony.Start, Target: &since[0], ValidFor: 3600}))
			o.must(o.usable("later", 1))
		})
	}
}

// backdate takes a ceremony that nobody goes on with out of the way of [office.through], which
// goes on with what is open.
func (o *office) backdate(id string) {
	o.t.Helper()
	r, err := o.database.Ceremony(o.t.Context(), id)
	o.must(err)
	r.State = store.CeremonyAborted
	o.must(o.database.UpdateCeremony(o.t.Context(), r))
}

// sealBackup is a backup's seal, by the module.
func (o *office) sealBackup(digest [sha256.Size]byte) ceremony.BackupSeal {
	o.t.Helper()
	seal, err := o.client.SealBackup(o.t.Context(), digest)
	o.must(err)
	return ceremony.BackupSeal{Signed: ceremony.Signed(seal.Signed), Code: seal.Code}
}

func (b *siege) vouches(seal ceremony.BackupSeal, register []byte) (answer *quorum.Restorable, err error) {
	err = b.token.Do(func(s *token.Session) (err error) { answer, err = quorum.CheckBackup(s, &seal, register); return err })
	return answer, err
}

// A token vouches for a backup of its own, and of another with the same master keys while it is
// new; and for nothing else.
func TestATokenVouchesForABackup(t *testing.T) {
	o := newOffice(t)
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone("d", data), ValidFor: 3600}))
	epoch, err := o.database.CurrentEpoch(t.Context())
	o.must(err)
	digest := sha256.Sum256([]byte("a backup"))
	seal := o.sealBackup(digest)
	said, _, err := seal.Parse()
	o.must(err)
	o.must(said.Of(digest))
	if said.Epoch != epoch.Version || said.Document != ceremony.Digest(epoch.Sealed) || said.Development {
		t.Errorf("%+v", said)
	}
	if err := said.Of(sha256.Sum256(nil)); err == nil {
		t.Error("the seal is that of every backup")
	}
	if answer, err := o.vouches(seal, epoch.Sealed); err != nil || !answer.Same {
		t.Errorf("the same token: %+v, %v", answer, err)
	}
	refused := func(what, why string, seal ceremony.BackupSeal, register []byte) {
		t.Helper()
		if _, err := o.vouches(seal, register); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", what, err)
		}
	}
	flip := func(b []byte, at int) []byte { b = slices.Clone(b); b[at] ^= 1; return b }
	for at := range seal.Code {
		refused("another code", "other master keys", ceremony.BackupSeal{Signed: seal.Signed, Code: flip(seal.Code, at)}, epoch.Sealed)
	}
	refused("another signature", "seal", ceremony.BackupSeal{Signed: ceremony.Signed{Document: seal.Document, Signature: flip(seal.Signature, 20)}, Code: seal.Code}, epoch.Sealed)
	refused("half a code", "seal", ceremony.BackupSeal{Signed: seal.Signed, Code: seal.Code[:8]}, epoch.Sealed)
	refused("an altered register", "register", seal, flip(epoch.Sealed, len(epoch.Sealed)-1))
	refused("no register", "register", seal, nil)
	// A digest of another size is none.
	if err := besiege(t).ask(wire.OpSealBackup, &wire.SealBackup{Digest: digest[:31]}, &wire.BackupSealed{}); fault.Of(err).Reason != fault.RequestInvalid {
		t.Errorf("31 bytes: %v", err)
	}
	// What officers decide later makes it an old one.
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "d", Version: 1}, ValidFor: 3600}))
	refused("an older register", "takes no older register", seal, epoch.Sealed)
	o.replaced(1, presentShares...)
	if answer, err := o.vouches(seal, epoch.Sealed); err != nil || answer.Same {
		t.Errorf("a new token with the same shares: %+v, %v", answer, err)
	}
	other := newOffice(t)
	other.must(other.front.Settle(t.Context()))
	first, err := other.database.CurrentEpoch(t.Context())
	o.must(err)
	other.stop()
	other.initialised(rosterOf(t, first.Sealed), 1, nextShares...)
	other.start(-1, false)
	if _, err := other.vouches(seal, epoch.Sealed); err == nil || !strings.Contains(err.Error(), "other master keys") {
		t.Errorf("a token of other shares: %v", err)
	}
	other.stop()
	other.initialised(rosterOf(t, first.Sealed), 2, presentShares...)
	other.start(-1, false)
	if _, err := other.vouches(seal, epoch.Sealed); err == nil || !strings.Contains(err.Error(), "masters.generation: 1") {
		t.Errorf("a token of another generation: %v", err)
	}
}

func rosterOf(t *testing.T, sealed []byte) *ceremony.Roster {
	t.Helper()
	e, err := ceremony.ParseEpoch(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return &e.Roster
}
