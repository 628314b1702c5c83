package keys

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

func TestResolve(t *testing.T) {
	s := openStore(t)
	good := record(t, "zone/issuer-1", 3)
	older := record(t, "zone/issuer-1", 2)
	swapped := record(t, "swapped", 1)
	swapped.Sealed = seal(t, "other", 1)
	version := record(t, "version", 2)
	version.Sealed = seal(t, "version", 1)
	garbage := record(t, "garbage", 1)
	garbage.Sealed = []byte("not a sealed key at all")
	cut := record(t, "cut", 1)
	cut.Sealed = cut.Sealed[:len(cut.Sealed)-1-hsm.MACSize]
	put(t, s, good, older, swapped, version, garbage, cut)
	v := New(s)
	for name, want := range map[string]fault.Reason{
		"zone/issuer-1":          0,
		"zone/issuer":            fault.KeyNotFound,
		"ZONE/ISSUER-1":          fault.KeyNotFound,
		"":                       fault.KeyNotFound,
		"a\x00b":                 fault.KeyNotFound,
		strings.Repeat("a", 129): fault.KeyNotFound,
		"swapped":                fault.KeySealInvalid,
		"version":                fault.KeySealInvalid,
		"garbage":                fault.KeySealInvalid,
		"cut":                    fault.KeySealInvalid,
	} {
		for range 2 { // from the store, then perhaps from the cache
			key, err := v.Resolve(context.Background(), name)
			if want == 0 {
				if err != nil || key.Name != name || key.Version != 3 || key.Header.Version != 3 || key.State != store.Enabled || !bytes.Equal(key.Sealed, good.Sealed) {
					t.Errorf("%q: %+v, %v", name, key, err)
				}
				continue
			}
			var f *fault.Error
			if !errors.As(err, &f) || f.Reason != want || key.Name != "" || key.Header != nil || key.Sealed != nil {
				t.Errorf("%q: %+v, %v; want %v", name, key, err, want)
			}
		}
	}
}

