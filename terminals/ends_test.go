package terminals

import (
	"slices"
	"testing"
)

// TestEnds: each list and each host says when it runs out, and a newer list moves that.
func TestEnds(t *testing.T) {
	w := newWorld(t)
	of := func(kind string) (found []End) {
		t.Helper()
		ends, err := w.Ends(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range ends {
			if !slices.Contains(EndKinds, e.Kind) {
				t.Errorf("%+v", e)
			}
			if e.Kind == kind {
				found = append(found, e)
			}
		}
		return found
	}
	if l := of(EndMakerList); len(l) != 0 {
		t.Errorf("no maker's list is there: %+v", l)
	}
	lists := of(EndHostList)
	if len(lists) != 2 || lists[0].Name != "host.ec" || lists[1].Name != "host.rsa" || !lists[0].At.Equal(moment.AddDate(0, 0, 7)) {
		t.Errorf("%+v", lists)
	}
	certificates := of(EndHostCertificate)
	if len(certificates) != 2 {
		t.Fatalf("%+v", certificates)
	}
	for _, e := range certificates {
		h, err := w.Host(t.Context(), e.Name)
		if err != nil || !parsed(t, h.Certificates[0]).NotAfter.Equal(e.At) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	for n := range 2 {
		at := moment.AddDate(0, 0, n)
		w.now = at
		if _, err := w.SetList(t.Context(), w.list(w.root, int64(n+1), at), nil); err != nil {
			t.Fatal(err)
		}
		l := of(EndMakerList)
		if len(l) != 1 || len(l[0].Name) != 16 || !l[0].At.Equal(at.AddDate(0, 0, 7)) {
			t.Errorf("%+v", l)
		}
	}
}
