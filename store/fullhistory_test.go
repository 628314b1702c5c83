package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"keyd/store"
	"keyd/store/storetest"
)

// A terminal whose history is full gets no more keys, and is still taken out of service: what it
// asks for never uses up the events that operators need.
func TestHistoryFullOfInjections(t *testing.T) {
	path := sound(t)
	s := open(t, path)
	ctx := t.Context()
	if err := s.AddKeySet(ctx, storetest.KeySet("set", 1)); err != nil {
		t.Fatal(err)
	}
	r := storetest.Terminal(1)
	r.KeySet = "set"
	if err := s.AddTerminal(ctx, r, storetest.Event("registered")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	begin := func(s *store.SQLite, n byte) (store.Injection, error) {
		at := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
		digest := make([]byte, 32)
		digest[0] = n
		return s.BeginInjection(ctx, store.Begin{Injection: store.Injection{
			ID: fmt.Sprintf("%032x", n), Terminal: r.ID, Method: "KEY_AGREEMENT", KeySet: "set", KeySetVersion: 1, Request: digest, Nonce: digest, Created: at, ConfirmBy: at.Add(time.Hour),
		}, PublicKey: r.PublicKey, Most: 10, MostAll: 10})
	}
	execute(fmt.Sprintf("UPDATE terminals SET revision = %d", store.MaxTerminalEvents-1000))(t, path)
	s = open(t, path)
	i, err := begin(s, 1)
	if err != nil {
		t.Fatalf("the last one: %v", err)
	}
	if err := s.EndInjection(ctx, r.ID, i.ID, i.Revision, store.InjectionFailed, "why", storetest.Event("keys-failed")); err != nil {
		t.Fatal(err)
	}
	if _, err := begin(s, 2); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("one more: %v, want ErrTooMany", err)
	}
	if _, err := s.RetryInjection(ctx, r.ID, i.ID, i.Revision+1, r.PublicKey, nil, i.Created, i.ConfirmBy); !errors.Is(err, store.ErrTooMany) {
		t.Errorf("the same again: %v, want ErrTooMany", err)
	}
	r, err = s.Terminal(ctx, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	r.State = store.TerminalSuspended
	if err := s.UpdateTerminal(ctx, r, storetest.Event("suspended")); err != nil {
		t.Errorf("it cannot be suspended: %v", err)
	}
}
