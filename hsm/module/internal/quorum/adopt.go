package quorum

import (
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/token"
)

// lookRegister checks the register of another token that is to be taken over: it is the one
// that the officers name, and master keys that are here too have made it. A token takes over
// one register, before it has keys of its own.
func (w *work) lookRegister(s *token.Session) error {
	switch {
	case len(w.epoch.Keys) > 0:
		return fault.New(fault.Conflict, "this token has keys of its own: its register cannot be replaced")
	case len(w.in.Register) == 0:
		return fault.New(fault.EpochInvalid, "the database has no register of another token")
	case ceremony.Digest(w.in.Register) != w.def.Register:
		return fault.New(fault.StatementMismatch, "the database has another register than the definition names")
	}
	other, err := w.engine.register.Authentic(s, w.in.Register)
	if err != nil {
		return err
	}
	if other.Generation != w.epoch.Generation {
		return fault.New(fault.EpochInvalid, fmt.Sprintf("the register is of generation %d of the master keys, this token has generation %d", other.Generation, w.epoch.Generation))
	}
	w.adopted = other
	return nil
}

// adopt takes the register over. The officers stay those of this token. What the other token
// has destroyed since is destroyed here too.
func (w *work) adopt(s *token.Session, next *ceremony.Epoch) error {
	own := *next
	*next = *w.adopted.Clone()
	next.Roster, next.Done = own.Roster, append(next.Done, own.Done...)
	if len(next.Lasting) == 0 {
		return nil // the fingerprint key follows from the shares
	}
	m, err := w.engine.masters.Of(s, next.Generation)
	if err != nil {
		return err
	}
	if err := m.ReplaceLasting(s, next.Lasting); err != nil {
		return err
	}
	w.engine.masters.Forget(next.Generation)
	return nil
}
