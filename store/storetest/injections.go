package storetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/store"
)

// injectionTests are the tests of [store.KeySets] and [store.Injections].
var injectionTests = []test{
	{"KeyHosts", testKeyHosts},
	{"KeySets", testKeySets},
	{"RevocationLists", testRevocationLists},
	{"InjectionLife", testInjectionLife},
	{"InjectionRefusals", testInjectionRefusals},
	{"InjectionRetry", testInjectionRetry},
	{"InitialKeysOwn", testInitialKeysOwn},
	{"InitialKeyRanges", testInitialKeyRanges},
	{"InitialKeyContest", testInitialKeyContest},
	{"InjectionContest", testInjectionContest},
	{"InjectionsEnd", testInjectionsEnd},
	{"InjectionsDue", testInjectionsDue},
	{"SessionKeys", testSessionKeys},
	{"InjectionsInvalid", testInjectionsInvalid},
}

var injectionDay = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

// keyed adds a terminal that gets the keys of a key set, which is added unless it is there.
func keyed(t *testing.T, s store.Store, n int) store.TerminalRecord {
	t.Helper()
	if err := s.AddKeySet(t.Context(), KeySet("set", 1)); err != nil && !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	r := Terminal(n)
	r.KeySet = "set"
	addTerminal(t, s, r)
	return r
}

// begin returns what begins the injection with a number of a terminal.
func begin(r store.TerminalRecord, n int, wanted ...store.Wanted) store.Begin {
	id := sha256.Sum256(fmt.Append(nil, r.ID, " ", n))
	request, nonce := sha256.Sum256(fmt.Append(nil, "request ", n)), sha256.Sum256(fmt.Append(nil, "nonce ", n))
	at := injectionDay.Add(time.Duration(n) * time.Minute)
	return store.Begin{
		Injection: store.Injection{
			ID: fmt.Sprintf("%x", id[:16]), Terminal: r.ID, Method: "KEY_AGREEMENT", KeySet: "set", KeySetVersion: 1, Request: request[:], Nonce: nonce[:],
			Created: at, ConfirmBy: at.AddDate(0, 0, 1),
		},
		PublicKey: r.PublicKey, Wanted: wanted, Most: 10, MostAll: 100,
	}
}

func begun(t *testing.T, s store.Store, b store.Begin) store.Injection {
	t.Helper()
	i, err := s.BeginInjection(t.Context(), b)
	if err != nil {
		t.Fatalf("BeginInjection: %v", err)
	}
	return i
}

func given(i store.Injection) store.Given {
	return store.Given{
		Terminal: i.Terminal, ID: i.ID, Revision: i.Revision, Answer: []byte("answer"), KeyBlocks: []string{"D0000A", "D0000B"}, Record: []byte("record"),
		Master: []byte("master"), ReceiptKey: []byte("receipt key"), ConfirmBy: i.ConfirmBy, At: i.Created,
	}
}

func answered(t *testing.T, s store.Store, i store.Injection) store.Injection {
	t.Helper()
	if err := s.AnswerInjection(t.Context(), given(i), Event("keys-sent")); err != nil {
		t.Fatalf("AnswerInjection: %v", err)
	}
	return injection(t, s, i)
}

func confirmed(t *testing.T, s store.Store, i store.Injection) store.Injection {
	t.Helper()
	if err := s.ConfirmInjection(t.Context(), i.Terminal, i.ID, i.Revision, []byte("receipt"), []byte("statement"), i.Created.Add(time.Minute), Event("keys-confirmed")); err != nil {
		t.Fatalf("ConfirmInjection: %v", err)
	}
	return injection(t, s, i)
}

func injection(t *testing.T, s store.Store, i store.Injection) store.Injection {
	t.Helper()
	got, err := s.Injection(t.Context(), i.Terminal, i.ID)
	if err != nil {
		t.Fatalf("Injection: %v", err)
	}
	return got
}

func inState(t *testing.T, s store.Store, i store.Injection, state store.InjectionState) {
	t.Helper()
	if got := injection(t, s, i); got.State != state {
		t.Errorf("injection %d is %s, want %s", got.Number, got.State, state)
	}
}

