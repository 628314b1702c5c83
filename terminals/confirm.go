package terminals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"keyd/fault"
	"keyd/hsm"
	"keyd/receipt"
	"keyd/store"
)

// Confirm takes a terminal's receipt, for actor: check values of all keys in their order, and the
// MAC over [receipt.Text]. The same receipt may come again. Its refusals are
// [fault.RequestInvalid], [fault.TerminalState], [fault.InjectionNotFound],
// [fault.InjectionState] and those of a module, [fault.ReceiptInvalid] above all.
func (d *Distribution) Confirm(ctx context.Context, actor, terminal, id string, checkValues []string, mac []byte) (*Injection, error) {
	said := &receipt.Receipt{CheckValues: checkValues, MAC: mac}
	encoded, err := said.Encode()
	if err != nil {
		return nil, fault.New(fault.RequestInvalid, "key_check_values are six upper-case hex digits each, of 2 to 8 keys, and mac has 8 bytes (TDES) or 16 (AES)")
	}
	if _, err := d.registered(ctx, terminal); err != nil {
		return nil, err
	}
	i, err := d.stored(ctx, terminal, id)
	if err != nil {
		return nil, err
	}
	now := d.inventory.now()
	v, err := injection(i, now)
	switch {
	case err != nil:
		return nil, err
	case v.State == store.InjectionConfirmed && bytes.Equal(i.Receipt, encoded):
		return v, nil
	case v.State != store.InjectionPending:
		return v, fault.New(fault.InjectionState, "it is "+word1(v.State))
	}
	key, err := d.keyOf(ctx, terminal, id, store.ReceiptName)
	if err != nil {
		return v, err
	}
	statement, err := d.modules.ConfirmInjection(ctx, hsm.ConfirmInjection{Record: i.Record, ReceiptKey: key, CheckValues: checkValues, MAC: mac})
	if err != nil {
		return v, err
	}
	if err := proves(statement, i.Record, encoded); err != nil {
		return v, fault.Wrap(fault.Internal, fmt.Errorf("injection %s: a module's statement: %w", id, err))
	}
	err = d.store.ConfirmInjection(ctx, terminal, id, i.Revision, encoded, statement, now,
		store.TerminalEvent{Kind: EventKeysConfirmed, Actor: actor, Detail: detail(i), At: now})
	switch {
	case errors.Is(err, store.ErrConflict):
		return v, d.confirmedMeanwhile(ctx, v, encoded)
	case err != nil:
		return v, refused(ctx, err)
	}
	return d.Injection(ctx, terminal, id)
}

// confirmedMeanwhile is nil, and v as it is then, where somebody brought the same receipt.
func (d *Distribution) confirmedMeanwhile(ctx context.Context, v *Injection, encoded []byte) error {
	if _, err := d.registered(ctx, v.Terminal); err != nil {
		return err
	}
	now, err := d.Injection(ctx, v.Terminal, v.ID)
	switch {
	case err != nil:
		return err
	case now.State == store.InjectionConfirmed && bytes.Equal(now.Receipt, encoded):
		*v = *now
		return nil
	}
	return fault.New(fault.InjectionState, "it is "+word1(now.State))
}

// proves reports whether a statement is about a record and a receipt. Who signed it is not
// looked at: that is for whoever has pinned the module.
func proves(statement, sealed, encoded []byte) error {
	c, err := receipt.Open(statement)
	if err != nil {
		return err
	}
	record, _, err := receipt.Split(sealed)
	if err != nil {
		return err
	}
	stated, err := c.Record.Encode()
	if err != nil {
		return err
	}
	received, err := c.Receipt.Encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(stated, record) || !bytes.Equal(received, encoded) {
		return errors.New("it is about something else")
	}
	return nil
}

// keyOf returns the sealed master or receipt key of an injection, as a module gets it.
func (d *Distribution) keyOf(ctx context.Context, terminal, id, name string) (hsm.Key, error) {
	list, err := d.store.KeysOfTerminal(ctx, terminal)
	if err != nil {
		return hsm.Key{}, refused(ctx, err)
	}
	at := slices.IndexFunc(list, func(k store.TerminalKey) bool { return k.Injection == id && k.Name == name })
	if at < 0 {
		return hsm.Key{}, fault.New(fault.InjectionState, "its keys are the terminal's no more")
	}
	return hsm.Key{Name: hsm.TerminalPrefix + terminal + ":" + name, Sealed: list[at].Sealed}, nil
}

// word1 is a state of an injection in a sentence.
func word1(s store.InjectionState) string {
	return map[store.InjectionState]string{
		store.InjectionConfirmed: "confirmed, with another receipt", store.InjectionExpired: "expired", store.InjectionSuperseded: "superseded by a later one",
		store.InjectionFailed: "failed", store.InjectionEnded: "over", store.InjectionPending: "changed at the same moment: send the receipt again",
	}[s]
}
