package keyuse

import (
	"keyd/hsm"
	"keyd/pinrecord"
)

// CheckPhone refuses what cannot have been typed on a phone, as [Invalid] does: its point is one on P-256, and
// its block has the size of one of ISO 9564-1 format 4.
func CheckPhone(point, block []byte) error {
	if len(block) != hsm.Format4.BlockSize() {
		return Invalid("what was typed comes from a phone in a block of 16 bytes")
	}
	if _, err := pinrecord.PhonePoint(point); err != nil {
		return Invalid("the phone's point is none on P-256")
	}
	return nil
}