func testInjectionLife(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	b := begin(r, 1, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(5, 9)}, store.Wanted{Name: "data", BDK: "bdk-2", Own: []byte("0123456789")})
	before, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := begun(t, s, b)
	want := b.Injection
	want.State, want.Revision, want.Number = store.InjectionBegun, 1, 1
	want.Keys = []store.AllottedKey{{Name: "pin", BDK: "bdk", ID: []byte{1, 2, 3, 4, 0, 0, 0, 5}}, {Name: "data", BDK: "bdk-2", ID: []byte("0123456789")}}
	if !reflect.DeepEqual(i, want) {
		t.Fatalf("%+v, want %+v", i, want)
	}
	if l, err := s.ListInjections(t.Context(), r.ID, 0, 10); err != nil || len(l) != 0 {
		t.Errorf("one that has begun is listed: %v, %v", l, err)
	}
	i = answered(t, s, i)
	if i.State != store.InjectionPending || i.Revision != 2 || string(i.Answer) != "answer" || !slices.Equal(i.KeyBlocks, []string{"D0000A", "D0000B"}) || string(i.Record) != "record" {
		t.Fatalf("%+v", i)
	}
	if got := keysOf(t, s, r.ID); !slices.Equal(got, []string{"master 1", "receipt 1"}) {
		t.Errorf("keys %q", got)
	}
	for what, find := range map[string]func() (store.Injection, error){
		"of the nonce":   func() (store.Injection, error) { return s.InjectionOfNonce(t.Context(), r.ID, b.Nonce) },
		"of the request": func() (store.Injection, error) { return s.InjectionOfRequest(t.Context(), r.ID, b.Request) },
	} {
		if got, err := find(); err != nil || !reflect.DeepEqual(got, i) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	i = confirmed(t, s, i)
	if i.State != store.InjectionConfirmed || len(i.Answer) != 0 || i.KeyBlocks != nil || string(i.Receipt) != "receipt" || string(i.Statement) != "statement" || i.Confirmed.IsZero() {
		t.Fatalf("%+v", i)
	}
	if got := keysOf(t, s, r.ID); !slices.Equal(got, []string{"master 1"}) {
		t.Errorf("keys %q", got)
	}
	// The next one: two are there until it is confirmed.
	second := begun(t, s, begin(r, 2, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(5, 9)}))
	if second.Number != 2 || second.Keys[0].ID[7] != 6 {
		t.Fatalf("%+v", second)
	}
	second = answered(t, s, second)
	inState(t, s, i, store.InjectionConfirmed)
	third := answered(t, s, begun(t, s, begin(r, 3)))
	inState(t, s, second, store.InjectionSuperseded)
	third = confirmed(t, s, third)
	inState(t, s, i, store.InjectionSuperseded)
	if got, err := s.ConfirmedInjection(t.Context(), r.ID); err != nil || got.ID != third.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if got := keysOf(t, s, r.ID); !slices.Equal(got, []string{"master 1"}) {
		t.Errorf("keys %q", got)
	}
	hasEvents(t, s, r.ID, "registered", "keys-sent", "keys-confirmed", "keys-sent", "keys-sent", "keys-confirmed")
	var numbers []uint64
	for at := uint64(0); ; {
		l, err := s.ListInjections(t.Context(), r.ID, at, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range l {
			numbers, at = append(numbers, i.Number), i.Number
		}
		if len(l) < 2 {
			break
		}
	}
	if !slices.Equal(numbers, []uint64{3, 2, 1}) {
		t.Errorf("listed: %v", numbers)
	}
	// Those that were confirmed count among all of the day.
	fourth := begin(r, 4)
	fourth.Most, fourth.MostAll = 2, 3
	if _, err := s.BeginInjection(t.Context(), fourth); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one more than all of a day: %v", err)
	}
	fourth.MostAll = 4
	begun(t, s, fourth)
	if after, err := s.Revision(t.Context()); err != nil || after != before {
		t.Errorf("the revision rose from %d to %d, %v", before, after, err)
	}
}

