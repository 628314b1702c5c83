package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"keyd/store"
)

// endedTests are about calls that find a context that has ended, or a closed store.
var endedTests = []test{
	{"InventoryEndedContext", testInventoryEnded},
	{"InventoryClosed", testInventoryClosed},
}

// inventoryCalls are all methods but those of Counters and the first ones of Keys, with
// arguments that would work.
func inventoryCalls(ctx context.Context, s store.Store) map[string]error {
	_, version := s.Version(ctx, "zpk", 1)
	_, versions := s.Versions(ctx, "zpk")
	_, listVersions := s.ListVersions(ctx, "", 0, 10)
	_, ceremony := s.Ceremony(ctx, Ceremony(1).ID)
	_, ceremonies := s.Ceremonies(ctx, "", time.Time{}, "", 10)
	_, inState := s.Ceremonies(ctx, store.CeremonyOpen, time.Time{}, "", 10)
	_, current := s.CurrentEpoch(ctx)
	_, proposed := s.ProposedEpoch(ctx)
	_, alias := s.Alias(ctx, "a")
	_, aliases := s.Aliases(ctx, "", 10)
	_, aliasesOf := s.AliasesOf(ctx, "zpk")
	_, tags := s.Tags(ctx, "zpk")
	_, listKeys := s.ListKeys(ctx, store.Filter{Tag: "t"}, "", 10)
	_, usage := s.UsageOf(ctx, "zpk")
	_, revision := s.Revision(ctx)
	_, links := s.EpochLinks(ctx, 0, 10)
	_, nodes := s.Nodes(ctx)
	_, restored := s.Restored(ctx)
	_, terminal := s.Terminal(ctx, Terminal(1).ID)
	_, ofKey := s.TerminalOfKey(ctx, Terminal(1).PublicKey)
	_, terminals := s.Terminals(ctx, store.TerminalFilter{}, "", 10)
	_, events := s.TerminalEvents(ctx, Terminal(1).ID, 0, 10)
	i := begin(Terminal(1), 1).Injection
	_, keyHost := s.KeyHost(ctx, "host")
	_, keyHosts := s.KeyHosts(ctx)
	_, keySet := s.KeySet(ctx, "set")
	_, keySetVersion := s.KeySetVersion(ctx, "set", 1)
	_, keySets := s.KeySets(ctx)
	_, list := s.RevocationList(ctx, RevocationList(1).IssuerKey)
	_, lists := s.RevocationLists(ctx)
	_, begins := s.BeginInjection(ctx, begin(Terminal(1), 1))
	_, retries := s.RetryInjection(ctx, i.Terminal, i.ID, 1, nil, nil, i.Created, i.ConfirmBy)
	_, injection := s.Injection(ctx, i.Terminal, i.ID)
	_, ofNonce := s.InjectionOfNonce(ctx, i.Terminal, i.Nonce)
	_, ofRequest := s.InjectionOfRequest(ctx, i.Terminal, i.Request)
	_, confirmedOne := s.ConfirmedInjection(ctx, i.Terminal)
	_, injections := s.ListInjections(ctx, i.Terminal, 0, 10)
	_, due := s.DueInjections(ctx, i.Created, i.Created, 10)
	_, _, session := s.SessionKey(ctx, i.Terminal, "pin", 0)
	_, keysOf := s.KeysOfTerminal(ctx, i.Terminal)
	_, terminalKeys := s.ListTerminalKeys(ctx, store.TerminalKey{}, 10)
	pin := PINRecord(1)
	_, pinRecord := s.PINRecord(ctx, pin.Subject)
	_, pinRecords := s.PINRecords(ctx, "merchant-8", nil, 10)
	_, allPINs := s.ListPINRecords(ctx, nil, 10)
	_, pinEvents := s.PINEvents(ctx, pin.Subject, 0, 10)
	_, ofApproval := s.PINEventOfRequest(ctx, pin.Approval)
	_, updatePIN := s.UpdatePINRecord(ctx, pin, nil)
	_, _, takePIN := s.TakePINTry(ctx, pin.Subject, pin.CreatedAt, PINEvent("blocked"))
	_, _, takeCode := s.TakePINCode(ctx, pin.Subject, pin.CreatedAt)
	v := Void(1)
	_, _, voidAdded := s.AddVoid(ctx, question(v), func(store.Standing) (store.VoidRecord, error) { return v, nil })
	_, voidChanged := s.ChangeVoid(ctx, v.ID, voidDay, func(v store.VoidRecord, _ store.Standing) (store.VoidRecord, error) { return v, nil })
	_, void := s.Void(ctx, v.ID)
	_, voidOfCode := s.VoidOfCode(ctx, v.Code)
	_, _, voidStanding := s.VoidStanding(ctx, v.ID, voidDay)
	_, voidOfRequest := s.VoidOfRequest(ctx, v.Request)
	_, listVoids := s.ListVoids(ctx, v.Merchant, "", time.Time{}, "", 10)
	_, dueVoids := s.DueVoids(ctx, voidDay, 10)
	return map[string]error{
		"PINRecord": pinRecord, "PINRecords": pinRecords, "ListPINRecords": allPINs, "PINEvents": pinEvents, "PINEventOfRequest": ofApproval, "UpdatePINRecord": updatePIN, "TakePINTry": takePIN, "TakePINCode": takeCode,
		"AddPINRecord": s.AddPINRecord(ctx, PINRecord(2), PINEvent("enrol-begun")), "GivePINTry": s.GivePINTry(ctx, pin, true, PINEvent("last-right")), "GivePINCode": s.GivePINCode(ctx, pin),
		"AddVoid": voidAdded, "ChangeVoid": voidChanged, "Void": void, "VoidOfCode": voidOfCode, "VoidOfRequest": voidOfRequest, "VoidStanding": voidStanding, "ListVoids": listVoids, "DueVoids": dueVoids,

		"KeyHost": keyHost, "KeyHosts": keyHosts, "KeySet": keySet, "KeySetVersion": keySetVersion, "KeySets": keySets, "RevocationList": list, "RevocationLists": lists,
		"BeginInjection": begins, "RetryInjection": retries, "Injection": injection, "InjectionOfNonce": ofNonce, "InjectionOfRequest": ofRequest,
		"ConfirmedInjection": confirmedOne, "ListInjections": injections, "DueInjections": due, "SessionKey": session, "KeysOfTerminal": keysOf, "ListTerminalKeys": terminalKeys,
		"SetKeyHost": s.SetKeyHost(ctx, KeyHost(1)), "AddKeySet": s.AddKeySet(ctx, KeySet("new", 1)), "SetRevocationList": s.SetRevocationList(ctx, RevocationList(2), nil),
		"AnswerInjection":    s.AnswerInjection(ctx, given(i), Event("keys-sent")),
		"ConfirmInjection":   s.ConfirmInjection(ctx, i.Terminal, i.ID, 1, nil, nil, i.Created, Event("keys-confirmed")),
		"EndInjection":       s.EndInjection(ctx, i.Terminal, i.ID, 1, store.InjectionFailed, "", Event("keys-failed")),
		"EndInjections":      s.EndInjections(ctx, i.Terminal, Event("unbound")),
		"AddSessionKeys":     s.AddSessionKeys(ctx, i.Terminal, i.ID, []store.TerminalKey{sessionKey(i, "pin", 1)}),
		"ReplaceTerminalKey": s.ReplaceTerminalKey(ctx, sessionKey(i, "pin", 1), []byte("anew")),

		"Terminal": terminal, "TerminalOfKey": ofKey, "Terminals": terminals, "TerminalEvents": events,
		"AddTerminal": s.AddTerminal(ctx, Terminal(2), Event("registered")), "UpdateTerminal": s.UpdateTerminal(ctx, Terminal(1), Event("suspended")),
		"Revision": revision, "EpochLinks": links, "Nodes": nodes, "Restored": restored,
		"ReportNode": s.ReportNode(ctx, Node("late")), "RemoveNode": s.RemoveNode(ctx, "node"),
		"Export": s.Export(ctx, func(store.Item) error { return nil }), "Import": s.Import(ctx, hand(nil)),
		"Version": version, "Versions": versions, "ListVersions": listVersions, "Ceremony": ceremony, "Ceremonies": ceremonies,
		"Ceremonies in a state": inState, "CurrentEpoch": current, "ProposedEpoch": proposed, "Alias": alias, "Aliases": aliases,
		"AliasesOf": aliasesOf, "Tags": tags, "ListKeys": listKeys, "UsageOf": usage,
		"ReplaceSealed":  s.ReplaceSealed(ctx, "zpk", 1, Record("zpk", 1).Sealed, []byte("anew")),
		"AddCeremony":    s.AddCeremony(ctx, Ceremony(2)),
		"UpdateCeremony": s.UpdateCeremony(ctx, Ceremony(1)),
		"AdoptEpoch":     s.AdoptEpoch(ctx, 1, Epoch(1)),
		"ProposeEpoch":   s.ProposeEpoch(ctx, "", 3, Epoch(3), store.Change{}),
		"AdvanceEpoch":   s.AdvanceEpoch(ctx, 2, nil, nil),
		"WithdrawEpoch":  s.WithdrawEpoch(ctx, 2, nil),
		"SetAlias":       s.SetAlias(ctx, "b", "zpk", ""),
		"DeleteAlias":    s.DeleteAlias(ctx, "a", "zpk"),
		"SetTags":        s.SetTags(ctx, "zpk", map[string]string{"t": "other"}),
		"DeleteTags":     s.DeleteTags(ctx, "zpk", []string{"t"}),
		"AddUsage":       s.AddUsage(ctx, []store.Usage{Usage("zpk", 1, 1)}),
	}
}

