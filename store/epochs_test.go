package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"keyd/store"
	"keyd/store/storetest"
)

// epochChange is what the epoch writer does with each epoch: head tells which was the last,
// and the one before is purged.
func epochChange(version uint64) store.Change {
	head := storetest.Record("head", 1)
	head.Sealed = fmt.Appendf(nil, "%06d", version)
	change := store.Change{Keys: []store.KeyRecord{head, storetest.Record(epochKey(version), 1)}}
	if version > 2 {
		change.Purge = []store.KeyVersion{{Name: epochKey(version - 1), Version: 1}}
	}
	return change
}

func epochKey(version uint64) string { return fmt.Sprintf("key-%06d", version) }

// follow brings a database whose last process was killed to where it can go on, as a front
// does, and returns the current epoch.
func follow(ctx context.Context, s store.Store) (uint64, error) {
	if err := s.AdoptEpoch(ctx, 1, storetest.Epoch(1)); err != nil && !errors.Is(err, store.ErrConflict) {
		return 0, err
	}
	proposed, err := s.ProposedEpoch(ctx)
	switch {
	case err == nil:
		if err := s.AdvanceEpoch(ctx, proposed.Version, nil, nil); err != nil {
			return 0, err
		}
	case !errors.Is(err, store.ErrNotFound):
		return 0, err
	}
	current, err := s.CurrentEpoch(ctx)
	return current.Version, err
}

// advanceForever goes from epoch to epoch, and prints the number of each that was advanced.
func advanceForever(path string) error {
	ctx := context.Background()
	s, err := store.OpenSQLite(ctx, path)
	if err != nil {
		return err
	}
	version, err := follow(ctx, s)
	for err == nil {
		version++
		if err = s.ProposeEpoch(ctx, "", version, storetest.Epoch(version), epochChange(version)); err != nil {
			break
		}
		if err = s.AdvanceEpoch(ctx, version, nil, nil); err == nil {
			_, err = fmt.Fprintln(os.Stdout, version)
		}
	}
	return err
}