func testInjectionRefusals(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	refused := func(what string, want error, change func(*store.Begin)) {
		t.Helper()
		b := begin(r, 1, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(0, 9)})
		change(&b)
		if _, err := s.BeginInjection(t.Context(), b); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	refused("no terminal", store.ErrNotFound, func(b *store.Begin) { b.Terminal = "none" })
	refused("another key", store.ErrConflict, func(b *store.Begin) { b.PublicKey = Terminal(2).PublicKey })
	refused("another key set", store.ErrConflict, func(b *store.Begin) { b.KeySet = "other" })
	refused("another version", store.ErrConflict, func(b *store.Begin) { b.KeySetVersion = 2 })
	refused("none is left of the day", store.ErrTooMany, func(b *store.Begin) { b.Most = 0 })
	refused("none is left at all", store.ErrTooMany, func(b *store.Begin) { b.MostAll = 0 })
	first := begun(t, s, begin(r, 7, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(0, 9)}))
	if first.Keys[0].ID[7] != 0 {
		t.Errorf("refusals have used numbers: %x", first.Keys[0].ID)
	}
	refused("a nonce again", store.ErrExists, func(b *store.Begin) { b.Nonce = first.Nonce })
	refused("a second one of the day", store.ErrTooMany, func(b *store.Begin) { b.Most = 1 })
	// A day later it counts no more.
	later := begin(r, 60*24+8)
	later.Most, later.MostAll = 1, 1
	second := begun(t, s, later)
	// Not by another's revision, and in no other order.
	stale := second
	stale.Revision = 7
	for what, err := range map[string]error{
		"an answer of another revision": s.AnswerInjection(t.Context(), given(stale), Event("keys-sent")),
		"a receipt before the answer":   s.ConfirmInjection(t.Context(), r.ID, second.ID, second.Revision, []byte("r"), []byte("s"), second.Created, Event("keys-confirmed")),
		"expired before the answer":     s.EndInjection(t.Context(), r.ID, second.ID, second.Revision, store.InjectionExpired, "", Event("keys-expired")),
	} {
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", what, err)
		}
	}
	second = answered(t, s, second)
	for what, err := range map[string]error{
		"a second answer":    s.AnswerInjection(t.Context(), given(second), Event("keys-sent")),
		"failed although":    s.EndInjection(t.Context(), r.ID, second.ID, second.Revision, store.InjectionFailed, "why", Event("keys-failed")),
		"a receipt too late": s.ConfirmInjection(t.Context(), r.ID, second.ID, second.Revision, []byte("r"), []byte("s"), second.ConfirmBy, Event("keys-confirmed")),
	} {
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", what, err)
		}
	}
	// A terminal that is suspended meanwhile gets and confirms nothing.
	third := begun(t, s, begin(r, 60*24+9))
	r, err := s.Terminal(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	r.State = store.TerminalSuspended
	r = updateTerminal1(t, s, r, "suspended")
	for what, err := range map[string]error{
		"an answer for a suspended one":  s.AnswerInjection(t.Context(), given(third), Event("keys-sent")),
		"a receipt of a suspended one":   s.ConfirmInjection(t.Context(), r.ID, second.ID, second.Revision, []byte("r"), []byte("s"), second.Created, Event("keys-confirmed")),
		"session keys for one suspended": s.AddSessionKeys(t.Context(), r.ID, second.ID, []store.TerminalKey{sessionKey(second, "pin", 1)}),
	} {
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", what, err)
		}
	}
	inState(t, s, second, store.InjectionPending)
	refused("a suspended one", store.ErrConflict, func(*store.Begin) {})
}

// updateTerminal1 is updateTerminal of a terminal with other events before.
func updateTerminal1(t *testing.T, s store.Store, r store.TerminalRecord, kind string) store.TerminalRecord {
	t.Helper()
	if err := s.UpdateTerminal(t.Context(), r, Event(kind)); err != nil {
		t.Fatalf("UpdateTerminal: %v", err)
	}
	r.Revision++
	return r
}

func testInjectionRetry(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	wanted := store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(0, 100)}
	i := begun(t, s, begin(r, 1, wanted))
	at := i.Created.Add(time.Hour)
	again, err := s.RetryInjection(t.Context(), r.ID, i.ID, 1, r.PublicKey, nil, at, at.AddDate(0, 0, 1))
	if err != nil || again.Revision != 2 || !reflect.DeepEqual(again.Keys, i.Keys) || !again.Created.Equal(at) {
		t.Fatalf("%+v, %v", again, err)
	}
	if err := s.AnswerInjection(t.Context(), given(i), Event("keys-sent")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the answer of the first try: %v, want ErrConflict", err)
	}
	if err := s.EndInjection(t.Context(), r.ID, i.ID, 2, store.InjectionFailed, "no module answered", Event("keys-failed")); err != nil {
		t.Fatal(err)
	}
	if got := injection(t, s, i); got.State != store.InjectionFailed || got.Failure != "no module answered" {
		t.Errorf("%+v", got)
	}
	// Others of the range: the skipped ones are left out for everybody.
	for skip, want := range map[uint32]byte{3: 4} {
		wanted.Skip = skip
		again, err = s.RetryInjection(t.Context(), r.ID, i.ID, 3, r.PublicKey, []store.Wanted{wanted}, at, at.AddDate(0, 0, 1))
		if err != nil || again.Keys[0].ID[7] != want || again.State != store.InjectionBegun || again.Failure != "" {
			t.Fatalf("%+v, %v", again, err)
		}
	}
	// Beyond what is left: half of it.
	wanted.Skip = 1000
	again, err = s.RetryInjection(t.Context(), r.ID, i.ID, 4, r.PublicKey, []store.Wanted{wanted}, at, at.AddDate(0, 0, 1))
	if err != nil || again.Keys[0].ID[7] != 53 {
		t.Fatalf("%+v, %v", again, err)
	}
	answered(t, s, again)
	if _, err := s.RetryInjection(t.Context(), r.ID, i.ID, 6, r.PublicKey, nil, at, at); !errors.Is(err, store.ErrConflict) {
		t.Errorf("one that was answered: %v, want ErrConflict", err)
	}
}

