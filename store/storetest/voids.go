package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/store"
)

// voidTests are the tests of [store.Voids].
var voidTests = []test{
	{"VoidLife", testVoidLife},
	{"VoidsLiveOnce", testVoidsLiveOnce},
	{"VoidsOfOneRequest", testVoidsOfOneRequest},
	{"VoidContest", testVoidContest},
	{"VoidStanding", testVoidStanding},
	{"VoidsInPages", testVoidsInPages},
	{"VoidsDue", testVoidsDue},
	{"VoidsInvalid", testVoidsInvalid},
}

var voidDay = time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)

var errRefused = errors.New("refused by the caller")

// Void returns a valid void in state CREATED, which follows from its number.
func Void(n int) store.VoidRecord {
	id, request := sha256.Sum256(fmt.Append(nil, "void ", n)), sha256.Sum256(fmt.Append(nil, "request ", n))
	at := voidDay.Add(time.Duration(n) * time.Minute)
	return store.VoidRecord{
		ID: fmt.Sprintf("%x", id[:16]), Merchant: "m-1", Terminal: "t-1", Reference: fmt.Sprint("ref-", n), Amount: 12300, Currency: 156, Fee: 74,
		State: store.VoidCreated, Version: 1, Content: fmt.Append(nil, "content ", n), Code: id[16:], Payload: make([]byte, store.VoidPayload), Slip: make([]byte, store.VoidSlip),
		CodeExpires: at.Add(time.Minute), PaidAt: at.Add(-time.Minute), Request: request[:], Due: at.Add(10 * time.Minute), Created: at, Changed: at,
	}
}

func question(v store.VoidRecord) store.VoidQuestion {
	return store.VoidQuestion{Request: v.Request, Merchant: v.Merchant, Reference: v.Reference, Since: voidDay}
}

func addVoid(t *testing.T, s store.Store, v store.VoidRecord) store.VoidRecord {
	t.Helper()
	got, added, err := s.AddVoid(t.Context(), question(v), func(store.Standing) (store.VoidRecord, error) { return v, nil })
	if err != nil || !added || !reflect.DeepEqual(got, v) {
		t.Fatalf("AddVoid = %+v, %t, %v", got, added, err)
	}
	return got
}

// changeVoid changes a void to its next version.
func changeVoid(t *testing.T, s store.Store, v store.VoidRecord, change func(*store.VoidRecord)) store.VoidRecord {
	t.Helper()
	got, err := s.ChangeVoid(t.Context(), v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
		v.Version++
		v.Content = fmt.Append(nil, "version ", v.Version)
		v.Changed = v.Changed.Add(time.Second)
		change(&v)
		return v, nil
	})
	if err != nil {
		t.Fatalf("ChangeVoid: %v", err)
	}
	return got
}

func scanVoid(t *testing.T, s store.Store, v store.VoidRecord) store.VoidRecord {
	t.Helper()
	return changeVoid(t, s, v, func(v *store.VoidRecord) { v.State, v.Burnt = store.VoidScanned, v.Created.Add(time.Second) })
}

func authorizeVoid(t *testing.T, s store.Store, v store.VoidRecord) store.VoidRecord {
	t.Helper()
	return changeVoid(t, s, scanVoid(t, s, v), func(v *store.VoidRecord) { v.State, v.Token = store.VoidAuthorized, "token" })
}

func theVoid(t *testing.T, s store.Store, want store.VoidRecord) {
	t.Helper()
	for what, get := range map[string]func() (store.VoidRecord, error){
		"Void":          func() (store.VoidRecord, error) { return s.Void(t.Context(), want.ID) },
		"VoidOfCode":    func() (store.VoidRecord, error) { return s.VoidOfCode(t.Context(), want.Code) },
		"VoidOfRequest": func() (store.VoidRecord, error) { return s.VoidOfRequest(t.Context(), want.Request) },
	} {
		if got, err := get(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %+v, %v, want %+v", what, got, err, want)
		}
	}
}

