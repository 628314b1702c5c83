package ledger

import (
	"errors"

	"keyd/fault"
)

// Refusal turns an error of [Ledger.Bind] or [Ledger.Look] into a refusal: nil stays nil,
// [ErrAllotted] is [fault.InitialKeyAllotted], [ErrReplayed] and [ErrUsed] are [fault.RequestReplayed],
// [ErrEnded], [ErrBegun] and [ErrSet] are [fault.PINRecordEnded], and whatever else is
// [fault.LedgerUnavailable].
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
	if errors.Is(err, ErrUsed) {
		return fault.New(fault.RequestReplayed, ErrUsed.Error())
	}
	for _, known := range []error{ErrEnded, ErrBegun, ErrSet} {
		if errors.Is(err, known) {
			return fault.New(fault.PINRecordEnded, known.Error())
		}
	}
	for _, known := range []error{ErrNone, ErrDamaged, ErrFull} {
		if errors.Is(err, known) {
			return fault.New(fault.LedgerUnavailable, known.Error())
		}
	}
	return fault.New(fault.LedgerUnavailable, "their file cannot be written or read")
}
