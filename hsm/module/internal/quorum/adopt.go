package quorum

import (
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/token"
)

// lookRegister checks the register that is to be taken over: it is the one that the officers
// name, and master keys that are here too have made it. A token takes over another's before it
// has keys of its own. Its own it can have taken over anew at any time, as after its database
// was restored: nothing changes by that but the version, and what the officers say was stopped.
func (w *work) lookRegister(s *token.Session) error {
	own, document, err := w.engine.register.Document()
	if err != nil {
		return err
	}
	if own != w.epoch {
		return fault.New(fault.EpochStale, "another ceremony was carried out meanwhile")
	}
	switch {
	case w.def.Kind == ceremony.Adopt && w.def.Register == document:
		w.adopted = w.epoch
		return w.lookStopped()
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
	if w.def.Kind == ceremony.Join && other.Version <= w.epoch.Version {
		return fault.New(fault.Conflict, "the register that is to be joined is a first one too: carry out a ceremony there first")
	}
	w.adopted = other
	return w.lookStopped()
}

// lookStopped checks that the register has every version that is to be stopped with it. One
// that it does not have was brought in since, and can be used by nobody.
func (w *work) lookStopped() error {
	for _, ref := range w.def.Stopped {
		if w.adopted.Find(ref.Name, ref.Version) == nil {
			return fault.New(fault.KeyNotFound, "the register that is taken over has no "+ref.String()+": leave it out of stopped, nobody can use it")
		}
	}
	return w.lookDistrusted(w.adopted)
}

// join makes the link to the register of other tokens, which this one goes by from then on as
// it is: their officers, their keys.
func (w *work) join(s *token.Session, out *CarriedOut) (err error) {
	if err := w.takeLasting(s, w.adopted); err != nil {
		return err
	}
	if out.Link, err = w.engine.register.LinkTo(s, w.epoch, w.in.Register, w.checked.Opening.Expires); err != nil {
		return err
	}
	out.Epoch = w.in.Register
	w.outcome.Epoch, w.outcome.Document = w.adopted.Version, w.def.Register
	return w.sign(s, w.engine.register.Now().Unix(), out)
}

// adopt takes the register over. The officers stay those of this token. What the other token
// has destroyed since is destroyed here too.
func (w *work) adopt(s *token.Session, next *ceremony.Epoch) error {
	if w.adopted != w.epoch {
		own := *next
		*next = *w.adopted.Clone()
		next.Roster, next.Done = own.Roster, append(next.Done, own.Done...)
	}
	for _, ref := range w.def.Stopped {
		// One that waits to be destroyed is not used either.
		if entry := next.Find(ref.Name, ref.Version); entry.State == ceremony.Active {
			entry.State, entry.Until, entry.Changed = ceremony.Stopped, 0, next.Version+1
		}
	}
	w.distrust(next)
	if w.adopted == w.epoch {
		return nil
	}
	return w.takeLasting(s, next)
}

// takeLasting gives the token the fingerprint key that goes along in a register, where it does
// not follow from the shares.
func (w *work) takeLasting(s *token.Session, of *ceremony.Epoch) error {
	if len(of.Lasting) == 0 {
		return nil
	}
	m, err := w.engine.masters.Of(s, of.Generation)
	if err != nil {
		return err
	}
	if err := m.ReplaceLasting(s, of.Lasting); err != nil {
		return err
	}
	w.engine.masters.Forget(of.Generation)
	return nil
}
