package pinrecord

import (
	"errors"

	"keyd/fault"
	"keyd/trust"
)

// Refusal turns an error of [Signed.Open], [OpenBoth] or [Signed.OpenVoid] into a refusal; any other stays as
// it is, and so does nil.
func Refusal(err error) error {
	for _, known := range []error{ErrApproval, ErrSignature, ErrExpired, ErrMerchant, ErrTwo, ErrApprover} {
		if errors.Is(err, known) {
			return fault.New(fault.ApprovalInvalid, known.Error())
		}
	}
	return trust.Refusal(err)
}
