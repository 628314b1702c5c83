package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyd/store"
)

// pinTests are the tests of [store.PINRecords].
var pinTests = []test{
	{"PINRoundTrip", testPINRoundTrip},
	{"PINUpdate", testPINUpdate},
	{"PINTries", testPINTries},
	{"PINTriesGivenBack", testPINTriesGiven},
	{"PINCodes", testPINCodes},
	{"PINContest", testPINContest},
	{"PINPages", testPINPages},
	{"PINLinks", testPINLinks},
	{"PINApprovalsAreUsedOnce", testPINRequests},
	{"PINsInvalid", testPINsInvalid},
	{"PINTriesAgainstModel", testPINModel},
}

// PINRecord returns a valid record with a PIN that may be tried three times, which follows from its
// number.
func PINRecord(n int) store.PINRecord {
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)
	return store.PINRecord{
		Subject: digest("subject", n), Kind: "SUPERVISOR", Merchant: "merchant-8", Terminal: "t-1", Name: fmt.Sprintf("dora-%d", n), Version: 1, State: store.PINActive,
		Tries: 3, TriesLeft: 3, Record: fmt.Append(nil, "sealed ", n), Approval: digest("approval", n), Events: 1, Revision: 1, CreatedAt: at, ChangedAt: at,
	}
}

// PendingPIN returns a valid record whose PIN is to be set by a code that may be tried three times.
func PendingPIN(n int) store.PINRecord {
	r := PINRecord(n)
	r.State, r.TriesLeft, r.Record = store.PINEnrolPending, 0, nil
	r.Pending, r.Code, r.CodeTriesLeft, r.CodeExpires = []byte("pending"), []byte("code"), 3, r.CreatedAt.Add(time.Hour)
	return r
}

// PINEvent returns a valid event for a PIN record to come by.
func PINEvent(kind string) store.PINEvent {
	return store.PINEvent{Kind: kind, Actor: "spiffe://bank.example/operator", Detail: "Grund: größer", At: time.Date(2026, 3, 15, 0, 0, 0, 1000, time.UTC)}
}

func digest(what string, n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, what, n))
	return sum[:]
}

func addPIN(t *testing.T, s store.Store, r store.PINRecord) store.PINRecord {
	t.Helper()
	if err := s.AddPINRecord(t.Context(), r, PINEvent("enrol-begun")); err != nil {
		t.Fatal(err)
	}
	return r
}

func pinOf(t *testing.T, s store.Store, n int) store.PINRecord {
	t.Helper()
	r, err := s.PINRecord(t.Context(), digest("subject", n))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func samePIN(t *testing.T, s store.Store, want store.PINRecord) {
	t.Helper()
	if got, err := s.PINRecord(t.Context(), want.Subject); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("stored: %+v, %v\nwant %+v", got, err, want)
	}
}