// A process that goes from epoch to epoch is killed again and again: the keys are always
// those of the epoch that is in force, and the next process goes on.
func TestKilledBetweenEpochs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	for round := range 6 {
		acknowledged := killAfter(t, roleEpochs, path, 1+3*round)
		s := open(t, path)
		for _, step := range []string{"as it was left", "followed"} {
			current, err := s.CurrentEpoch(t.Context())
			if err != nil || current.Version < uint64(acknowledged) {
				t.Fatalf("round %d, %s: epoch %d, %v; acknowledged was %d", round, step, current.Version, err, acknowledged)
			}
			head, err := s.Get(t.Context(), "head")
			if err != nil || string(head.Sealed) != fmt.Sprintf("%06d", current.Version) {
				t.Fatalf("round %d, %s: epoch %d with the keys of %q, %v", round, step, current.Version, head.Sealed, err)
			}
			l, err := s.List(t.Context(), "key-", store.MaxList)
			if err != nil || len(l) != 1 || l[0].Name != epochKey(current.Version) {
				t.Fatalf("round %d, %s: %d keys, %v, want that of epoch %d", round, step, len(l), err, current.Version)
			}
			if _, err := follow(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		closeStore(t, s)
	}
}

// A database from before there were nodes keeps its ceremonies and epochs.
func TestUpgradeToNodes(t *testing.T) {
	path := sound(t)
	s := open(t, path)
	done := storetest.Ceremony(1)
	done.State = store.CeremonyCompleted
	if err := errors.Join(s.AddCeremony(t.Context(), storetest.Ceremony(1)), s.AdoptEpoch(t.Context(), 1, storetest.Epoch(1)),
		s.ProposeEpoch(t.Context(), "", 2, storetest.Epoch(2), store.Change{Ceremony: &done})); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	execute("ALTER TABLE ceremonies DROP COLUMN node; ALTER TABLE epochs DROP COLUMN node;"+
		"DROP TABLE marks; DROP TABLE epoch_links; DROP TABLE nodes; DROP TABLE terminals; DROP TABLE terminal_events; "+dropLater("")+"DELETE FROM goose_db_version WHERE version_id >= 4")(t, path)
	s = open(t, path)
	p, err := s.ProposedEpoch(t.Context())
	if err != nil || p.Version != 2 || p.Node != "" || p.Change.Ceremony == nil {
		t.Errorf("ProposedEpoch = %v, %v", p, err)
	}
	before, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.AdvanceEpoch(t.Context(), 2, nil, []byte("link")); err != nil {
		t.Fatal(err)
	}
	r, err := s.Ceremony(t.Context(), done.ID)
	if err != nil || r.State != store.CeremonyCompleted || r.Node != "" {
		t.Errorf("Ceremony = %v, %v", r.State, err)
	}
	links, err := s.EpochLinks(t.Context(), 0, 10)
	if err != nil || len(links) != 1 || links[0].Version != 2 {
		t.Errorf("EpochLinks = %v, %v", links, err)
	}
	if after, err := s.Revision(t.Context()); err != nil || after <= before {
		t.Errorf("the revision is %d after %d, %v", after, before, err)
	}
}

// A database from before there were ceremonies keeps its keys.
func TestUpgrade(t *testing.T) {
	path := sound(t)
	execute("DROP TABLE ceremonies; DROP TABLE epochs; DROP TABLE aliases; DROP TABLE key_tags; DROP TABLE key_usage;"+
		"DROP TABLE marks; DROP TABLE epoch_links; DROP TABLE nodes; DROP TABLE terminals; DROP TABLE terminal_events; "+dropLater("")+"DELETE FROM goose_db_version WHERE version_id >= 3")(t, path)
	s := open(t, path)
	l, err := s.List(t.Context(), "", store.MaxList)
	if err != nil || len(l) != 200 {
		t.Fatalf("List = %d, %v", len(l), err)
	}
	if err := s.SetAlias(t.Context(), "a", "key-7", ""); err != nil {
		t.Error(err)
	}
	if _, err := follow(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// A database from before there were phones keeps its PIN records and voids.
func TestUpgradeToPhones(t *testing.T) {
	path := sound(t)
	s := open(t, path)
	pin, event, void := storetest.PINRecord(1), storetest.PINEvent("enrol-begun"), storetest.Void(1)
	void.PaidAt = time.Time{}
	question := store.VoidQuestion{Request: void.Request, Merchant: void.Merchant, Reference: void.Reference, Since: void.Created}
	if _, _, err := s.AddVoid(t.Context(), question, func(store.Standing) (store.VoidRecord, error) { return void, nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.AddPINRecord(t.Context(), pin, event); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	old, err := os.ReadFile("migrations/00007_pinrecords.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(old), "CREATE TABLE pin_records")
	table, _, _ = strings.Cut(table, "-- What happened")
	execute("ALTER TABLE pin_records RENAME TO later; DROP INDEX pin_records_by_merchant; DROP INDEX pin_records_by_approval; CREATE TABLE pin_records"+table+
		"INSERT INTO pin_records SELECT * FROM later; DROP TABLE later; ALTER TABLE voids DROP COLUMN paid_at; DELETE FROM goose_db_version WHERE version_id >= 9")(t, path)
	s = open(t, path)
	if got, err := s.PINRecord(t.Context(), pin.Subject); err != nil || !reflect.DeepEqual(got, pin) {
		t.Errorf("PINRecord = %+v, %v", got, err)
	}
	if got, err := s.Void(t.Context(), void.ID); err != nil || !reflect.DeepEqual(got, void) {
		t.Errorf("Void = %+v, %v", got, err)
	}
	passkey := storetest.PendingPIN(2)
	passkey.Kind = "PASSKEY"
	if err := s.AddPINRecord(t.Context(), passkey, event); err != nil {
		t.Error(err)
	}
	if got, err := s.PINRecordOfLink(t.Context(), passkey.Approval[:store.PINLink]); err != nil || !bytes.Equal(got.Subject, passkey.Subject) {
		t.Errorf("PINRecordOfLink = %+v, %v", got, err)
	}
}

func FuzzDecodeChange(f *testing.F) {
	full := epochChange(3)
	r := storetest.Ceremony(1)
	full.Ceremony, full.States = &r, []store.StateChange{{Name: "a", Version: 1, State: store.Disabled}}
	for _, c := range []store.Change{{}, epochChange(1), full} {
		b, err := store.EncodeChange(&c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"keys":null}`))
	f.Add([]byte(`{"purge":[{"name":"a","version":1},{"name":"a","version":1}]}`))
	f.Add([]byte(`{"purge":[{"name":"a","version":1,"version":2}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := store.DecodeChange(b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) || c != nil {
				t.Errorf("%v, %v", c, err)
			}
			return
		}
		again, err := store.EncodeChange(c)
		if err != nil || string(again) != string(b) {
			t.Errorf("%q becomes %q, %v", b, again, err)
		}
	})
}

// dropLater drops what came after the inventory of terminals, in a schema or in none ("").
func dropLater(schema string) (statements string) {
	for _, table := range []string{
		"voids", "pin_records", "pin_events", "pin_misses",
		"key_hosts", "key_sets", "revocation_lists", "injections", "initial_keys", "initial_key_ranges", "terminal_keys",
	} {
		statements += "DROP TABLE " + schema + table + "; "
	}
	return statements
}
