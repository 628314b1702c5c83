package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"keyd/store"
)

// keysOf returns the names and versions of a terminal's sealed keys.
func keysOf(t *testing.T, s store.Store, terminal string) (names []string) {
	t.Helper()
	l, err := s.KeysOfTerminal(t.Context(), terminal)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range l {
		names = append(names, fmt.Sprintf("%s %d", k.Name, k.Version))
	}
	return names
}

func sessionKey(i store.Injection, name string, version uint32) store.TerminalKey {
	return store.TerminalKey{
		Terminal: i.Terminal, Name: name, Version: version, Injection: i.ID, Sealed: fmt.Append(nil, "sealed ", name, version), NotAfter: injectionDay.AddDate(0, 0, 1), CreatedAt: injectionDay,
	}
}

func testSessionKeys(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	i := answered(t, s, begun(t, s, begin(r, 1)))
	if err := s.AddSessionKeys(t.Context(), r.ID, i.ID, []store.TerminalKey{sessionKey(i, "pin", 1)}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("before it is confirmed: %v, want ErrConflict", err)
	}
	i = confirmed(t, s, i)
	for version := uint32(1); version <= 3; version++ {
		if err := s.AddSessionKeys(t.Context(), r.ID, i.ID, []store.TerminalKey{sessionKey(i, "pin", version), sessionKey(i, "mac", version)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := keysOf(t, s, r.ID); !slices.Equal(got, []string{"mac 2", "mac 3", "master 1", "pin 2", "pin 3"}) {
		t.Errorf("keys %q", got)
	}
	if err := s.AddSessionKeys(t.Context(), r.ID, i.ID, []store.TerminalKey{sessionKey(i, "mac", 4), sessionKey(i, "pin", 5)}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a gap: %v, want ErrConflict", err)
	}
	for version, want := range map[uint32]uint32{0: 3, 3: 3, 2: 2} {
		k, state, err := s.SessionKey(t.Context(), r.ID, "pin", version)
		if err != nil || state != store.TerminalRegistered || !reflect.DeepEqual(k, sessionKey(i, "pin", want)) {
			t.Errorf("version %d: %+v, %s, %v", version, k, state, err)
		}
	}
	for name, version := range map[string]uint32{"pin": 1, "master": 0, "receipt": 1, "none": 0, "": 0, "\xff": 0} {
		if _, _, err := s.SessionKey(t.Context(), r.ID, name, version); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", name, err)
		}
	}
	// Sealed anew, page by page.
	var seen []string
	for after := (store.TerminalKey{}); ; {
		l, err := s.ListTerminalKeys(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range l {
			seen, after = append(seen, fmt.Sprintf("%s %d", k.Name, k.Version)), k
			if err := s.ReplaceTerminalKey(t.Context(), k, []byte("anew")); err != nil {
				t.Error(err)
			}
			if err := s.ReplaceTerminalKey(t.Context(), k, []byte("anew")); !errors.Is(err, store.ErrConflict) {
				t.Errorf("what was replaced: %v, want ErrConflict", err)
			}
		}
		if len(l) < 2 {
			break
		}
	}
	if !slices.Equal(seen, []string{"mac 2", "mac 3", "master 1", "pin 2", "pin 3"}) {
		t.Errorf("listed: %q", seen)
	}
	if k, _, err := s.SessionKey(t.Context(), r.ID, "pin", 0); err != nil || string(k.Sealed) != "anew" {
		t.Errorf("%+v, %v", k, err)
	}
	if err := s.ReplaceTerminalKey(t.Context(), sessionKey(i, "none", 1), []byte("anew")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one that is not there: %v, want ErrNotFound", err)
	}
	// They are those of the terminal's confirmed keys: from the moment at which others are
	// confirmed there are none, and their versions go on.
	next := answered(t, s, begun(t, s, begin(r, 9)))
	if _, _, err := s.SessionKey(t.Context(), r.ID, "pin", 0); err != nil {
		t.Errorf("before the receipt: %v", err)
	}
	next = confirmed(t, s, next)
	for _, version := range []uint32{0, 2, 3} {
		if k, _, err := s.SessionKey(t.Context(), r.ID, "pin", version); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("version %d under the keys of before: %+v, %v, want ErrNotFound", version, k, err)
		}
	}
	if err := s.AddSessionKeys(t.Context(), r.ID, next.ID, []store.TerminalKey{sessionKey(next, "pin", 4)}); err != nil {
		t.Fatal(err)
	}
	// Suspended, it is seen with the key.
	r, err := s.Terminal(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	r.State = store.TerminalSuspended
	updateTerminal1(t, s, r, "suspended")
	if _, state, err := s.SessionKey(t.Context(), r.ID, "pin", 0); err != nil || state != store.TerminalSuspended {
		t.Errorf("%s, %v", state, err)
	}
}