// Of many who begin, answer or confirm the same, one succeeds.
func testInjectionContest(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	contest := func(what string, lost error, try func(n int) error) {
		t.Helper()
		var wait sync.WaitGroup
		errs := make([]error, 8)
		for n := range errs {
			wait.Go(func() { errs[n] = try(n) })
		}
		wait.Wait()
		won := 0
		for _, err := range errs {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, lost):
				t.Errorf("%s: %v, want %v", what, err, lost)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d of %d", what, won, len(errs))
		}
	}
	nonce := sha256.Sum256(nil)
	contest("begin", store.ErrExists, func(n int) error {
		b := begin(r, n)
		b.Nonce = nonce[:]
		_, err := s.BeginInjection(context.Background(), b)
		return err
	})
	i, err := s.InjectionOfNonce(t.Context(), r.ID, nonce[:])
	if err != nil {
		t.Fatal(err)
	}
	contest("retry", store.ErrConflict, func(int) error {
		_, err := s.RetryInjection(context.Background(), r.ID, i.ID, i.Revision, r.PublicKey, nil, i.Created, i.ConfirmBy)
		return err
	})
	i = injection(t, s, i)
	contest("answer", store.ErrConflict, func(n int) error {
		g := given(i)
		g.Answer = fmt.Append(nil, "answer ", n)
		return s.AnswerInjection(context.Background(), g, Event("keys-sent"))
	})
	i = injection(t, s, i)
	contest("confirm", store.ErrConflict, func(int) error {
		return s.ConfirmInjection(context.Background(), r.ID, i.ID, i.Revision, []byte("receipt"), []byte("statement"), i.Created, Event("keys-confirmed"))
	})
	hasEvents(t, s, r.ID, "registered", "keys-sent", "keys-confirmed")
	contest("session keys", store.ErrConflict, func(int) error {
		return s.AddSessionKeys(context.Background(), r.ID, i.ID, []store.TerminalKey{sessionKey(i, "pin", 1)})
	})
}

func testInjectionsEnd(t *testing.T, s store.Store) {
	for n, end := range []func(store.TerminalRecord) error{
		func(r store.TerminalRecord) error { return s.EndInjections(t.Context(), r.ID, Event("unbound")) },
		func(r store.TerminalRecord) error {
			r, err := s.Terminal(t.Context(), r.ID)
			if err != nil {
				return err
			}
			r.State = store.TerminalRetired
			return s.UpdateTerminal(t.Context(), r, Event("retired"))
		},
	} {
		r, other := keyed(t, s, 2*n), keyed(t, s, 2*n+1)
		old := confirmed(t, s, answered(t, s, begun(t, s, begin(r, 1))))
		if err := s.AddSessionKeys(t.Context(), r.ID, old.ID, []store.TerminalKey{sessionKey(old, "pin", 1)}); err != nil {
			t.Fatal(err)
		}
		pending, open := answered(t, s, begun(t, s, begin(r, 2))), begun(t, s, begin(r, 3))
		kept := confirmed(t, s, answered(t, s, begun(t, s, begin(other, 1))))
		if err := end(r); err != nil {
			t.Fatal(err)
		}
		inState(t, s, old, store.InjectionEnded)
		inState(t, s, pending, store.InjectionEnded)
		inState(t, s, open, store.InjectionFailed)
		inState(t, s, kept, store.InjectionConfirmed)
		if got := keysOf(t, s, r.ID); len(got) != 0 {
			t.Errorf("keys are left: %q", got)
		}
		if got := keysOf(t, s, other.ID); len(got) != 1 {
			t.Errorf("the other terminal has keys %q", got)
		}
	}
}

