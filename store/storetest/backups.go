package storetest

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"keyd/store"
)

// TestBackup tests [store.Backups]. open makes an empty database; the suite closes none.
func TestBackup(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("RoundTrip", func(t *testing.T) {
		from, to := open(t), open(t)
		fillAll(t, from)
		items := exported(t, from)
		kinds := map[string]bool{}
		for _, i := range items {
			kinds[kind(i)] = true
		}
		if want := reflect.TypeFor[store.Item]().NumField(); len(kinds) != want {
			t.Errorf("the items are of %d kinds, want %d", len(kinds), want)
		}
		if restored(t, from) {
			t.Error("the database that was exported has the mark")
		}
		if err := to.Import(t.Context(), hand(items)); err != nil {
			t.Fatal(err)
		}
		if again := exported(t, to); !reflect.DeepEqual(again, items) {
			t.Errorf("what was imported is exported as %d items, and they differ", len(again))
		}
		if !restored(t, to) {
			t.Error("the database that was imported has no mark")
		}
		// The store goes on: the proposal takes effect and clears the mark.
		if keys, err := to.ReceiptKeys(t.Context()); err != nil || len(keys) != 0 {
			t.Errorf("receipt keys were in the backup: %d, %v", len(keys), err)
		}
		reported(t, to)
		advance(t, to, 4)
		if restored(t, to) {
			t.Error("the mark stays when an epoch follows")
		}
		appendRow(t, to, 4, "next")
		// Not into a database that has something.
		if err := to.Import(t.Context(), hand(items)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Import over what is there: %v, want ErrConflict", err)
		}
	})
	t.Run("Empty", func(t *testing.T) {
		s := open(t)
		if items := exported(t, s); len(items) != 0 {
			t.Errorf("an empty database has %d items", len(items))
		}
		if err := s.Import(t.Context(), hand(nil)); err != nil || !restored(t, s) {
			t.Errorf("Import of nothing: %v", err)
		}
	})
	t.Run("StopsWithItsCaller", func(t *testing.T) {
		s := open(t)
		fillAll(t, s)
		items := exported(t, s)
		failed := errors.New("enough")
		for n := range items {
			seen := 0
			err := s.Export(t.Context(), func(store.Item) error {
				if seen++; seen == n+1 {
					return failed
				}
				return nil
			})
			if err != failed || seen != n+1 { //nolint:errorlint // as it is
				t.Errorf("Export with a failing reader: %v after %d items", err, seen)
			}
		}
		to := open(t)
		for n := range items {
			at := 0
			err := to.Import(t.Context(), func() (store.Item, error) {
				if at++; at > n {
					return store.Item{}, failed
				}
				return items[at-1], nil
			})
			if err != failed { //nolint:errorlint // as it is
				t.Errorf("Import that ends after %d items: %v", n, err)
			}
		}
		if left := exported(t, to); len(left) != 0 || restored(t, to) {
			t.Errorf("%d items are left of imports that failed", len(left))
		}
		if err := to.Import(t.Context(), hand(items)); err != nil {
			t.Error(err)
		}
	})
	t.Run("Invalid", func(t *testing.T) {
		s := open(t)
		key, alias := Record("zpk", 1), store.Alias{Name: "a", Key: "zpk"}
		bad := key
		bad.State = "BROKEN"
		item := func(r store.KeyRecord) store.Item { return store.Item{Key: &r} }
		row := func(n uint64) store.Item { return store.Item{Row: &store.JournalRow{Number: n, Batch: []byte{1}}} }
		link := func(n uint64) store.Item { return store.Item{Link: &store.EpochLink{Version: n}} }
		epoch := func(n uint64) store.Item { return store.Item{Epoch: &store.Epoch{Version: n, Sealed: Epoch(n)}} }
		proposal := func(n uint64, c store.Change) store.Item {
			return store.Item{Proposal: &store.Proposal{Epoch: store.Epoch{Version: n, Sealed: Epoch(n)}, Change: c}}
		}
		usage, lost := Usage("zpk", 1, 3), Usage("zpk", 2, 3)
		counter, later := Counter("a", 1), Counter("b", 1)
		ceremony := Ceremony(1)
		terminal := Terminal(1)
		event := func(n uint64) store.Item {
			e := Event("registered")
			e.Terminal, e.Number = terminal.ID, n
			return store.Item{Event: &e}
		}
		pin := PINRecord(1)
		ofPIN := func(n uint64) store.Item {
			e := PINEvent("enrol-begun")
			e.Subject, e.Number = pin.Subject, n
			return store.Item{PINEvent: &e}
		}
		host, later2, injected := KeyHost(1), KeySet("set", 2), begin(terminal, 1).Injection
		injected.State, injected.Number, injected.Revision = store.InjectionBegun, 1, 1
		initial := store.InitialKey{BDK: "bdk", ID: make([]byte, 8), Terminal: terminal.ID, Injection: injected.ID}
		ofTerminal := sessionKey(injected, "pin", 1)
		counted, before := store.RangeCounter{BDK: "bdk", Prefix: []byte{1, 2, 3, 4, 0}}, store.RangeCounter{BDK: "bdk", Prefix: []byte{1, 2, 3, 4}, First: 1<<32 - 1, Next: 1<<32 - 1}
		twin := Terminal(2)
		twin.PublicKey = terminal.PublicKey
		tags := []store.Item{item(key)}
		for n := range store.MaxTags + 1 {
			tags = append(tags, store.Item{Tag: &store.Tag{Key: "zpk", Tag: fmt.Sprintf("t%03d", n)}})
		}
		aliases := []store.Item{item(key)}
		for n := range store.MaxAliasesOf + 1 {
			aliases = append(aliases, store.Item{Alias: &store.Alias{Name: fmt.Sprintf("a%03d", n), Key: "zpk"}})
		}
		for name, items := range map[string][]store.Item{
			"nothing":                  {{}},
			"two things":               {{Key: &key, Alias: &alias}},
			"a bad key":                {item(bad)},
			"a key twice":              {item(key), item(key)},
			"keys out of order":        {item(Record("zpk", 2)), item(key)},
			"kinds out of order":       {{Alias: &alias}, item(key)},
			"an alias like a key":      {item(key), {Alias: &store.Alias{Name: "zpk", Key: "other"}}},
			"many aliases":             aliases,
			"a tag of no key":          {{Tag: &store.Tag{Key: "zpk", Tag: "t"}}},
			"a tag that is none":       {item(key), {Tag: &store.Tag{Key: "zpk", Tag: ""}}},
			"many tags":                tags,
			"usage of no version":      {item(key), {Usage: &lost}},
			"usage twice":              {item(key), {Usage: &usage}, {Usage: &usage}},
			"a ceremony twice":         {{Ceremony: &ceremony}, {Ceremony: &ceremony}},
			"two epochs":               {epoch(1), epoch(2)},
			"a proposal of none":       {proposal(2, store.Change{})},
			"a proposal too early":     {epoch(1), proposal(3, store.Change{})},
			"of no ceremony":           {epoch(1), proposal(2, store.Change{Ceremony: &ceremony})},
			"of an alias":              {item(key), {Alias: &alias}, epoch(1), proposal(2, store.Change{Keys: []store.KeyRecord{Record("a", 1)}})},
			"a link of no epoch":       {link(1)},
			"a link too late":          {epoch(3), link(4)},
			"links with a gap":         {epoch(3), link(1), link(3)},
			"a host twice":             {{KeyHost: &host}, {KeyHost: &host}},
			"key sets with a gap":      {{KeySet: &later2}},
			"an injection of none":     {{Injection: &injected}},
			"an injection of no set":   {{Terminal: &terminal}, {Injection: &injected}},
			"an initial key of none":   {{Terminal: &terminal}, {InitialKey: &initial}},
			"a terminal's key of none": {{Terminal: &terminal}, {TerminalKey: &ofTerminal}},
			"a range twice":            {{Range: &counted}, {Range: &counted}},
			"ranges in disorder":       {{Range: &counted}, {Range: &before}},
			"a terminal twice":         {{Terminal: &terminal}, {Terminal: &terminal}},
			"one key twice":            {{Terminal: &terminal}, {Terminal: &twin}},
			"an event of none":         {event(1)},
			"events with a gap":        {{Terminal: &terminal}, event(2)},
			"an event too many":        {{Terminal: &terminal}, event(1), event(2)},
			"a PIN record twice":       {{PINRecord: &pin}, {PINRecord: &pin}},
			"a PIN event of none":      {ofPIN(1)},
			"PIN events with a gap":    {{PINRecord: &pin}, ofPIN(2)},
			"a PIN event too many":     {{PINRecord: &pin}, ofPIN(1), ofPIN(2)},
			"counters in disorder":     {{Counter: &later}, {Counter: &counter}},
			"a counter twice":          {{Counter: &counter}, {Counter: &counter}},
			"row 0":                    {row(0)},
			"rows with a gap":          {row(3), row(5)},
			"a row twice":              {row(3), row(3)},
		} {
			if err := s.Import(t.Context(), hand(items)); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
			if left := exported(t, s); len(left) != 0 || restored(t, s) {
				t.Fatalf("%s: %d items are left", name, len(left))
			}
		}
		// Each thing alone that an import needs to be empty of.
		fold(t, s, Counter("q", 1))
		if err := s.Import(t.Context(), hand(nil)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Import beside a counter: %v, want ErrConflict", err)
		}
	})
	t.Run("IsOfOneMoment", func(t *testing.T) {
		s := open(t)
		put(t, s, Record("zpk", 1))
		adopt(t, s, 1)
		first := true
		var seen []string
		err := s.Export(t.Context(), func(i store.Item) error {
			if first { // written while it is read
				first = false
				put(t, s, Record("zpk", 2))
				propose(t, s, 2, store.Change{})
				appendRow(t, s, 1, "row")
			}
			seen = append(seen, kind(i))
			return nil
		})
		if want := []string{"Key", "Epoch"}; err != nil || !reflect.DeepEqual(seen, want) {
			t.Errorf("the items are %q, %v, want %q", seen, err, want)
		}
	})
}

