package keys

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"keyd/fault"
	"keyd/store"
)

func TestTagsAndSearch(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "a.1", 1), record(t, "a.1", 2), record(t, "a.2", 1), record(t, "b", 1))
	v := New(s)
	ctx := t.Context()
	if err := errors.Join(v.SetTags(ctx, "a.1", map[string]string{"team": "x", "other": "y"}), v.SetTags(ctx, "b", map[string]string{"team": "x"}), v.DeleteTags(ctx, "a.1", []string{"other"})); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Tags(ctx, "a.1"); err != nil || !maps.Equal(got, map[string]string{"team": "x"}) {
		t.Errorf("Tags = %v, %v", got, err)
	}
	found, err := v.Search(ctx, store.Filter{Tag: "team", TagValue: "x"}, "", 10)
	if err != nil || len(found) != 2 || found[0].Name != "a.1" || found[0].Version != 2 || found[1].Name != "b" {
		t.Errorf("Search = %v, %v", found, err)
	}
	versions, err := v.Versions(ctx, "a.1")
	if err != nil || len(versions) != 2 || versions[0].Version != 1 || versions[1].Header.Version != 2 {
		t.Errorf("Versions = %v, %v", versions, err)
	}
	many := map[string]string{}
	for i := range store.MaxTags {
		many[strings.Repeat("t", i+1)] = ""
	}
	_, limit := v.Search(ctx, store.Filter{}, "", 0)
	_, filter := v.Search(ctx, store.Filter{TagValue: "x"}, "", 10)
	_, aliases := v.Aliases(ctx, "", store.MaxList+1)
	_, none := v.Versions(ctx, "none")
	_, noName := v.Versions(ctx, "a b")
	for what, c := range map[string]struct {
		err  error
		want fault.Reason
	}{
		"tag":              {v.SetTags(ctx, "b", map[string]string{"": ""}), fault.RequestInvalid},
		"too many":         {v.SetTags(ctx, "b", many), fault.RequestInvalid},
		"no key":           {v.SetTags(ctx, "none", map[string]string{"t": ""}), fault.KeyNotFound},
		"no name":          {v.SetTags(ctx, "a b", map[string]string{"t": ""}), fault.RequestInvalid},
		"delete too many":  {v.DeleteTags(ctx, "b", make([]string, store.MaxTags+1)), fault.RequestInvalid},
		"limit":            {limit, fault.RequestInvalid},
		"filter":           {filter, fault.RequestInvalid},
		"limit of aliases": {aliases, fault.RequestInvalid},
		"no versions":      {none, fault.KeyNotFound},
		"no versions name": {noName, fault.KeyNotFound},
	} {
		if c.err == nil || fault.Of(c.err).Reason != c.want {
			t.Errorf("%s: %v, want %v", what, c.err, c.want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, tags := v.Tags(ctx, "b")
	_, search := v.Search(ctx, store.Filter{}, "", 10)
	_, versionsErr := v.Versions(ctx, "b")
	_, alias := v.Alias(ctx, "b")
	_, list := v.Aliases(ctx, "", 10)
	_, of := v.AliasesOf(ctx, "b")
	_, usage := v.Usage(ctx, "b")
	_, pinned := v.Resolve(ctx, "b?version=1")
	for what, err := range map[string]error{
		"SetTags": v.SetTags(ctx, "b", map[string]string{"t": ""}), "DeleteTags": v.DeleteTags(ctx, "b", nil), "Tags": tags, "Search": search,
		"Versions": versionsErr, "Alias": alias, "Aliases": list, "AliasesOf": of, "Usage": usage, "Resolve": pinned,
		"SetAlias": v.SetAlias(ctx, "a", "b", ""), "DeleteAlias": v.DeleteAlias(ctx, "a", "b"),
	} {
		var f *fault.Error
		if !errors.As(err, &f) || f.Reason != fault.StoreUnavailable || !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want STORE_UNAVAILABLE", what, err)
		}
	}
}
