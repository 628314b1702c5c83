package terminals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyd/fault"
	"keyd/store"
)

// transitions are the states that a terminal can come from, by the one that it goes to. What is
// not here is refused.
var transitions = map[State][]State{
	store.TerminalSuspended:  {store.TerminalRegistered},
	store.TerminalRegistered: {store.TerminalSuspended},
	store.TerminalRetired:    {store.TerminalRegistered, store.TerminalSuspended},
	store.TerminalReplaced:   {store.TerminalRegistered, store.TerminalSuspended},
}

// Suspend takes a registered terminal out of service for a time. The changes of this file are
// made for actor and return the terminal as it is afterwards. Their refusals are
// [fault.RequestInvalid], [fault.TerminalNotFound], [fault.TerminalState], and [fault.Conflict]
// when somebody else changed it meanwhile.
func (v *Inventory) Suspend(ctx context.Context, actor, id, reason string) (*Terminal, error) {
	return v.move(ctx, actor, id, store.TerminalSuspended, "", EventSuspended, reason)
}

// Resume takes a suspended terminal into service again.
func (v *Inventory) Resume(ctx context.Context, actor, id, reason string) (*Terminal, error) {
	return v.move(ctx, actor, id, store.TerminalRegistered, "", EventResumed, reason)
}

// Retire takes a terminal out of service for good.
func (v *Inventory) Retire(ctx context.Context, actor, id, reason string) (*Terminal, error) {
	return v.move(ctx, actor, id, store.TerminalRetired, "", EventRetired, reason)
}

// Replace takes a terminal out of service for good, and notes that the one named by took its
// place: a registered one of the same owner, otherwise [fault.TerminalState]; one of another owner
// is as good as none.
func (v *Inventory) Replace(ctx context.Context, actor, id, by, reason string) (*Terminal, error) {
	if !ValidID(by) {
		return nil, badID("replaced_by")
	}
	if by == id {
		return nil, fault.New(fault.RequestInvalid, "replaced_by is the terminal itself")
	}
	return v.move(ctx, actor, id, store.TerminalReplaced, by, EventReplaced, reason)
}

// move takes a terminal to another state.
func (v *Inventory) move(ctx context.Context, actor, id string, to State, by, kind, reason string) (*Terminal, error) {
	if len(reason) > MaxReason || !printable(reason) {
		return nil, fault.New(fault.RequestInvalid, "reason has at most 256 bytes of printable UTF-8")
	}
	r, err := v.record(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := possible(&r, to); err != nil {
		return nil, err
	}
	detail := reason
	if by != "" {
		if err := v.canReplace(ctx, &r, by); err != nil {
			return nil, err
		}
		detail = strings.TrimSuffix(fmt.Sprintf("by %s: %s", by, reason), ": ")
	}
	r.State, r.ReplacedBy = to, by
	return v.keep(ctx, r, store.TerminalEvent{Kind: kind, Actor: actor, Detail: detail})
}

// possible refuses a way that the state machine does not have.
func possible(r *store.TerminalRecord, to State) error {
	if slices.Contains(transitions[to], r.State) {
		return nil
	}
	return fault.New(fault.TerminalState, fmt.Sprintf("it is %s, and cannot become %s", word(r.State), word(to)))
}

// canReplace refuses what cannot take a terminal's place.
func (v *Inventory) canReplace(ctx context.Context, r *store.TerminalRecord, by string) error {
	other, err := v.store.Terminal(ctx, by)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fault.New(fault.TerminalNotFound, "that of replaced_by")
	case err != nil:
		return refused(ctx, err)
	case other.Owner != r.Owner: // whose operators this caller need not be one of
		return fault.New(fault.TerminalNotFound, "that of replaced_by")
	case other.State != store.TerminalRegistered:
		return fault.New(fault.TerminalState, "the other terminal is "+word(other.State)+", and cannot take its place")
	}
	return nil
}

// Renew gives a terminal that is in no final state its first certificate, or another one over
// the same public key, otherwise [fault.PublicKeyKnown]. The certificates are those of a
// [Registration]; the very same ones change nothing.
func (v *Inventory) Renew(ctx context.Context, actor, id string, certificates [][]byte) (*Terminal, error) {
	r, err := v.record(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State.Final() {
		return nil, fault.New(fault.TerminalState, "it is "+word(r.State)+", and gets no certificate any more")
	}
	checked, err := v.verify(ctx, certificates, v.now())
	if err != nil {
		return nil, err
	}
	kind := EventRenewed
	switch {
	case len(r.PublicKey) == 0:
		kind = EventCertified
	case !bytes.Equal(r.PublicKey, checked.publicKey[:]):
		return nil, fault.New(fault.PublicKeyKnown, "a renewed certificate has the public key of the one before")
	case bytes.Equal(r.Certificates, checked.der):
		return terminal(&r)
	}
	r.Certificates, r.PublicKey = checked.der, checked.publicKey[:]
	if err := v.keyIsFree(ctx, &r); err != nil {
		return nil, err
	}
	return v.keep(ctx, r, store.TerminalEvent{Kind: kind, Actor: actor, Detail: certificateDetail(&r)})
}

// keep writes a change with its event.
func (v *Inventory) keep(ctx context.Context, r store.TerminalRecord, e store.TerminalEvent) (*Terminal, error) {
	r.ChangedAt = v.now()
	e.At = r.ChangedAt
	if err := v.store.UpdateTerminal(ctx, r, e); err != nil {
		if errors.Is(err, store.ErrConflict) {
			if err := v.keyIsFree(ctx, &r); err != nil { // somebody else was quicker
				return nil, err
			}
		}
		return nil, refused(ctx, err)
	}
	return terminal(&r)
}

// word is a state in a sentence.
func word(s State) string { return strings.ToLower(string(s)) }
