package keyuse_test

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"keyd/audit"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/policies"
	"keyd/store"
)

// asked remembers what the policy was asked, and allows all but one key.
type asked struct {
	keys   []policies.Key
	denied string
}

func (a *asked) Authorize(_ context.Context, _ string, named []policies.Key) error {
	a.keys = named
	for _, k := range named {
		if k.Name == a.denied {
			return fault.New(fault.PolicyDenied, "")
		}
	}
	return nil
}

func (*asked) Demand(context.Context) policies.Demand { return policies.Demand{} }

func (*asked) Entry(context.Context) *audit.Entry { return nil }

// The policy and the audit entry see a key's own name, whatever it was called; what was
// allowed is counted.
func TestAuthorizedUnderOtherNames(t *testing.T) {
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	stopped := row(t, "zpk", 3)
	stopped.State = store.Disabled
	if err := s.Put(t.Context(), row(t, "zpk", 1), row(t, "zpk", 2), stopped, row(t, "other", 1), row(t, "secret", 1)); err != nil {
		t.Fatal(err)
	}
	inventory := keys.New(s)
	inventory.Start(nil)
	t.Cleanup(func() {
		if err := errors.Join(inventory.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	for alias, key := range map[string]string{"alias": "other", "innocent": "secret"} {
		if err := inventory.SetAlias(t.Context(), alias, key, ""); err != nil {
			t.Fatal(err)
		}
	}
	access := &asked{denied: "secret"}
	k := keyuse.New(inventory, nil, access)
	for _, c := range []struct {
		request []string
		policy  []string
		audit   []audit.Key
		want    fault.Reason
	}{
		{[]string{"alias"}, []string{"other"}, []audit.Key{{Name: "other", Version: 1, Usage: "P0", KCV: "08D7B4"}}, 0},
		{[]string{"zpk?version=2", "alias"}, []string{"zpk", "other"}, []audit.Key{{Name: "zpk", Version: 2, Usage: "P0", KCV: "08D7B4"}, {Name: "other", Version: 1, Usage: "P0", KCV: "08D7B4"}}, 0},
		{[]string{"other", "alias"}, []string{"other", "other"}, []audit.Key{{Name: "other", Version: 1, Usage: "P0", KCV: "08D7B4"}, {Name: "other", Version: 1, Usage: "P0", KCV: "08D7B4"}}, 0},
		{[]string{"zpk"}, []string{"zpk"}, []audit.Key{{Name: "zpk", Version: 3, Usage: "P0", KCV: "08D7B4"}}, fault.KeyDisabled},
		{[]string{"innocent"}, []string{"secret"}, []audit.Key{{Name: "secret", Version: 1, Usage: "P0", KCV: "08D7B4"}}, fault.PolicyDenied},
		{[]string{"secret?version=9"}, []string{"secret"}, []audit.Key{{Name: "secret"}}, fault.PolicyDenied},
		{[]string{"zpk?version=9"}, []string{"zpk"}, []audit.Key{{Name: "zpk"}}, fault.KeyNotFound},
	} {
		var entry audit.Entry
		var named []keyuse.Named
		for _, name := range c.request {
			if err := keyuse.CheckKeyID("key_id", name); err != nil {
				t.Fatal(err)
			}
			keyuse.Record(&entry, name, nil)
			named = append(named, keyuse.Named{Field: "key_id", Name: name})
		}
		found, _, err := k.Authorized(t.Context(), "action", &entry, named...)
		if c.want == 0 && err != nil || c.want != 0 && (err == nil || fault.Of(err).Reason != c.want) {
			t.Errorf("%q: %v, want %v", c.request, err, c.want)
		}
		for i, key := range found {
			if sealed := keyuse.Sealed(key); sealed.Name != c.policy[i] {
				t.Errorf("%q: a module gets %q", c.request, sealed.Name)
			}
		}
		var policy []string
		for _, key := range access.keys {
			policy = append(policy, key.Name)
		}
		if !reflect.DeepEqual(policy, c.policy) || !reflect.DeepEqual(entry.Keys, c.audit) {
			t.Errorf("%q: the policy sees %q, the entry has %+v", c.request, policy, entry.Keys)
		}
	}
	for name, want := range map[string]map[uint32]uint64{"zpk": {2: 1}, "other": {1: 3}, "secret": {}} {
		usage, err := inventory.Usage(t.Context(), name)
		got := map[uint32]uint64{}
		for _, u := range usage {
			got[u.Version] = u.Count
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("usage of %s: %v, %v, want %v", name, got, err, want)
		}
	}
}

func TestCheckKeyID(t *testing.T) {
	for name, good := range map[string]bool{"a": true, "a?version=2": true, "": false, "a?": false, "a b": false, "a?version=0": false, "?version=1": false} {
		if err := keyuse.CheckKeyID("key_id", name); (err == nil) != good || err != nil && fault.Of(err).Reason != fault.RequestInvalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// row is a sealed key that parses; its MAC is noise.
func row(t *testing.T, name string, version uint32) store.KeyRecord {
	t.Helper()
	h := &hsm.Header{
		Name: name, Version: version, Generation: 1, Usage: "P0", Algorithm: "T", Length: 16, Mode: "B", Exportability: "N",
		CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Formats: []hsm.Format{0, 3},
	}
	noise := make([]byte, 24+hsm.MACSize)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	body, err := hsm.SealedBody(h, [][]byte{noise[:24]})
	if err != nil {
		t.Fatal(err)
	}
	return store.KeyRecord{Name: name, Version: version, State: store.Enabled, Sealed: append(body, noise[24:]...), CreatedAt: time.Now()}
}
