package quorum

import (
	"fmt"
	"slices"

	"keyd/ceremony"
	"keyd/fault"
)

// lookAuthority checks an authority that is to be believed.
func (w *work) lookAuthority() error {
	a := w.def.Authority
	c, err := a.Parse()
	if err != nil {
		return fault.New(fault.DefinitionInvalid, err.Error())
	}
	there := w.epoch.Authority(a.Fingerprint())
	switch {
	case !w.engine.register.Now().Before(c.NotAfter):
		return fault.New(fault.DefinitionInvalid, "authority.certificate is not valid any more")
	case there != nil && slices.Equal(there.Uses, a.Uses):
		return fault.New(fault.Conflict, "that authority is believed already, for the same uses")
	case there == nil && len(w.epoch.Authorities) >= ceremony.MaxAuthorities:
		return fault.New(fault.Conflict, fmt.Sprintf("%d authorities are believed, and no more can be: distrust one", ceremony.MaxAuthorities))
	}
	return nil
}

// trust has an authority believed, unless an officer has ended the belief in it since the
// ceremony began: whoever keeps the papers could have held them back.
func (w *work) trust(next *ceremony.Epoch) error {
	if w.epoch.DistrustedSince(w.def.Authority, w.checked.Opening.Epoch) {
		return fault.New(fault.Conflict, "an officer has ended the belief in it since this ceremony began: begin another")
	}
	next.Trust(*w.def.Authority)
	return nil
}

// lookDistrusted checks that a register has the authorities that are not believed any more.
func (w *work) lookDistrusted(of *ceremony.Epoch) error {
	for _, fingerprint := range w.def.Distrusted {
		if of.Authority(fingerprint) == nil {
			return fault.New(fault.DefinitionInvalid, "distrusted: no authority with the fingerprint "+ceremony.FormatFingerprint(fingerprint)+" is believed: leave it out")
		}
	}
	return nil
}

// distrust ends the belief in the authorities that the definition names.
func (w *work) distrust(next *ceremony.Epoch) {
	for _, fingerprint := range w.def.Distrusted {
		next.Distrust(fingerprint)
	}
}