func hasPINEvents(t *testing.T, s store.Store, n int, kinds ...string) {
	t.Helper()
	list, err := s.PINEvents(t.Context(), digest("subject", n), 0, store.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, e := range list {
		if e.Number != uint64(i)+1 {
			t.Errorf("event %d has the number %d", i+1, e.Number)
		}
		got = append(got, e.Kind)
	}
	if !reflect.DeepEqual(got, kinds) {
		t.Errorf("events %v, want %v", got, kinds)
	}
}

// takeTry takes a try at the time at which the records were made, and reports whether there was one.
func takeTry(t *testing.T, s store.Store, n int) (store.PINRecord, bool) {
	t.Helper()
	r, taken, err := s.TakePINTry(t.Context(), digest("subject", n), PINRecord(n).CreatedAt, PINEvent("blocked"))
	if err != nil {
		t.Fatal(err)
	}
	return r, taken
}

func giveTry(t *testing.T, s store.Store, r store.PINRecord, all bool) {
	t.Helper()
	if err := s.GivePINTry(t.Context(), r, all, PINEvent("last-right")); err != nil {
		t.Fatal(err)
	}
}

func testPINRoundTrip(t *testing.T, s store.Store) {
	before, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PINRecord(t.Context(), digest("subject", 1)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("PINRecord: %v, want ErrNotFound", err)
	}
	bare := PINRecord(3)
	bare.Kind, bare.Merchant, bare.Terminal, bare.Approval, bare.NotAfter = "CARDHOLDER", "", "", nil, bare.CreatedAt.Add(time.Microsecond)
	large := PendingPIN(4)
	large.Pending, large.Code = bytes.Repeat([]byte{0xa5}, store.MaxPINRecord), bytes.Repeat([]byte{0xa5}, store.MaxPINCode)
	large.Version, large.State = store.MaxPINVersion, store.PINResetPending
	for _, r := range []store.PINRecord{PINRecord(1), PendingPIN(2), bare, large} {
		samePIN(t, s, addPIN(t, s, r))
		if err := s.AddPINRecord(t.Context(), r, PINEvent("again")); !errors.Is(err, store.ErrExists) {
			t.Errorf("again: %v, want ErrExists", err)
		}
	}
	hasPINEvents(t, s, 1, "enrol-begun")
	if after, err := s.Revision(t.Context()); err != nil || after != before {
		t.Errorf("the revision went from %d to %d, %v", before, after, err)
	}
	for _, subject := range [][]byte{nil, {1}, make([]byte, 32), make([]byte, 33)} {
		if _, err := s.PINRecord(t.Context(), subject); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("PINRecord(%x): %v, want ErrNotFound", subject, err)
		}
		if list, err := s.PINEvents(t.Context(), subject, 0, 10); err != nil || len(list) != 0 {
			t.Errorf("PINEvents(%x) = %v, %v, want none", subject, list, err)
		}
	}
}

func testPINUpdate(t *testing.T, s store.Store) {
	event := PINEvent("pin-set")
	if _, err := s.UpdatePINRecord(t.Context(), PINRecord(1), &event); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one that is not there: %v, want ErrNotFound", err)
	}
	first := addPIN(t, s, PendingPIN(1))
	r := PINRecord(1)
	r.Series = 1
	kept, err := s.UpdatePINRecord(t.Context(), r, &event)
	r.Events, r.Revision, r.ChangedAt = 2, 2, event.At
	if err != nil || !reflect.DeepEqual(kept, r) {
		t.Fatalf("%+v, %v, want %+v", kept, err, r)
	}
	samePIN(t, s, r)
	r.Record = []byte("anew") // without an event
	if r, err = s.UpdatePINRecord(t.Context(), r, nil); err != nil || r.Events != 2 || r.Revision != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	samePIN(t, s, r)
	hasPINEvents(t, s, 1, "enrol-begun", "pin-set")
	if _, err := s.UpdatePINRecord(t.Context(), first, &event); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an older revision: %v, want ErrConflict", err)
	}
	for name, change := range map[string]func(*store.PINRecord){
		"another kind": func(r *store.PINRecord) { r.Kind = "CARDHOLDER" }, "another merchant": func(r *store.PINRecord) { r.Merchant = "m" },
		"another terminal": func(r *store.PINRecord) { r.Terminal = "" }, "another name": func(r *store.PINRecord) { r.Name = "eve" },
		"another time": func(r *store.PINRecord) { r.CreatedAt = r.CreatedAt.Add(time.Second) }, "a revision to come": func(r *store.PINRecord) { r.Revision++ },
	} {
		other := r
		change(&other)
		if _, err := s.UpdatePINRecord(t.Context(), other, &event); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", name, err)
		}
	}
	r.Version = 2
	if r, err = s.UpdatePINRecord(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	older := r
	older.Version = 1
	if _, err := s.UpdatePINRecord(t.Context(), older, nil); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a version that falls: %v, want ErrConflict", err)
	}
	samePIN(t, s, r)
}

