package quorum

import (
	"errors"
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// work is a ceremony as one call sees it.
type work struct {
	engine *Engine
	epoch  *ceremony.Epoch
	def    *ceremony.Definition
	in     Inputs
	need   ceremony.Need

	papers  *ceremony.Proceedings // nil in Begin
	checked *ceremony.Checked     // likewise
	pair    *token.Pair           // the ceremony's, once a component was opened

	header     hsm.Header      // of the key that comes to be
	block      *keyblock.Block // Import
	adopted    *ceremony.Epoch // Adopt, Join
	region     *locked.Region  // clear values
	key        []byte          // the value, in region; nil while there is none
	checkValue string          // of the value
	rehearsing bool            // nothing leaves

	initialKeyID [8]byte // Export of an initial key
	outcome      ceremony.Outcome
}

// Where things lie in a work's locked memory.
const (
	keyAt         = 0
	keyRoom       = 256
	sharedAt      = 512 // of a P-521 agreement
	sharedSize    = 66
	plainAt       = 1024
	componentsAt  = 2048
	componentRoom = 64 // the longest key of which there are components (HMAC)
	regionSize    = 8192
)

// look checks a definition against the epoch and the keys that are there, and finds out how
// many officers it takes.
func (e *Engine) look(s *token.Session, epoch *ceremony.Epoch, d *ceremony.Definition, in Inputs) (*work, error) {
	w := &work{engine: e, epoch: epoch, def: d, in: in}
	usage, sensitive := "", false
	var err error
	switch {
	case d.Kind == ceremony.Init:
		return nil, fault.New(fault.DefinitionInvalid, "a token gets its first roster by keyd init, at the machine")
	case d.Kind == ceremony.Change:
	case d.Kind == ceremony.Trust:
		err = w.lookAuthority()
	case d.Kind == ceremony.Distrust:
		err = w.lookDistrusted(epoch)
	case d.Kind == ceremony.Masters:
		err = w.lookMasters()
	case d.Kind == ceremony.Adopt, d.Kind == ceremony.Join:
		err = w.lookRegister(s)
	case d.Kind == ceremony.Retire:
		if epoch.Oldest == epoch.Generation {
			err = fault.New(fault.Conflict, "there are no older master keys")
		}
	case d.Key != nil:
		usage = d.Key.Usage
		sensitive, err = w.lookKey(s)
		if err == nil && d.Kind == ceremony.Import {
			err = w.lookBlock()
		}
		if err == nil && d.Kind == ceremony.Attach {
			err = w.lookObject(s)
		}
	case d.Target != nil:
		usage, err = w.lookTarget()
	default:
		err = fault.New(fault.DefinitionInvalid, "this keyd carries out no ceremony of this kind")
	}
	if err != nil {
		return nil, err
	}
	w.need = epoch.Roster.Quorum.Need(d, usage, sensitive)
	return w, nil
}

// lookKey checks a key that is to be, and reports whether it may be used otherwise than the
// version before.
func (w *work) lookKey(s *token.Session) (sensitive bool, err error) {
	spec := w.def.Key
	if r := spec.IBM3624; r != nil {
		rule := pinverify.Rule{DecimalizationTable: r.DecimalizationTable, Start: r.Start, Length: r.Length, Pad: r.Pad}
		if err := rule.Validate(); err != nil {
			return false, fault.New(fault.DefinitionInvalid, "key.ibm3624: "+err.Error())
		}
	}
	w.header = spec.Header()
	if spec.Exportability != "N" {
		w.header.Custody = hsm.CustodyModule // the module has to read what it is to export
	}
	w.outcome.Key, w.outcome.Usage = &ceremony.KeyRef{Name: spec.Name, Version: spec.Version}, spec.Usage
	newest := w.epoch.Newest(spec.Name)
	switch {
	case newest == nil && spec.Version == 1:
		return w.sends(), nil
	case newest == nil:
		return false, fault.New(fault.DefinitionInvalid, "key.version is 1: there is no key of that name")
	case spec.Version <= newest.Version:
		return false, fault.New(fault.KeyExists, fmt.Sprintf("the next version of %s is %d", spec.Name, newest.Version+1))
	case spec.Version != newest.Version+1:
		return false, fault.New(fault.DefinitionInvalid, fmt.Sprintf("key.version: the next version of %s is %d", spec.Name, newest.Version+1))
	}
	if w.in.Previous == nil && newest.State == ceremony.Deleting && w.engine.register.Now().Unix() >= newest.Until {
		return true, nil // nobody may have it any more, and nothing tells what it was for
	}
	previous, err := w.registered(s, w.in.Previous, newest)
	if err != nil {
		return false, err
	}
	return w.sends() || weaker(&w.header, previous, w.engine.register.Now().Unix()) || !ceremony.SameUse(previous, &w.header), nil
}

// sends reports whether a key comes from outside and things leave under it: a partner's
// officer may know what comes in a block, and nobody alone has PINs or data enciphered under
// it.
func (w *work) sends() bool {
	d := w.def.Key.Direction
	return w.def.Kind == ceremony.Import && (d == hsm.DirectionOutgoing || d == hsm.DirectionBoth)
}

// longAlone is for how long one officer may make the next version of a key valid that has an
// end, in seconds: five years.
const longAlone = 5 * 365 * 24 * 3600

// weaker reports whether the next version of a key is shorter than the one before, or valid
// for long or without end where that one was not.
func weaker(next, previous *hsm.Header, now int64) bool {
	return next.Length < previous.Length ||
		previous.NotAfter != 0 && (next.NotAfter == 0 || next.NotAfter > max(previous.NotAfter, now+longAlone))
}

// registered returns the header of a sealed key that the front gave for a version in the
// register, whether it may be used or not.
func (w *work) registered(s *token.Session, given *hsm.Key, entry *ceremony.Entry) (*hsm.Header, error) {
	if given == nil {
		return nil, fault.New(fault.KeyNotFound, entry.Name)
	}
	sealed, err := w.engine.masters.Authentic(s, given.Sealed)
	if err != nil {
		return nil, err
	}
	digest, err := ceremony.HeaderDigest(sealed.Header)
	if err != nil {
		return nil, err
	}
	if digest != entry.Header || sealed.Header.Generation < w.epoch.Oldest {
		return nil, fault.New(fault.KeySealInvalid, "")
	}
	return sealed.Header, nil
}

// lookTarget checks the key that something happens to, and returns its usage.
func (w *work) lookTarget() (usage string, err error) {
	t := w.def.Target
	w.outcome.Key = t
	entry := w.epoch.Find(t.Name, t.Version)
	if entry == nil {
		return "", fault.New(fault.KeyNotFound, "the register has no "+t.String())
	}
	w.outcome.Usage = entry.Usage
	now := w.engine.register.Now().Unix()
	gone := entry.State == ceremony.Deleting && now >= entry.Until
	switch w.def.Kind {
	case ceremony.Stop:
		if entry.State != ceremony.Active {
			return "", fault.New(fault.KeyDisabled, "it is stopped already")
		}
	case ceremony.Start:
		if entry.State != ceremony.Stopped && (entry.State != ceremony.Active || entry.Usable(now)) {
			return "", fault.New(fault.KeyDisabled, "only a stopped key can be started")
		}
	case ceremony.Delete:
		if entry.State == ceremony.Deleting {
			return "", fault.New(fault.KeyDisabled, "it is deleted already")
		}
	case ceremony.Restore:
		if entry.State != ceremony.Deleting || gone {
			return "", fault.New(fault.KeyDisabled, "only a key whose deletion still waits can be restored")
		}
	}
	return entry.Usage, nil
}

// rehearse finds out before anybody approves what would be refused in the end, and, where
// there is a key block, the check value of its key, which who approves compares.
func (w *work) rehearse(s *token.Session) error {
	if w.def.Kind != ceremony.Import && w.def.Kind != ceremony.Export {
		return nil
	}
	if err := w.value(s); err != nil {
		return err
	}
	defer w.wipe()
	if w.def.Kind == ceremony.Export {
		w.rehearsing = true
		defer func() { w.rehearsing = false }()
		return w.export(s, new(CarriedOut)) // which goes nowhere
	}
	return nil
}

// value finds the value of the key, as far as the papers have it, and its check value.
func (w *work) value(s *token.Session) (err error) {
	defer func() {
		if err != nil {
			w.wipe()
		}
	}()
	if w.region == nil {
		if w.region, err = locked.New(regionSize); err != nil {
			return err
		}
	}
	switch w.def.Kind {
	case ceremony.Load:
		err = w.combine(s)
	case ceremony.Import:
		err = w.unwrap(s)
	case ceremony.Masters:
		err = w.checkShares(s)
	}
	if err != nil || w.key == nil {
		return err
	}
	return w.judge(s)
}

// wipe ends the use of clear values. It may be called again.
func (w *work) wipe() {
	if w.region != nil {
		w.region.Free()
	}
	w.region, w.key = nil, nil
}

// carryOut changes the next epoch, and makes what the ceremony makes.
func (w *work) carryOut(s *token.Session, next *ceremony.Epoch, out *CarriedOut) error {
	switch w.def.Kind {
	case ceremony.Load, ceremony.Import:
		return w.bringIn(s, next, out)
	case ceremony.Create:
		if w.def.Key.IsPair() {
			if err := w.makePair(s); err != nil {
				return err
			}
			return w.bringInHeld(s, next, out)
		}
		if err := w.random(s); err != nil {
			return err
		}
		return w.bringIn(s, next, out)
	case ceremony.Attach:
		return w.bringInHeld(s, next, out)
	case ceremony.Export:
		return w.export(s, out)
	case ceremony.Stop, ceremony.Start, ceremony.Delete, ceremony.Restore:
		return w.turn(next.Find(w.def.Target.Name, w.def.Target.Version))
	case ceremony.Change:
		next.Roster = *w.def.Roster
		return nil
	case ceremony.Trust:
		return w.trust(next)
	case ceremony.Distrust:
		w.distrust(next)
		return nil
	case ceremony.Masters:
		return w.replaceMasters(s, next)
	case ceremony.Retire:
		w.retire(next)
		return nil
	case ceremony.Adopt:
		return w.adopt(s, next)
	}
	return errors.New("a ceremony of a kind that nothing carries out")
}

// turn changes the state of a version of a key, which look has found to fit. What brings a key
// back is refused where it was stopped or deleted since the ceremony began: whoever keeps the
// papers could have held them back.
func (w *work) turn(entry *ceremony.Entry) error {
	back := w.def.Kind == ceremony.Start || w.def.Kind == ceremony.Restore
	if back && entry.Changed > w.checked.Opening.Epoch {
		return fault.New(fault.Conflict, "the key was stopped or deleted since this ceremony began: begin another")
	}
	entry.Changed = w.epoch.Version + 1
	switch w.def.Kind {
	case ceremony.Stop, ceremony.Restore:
		entry.State, entry.Until = ceremony.Stopped, 0
	case ceremony.Start:
		entry.State, entry.Until = ceremony.Active, 0
	case ceremony.Delete:
		entry.State, entry.Until = ceremony.Deleting, w.engine.register.Now().Unix()+w.def.Wait
	}
	return nil
}

// bringIn seals the key and enters it in the register.
func (w *work) bringIn(s *token.Session, next *ceremony.Epoch, out *CarriedOut) error {
	m, err := w.engine.masters.Of(s, next.Generation)
	if err != nil {
		return err
	}
	sealed, err := m.Seal(s, w.header, w.key)
	if err != nil {
		return err
	}
	return w.enter(sealed, next, out)
}

// enter enters a sealed key in the register.
func (w *work) enter(sealed []byte, next *ceremony.Epoch, out *CarriedOut) error {
	parsed, err := hsm.ParseSealed(sealed)
	if err != nil {
		return err
	}
	h := parsed.Header
	entry := ceremony.Entry{Name: h.Name, Version: h.Version, Usage: h.Usage, Fingerprint: h.Fingerprint, State: ceremony.Active}
	if entry.Header, err = ceremony.HeaderDigest(h); err != nil {
		return err
	}
	if w.def.Kind == ceremony.Load {
		entry.Officers = w.custodians()
	}
	if h.Version > 1 {
		if before := next.Find(h.Name, h.Version-1); before != nil && before.State == ceremony.Active && before.Until == 0 {
			before.Until = w.engine.register.Now().Unix() + w.def.Overlap
		}
	}
	next.Insert(entry)
	w.outcome.CheckValue, w.outcome.Header = h.CheckValue, entry.Header
	out.Key = &hsm.Key{Name: h.Name, Sealed: sealed}
	return nil
}