func testVoidLife(t *testing.T, s store.Store) {
	v := addVoid(t, s, Void(1))
	theVoid(t, s, v)
	v = scanVoid(t, s, v)
	theVoid(t, s, v)
	// What does not change the version is not kept, and what a caller refuses neither.
	got, err := s.ChangeVoid(t.Context(), v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
		v.Token = "never"
		return v, nil
	})
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.ChangeVoid(t.Context(), v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
		v.Version++
		return v, errRefused
	}); err != errRefused { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
	theVoid(t, s, v)
	v = changeVoid(t, s, v, func(v *store.VoidRecord) { v.State, v.Token = store.VoidAuthorized, "token" })
	v = changeVoid(t, s, v, func(v *store.VoidRecord) { v.State = store.VoidConfirmed })
	if v.Token != "token" {
		t.Error("the token is gone")
	}
	theVoid(t, s, v)
}

// A payment has one live void, and another when that is over.
func testVoidsLiveOnce(t *testing.T, s store.Store) {
	v := addVoid(t, s, Void(1))
	second := Void(2)
	second.Reference = v.Reference
	add := func() error {
		_, _, err := s.AddVoid(t.Context(), question(second), func(store.Standing) (store.VoidRecord, error) { return second, nil })
		return err
	}
	for _, next := range []func(){
		func() {},
		func() { v = scanVoid(t, s, v) },
		func() {
			v = changeVoid(t, s, v, func(v *store.VoidRecord) { v.State, v.Token = store.VoidAuthorized, "token" })
		},
	} {
		next()
		if err := add(); !errors.Is(err, store.ErrExists) {
			t.Errorf("while the first is %s: %v, want ErrExists", v.State, err)
		}
	}
	changeVoid(t, s, v, func(v *store.VoidRecord) { v.State = store.VoidDeclined })
	if err := add(); err != nil {
		t.Error(err)
	}
	// Another merchant's payment may have the same reference.
	third := Void(3)
	third.Merchant, third.Reference = "m-2", v.Reference
	addVoid(t, s, third)
}

