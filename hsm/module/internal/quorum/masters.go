package quorum

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/keyvalue"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// lookMasters checks a definition of other master keys.
func (w *work) lookMasters() error {
	for _, names := range [][]string{w.def.MasterKeys.Holders, w.def.MasterKeys.Previous} {
		for _, name := range names {
			if w.epoch.Roster.Officer(name) == nil {
				return fault.New(fault.DefinitionInvalid, fmt.Sprintf("masters: %q is no officer of the roster", name))
			}
		}
	}
	if w.epoch.Oldest != w.epoch.Generation {
		return fault.New(fault.Conflict, "the last change of master keys has not ended: retire the old ones first")
	}
	w.header.Algorithm, w.header.Length = "A", ceremony.MasterShareSize
	return nil
}

// shares XORs the shares in the places from one to another into out, once all are there. It
// opens and checks those that are there in any case.
func (w *work) shares(s *token.Session, from, to int, out []byte) (complete bool, err error) {
	memory := w.region.Bytes()[componentsAt:][:2*ceremony.MaxComponents*componentRoom]
	defer clear(memory)
	clear(out)
	var shares []component
	for i, statement := range w.checked.Submissions {
		if statement.Index < from || statement.Index > to {
			continue
		}
		share := component{statement.Index, memory[len(shares)*componentRoom:][:ceremony.MasterShareSize]}
		if err := w.open(s, statement, w.papers.Submissions[i].Sealed, share.value, "A"); err != nil {
			return false, err
		}
		subtle.XORBytes(out, out, share.value)
		shares = append(shares, share)
	}
	complete = len(shares) == to-from+1
	return complete, independent("A", shares, out, complete)
}

// checkShares opens and checks the shares that are there.
func (w *work) checkShares(s *token.Session) error {
	secret := w.region.Bytes()[keyAt : keyAt+ceremony.MasterShareSize]
	defer clear(secret)
	m := w.def.MasterKeys
	if complete, err := w.shares(s, len(m.Holders)+1, len(m.Holders)+len(m.Previous), secret); err != nil || !complete {
		return err
	}
	return w.proveOld(s, secret)
}

// proveOld refuses shares that are not those of the master keys that are here.
func (w *work) proveOld(s *token.Session, secret []byte) error {
	current, err := w.engine.masters.Of(s, w.epoch.Generation)
	if err != nil {
		return err
	}
	err = current.ProveSecret(s, secret)
	if errors.Is(err, sealing.ErrOtherSecret) {
		return fault.New(fault.CheckValueMismatch, "masters.previous: "+err.Error())
	}
	return err
}

// replaceMasters makes the master keys of the next generation, and gives the token what it
// needs to seal keys anew. Until the epoch is committed nothing is sealed by them; what an
// earlier try has left is of no use and is replaced.
func (w *work) replaceMasters(s *token.Session, next *ceremony.Epoch) error {
	secret := w.region.Bytes()[keyAt : keyAt+ceremony.MasterShareSize]
	defer clear(secret)
	m := w.def.MasterKeys
	complete, err := w.shares(s, 1, len(m.Holders), secret)
	if err == nil && !complete {
		err = fault.New(fault.QuorumMissing, "not all shares of the new master keys are there")
	}
	if err != nil {
		return err
	}
	if why := keyvalue.Weakness("A", secret); why != "" {
		return fault.New(fault.KeyValueRefused, why)
	}
	generation := next.Generation + 1
	var fresh *sealing.Masters
	// Not while another module pins those of another try.
	err = w.engine.register.Exclusively(s, w.epoch, func() (err error) {
		w.engine.masters.Forget(generation)
		if err = sealing.DestroyMasters(s, generation, false); err != nil {
			return err
		}
		if err = sealing.ImportMasters(s, generation, secret); err != nil {
			return err
		}
		fresh, err = w.engine.masters.Of(s, generation)
		return err
	})
	if err != nil {
		return err
	}
	if w.outcome.Masters, err = fresh.CheckValue(s); err != nil {
		return err
	}
	if complete, err = w.shares(s, len(m.Holders)+1, len(m.Holders)+len(m.Previous), secret); err == nil && !complete {
		err = fault.New(fault.QuorumMissing, "not all shares of the present master keys are there")
	}
	if err != nil {
		return err
	}
	current, err := w.engine.masters.Of(s, next.Generation)
	if err != nil {
		return err
	}
	if err := current.ImportResealing(s, secret); errors.Is(err, sealing.ErrOtherSecret) {
		return fault.New(fault.CheckValueMismatch, "masters.previous: "+err.Error())
	} else if err != nil {
		return err
	}
	if next.Lasting, err = current.Lasting(s, next.Lasting, secret, fresh); err != nil {
		return err
	}
	next.Generation = generation
	return nil
}

// retire ends the use of older master keys. What they sealed is lost, so the front asks for
// it when everything has been sealed anew. The register forgets keys that are deleted:
// whatever copies there are of them were sealed by what is destroyed now.
func (w *work) retire(next *ceremony.Epoch) {
	next.Oldest = next.Generation
	now := w.engine.register.Now().Unix()
	kept := next.Keys[:0:0]
	for i, entry := range next.Keys {
		newest := i+1 == len(next.Keys) || next.Keys[i+1].Name != entry.Name
		if entry.State == ceremony.Deleting && now >= entry.Until && !newest {
			continue // the newest stays, so that no version comes twice
		}
		kept = append(kept, entry)
	}
	next.Keys = kept
}

// destroyOld destroys the master keys before a generation, as far as they are there.
func destroyOld(s *token.Session, oldest uint32) error {
	for generation := uint32(1); generation < oldest; generation++ {
		if err := errors.Join(sealing.DestroyMasters(s, generation, false), sealing.DestroyResealing(s, generation)); err != nil {
			return err
		}
	}
	return nil
}

// Reseal seals a key anew under the master keys of the present generation.
func (e *Engine) Reseal(s *token.Session, sealed []byte) ([]byte, error) {
	epoch, err := e.register.Current()
	if err != nil {
		return nil, err
	}
	return e.masters.Reseal(s, sealed, epoch.Generation)
}
