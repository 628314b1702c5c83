package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"keyd/store"
)

// tagTests are the tests of [store.Tags].
var tagTests = []test{
	{"Tags", testTags},
	{"TagLimits", testTagLimits},
	{"ListKeys", testListKeys},
	{"ListKeysInvalid", testListKeysInvalid},
}

func testTags(t *testing.T, s store.Store) {
	if err := s.SetTags(t.Context(), "zpk", map[string]string{"a": "1"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a key that is not there: %v, want ErrNotFound", err)
	}
	put(t, s, Record("zpk", 1), Record("ZPK", 1))
	hasTags(t, s, "zpk", nil)
	setTags(t, s, "zpk", map[string]string{"team": "issuing", "Team": "other", "价格 €": "„x“ 😀", "empty": ""})
	setTags(t, s, "zpk", map[string]string{"team": "acquiring", "new": "%'_"})
	setTags(t, s, "zpk", nil)
	want := map[string]string{"team": "acquiring", "Team": "other", "价格 €": "„x“ 😀", "empty": "", "new": "%'_"}
	hasTags(t, s, "zpk", want)
	hasTags(t, s, "ZPK", nil)
	put(t, s, Record("zpk", 2)) // tags are of the key
	hasTags(t, s, "zpk", want)
	for range 2 {
		if err := s.DeleteTags(t.Context(), "zpk", []string{"team", "empty", "none", "%", "\xff"}); err != nil {
			t.Fatal(err)
		}
		hasTags(t, s, "zpk", map[string]string{"Team": "other", "价格 €": "„x“ 😀", "new": "%'_"})
	}
	if err := errors.Join(s.DeleteTags(t.Context(), "none", []string{"a"}), s.DeleteTags(t.Context(), "zpk", nil)); err != nil {
		t.Errorf("DeleteTags of nothing: %v", err)
	}
}

func testTagLimits(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	for name, tag := range map[string][2]string{
		"no tag": {"", "v"}, "long tag": {strings.Repeat("t", store.MaxTag+1), "v"}, "long value": {"t", strings.Repeat("v", store.MaxTagValue+1)},
		"many bytes": {strings.Repeat("é", store.MaxTag/2+1), ""}, "line feed": {"a\n", ""}, "value with NUL": {"t", "a\x00"},
		"not UTF-8": {"a\xff", ""}, "value not UTF-8": {"t", "\xc3"}, "direction": {"t", "a\u202eb"}, "DEL": {"a\x7f", ""},
	} {
		if err := s.SetTags(t.Context(), "zpk", map[string]string{"good": "", tag[0]: tag[1]}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	hasTags(t, s, "zpk", nil)
	want := map[string]string{}
	for i := range store.MaxTags {
		want[fmt.Sprintf("%0*d", store.MaxTag, i)] = strings.Repeat("é", store.MaxTagValue/2)
	}
	setTags(t, s, "zpk", want)
	hasTags(t, s, "zpk", want)
	for _, more := range []map[string]string{{"one": "more"}, {fmt.Sprintf("%0*d", store.MaxTag, 0): "changed", "one": "more"}} {
		if err := s.SetTags(t.Context(), "zpk", more); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("one more: %v, want ErrInvalid", err)
		}
		hasTags(t, s, "zpk", want)
	}
	want[fmt.Sprintf("%0*d", store.MaxTag, 0)] = "changed"
	setTags(t, s, "zpk", want)
	hasTags(t, s, "zpk", want)
	large := maps.Clone(want)
	large["one"] = "more"
	if err := s.SetTags(t.Context(), "zpk", large); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("too many at once: %v, want ErrInvalid", err)
	}
	if err := s.DeleteTags(t.Context(), "zpk", make([]string, store.MaxTags+1)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("too many to delete: %v, want ErrInvalid", err)
	}
}

func testListKeys(t *testing.T, s store.Store) {
	// Tags: team of every second key, with two values, an empty one for every fifth.
	type key struct{ name, team string }
	var keys []key
	for i, name := range []string{"!", "A", "a", "a-1", "a.1", "a.2", "a/", "aa", "aab", "ab", "b", "b.1", "z~", "z~~", "~", "~~"} {
		k := key{name, "-"}
		if i%2 == 0 {
			k.team = []string{"issuing", "acquiring"}[i/2%2]
		}
		if i%5 == 0 {
			k.team = ""
		}
		keys = append(keys, k)
	}
	for _, k := range slices.Backward(keys) {
		put(t, s, Record(k.name, 1), Record(k.name, 3), Record(k.name, 2))
		if k.team != "-" {
			setTags(t, s, k.name, map[string]string{"team": k.team, "other": "issuing"})
		}
	}
	for _, prefix := range []string{"", "a", "a.", "aa", "z~", "~", "none", strings.Repeat("~", store.MaxName)} {
		for _, tag := range []string{"", "team", "other", "none", "Team"} {
			for _, value := range []string{"", "issuing", "acquiring", "iss", "%"} {
				if tag == "" && value != "" {
					continue
				}
				var want []string
				for _, k := range keys {
					of := map[string]string{"team": k.team, "other": "issuing"}
					if v, ok := of[tag]; strings.HasPrefix(k.name, prefix) && (tag == "" || ok && k.team != "-" && (value == "" || v == value)) {
						want = append(want, k.name)
					}
				}
				for _, limit := range []int{1, 2, 5, 100} {
					listed(t, s, store.Filter{NamePrefix: prefix, Tag: tag, TagValue: value}, limit, want)
				}
			}
		}
	}
	for _, after := range []string{"0", "a", "a.", "a.1", "a.1zzz", "a ", "b", "zz", "a\x00", "\xff"} { // not only what is kept
		l, err := s.ListKeys(t.Context(), store.Filter{NamePrefix: "a"}, after, 100)
		var expected []string
		for _, name := range []string{"a", "a-1", "a.1", "a.2", "a/", "aa", "aab", "ab"} {
			if name > after {
				expected = append(expected, name)
			}
		}
		var got []string
		for _, r := range l {
			got = append(got, r.Name)
		}
		if err != nil || !slices.Equal(got, expected) {
			t.Errorf("after %q: %q, %v, want %q", after, got, err, expected)
		}
	}
}

// listed checks which keys fit, page by page.
func listed(t *testing.T, s store.Store, f store.Filter, limit int, want []string) {
	t.Helper()
	var got []string
	for after := ""; ; {
		page, err := s.ListKeys(t.Context(), f, after, limit)
		if err != nil || len(page) > limit {
			t.Fatalf("ListKeys = %d, %v", len(page), err)
		}
		for _, r := range page {
			same(t, r, Record(r.Name, 3))
			got = append(got, r.Name)
		}
		if len(page) < limit {
			break
		}
		after = page[len(page)-1].Name
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%+v, pages of %d: %q, want %q", f, limit, got, want)
	}
}

func testListKeysInvalid(t *testing.T, s store.Store) {
	for name, f := range map[string]store.Filter{
		"prefix": {NamePrefix: "a b"}, "long prefix": {NamePrefix: strings.Repeat("a", store.MaxName+1)}, "value without tag": {TagValue: "v"},
		"tag": {Tag: "a\n"}, "value": {Tag: "t", TagValue: "\xff"},
	} {
		if _, err := s.ListKeys(t.Context(), f, "", 1); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		if _, err := s.ListKeys(t.Context(), store.Filter{}, "", limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("ListKeys of %d: %v, want ErrInvalid", limit, err)
		}
	}
}

func setTags(t *testing.T, s store.Store, key string, tags map[string]string) {
	t.Helper()
	if err := s.SetTags(t.Context(), key, tags); err != nil {
		t.Fatalf("SetTags: %v", err)
	}
}

func hasTags(t *testing.T, s store.Store, key string, want map[string]string) {
	t.Helper()
	if got, err := s.Tags(t.Context(), key); err != nil || got == nil || !maps.Equal(got, want) {
		t.Fatalf("Tags(%s) = %v, %v, want %v", key, got, err, want)
	}
}