func testVoidsOfOneRequest(t *testing.T, s store.Store) {
	v := addVoid(t, s, Void(1))
	got, added, err := s.AddVoid(t.Context(), question(v), func(store.Standing) (store.VoidRecord, error) {
		t.Error("it was asked for another void")
		return Void(2), nil
	})
	if err != nil || added || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v, %t, %v", got, added, err)
	}
	if _, _, err := s.AddVoid(t.Context(), question(Void(3)), func(store.Standing) (store.VoidRecord, error) { return store.VoidRecord{}, errRefused }); err != errRefused { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
	if _, err := s.VoidOfRequest(t.Context(), Void(3).Request); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was refused is kept: %v", err)
	}
	// Many at once with one request make one void, many for one payment likewise.
	var adds atomic.Int32
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			w := Void(4)
			got, added, err := s.AddVoid(t.Context(), question(w), func(store.Standing) (store.VoidRecord, error) { return w, nil })
			if err != nil || got.ID != w.ID {
				t.Errorf("%+v, %v", got, err)
			}
			if added {
				adds.Add(1)
			}
		})
	}
	for n := range 8 {
		wait.Go(func() {
			w := Void(10 + n)
			w.Reference = "contested"
			_, added, err := s.AddVoid(t.Context(), question(w), func(st store.Standing) (store.VoidRecord, error) {
				if st.Live {
					return store.VoidRecord{}, errRefused
				}
				return w, nil
			})
			if added {
				adds.Add(1)
			}
			if err != nil && err != errRefused { //nolint:errorlint // as it is
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := adds.Load(); n != 2 {
		t.Errorf("%d were added, want 2", n)
	}
}

// Of many who take a void from one state to the next, one does.
func testVoidContest(t *testing.T, s store.Store) {
	v := scanVoid(t, s, addVoid(t, s, Void(1)))
	var won atomic.Int32
	var wait sync.WaitGroup
	for n := range 16 {
		wait.Go(func() {
			mine := fmt.Sprint("token-", n)
			got, err := s.ChangeVoid(t.Context(), v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
				if v.State != store.VoidScanned {
					return v, nil
				}
				v.State, v.Token, v.Version = store.VoidAuthorized, mine, v.Version+1
				return v, nil
			})
			if err != nil || got.State != store.VoidAuthorized {
				t.Errorf("%+v, %v", got, err)
			}
			if got.Token == mine {
				won.Add(1)
			}
		})
	}
	wait.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 16 have won", n)
	}
}

// Others of the day count, but those that came to nothing.
func testVoidStanding(t *testing.T, s store.Store) {
	first := addVoid(t, s, Void(1))
	scanVoid(t, s, addVoid(t, s, Void(2)))
	gone := addVoid(t, s, Void(3))
	changeVoid(t, s, gone, func(v *store.VoidRecord) { v.State = store.VoidCancelled })
	done := authorizeVoid(t, s, addVoid(t, s, Void(4)))
	changeVoid(t, s, done, func(v *store.VoidRecord) { v.State = store.VoidConfirmed })
	yesterday := Void(5)
	yesterday.Created = voidDay.Add(-time.Microsecond)
	addVoid(t, s, yesterday)
	others := Void(6)
	others.Merchant = "m-2"
	addVoid(t, s, others)
	var seen store.Standing
	q := question(Void(7))
	q.Reference = first.Reference
	if _, _, err := s.AddVoid(t.Context(), q, func(st store.Standing) (store.VoidRecord, error) { seen = st; return store.VoidRecord{}, errRefused }); err == nil {
		t.Error("it was added")
	}
	if seen != (store.Standing{Live: true, Today: 3}) {
		t.Errorf("%+v", seen)
	}
	if _, err := s.ChangeVoid(t.Context(), first.ID, voidDay, func(v store.VoidRecord, st store.Standing) (store.VoidRecord, error) { seen = st; return v, nil }); err != nil {
		t.Error(err)
	}
	if seen != (store.Standing{Today: 2}) {
		t.Errorf("but itself: %+v", seen)
	}
	looked(t, s, first, seen)
	again := Void(8)
	again.Reference = gone.Reference
	addVoid(t, s, again)
	gone, err := s.Void(t.Context(), gone.ID)
	if err != nil {
		t.Fatal(err)
	}
	looked(t, s, gone, store.Standing{Live: true, Today: 4})
	if _, _, err := s.VoidStanding(t.Context(), Void(9).ID, voidDay); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
	if _, _, err := s.VoidStanding(t.Context(), first.ID, time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("since no time: %v", err)
	}
}

// looked insists on how a void stands.
func looked(t *testing.T, s store.Store, v store.VoidRecord, want store.Standing) {
	t.Helper()
	got, standing, err := s.VoidStanding(t.Context(), v.ID, voidDay)
	if err != nil || !reflect.DeepEqual(got, v) || standing != want {
		t.Errorf("VoidStanding = %+v, %+v, %v, want %+v, %+v", got, standing, err, v, want)
	}
}

func testVoidsInPages(t *testing.T, s store.Store) {
	var want []string
	for n := range 7 {
		v := Void(n)
		v.Created = voidDay.Add(time.Duration(n/3) * time.Second) // some of one moment
		addVoid(t, s, v)
	}
	all, err := s.ListVoids(t.Context(), "m-1", "", time.Time{}, "", 100)
	if err != nil || len(all) != 7 {
		t.Fatalf("%d, %v", len(all), err)
	}
	for i, v := range all {
		if want = append(want, v.ID); i > 0 && (all[i-1].Created.Before(v.Created) || all[i-1].Created.Equal(v.Created) && all[i-1].ID <= v.ID) {
			t.Errorf("%d is out of order", i)
		}
	}
	var got []string
	var before time.Time
	var id string
	for {
		page, err := s.ListVoids(t.Context(), "m-1", store.VoidCreated, before, id, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page {
			got, before, id = append(got, v.ID), v.Created, v.ID
		}
		if len(page) < 2 {
			break
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("in pages %q, want %q", got, want)
	}
	for merchant, state := range map[string]store.VoidState{"m-2": "", "m-1": store.VoidConfirmed, "m-1\x00": ""} {
		if l, err := s.ListVoids(t.Context(), merchant, state, time.Time{}, "", 10); err != nil || len(l) != 0 {
			t.Errorf("%q %s: %d, %v", merchant, state, len(l), err)
		}
	}
}

func testVoidsDue(t *testing.T, s store.Store) {
	first, second := addVoid(t, s, Void(1)), addVoid(t, s, Void(2))
	third := addVoid(t, s, Void(3))
	changeVoid(t, s, third, func(v *store.VoidRecord) { v.State = store.VoidExpired })
	for at, want := range map[time.Time][]string{first.Due.Add(-1 * time.Microsecond): nil, first.Due: {first.ID}, third.Due: {first.ID, second.ID}} {
		l, err := s.DueVoids(t.Context(), at, 10)
		var got []string
		for _, v := range l {
			got = append(got, v.ID)
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("at %s: %q, %v, want %q", at, got, err, want)
		}
	}
	if l, err := s.DueVoids(t.Context(), third.Due, 1); err != nil || len(l) != 1 {
		t.Errorf("%d, %v", len(l), err)
	}
}

func testVoidsInvalid(t *testing.T, s store.Store) {
	for what, change := range map[string]func(*store.VoidRecord){
		"no identifier":    func(v *store.VoidRecord) { v.ID = "" },
		"a long merchant":  func(v *store.VoidRecord) { v.Merchant = strings.Repeat("m", 65) },
		"no amount":        func(v *store.VoidRecord) { v.Amount = 0 },
		"no currency":      func(v *store.VoidRecord) { v.Currency = 0 },
		"a large currency": func(v *store.VoidRecord) { v.Currency = 1000 },
		"a large fee":      func(v *store.VoidRecord) { v.Fee = v.Amount + 1 },
		"another state":    func(v *store.VoidRecord) { v.State = "OTHER" },
		"version 0":        func(v *store.VoidRecord) { v.Version = 0 },
		"version 2":        func(v *store.VoidRecord) { v.Version = 2 },
		"no content":       func(v *store.VoidRecord) { v.Content = nil },
		"large content":    func(v *store.VoidRecord) { v.Content = make([]byte, store.MaxVoidContent+1) },
		"a token":          func(v *store.VoidRecord) { v.Token = "token" },
		"no token":         func(v *store.VoidRecord) { v.State, v.Burnt = store.VoidAuthorized, voidDay },
		"never burnt":      func(v *store.VoidRecord) { v.State = store.VoidScanned },
		"a short code":     func(v *store.VoidRecord) { v.Code = v.Code[1:] },
		"a short payload":  func(v *store.VoidRecord) { v.Payload = v.Payload[1:] },
		"a short slip":     func(v *store.VoidRecord) { v.Slip = v.Slip[1:] },
		"another request":  func(v *store.VoidRecord) { v.Request = Void(2).Request },
		"another payment":  func(v *store.VoidRecord) { v.Reference = "other" },
		"no time":          func(v *store.VoidRecord) { v.Due = time.Time{} },
	} {
		v := Void(1)
		q := question(v)
		change(&v)
		if _, _, err := s.AddVoid(t.Context(), q, func(store.Standing) (store.VoidRecord, error) { return v, nil }); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	v := authorizeVoid(t, s, addVoid(t, s, Void(1)))
	for what, change := range map[string]func(*store.VoidRecord){
		"an earlier version": func(v *store.VoidRecord) { v.Version = 1 },
		"another merchant":   func(v *store.VoidRecord) { v.Merchant = "m-2" },
		"another amount":     func(v *store.VoidRecord) { v.Amount++ },
		"another code":       func(v *store.VoidRecord) { v.Code = Void(2).Code },
		"another token":      func(v *store.VoidRecord) { v.Token = "other" },
		"burnt again":        func(v *store.VoidRecord) { v.Burnt = v.Burnt.Add(time.Second) },
	} {
		if _, err := s.ChangeVoid(t.Context(), v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
			v.Version++
			change(&v)
			return v, nil
		}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	theVoid(t, s, v)
	v = changeVoid(t, s, v, func(v *store.VoidRecord) { v.State = store.VoidExpired })
	if _, err := s.ChangeVoid(t.Context(), v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) {
		v.Version++
		v.State = store.VoidAuthorized
		return v, nil
	}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("one that is over: %v, want ErrInvalid", err)
	}
	for _, id := range []string{"", "\x00", Void(9).ID, strings.ToUpper(v.ID)} {
		if _, err := s.Void(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", id, err)
		}
		if _, err := s.ChangeVoid(t.Context(), id, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) { return v, nil }); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%q: %v, want ErrNotFound", id, err)
		}
	}
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		if _, err := s.ListVoids(t.Context(), "m-1", "", time.Time{}, "", limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}