// fillAll keeps something of every kind.
func fillAll(t *testing.T, s store.Store) {
	t.Helper()
	put(t, s, Record("zpk", 1), Record("zpk", 2), Record("bdk", 1), Record("a", 1))
	setAlias(t, s, "to.zpk", "zpk", "")
	setAlias(t, s, "again", "zpk", "")
	setTags(t, s, "zpk", map[string]string{"team": "issuing", "größe": "\u00fc"})
	addUsage(t, s, Usage("zpk", 1, 3), Usage("bdk", 1, 1))
	r := Ceremony(1)
	r.Node = "node-a"
	addCeremony(t, s, r)
	updateCeremony(t, s, r)
	addCeremony(t, s, Ceremony(2))
	adopt(t, s, 1)
	for version := uint64(2); version <= 3; version++ {
		propose(t, s, version, store.Change{})
		if err := s.AdvanceEpoch(t.Context(), version, nil, fmt.Appendf(nil, "link %d", version)); err != nil {
			t.Fatal(err)
		}
	}
	done := Ceremony(2)
	done.State, done.Record = store.CeremonyCompleted, []byte("record")
	change := store.Change{Keys: []store.KeyRecord{Record("new", 1)}, Ceremony: &done}
	if err := s.ProposeEpoch(t.Context(), "node-b", 4, Epoch(4), change); err != nil {
		t.Fatal(err)
	}
	addTerminal(t, s, Terminal(1))
	addTerminal(t, s, Terminal(2))
	retired := Terminal(1)
	retired.State = store.TerminalRetired
	updateTerminal(t, s, retired, "retired")
	fillInjections(t, s)
	addPIN(t, s, PINRecord(1))
	takeTry(t, s, 1)
	addPIN(t, s, PendingPIN(2))
	temporary, event := pinOf(t, s, 2), PINEvent("revoked")
	temporary.NotAfter, event.Request = temporary.CodeExpires, digest("request", 2)
	if _, err := s.UpdatePINRecord(t.Context(), temporary, &event); err != nil {
		t.Fatal(err)
	}
	addVoid(t, s, Void(1))
	authorizeVoid(t, s, addVoid(t, s, Void(2)))
	fold(t, s, Counter("q", 1), Counter("\x00", 2), Counter("\xff", 0))
	for n := uint64(1); n <= 3; n++ {
		appendRow(t, s, n, fmt.Sprint("row ", n))
	}
	if err := s.TrimJournal(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.AddReceiptKey(t.Context(), ReceiptKey(1)), s.ReportNode(t.Context(), Node("n"))); err != nil {
		t.Fatal(err)
	}
}

