package keys

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

func TestReferences(t *testing.T) {
	long := strings.Repeat("n", MaxName)
	for reference, want := range map[string]struct {
		name    string
		version uint32 // 0: the current one
		valid   bool
	}{
		"a":                              {"a", 0, true},
		"a?version=1":                    {"a", 1, true},
		long + "?version=4294967295":     {long, math.MaxUint32, true},
		"a?version=4294967296":           {"a", 0, false},
		"a?version=0":                    {"a", 0, false},
		"a?version=01":                   {"a", 0, false},
		"a?version=+1":                   {"a", 0, false},
		"a?version=":                     {"a", 0, false},
		"a?version=1 ":                   {"a", 0, false},
		"a?version=1?version=1":          {"a", 0, false},
		"a?version=1_0":                  {"a", 0, false},
		"a?Version=1":                    {"a", 0, false},
		"a?":                             {"a", 0, false},
		"?version=1":                     {"", 0, false},
		".a?version=1":                   {".a", 0, false},
		"":                               {"", 0, false},
		long + "n?version=1":             {long + "n", 0, false},
		"a?version=" + long:              {"a", 0, false},
		"a?version=99999999999999999999": {"a", 0, false},
	} {
		if got := ValidReference(reference); got != want.valid {
			t.Errorf("ValidReference(%.40q) = %v", reference, got)
		}
		if got := NameIn(reference); got != want.name {
			t.Errorf("NameIn(%.40q) = %.40q", reference, got)
		}
		if name, version, ok := parsePinned(reference); want.version != 0 && (!ok || name != want.name || version != want.version) {
			t.Errorf("%.40q is %.40q version %d, %v", reference, name, version, ok)
		}
	}
}

func TestResolvePinned(t *testing.T) {
	s := openStore(t)
	forged := record(t, "zpk", 3)
	forged.Sealed = seal(t, "zpk", 2)
	stopped := record(t, "zpk", 4)
	stopped.State = store.Disabled
	put(t, s, record(t, "zpk", 1), record(t, "zpk", 2), forged, stopped, record(t, "zpk", 7))
	v := New(s)
	if err := v.SetAlias(t.Context(), "a", "zpk", ""); err != nil {
		t.Fatal(err)
	}
	for reference, want := range map[string]any{
		"zpk": uint32(7), "a": uint32(7), "zpk?version=1": uint32(1), "zpk?version=2": uint32(2), "zpk?version=4": uint32(4), "zpk?version=7": uint32(7),
		"zpk?version=3": fault.KeySealInvalid, "zpk?version=5": fault.KeyNotFound, "zpk?version=0": fault.KeyNotFound, "zpk?version=07": fault.KeyNotFound,
		"a?version=7": fault.KeyNotFound, "bdk?version=1": fault.KeyNotFound, "zpk?": fault.KeyNotFound, "?version=1": fault.KeyNotFound,
		strings.Repeat("?", 100_000): fault.KeyNotFound,
	} {
		for range 2 { // from the store, then perhaps from the cache
			key, err := v.Resolve(t.Context(), reference)
			if reason, refused := want.(fault.Reason); refused {
				if err == nil || fault.Of(err).Reason != reason || key.Header != nil || key.Name != "" {
					t.Errorf("%.40q: %+v, %v; want %v", reference, key, err, reason)
				}
				continue
			}
			if err != nil || key.Name != "zpk" || key.Version != want || key.Header.Version != want {
				t.Errorf("%q: %+v, %v; want version %d", reference, key, err, want)
			}
		}
	}
	// A version that is replaced or deleted is not served from memory.
	if err := v.Import(t.Context(), []hsm.Key{{Name: "zpk", Sealed: seal(t, "zpk", 7, func(h *hsm.Header) { h.CheckValue = "AAAAAA" })}}); err != nil {
		t.Fatal(err)
	}
	if key, err := v.Resolve(t.Context(), "zpk?version=7"); err != nil || key.Header.CheckValue != "AAAAAA" {
		t.Errorf("after Import: %+v, %v", key, err)
	}
	if err := errors.Join(s.AdoptEpoch(t.Context(), 1, []byte{1}), s.ProposeEpoch(t.Context(), "", 2, []byte{2}, store.Change{
		Purge: []store.KeyVersion{{Name: "zpk", Version: 1}, {Name: "zpk", Version: 7}},
	}), s.AdvanceEpoch(t.Context(), 2, nil, nil)); err != nil {
		t.Fatal(err)
	}
	v.Forget("zpk")
	for _, reference := range []string{"zpk?version=1", "zpk?version=7"} {
		if _, err := v.Resolve(t.Context(), reference); fault.Of(err).Reason != fault.KeyNotFound {
			t.Errorf("%s after it was purged: %v", reference, err)
		}
	}
	for _, reference := range []string{"zpk", "a"} {
		if key, err := v.Resolve(t.Context(), reference); err != nil || key.Version != 4 || key.State != store.Disabled {
			t.Errorf("%s: version %d, %v; want 4", reference, key.Version, err)
		}
	}
}

