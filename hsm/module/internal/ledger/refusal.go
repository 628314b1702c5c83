package ledger

import (
	"errors"

	"keyd/fault"
)

// Refusal turns an error of [Ledger.Bind] or [Ledger.Look] into a refusal: nil stays nil,
// [ErrAllotted] is [fault.InitialKeyAllotted], [ErrReplayed] is [fault.RequestReplayed], and whatever else [fault.LedgerUnavailable].
func Refusal(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrAllotted) {
		return fault.New(fault.InitialKeyAllotted, "")
	}
	if errors.Is(err, ErrReplayed) {
		return fault.New(fault.RequestReplayed, ErrReplayed.Error())
	}
	for _, known := range []error{ErrNone, ErrDamaged, ErrFull} {
		if errors.Is(err, known) {
			return fault.New(fault.LedgerUnavailable, known.Error())
		}
	}
	return fault.New(fault.LedgerUnavailable, "their file cannot be written or read")
}