// No PIN is tried more often than it may be, whoever asks, and with the last try it is blocked.
func testPINTries(t *testing.T, s store.Store) {
	addPIN(t, s, PINRecord(1))
	for left := uint32(2); left > 0; left-- {
		if r, taken := takeTry(t, s, 1); !taken || r.TriesLeft != left || r.State != store.PINActive || !bytes.Equal(r.Record, PINRecord(1).Record) {
			t.Fatalf("%v, %+v", taken, r)
		}
	}
	r, taken := takeTry(t, s, 1)
	if !taken || r.TriesLeft != 0 || r.State != store.PINBlocked {
		t.Fatalf("the last: %v, %+v", taken, r)
	}
	samePIN(t, s, r)
	hasPINEvents(t, s, 1, "enrol-begun", "blocked")
	revoked := PINRecord(2)
	revoked.State, revoked.TriesLeft = store.PINRevoked, 0
	addPIN(t, s, revoked)
	ended := PINRecord(3)
	ended.NotAfter = ended.CreatedAt
	addPIN(t, s, ended)
	addPIN(t, s, PendingPIN(4))
	for n := 1; n <= 5; n++ { // 5 is nobody
		var before store.PINRecord
		if n < 5 {
			before = pinOf(t, s, n)
		}
		if r, taken := takeTry(t, s, n); taken || r.Subject != nil {
			t.Errorf("%d: %+v was tried", n, r)
		}
		if n < 5 {
			samePIN(t, s, before)
		}
	}
	if _, _, err := s.TakePINTry(t.Context(), []byte{1}, time.Now(), PINEvent("blocked")); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("of no subject: %v, want ErrInvalid", err)
	}
}

// Tries come back where they were taken for nothing, and never more than there are.
func testPINTriesGiven(t *testing.T, s store.Store) {
	addPIN(t, s, PINRecord(1))
	first, _ := takeTry(t, s, 1)
	giveTry(t, s, first, true)
	if r := pinOf(t, s, 1); r.TriesLeft != 3 || r.Series != 1 {
		t.Errorf("right: %+v", r)
	}
	giveTry(t, s, first, true) // again
	giveTry(t, s, first, false)
	if r := pinOf(t, s, 1); r.TriesLeft != 3 || r.Revision != 3 {
		t.Errorf("given twice: %+v", r)
	}
	early, _ := takeTry(t, s, 1)
	takeTry(t, s, 1) // which is wrong
	giveTry(t, s, early, true)
	if r := pinOf(t, s, 1); r.TriesLeft != 2 || r.Series != 1 {
		t.Errorf("right before a wrong one had ended: %+v", r)
	}
	takeTry(t, s, 1)
	last, _ := takeTry(t, s, 1)
	if last.State != store.PINBlocked {
		t.Fatalf("the last: %+v", last)
	}
	giveTry(t, s, last, false) // nothing was compared
	if r := pinOf(t, s, 1); r.TriesLeft != 1 || r.State != store.PINActive {
		t.Errorf("given back: %+v", r)
	}
	last, _ = takeTry(t, s, 1)
	giveTry(t, s, last, true)
	r := pinOf(t, s, 1)
	if r.TriesLeft != 3 || r.State != store.PINActive || r.Series != 2 {
		t.Errorf("the last was right: %+v", r)
	}
	hasPINEvents(t, s, 1, "enrol-begun", "blocked", "last-right", "blocked", "last-right")
	taken, _ := takeTry(t, s, 1)
	next := taken
	next.Version, next.TriesLeft = 2, 1
	next, err := s.UpdatePINRecord(t.Context(), next, nil)
	if err != nil {
		t.Fatal(err)
	}
	giveTry(t, s, taken, true) // of the version before
	samePIN(t, s, next)
	revoked := next
	revoked.State, revoked.TriesLeft = store.PINRevoked, 0
	if revoked, err = s.UpdatePINRecord(t.Context(), revoked, nil); err != nil {
		t.Fatal(err)
	}
	giveTry(t, s, next, true) // what is revoked stays so
	samePIN(t, s, revoked)
	next.Subject = digest("subject", 9)
	giveTry(t, s, next, true)
}