func TestAliases(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "k1", 1), record(t, "k2", 1), record(t, "k2", 2), record(t, "gone", 1))
	v := New(s)
	ctx := t.Context()
	reasons := func(what string, err error, want fault.Reason) {
		t.Helper()
		if want == 0 && err != nil || want != 0 && (err == nil || fault.Of(err).Reason != want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	resolves := func(alias, name string, version uint32) {
		t.Helper()
		for range 2 {
			if key, err := v.Resolve(ctx, alias); err != nil || key.Name != name || key.Version != version || key.Header.Name != name {
				t.Errorf("%s resolves to %s version %d, %v; want %s version %d", alias, key.Name, key.Version, err, name, version)
			}
		}
	}
	reasons("unknown", func() error { _, err := v.Resolve(ctx, "a"); return err }(), fault.KeyNotFound)
	reasons("new", v.SetAlias(ctx, "a", "k1", ""), 0)
	resolves("a", "k1", 1) // though it was not found before
	reasons("not as expected", v.SetAlias(ctx, "a", "k2", ""), fault.Conflict)
	reasons("moved", v.SetAlias(ctx, "a", "k2", "k1"), 0)
	resolves("a", "k2", 2)
	reasons("no key", v.SetAlias(ctx, "b", "k3", ""), fault.KeyNotFound)
	reasons("of an alias", v.SetAlias(ctx, "b", "a", ""), fault.KeyNotFound)
	reasons("a key's name", v.SetAlias(ctx, "k1", "k2", ""), fault.RequestInvalid)
	reasons("itself", v.SetAlias(ctx, "k1", "k1", ""), fault.RequestInvalid)
	for _, name := range []string{"", "a b", "a?version=1", ".a", "a\xff"} {
		reasons(name, v.SetAlias(ctx, name, "k1", ""), fault.RequestInvalid)
		reasons(name, v.SetAlias(ctx, "b", name, ""), fault.RequestInvalid)
		reasons(name, v.DeleteAlias(ctx, name, "k1"), fault.RequestInvalid)
		_, err := v.Alias(ctx, name)
		reasons(name, err, fault.KeyNotFound)
	}
	reasons("a key under an alias", v.Import(ctx, []hsm.Key{{Name: "a", Sealed: seal(t, "a", 1)}}), fault.Internal)
	reasons("to be gone", v.SetAlias(ctx, "to.gone", "gone", ""), 0)
	resolves("to.gone", "gone", 1)
	if err := errors.Join(s.AdoptEpoch(ctx, 1, []byte{1}), s.ProposeEpoch(ctx, "", 2, []byte{2}, store.Change{Purge: []store.KeyVersion{{Name: "gone", Version: 1}}}), s.AdvanceEpoch(ctx, 2, nil, nil)); err != nil {
		t.Fatal(err)
	}
	v.Forget("gone")
	reasons("of a purged key", func() error { _, err := v.Resolve(ctx, "to.gone"); return err }(), fault.KeyNotFound)
	// One step: an alias whose target has become an alias stands for nothing.
	reasons("the purged key's name", v.SetAlias(ctx, "gone", "k1", ""), 0)
	resolves("gone", "k1", 1)
	reasons("two steps", func() error { _, err := v.Resolve(ctx, "to.gone"); return err }(), fault.KeyNotFound)

	if l, err := v.Aliases(ctx, "a", 10); err != nil || fmt.Sprint(l) != "[{gone k1} {to.gone gone}]" {
		t.Errorf("Aliases = %v, %v", l, err)
	}
	if l, err := v.AliasesOf(ctx, "k2"); err != nil || fmt.Sprint(l) != "[a]" {
		t.Errorf("AliasesOf = %v, %v", l, err)
	}
	if key, err := v.Alias(ctx, "a"); err != nil || key != "k2" {
		t.Errorf("Alias = %v, %v", key, err)
	}
	reasons("DeleteAlias of another", v.DeleteAlias(ctx, "a", "k1"), fault.Conflict)
	reasons("DeleteAlias", v.DeleteAlias(ctx, "a", "k2"), 0)
	reasons("DeleteAlias again", v.DeleteAlias(ctx, "a", "k2"), fault.KeyNotFound)
	reasons("deleted", func() error { _, err := v.Resolve(ctx, "a"); return err }(), fault.KeyNotFound)
	// A key can have the name now.
	reasons("a key", v.Import(ctx, []hsm.Key{{Name: "a", Sealed: seal(t, "a", 1)}}), 0)
	resolves("a", "a", 1)
}

// What SetAlias acknowledged is what every request that begins afterwards sees, also while
// others fill the cache with what they read before, and while the keys change too.
func TestNoStaleAliasAfterMove(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "k0", 1), record(t, "k1", 1))
	v := New(s)
	if err := v.SetAlias(t.Context(), "a", "k0", ""); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if key, err := v.Resolve(ctx, "a"); ctx.Err() == nil && (err != nil || key.Name != "k0" && key.Name != "k1") {
					t.Errorf("a resolves to %q, %v", key.Name, err)
					return
				}
			}
		})
	}
	readers.Go(func() { // other changes do not disturb
		for ctx.Err() == nil {
			v.Forget("k0", "other")
			time.Sleep(time.Millisecond)
		}
	})
	for i := 1; i <= 150; i++ {
		from, to := fmt.Sprintf("k%d", (i+1)%2), fmt.Sprintf("k%d", i%2)
		if err := v.SetAlias(context.Background(), "a", to, from); err != nil {
			t.Fatal(err)
		}
		if key, err := v.Resolve(context.Background(), "a"); err != nil || key.Name != to {
			t.Errorf("a resolves to %s (%v) after it was moved to %s", key.Name, err, to)
		}
	}
	stop()
	readers.Wait()
}

func TestResolveFromTheCacheDoesNotAllocate(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "zpk", 1))
	v := New(s)
	if err := v.SetAlias(t.Context(), "a", "zpk", ""); err != nil {
		t.Fatal(err)
	}
	v.Start(nil)
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	for _, reference := range []string{"zpk", "a", "zpk?version=1"} {
		if n := testing.AllocsPerRun(100, func() {
			key, err := v.Resolve(ctx, reference)
			if err != nil {
				t.Fatal(err)
			}
			v.Used(key)
		}); n != 0 {
			t.Errorf("%s: %v allocations", reference, n)
		}
	}
}

func BenchmarkResolveKinds(b *testing.B) {
	v := New(openStore(b))
	put(b, v.store, record(b, "zpk", 1))
	if err := v.SetAlias(b.Context(), "alias", "zpk", ""); err != nil {
		b.Fatal(err)
	}
	for _, reference := range []string{"zpk", "alias", "zpk?version=1"} {
		b.Run(reference, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Resolve(b.Context(), reference); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
