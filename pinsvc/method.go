package pinsvc

import (
	"keyd/hsm"
	"keyd/keyuse"
)

// PINMethod is a way to verify a PIN. Exactly one is set.
type PINMethod struct {
	VisaPVV *VisaPVV
	IBM3624 *IBM3624
}

// VisaPVV is a Visa PIN verification value.
type VisaPVV struct {
	KeyIndex int32  // PVKI, 0 to 9
	PVV      string // 4 decimal digits; empty where one is asked for
}

// IBM3624 is an IBM 3624 PIN offset.
type IBM3624 struct {
	Offset string // 4 to 12 decimal digits; its length is the check length; empty where one is asked for
}

// checkValue is about the shape of a method with its value.
func (m PINMethod) checkValue(field string) error {
	if err := m.checkOne(field); err != nil {
		return err
	}
	switch {
	case m.IBM3624 != nil:
		if n := len(m.IBM3624.Offset); n < 4 || n > 12 || !keyuse.Decimal(m.IBM3624.Offset) {
			return keyuse.Invalid(field + ".ibm3624.offset has 4 to 12 decimal digits")
		}
	case !keyuse.Fits(m.VisaPVV.PVV, 4, "0123456789"):
		return keyuse.Invalid(field + ".visa_pvv.pvv has 4 decimal digits")
	}
	return nil
}

// checkNoValue is about the shape of a method whose value is asked for.
func (m PINMethod) checkNoValue(field string) error {
	if err := m.checkOne(field); err != nil {
		return err
	}
	if m.IBM3624 != nil && m.IBM3624.Offset != "" || m.VisaPVV != nil && m.VisaPVV.PVV != "" {
		return keyuse.Invalid(field + " has no value here: that is what is asked for")
	}
	return nil
}

func (m PINMethod) checkOne(field string) error {
	switch {
	case (m.VisaPVV == nil) == (m.IBM3624 == nil):
		return keyuse.Invalid(field + " has exactly one of visa_pvv and ibm3624")
	case m.VisaPVV != nil && (m.VisaPVV.KeyIndex < 0 || m.VisaPVV.KeyIndex > 9):
		return keyuse.Invalid(field + ".visa_pvv.key_index (PVKI) is 0 to 9")
	}
	return nil
}

// with returns the method as a module gets it.
func (m PINMethod) with() (*hsm.VisaPVV, *hsm.IBM3624) {
	if m.VisaPVV != nil {
		return &hsm.VisaPVV{KeyIndex: uint8(m.VisaPVV.KeyIndex), PVV: m.VisaPVV.PVV}, nil
	}
	return nil, &hsm.IBM3624{Offset: m.IBM3624.Offset}
}

// withValue returns the method with the value that was asked for.
func (m PINMethod) withValue(datum string) PINMethod {
	if m.VisaPVV != nil {
		return PINMethod{VisaPVV: &VisaPVV{KeyIndex: m.VisaPVV.KeyIndex, PVV: datum}}
	}
	return PINMethod{IBM3624: &IBM3624{Offset: datum}}
}

// identifyMethod adds a method to the identity of a request.
func identifyMethod(i keyuse.Identity, visa *hsm.VisaPVV, ibm *hsm.IBM3624) keyuse.Identity {
	if visa != nil {
		return keyuse.AppendField(append(keyuse.AppendField(i, "PVV"), visa.KeyIndex), visa.PVV)
	}
	return keyuse.AppendField(keyuse.AppendField(i, "offset"), ibm.Offset)
}
