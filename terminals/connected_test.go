package terminals

import (
	"crypto/elliptic"
	"crypto/sha256"
	"testing"

	"keyd/fault"
	"keyd/store"
)

// TestOfKey: a device is found by its public key in every state, and is given nothing unless it
// is registered.
func TestOfKey(t *testing.T) {
	maker := newAuthority(t, "maker")
	v := newInventory(t, maker)
	der := maker.device(t, newKey(t, elliptic.P256()).Public())
	key := sha256.Sum256(parsed(t, der).RawSubjectPublicKeyInfo)
	if _, err := v.OfKey(t.Context(), key); fault.Of(err).Reason != fault.TerminalNotFound {
		t.Errorf("before it is registered: %v", err)
	}
	if _, _, err := v.Register(t.Context(), actor, registration("t-1", der), false); err != nil {
		t.Fatal(err)
	}
	look := func(state State) {
		t.Helper()
		found, err := v.OfKey(t.Context(), key)
		if err != nil || found.ID != "t-1" || found.State != state {
			t.Fatalf("%+v, %v", found, err)
		}
		err = found.InService()
		if state == store.TerminalRegistered && err != nil || state != store.TerminalRegistered && fault.Of(err).Reason != fault.TerminalState {
			t.Errorf("%s: %v", state, err)
		}
	}
	look(store.TerminalRegistered)
	for _, c := range []struct {
		change func() (*Terminal, error)
		state  State
	}{
		{func() (*Terminal, error) { return v.Suspend(t.Context(), actor, "t-1", "") }, store.TerminalSuspended},
		{func() (*Terminal, error) { return v.Resume(t.Context(), actor, "t-1", "") }, store.TerminalRegistered},
		{func() (*Terminal, error) { return v.Retire(t.Context(), actor, "t-1", "") }, store.TerminalRetired},
	} {
		if _, err := c.change(); err != nil {
			t.Fatal(err)
		}
		look(c.state)
	}
}
