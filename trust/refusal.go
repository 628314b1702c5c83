package trust

import (
	"errors"

	"keyd/fault"
)

// Refusal turns an error of [Anchors.Verify] or [ParseLists] into a refusal; any other stays as
// it is, and so does nil.
func Refusal(err error) error {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return fault.New(r.reason, err.Error())
		}
	}
	return err
}

var reasons = []struct {
	err    error
	reason fault.Reason
}{
	{ErrChain, fault.CertificateInvalid}, {ErrAuthority, fault.CertificateInvalid}, {ErrUsage, fault.CertificateInvalid}, {ErrKey, fault.CertificateInvalid},
	{ErrCritical, fault.CertificateInvalid}, {ErrRole, fault.CertificateRole}, {ErrNotYet, fault.CertificateExpired}, {ErrExpired, fault.CertificateExpired},
	{ErrDistrusted, fault.CertificateUntrusted}, {ErrForeign, fault.CertificateUntrusted}, {ErrNobody, fault.CertificateUntrusted}, {ErrRevoked, fault.CertificateRevoked},
	{ErrList, fault.CertificateInvalid}, {ErrListStale, fault.CertificateInvalid},
}