func testInjectionsDue(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	pending := answered(t, s, begun(t, s, begin(r, 1)))
	left := begun(t, s, begin(r, 2))
	due := func(now time.Time) (numbers []uint64) {
		t.Helper()
		l, err := s.DueInjections(t.Context(), now, now.Add(-time.Minute), 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range l {
			numbers = append(numbers, i.Number)
		}
		return numbers
	}
	if got := due(left.Created); len(got) != 0 {
		t.Errorf("at once: %v", got)
	}
	if got := due(left.Created.Add(time.Minute + time.Second)); !slices.Equal(got, []uint64{2}) {
		t.Errorf("after a minute: %v", got)
	}
	if got := due(pending.ConfirmBy); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("after a day: %v", got)
	}
	if err := s.EndInjection(t.Context(), r.ID, pending.ID, pending.Revision, store.InjectionExpired, "", Event("keys-expired")); err != nil {
		t.Fatal(err)
	}
	if got := injection(t, s, pending); got.State != store.InjectionExpired || len(got.Answer) != 0 || string(got.Record) != "record" {
		t.Errorf("%+v", got)
	}
	if got := keysOf(t, s, r.ID); len(got) != 0 {
		t.Errorf("keys are left: %q", got)
	}
	if got := due(pending.ConfirmBy); !slices.Equal(got, []uint64{2}) {
		t.Errorf("afterwards: %v", got)
	}
}

func testInjectionsInvalid(t *testing.T, s store.Store) {
	r := keyed(t, s, 1)
	for what, change := range map[string]func(*store.Begin){
		"identifier": func(b *store.Begin) { b.ID = "x" }, "upper case": func(b *store.Begin) { b.ID = strings.Repeat("A", 32) }, "method": func(b *store.Begin) { b.Method = "a b" },
		"request": func(b *store.Begin) { b.Request = nil }, "nonce": func(b *store.Begin) { b.Nonce = []byte{1} }, "time": func(b *store.Begin) { b.Created = time.Time{} },
		"own": func(b *store.Begin) { b.Wanted = []store.Wanted{{Name: "pin", BDK: "bdk", Own: []byte{1}}} }, "range": func(b *store.Begin) { b.Wanted = []store.Wanted{{Name: "pin", BDK: "bdk"}} },
		"TDES range": func(b *store.Begin) {
			b.Wanted = []store.Wanted{{Name: "pin", BDK: "bdk", Range: store.Range{Prefix: make([]byte, 5), Last: 1 << 19}}}
		},
		"backwards": func(b *store.Begin) { b.Wanted = []store.Wanted{{Name: "pin", BDK: "bdk", Range: aesRange(2, 1)}} },
		"no BDK":    func(b *store.Begin) { b.Wanted = []store.Wanted{{Name: "pin", Range: aesRange(0, 1)}} },
		"a long name": func(b *store.Begin) {
			b.Wanted = []store.Wanted{{Name: strings.Repeat("a", 17), BDK: "b", Range: aesRange(0, 1)}}
		},
		"many": func(b *store.Begin) { b.Wanted = make([]store.Wanted, store.MaxInjectedKeys+1) },
	} {
		b := begin(r, 1)
		change(&b)
		if _, err := s.BeginInjection(t.Context(), b); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	i := begun(t, s, begin(r, 1))
	for what, change := range map[string]func(*store.Given){
		"no answer": func(g *store.Given) { g.Answer = nil }, "large": func(g *store.Given) { g.Answer = make([]byte, store.MaxAnswer+1) }, "block": func(g *store.Given) { g.KeyBlocks = []string{"a\nb"} },
		"empty block": func(g *store.Given) { g.KeyBlocks = []string{""} }, "no record": func(g *store.Given) { g.Record = nil }, "no master": func(g *store.Given) { g.Master = nil },
		"receipt key": func(g *store.Given) { g.ReceiptKey = make([]byte, store.MaxSealed+1) },
	} {
		g := given(i)
		change(&g)
		if err := s.AnswerInjection(t.Context(), g, Event("keys-sent")); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	host, set, list := KeyHost(1), KeySet("a", 1), RevocationList(1)
	host.Certificates, set.Content, list.List = nil, nil, nil
	for what, err := range map[string]error{
		"host": s.SetKeyHost(t.Context(), host), "key set": s.AddKeySet(t.Context(), set), "list": s.SetRevocationList(t.Context(), list, nil),
		"state": s.EndInjection(t.Context(), r.ID, i.ID, 1, store.InjectionEnded, "", Event("e")), "why": s.EndInjection(t.Context(), r.ID, i.ID, 1, store.InjectionFailed, "\x00", Event("e")),
		"master": s.AddSessionKeys(t.Context(), r.ID, i.ID, []store.TerminalKey{sessionKey(i, "master", 1)}),
	} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	inState(t, s, i, store.InjectionBegun)
}