func testPINCodes(t *testing.T, s store.Store) {
	addPIN(t, s, PendingPIN(1))
	take := func(n int, at time.Time) (store.PINRecord, bool) {
		r, taken, err := s.TakePINCode(t.Context(), digest("subject", n), at)
		if err != nil {
			t.Fatal(err)
		}
		return r, taken
	}
	now := PINRecord(1).CreatedAt
	for left := uint32(2); ; left-- {
		r, taken := take(1, now)
		if !taken || r.CodeTriesLeft != left {
			t.Fatalf("%v, %+v", taken, r)
		}
		if left == 0 {
			break
		}
	}
	if _, taken := take(1, now); taken {
		t.Error("a fourth code")
	}
	if err := s.GivePINCode(t.Context(), pinOf(t, s, 1)); err != nil {
		t.Fatal(err)
	}
	if _, taken := take(1, now.Add(time.Hour)); taken {
		t.Error("a code whose time is over")
	}
	if r, taken := take(1, now); !taken || r.CodeTriesLeft != 0 {
		t.Errorf("given back: %+v", r)
	}
	unmade := PendingPIN(2)
	unmade.Pending, unmade.Code = nil, nil
	addPIN(t, s, unmade)
	addPIN(t, s, PINRecord(3))
	for n := 2; n <= 4; n++ {
		if _, taken := take(n, now); taken {
			t.Errorf("%d: a code of nothing", n)
		}
	}
	// Another version was begun, and the code of the one before is nothing to it.
	late := pinOf(t, s, 1)
	next := late
	next.Version, next.Approval = 2, digest("approval", 2)
	next, err := s.UpdatePINRecord(t.Context(), next, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.GivePINCode(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	samePIN(t, s, next)
}

// Of many at the same moment as many get a try as there are.
func testPINContest(t *testing.T, s store.Store) {
	addPIN(t, s, PINRecord(1))
	addPIN(t, s, PendingPIN(2))
	var pins, codes atomic.Int32
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			_, taken, err := s.TakePINTry(t.Context(), digest("subject", 1), PINRecord(1).CreatedAt, PINEvent("blocked"))
			if err != nil {
				t.Error(err)
			}
			if taken {
				pins.Add(1)
			}
			_, taken, err = s.TakePINCode(t.Context(), digest("subject", 2), PINRecord(2).CreatedAt)
			if err != nil {
				t.Error(err)
			}
			if taken {
				codes.Add(1)
			}
		})
	}
	group.Wait()
	if pins.Load() != 3 || codes.Load() != 3 {
		t.Errorf("%d tries of a PIN and %d of a code", pins.Load(), codes.Load())
	}
	hasPINEvents(t, s, 1, "enrol-begun", "blocked")
}

func testPINPages(t *testing.T, s store.Store) {
	other := PINRecord(99)
	other.Merchant = "merchant-9"
	addPIN(t, s, other)
	for n := range 7 {
		addPIN(t, s, PINRecord(n))
	}
	var seen []string
	var after []byte
	for {
		page, err := s.PINRecords(t.Context(), "merchant-8", after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			if bytes.Compare(r.Subject, after) <= 0 {
				t.Errorf("%x after %x", r.Subject, after)
			}
			after = r.Subject
			seen = append(seen, r.Name)
		}
		if len(page) < 3 {
			break
		}
	}
	if len(seen) != 7 {
		t.Errorf("%d records: %v", len(seen), seen)
	}
	all, err := s.ListPINRecords(t.Context(), nil, 5)
	if err != nil || len(all) != 5 {
		t.Fatalf("%d records of all merchants: %v", len(all), err)
	}
	rest, err := s.ListPINRecords(t.Context(), all[4].Subject, 5)
	if err != nil || len(rest) != 3 || bytes.Compare(rest[0].Subject, all[4].Subject) <= 0 {
		t.Errorf("and %d more: %v", len(rest), err)
	}
	for n := 2; n <= 5; n++ {
		event, r := PINEvent(fmt.Sprint("event-", n)), pinOf(t, s, 1)
		if _, err := s.UpdatePINRecord(t.Context(), r, &event); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.PINEvents(t.Context(), digest("subject", 1), 2, 2); err != nil || len(list) != 2 || list[0].Kind != "event-3" || list[1].Number != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, limit := range []int{0, -1, store.MaxList + 1} {
		if _, err := s.PINRecords(t.Context(), "merchant-8", nil, limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%d records: %v, want ErrInvalid", limit, err)
		}
		if _, err := s.ListPINRecords(t.Context(), nil, limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%d records of all merchants: %v, want ErrInvalid", limit, err)
		}
		if _, err := s.PINEvents(t.Context(), digest("subject", 1), 0, limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%d events: %v, want ErrInvalid", limit, err)
		}
	}
	if _, err := s.PINRecords(t.Context(), "no merchant", nil, 1); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("of no merchant: %v, want ErrInvalid", err)
	}
}