func TestCheckUsable(t *testing.T) {
	const none = -1 << 40
	now := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		state         store.State
		before, after int64 // seconds from now
		usable        bool
	}{
		"no limits":              {store.Enabled, none, none, true},
		"stopped":                {store.Disabled, none, none, false},
		"within":                 {store.Enabled, -1, 1, true},
		"from this second on":    {store.Enabled, 0, none, true},
		"not yet":                {store.Enabled, 1, none, false},
		"until the next second":  {store.Enabled, none, 1, true},
		"until this second":      {store.Enabled, none, 0, false},
		"expired":                {store.Enabled, -60, -1, false},
		"stopped but valid":      {store.Disabled, -60, 60, false},
		"a state out of nowhere": {store.State("enabled"), none, none, false},
	} {
		h := &hsm.Header{}
		if c.before != none {
			h.NotBefore = now.Unix() + c.before
		}
		if c.after != none {
			h.NotAfter = now.Unix() + c.after
		}
		err := Key{State: c.state, Header: h}.CheckUsable(now)
		if c.usable != (err == nil) || err != nil && fault.Of(err).Reason != fault.KeyDisabled {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stopped key resolves: the policy is asked about its usage before anyone is told.
func TestStoppedKeyResolves(t *testing.T) {
	s := openStore(t)
	r := record(t, "stopped", 1)
	r.State = store.Disabled
	put(t, s, r)
	key, err := New(s).Resolve(context.Background(), "stopped")
	if err != nil || key.Header.Usage != "P0" || key.CheckUsable(time.Now()) == nil {
		t.Errorf("%+v, %v", key, err)
	}
}

func TestStoreFailure(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "cached", 1), record(t, "other", 1))
	v := New(s)
	if _, err := v.Resolve(context.Background(), "cached"); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Resolve(gone, "other"); err != context.Canceled { //nolint:errorlint // as it is
		t.Errorf("a caller who has gone: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Resolve(context.Background(), "cached"); err != nil {
		t.Errorf("a key in the cache needs the store: %v", err)
	}
	_, resolve := v.Resolve(context.Background(), "other")
	_, list := v.List(context.Background(), "", 10)
	_, count := v.Count(context.Background())
	for what, err := range map[string]error{"Resolve": resolve, "List": list, "Count": count} {
		var f *fault.Error
		if !errors.As(err, &f) || f.Reason != fault.StoreUnavailable || !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(f.Error(), "closed") {
			t.Errorf("%s: the caller reads the cause: %v", what, f)
		}
	}
}

func TestImport(t *testing.T) {
	s := openStore(t)
	v := New(s)
	ctx := context.Background()
	a, b := hsm.Key{Name: "a", Sealed: seal(t, "a", 1)}, hsm.Key{Name: "b", Sealed: seal(t, "b", 1)}
	for name, keys := range map[string][]hsm.Key{
		"twice":           {a, b, a},
		"no sealed key":   {a, {Name: "b", Sealed: []byte("b")}},
		"no bytes":        {a, {Name: "b"}},
		"another's name":  {a, {Name: "b", Sealed: a.Sealed}},
		"no name":         {a, {Sealed: b.Sealed}},
		"name with blank": {a, {Name: "b b", Sealed: seal(t, "b b", 1)}},
		"version 0":       {a, {Name: "b", Sealed: seal(t, "b", 0)}},
	} {
		if err := v.Import(ctx, keys); err == nil {
			t.Errorf("%s was taken in", name)
		}
		if n, err := v.Count(ctx); n != 0 || err != nil {
			t.Errorf("%s: %d keys, %v", name, n, err)
		}
	}
	if err := v.Import(ctx, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}
	for range 2 { // again at the next start
		if err := v.Import(ctx, []hsm.Key{a, b}); err != nil {
			t.Fatal(err)
		}
		if n, err := v.Count(ctx); n != 2 || err != nil {
			t.Errorf("%d keys, %v", n, err)
		}
	}
	// The same names anew: no request sees the old ones any more.
	if key, err := v.Resolve(ctx, "a"); err != nil || !bytes.Equal(key.Sealed, a.Sealed) {
		t.Fatalf("%+v, %v", key, err)
	}
	for _, version := range []uint32{1, 1, 2, 5} {
		a.Sealed = seal(t, "a", version)
		if err := v.Import(ctx, []hsm.Key{a}); err != nil {
			t.Fatal(err)
		}
		if key, err := v.Resolve(ctx, "a"); err != nil || key.Version != version || !bytes.Equal(key.Sealed, a.Sealed) {
			t.Errorf("after version %d: %+v, %v", version, key, err)
		}
	}
	if err := v.Import(ctx, []hsm.Key{{Name: "a", Sealed: seal(t, "a", 4)}}); err == nil {
		t.Error("a version was taken in that would never be used")
	}
}

func TestListAndCount(t *testing.T) {
	const n = 2*store.MaxList + 7
	s := openStore(t)
	many(t, s, n)
	put(t, s, record(t, numbered(3), 2)) // a name with two versions is one key
	v := New(s)
	ctx := context.Background()
	if got, err := v.Count(ctx); got != n || err != nil {
		t.Errorf("%d keys, %v", got, err)
	}
	seen := 0
	for last := ""; ; {
		page, err := v.List(ctx, last, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range page {
			if key.Name != numbered(seen) || key.Header.Name != key.Name {
				t.Fatalf("key %d is %s", seen, key.Name)
			}
			seen++
		}
		if len(page) < 100 {
			break
		}
		last = page[len(page)-1].Name
	}
	if seen != n {
		t.Errorf("%d keys listed", seen)
	}
	if err := v.Import(ctx, []hsm.Key{{Name: "one.more", Sealed: seal(t, "one.more", 1)}}); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Count(ctx); got != n+1 || err != nil {
		t.Errorf("%d keys after one more, %v", got, err)
	}
}

// What an Import acknowledged is what every request that begins afterwards sees, also
// while others fill the cache with what they read before.
func TestNoStaleKeyAfterImport(t *testing.T) {
	s := openStore(t)
	v := New(s)
	ctx, stop := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				_, _ = v.Resolve(ctx, "key") // what it is, is the writer's to check
			}
		})
	}
	for version := uint32(1); version <= 60; version++ {
		if err := v.Import(context.Background(), []hsm.Key{{Name: "key", Sealed: seal(t, "key", version)}}); err != nil {
			t.Fatal(err)
		}
		if key, err := v.Resolve(context.Background(), "key"); err != nil || key.Version != version {
			t.Errorf("version %d after version %d was taken in (%v)", key.Version, version, err)
		}
	}
	stop()
	readers.Wait()
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "Zone.Issuer_1:x/y@z+a=b#c~d-e": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, ".a": false, "-a": false, "/a": false, "a b": false, "a\n": false,
		"a\x00": false, "ä": false, "a*": false, "a?": false, `a"`: false, "a%": false, "a,b": false, "a\u202e": false,
	} {
		if ValidName(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
}

// A row of the store gives a key of that row or an error that says nothing but why.
func FuzzParse(f *testing.F) {
	f.Add("key", uint32(1), seal(f, "key", 1))
	f.Add("key", uint32(2), seal(f, "key", 1))
	f.Add("", uint32(0), []byte(nil))
	f.Fuzz(func(t *testing.T, name string, version uint32, sealed []byte) {
		key, err := parse(store.KeyRecord{Name: name, Version: version, Sealed: sealed})
		if err != nil {
			if fault.Of(err).Reason != fault.KeySealInvalid || key.Header != nil || key.Sealed != nil {
				t.Errorf("%+v, %v", key, err)
			}
			return
		}
		if key.Header.Name != name || key.Header.Version != version || key.Name != name || !bytes.Equal(key.Sealed, sealed) {
			t.Errorf("%+v of %q version %d", key, name, version)
		}
	})
}