func prepareInventory(t *testing.T, s store.Store) {
	t.Helper()
	put(t, s, Record("zpk", 1))
	addCeremony(t, s, Ceremony(1))
	addTerminal(t, s, Terminal(1))
	addPIN(t, s, PINRecord(1))
	adopt(t, s, 1)
	propose(t, s, 2, store.Change{Keys: []store.KeyRecord{Record("new", 1)}})
	setAlias(t, s, "a", "zpk", "")
	setTags(t, s, "zpk", map[string]string{"t": "v"})
	addUsage(t, s, Usage("zpk", 1, 1))
	if err := s.ReportNode(t.Context(), Node("node")); err != nil {
		t.Fatal(err)
	}
}

func testInventoryEnded(t *testing.T, s store.Store) {
	prepareInventory(t, s)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range inventoryCalls(ended, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	// Nothing has changed, and the store goes on.
	names(t, s, "zpk")
	same(t, get(t, s, "zpk"), Record("zpk", 1))
	sameCeremony(t, s, Ceremony(1))
	sameTerminal(t, s, Terminal(1))
	samePIN(t, s, PINRecord(1))
	epochs(t, s, 1, 2)
	standsFor(t, s, "a", "zpk")
	hasTags(t, s, "zpk", map[string]string{"t": "v"})
	hasUsage(t, s, "zpk", Usage("zpk", 1, 1))
	advance(t, s, 2)
}

func testInventoryClosed(t *testing.T, s store.Store) {
	prepareInventory(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for name, err := range inventoryCalls(t.Context(), s) {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}