// What was begun by an approval is found by the begin of its digest, until another version is, and so
// is a passkey's.
func testPINLinks(t *testing.T, s store.Store) {
	first := PendingPIN(1)
	first.Kind = "PASSKEY"
	addPIN(t, s, first)
	addPIN(t, s, PINRecord(2))
	none := PINRecord(3)
	none.Approval = nil
	addPIN(t, s, none)
	found := func(link []byte, want *store.PINRecord) {
		t.Helper()
		got, err := s.PINRecordOfLink(t.Context(), link)
		switch {
		case want == nil && !errors.Is(err, store.ErrNotFound):
			t.Errorf("link %x: %+v, %v", link, got, err)
		case want != nil && (err != nil || !reflect.DeepEqual(got, *want)):
			t.Errorf("link %x: %+v, %v, want %+v", link, got, err, *want)
		}
	}
	second := pinOf(t, s, 2)
	found(first.Approval[:store.PINLink], &first)
	found(second.Approval[:store.PINLink], &second)
	other := bytes.Clone(first.Approval[:store.PINLink])
	other[store.PINLink-1] ^= 1
	for _, link := range [][]byte{nil, {}, make([]byte, store.PINLink), bytes.Repeat([]byte{0xff}, store.PINLink), other, first.Approval, first.Approval[:store.PINLink-1]} {
		found(link, nil)
	}
	for _, approval := range [][]byte{
		append(bytes.Repeat([]byte{7}, store.PINLink), make([]byte, 16)...), append(bytes.Repeat([]byte{7}, store.PINLink), bytes.Repeat([]byte{0xff}, 16)...),
	} {
		now := pinOf(t, s, 1)
		now.Approval, now.Version = approval, now.Version+1
		kept, err := s.UpdatePINRecord(t.Context(), now, nil)
		if err != nil {
			t.Fatal(err)
		}
		found(approval[:store.PINLink], &kept)
		found(first.Approval[:store.PINLink], nil)
	}
}

func testPINRequests(t *testing.T, s store.Store) {
	event := PINEvent("enrol-begun")
	event.Request = digest("request", 1)
	if _, err := s.PINEventOfRequest(t.Context(), event.Request); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before: %v, want ErrNotFound", err)
	}
	if err := s.AddPINRecord(t.Context(), PINRecord(1), event); err != nil {
		t.Fatal(err)
	}
	if got, err := s.PINEventOfRequest(t.Context(), event.Request); err != nil || got.Number != 1 || !bytes.Equal(got.Subject, PINRecord(1).Subject) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := s.AddPINRecord(t.Context(), PINRecord(2), event); !errors.Is(err, store.ErrTaken) {
		t.Errorf("for another subject: %v, want ErrTaken", err)
	}
	if _, err := s.UpdatePINRecord(t.Context(), PINRecord(1), &event); !errors.Is(err, store.ErrTaken) {
		t.Errorf("for the same: %v, want ErrTaken", err)
	}
	samePIN(t, s, PINRecord(1))
	if _, err := s.PINRecord(t.Context(), PINRecord(2).Subject); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("refused and kept: %v", err)
	}
	for _, request := range [][]byte{nil, {}, make([]byte, 32), make([]byte, 33)} {
		if _, err := s.PINEventOfRequest(t.Context(), request); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%x: %v, want ErrNotFound", request, err)
		}
	}
}