// fillInjections keeps an injection in every state that has something, and what goes with them.
func fillInjections(t *testing.T, s store.Store) {
	t.Helper()
	if err := errors.Join(s.SetKeyHost(t.Context(), KeyHost(1)), s.SetRevocationList(t.Context(), RevocationList(1), nil), s.AddKeySet(t.Context(), KeySet("other", 1)),
		s.AddKeySet(t.Context(), KeySet("other", 2))); err != nil {
		t.Fatal(err)
	}
	r := keyed(t, s, 3)
	tdes := store.Range{Prefix: []byte{1, 2, 3, 4, 0}, First: 7, Last: 9}
	first := confirmed(t, s, answered(t, s, begun(t, s, begin(r, 1, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(1<<31, 1<<32-1)}, store.Wanted{Name: "data", BDK: "bdk", Range: tdes}))))
	if err := s.AddSessionKeys(t.Context(), r.ID, first.ID, []store.TerminalKey{sessionKey(first, "pin", 1)}); err != nil {
		t.Fatal(err)
	}
	answered(t, s, begun(t, s, begin(r, 2, store.Wanted{Name: "pin", BDK: "bdk-2", Range: aesRange(0, 9)})))
	begun(t, s, begin(r, 3))
}

func exported(t *testing.T, s store.Store) (items []store.Item) {
	t.Helper()
	if err := s.Export(t.Context(), func(i store.Item) error { items = append(items, i); return nil }); err != nil {
		t.Fatal(err)
	}
	return items
}

func restored(t *testing.T, s store.Store) bool {
	t.Helper()
	r, err := s.Restored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func hand(items []store.Item) func() (store.Item, error) {
	return func() (store.Item, error) {
		if len(items) == 0 {
			return store.Item{}, io.EOF
		}
		next := items[0]
		items = items[1:]
		return next, nil
	}
}

func kind(i store.Item) string {
	v := reflect.ValueOf(i)
	for n := range v.NumField() {
		if !v.Field(n).IsNil() {
			return v.Type().Field(n).Name
		}
	}
	return ""
}
