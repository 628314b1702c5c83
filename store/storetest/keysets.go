package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"keyd/store"
)

// KeyHost returns a valid host, which follows from its number.
func KeyHost(n int) store.KeyHost {
	return store.KeyHost{Name: fmt.Sprintf("host-%03d", n), Key: "host.key?version=1", Certificates: fmt.Append(nil, "certificates ", n), ChangedAt: injectionDay}
}

// KeySet returns a valid version of a key set.
func KeySet(name string, version uint32) store.KeySet {
	return store.KeySet{Name: name, Version: version, Content: fmt.Append(nil, "content ", version), CreatedAt: injectionDay}
}

// RevocationList returns a valid list, which follows from its number.
func RevocationList(n int) store.RevocationList {
	key, list := sha256.Sum256(fmt.Append(nil, "issuer ", n)), fmt.Append(nil, "list ", n)
	digest := sha256.Sum256(list)
	return store.RevocationList{
		IssuerKey: key[:], Issuer: "CN=Maker größer", Number: "17", Entries: 3, ThisUpdate: injectionDay, NextUpdate: injectionDay.AddDate(0, 0, 7), Digest: digest[:],
		List: list, StoredAt: injectionDay,
	}
}

func testKeyHosts(t *testing.T, s store.Store) {
	large := KeyHost(1)
	large.Name, large.Key = strings.Repeat("~", store.MaxTerminalName), strings.Repeat("k", store.MaxHostKey)
	large.Certificates, large.List = bytes.Repeat([]byte{0xa5}, store.MaxCertificates), bytes.Repeat([]byte{0x5a}, store.MaxHostList)
	for _, h := range []store.KeyHost{KeyHost(2), large, KeyHost(1)} {
		if err := s.SetKeyHost(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		if got, err := s.KeyHost(t.Context(), h.Name); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("another %.9s came back: %v", h.Name, err)
		}
	}
	other := KeyHost(2)
	other.Key = "other"
	if err := s.SetKeyHost(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	l, err := s.KeyHosts(t.Context())
	if err != nil || !reflect.DeepEqual(l, []store.KeyHost{KeyHost(1), other, large}) {
		t.Errorf("%d hosts, which differ; %v", len(l), err)
	}
	for _, name := range []string{"", "none", "\xff"} {
		if _, err := s.KeyHost(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", name, err)
		}
	}
	for n := 3; ; n++ {
		if err := s.SetKeyHost(t.Context(), KeyHost(n)); err != nil {
			if !errors.Is(err, store.ErrInvalid) || n != store.MaxKeyHosts {
				t.Errorf("host %d: %v", n, err)
			}
			break
		}
	}
	if err := s.SetKeyHost(t.Context(), KeyHost(2)); err != nil {
		t.Errorf("another one of a name: %v", err)
	}
}

func testKeySets(t *testing.T, s store.Store) {
	if _, err := s.KeySet(t.Context(), "set"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v, want ErrNotFound", err)
	}
	for _, k := range []store.KeySet{KeySet("set", 1), KeySet("set", 2), KeySet("a", 1)} {
		if err := s.AddKeySet(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if err := s.AddKeySet(t.Context(), k); !errors.Is(err, store.ErrConflict) {
			t.Errorf("again: %v, want ErrConflict", err)
		}
		if got, err := s.KeySet(t.Context(), k.Name); err != nil || !reflect.DeepEqual(got, k) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := s.AddKeySet(t.Context(), KeySet("set", 4)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a gap: %v, want ErrConflict", err)
	}
	if got, err := s.KeySetVersion(t.Context(), "set", 1); err != nil || !reflect.DeepEqual(got, KeySet("set", 1)) {
		t.Errorf("%+v, %v", got, err)
	}
	if l, err := s.KeySets(t.Context()); err != nil || !reflect.DeepEqual(l, []store.KeySet{KeySet("a", 1), KeySet("set", 2)}) {
		t.Errorf("%+v, %v", l, err)
	}
	for n := 3; ; n++ {
		if err := s.AddKeySet(t.Context(), KeySet(fmt.Sprint("set-", n), 1)); err != nil {
			if !errors.Is(err, store.ErrInvalid) || n != store.MaxKeySets+1 {
				t.Errorf("key set %d: %v", n, err)
			}
			break
		}
	}
}

func testRevocationLists(t *testing.T, s store.Store) {
	large := RevocationList(2)
	large.List, large.Issuers = bytes.Repeat([]byte{7}, store.MaxRevocationList), bytes.Repeat([]byte{8}, store.MaxCertificates)
	for _, l := range []store.RevocationList{RevocationList(1), large} {
		if err := s.SetRevocationList(t.Context(), l, []byte{1}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("after another: %v, want ErrConflict", err)
		}
		if err := s.SetRevocationList(t.Context(), l, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := s.RevocationList(t.Context(), l.IssuerKey); err != nil || !reflect.DeepEqual(got, l) {
			t.Errorf("another list came back: %v", err)
		}
	}
	next := RevocationList(1)
	next.Number, next.Digest = "18", large.Digest
	if err := s.SetRevocationList(t.Context(), next, nil); !errors.Is(err, store.ErrConflict) {
		t.Errorf("after none: %v, want ErrConflict", err)
	}
	if err := s.SetRevocationList(t.Context(), next, RevocationList(1).Digest); err != nil {
		t.Error(err)
	}
	l, err := s.RevocationLists(t.Context())
	if err != nil || len(l) != 2 || slices.ContainsFunc(l, func(l store.RevocationList) bool { return l.List != nil }) {
		t.Errorf("%d lists, %v", len(l), err)
	}
}