func testPINsInvalid(t *testing.T, s store.Store) {
	for name, change := range map[string]func(*store.PINRecord){
		"a short subject":          func(r *store.PINRecord) { r.Subject = r.Subject[1:] },
		"a kind that is none":      func(r *store.PINRecord) { r.Kind = "CLERK" },
		"no name":                  func(r *store.PINRecord) { r.Name = "" },
		"a name with a space":      func(r *store.PINRecord) { r.Merchant = "a b" },
		"a long terminal":          func(r *store.PINRecord) { r.Terminal = string(bytes.Repeat([]byte("t"), store.MaxPINName+1)) },
		"version 0":                func(r *store.PINRecord) { r.Version = 0 },
		"a state that is none":     func(r *store.PINRecord) { r.State = "ENDED" },
		"no tries":                 func(r *store.PINRecord) { r.Tries, r.TriesLeft = 0, 0 },
		"many tries":               func(r *store.PINRecord) { r.Tries = store.MaxPINTries + 1 },
		"more left than there are": func(r *store.PINRecord) { r.TriesLeft = 4 },
		"active without a try":     func(r *store.PINRecord) { r.TriesLeft = 0 },
		"blocked with a try":       func(r *store.PINRecord) { r.State = store.PINBlocked },
		"active without a PIN":     func(r *store.PINRecord) { r.Record = nil },
		"a long record":            func(r *store.PINRecord) { r.Record = make([]byte, store.MaxPINRecord+1) },
		"a short approval":         func(r *store.PINRecord) { r.Approval = []byte{1} },
		"pending and active":       func(r *store.PINRecord) { r.Pending, r.Code = []byte{1}, []byte{1} },
		"a code that is active":    func(r *store.PINRecord) { r.CodeTriesLeft = 1 },
		"an end of no code":        func(r *store.PINRecord) { r.CodeExpires = r.CreatedAt },
		"a time before 1970":       func(r *store.PINRecord) { r.CreatedAt = time.Unix(-1, 0) },
		"a time after 9999":        func(r *store.PINRecord) { r.NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"pending without an end":   func(r *store.PINRecord) { *r = PendingPIN(1); r.CodeExpires = time.Time{} },
		"pending without approval": func(r *store.PINRecord) { *r = PendingPIN(1); r.Approval = nil },
		"pending without a code":   func(r *store.PINRecord) { *r = PendingPIN(1); r.Code = nil },
		"pending with a PIN":       func(r *store.PINRecord) { *r = PendingPIN(1); r.Record = []byte{1} },
		"many codes":               func(r *store.PINRecord) { *r = PendingPIN(1); r.CodeTriesLeft = store.MaxPINTries + 1 },
	} {
		r := PINRecord(1)
		change(&r)
		if err := s.AddPINRecord(t.Context(), r, PINEvent("enrol-begun")); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s, added: %v, want ErrInvalid", name, err)
		}
		if _, err := s.UpdatePINRecord(t.Context(), r, nil); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s, updated: %v, want ErrInvalid", name, err)
		}
	}
	for name, change := range map[string]func(*store.PINEvent){
		"no kind": func(e *store.PINEvent) { e.Kind = "" }, "a kind with a space": func(e *store.PINEvent) { e.Kind = "a b" },
		"an actor that is not ASCII": func(e *store.PINEvent) { e.Actor = "ä" }, "a detail with a line": func(e *store.PINEvent) { e.Detail = "a\nb" },
		"a short request": func(e *store.PINEvent) { e.Request = []byte{1} }, "no time": func(e *store.PINEvent) { e.At = time.Unix(-1, 0) },
	} {
		e := PINEvent("enrol-begun")
		change(&e)
		if err := s.AddPINRecord(t.Context(), PINRecord(1), e); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	if _, err := s.PINRecord(t.Context(), PINRecord(1).Subject); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("something was kept: %v", err)
	}
}

// Whatever the order of tries, returns and retries of returns: what is wrong, or not returned yet,
// since the tries began anew is never more than there are tries.
func testPINModel(t *testing.T, s store.Store) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		addPIN(t, s, PINRecord(n))
		var open []store.PINRecord
		lost := map[uint64]int{} // tries by series that were taken and not returned
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			if len(open) > 0 && rapid.Bool().Draw(rt, "give") {
				at := rapid.IntRange(0, len(open)-1).Draw(rt, "which")
				before := pinOf(t, s, n)
				all := rapid.Bool().Draw(rt, "all")
				giveTry(t, s, open[at], all)
				if after := pinOf(t, s, n); after.Series == before.Series && after.TriesLeft == before.TriesLeft+1 {
					lost[after.Series]--
				} else if after.Series == before.Series && after.Revision != before.Revision {
					rt.Errorf("%+v became %+v", before, after)
				}
				open = append(open[:at], open[at+1:]...)
				continue
			}
			r, taken := takeTry(t, s, n)
			if taken {
				open = append(open, r)
				lost[r.Series]++
			}
			if now := pinOf(t, s, n); lost[now.Series] > 3 || int(now.TriesLeft) != 3-lost[now.Series] {
				rt.Errorf("%d tries are out, %+v", lost[now.Series], now)
			}
		}
	})
}
