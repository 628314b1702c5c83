package quorum

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"strings"

	"keyd/ceremony"
	"keyd/fault"
)

// reasons says how the errors of package ceremony are refused.
var reasons = []struct {
	err    error
	reason fault.Reason
	detail bool // the error's text helps, and is the caller's own
}{
	{ceremony.ErrDefinition, fault.DefinitionInvalid, true},
	{ceremony.ErrRoster, fault.DefinitionInvalid, true},
	{ceremony.ErrOfficer, fault.OfficerUnknown, false},
	{ceremony.ErrRosterChanged, fault.StatementMismatch, true},
	{ceremony.ErrSignature, fault.SignatureInvalid, false},
	{ceremony.ErrMismatch, fault.StatementMismatch, true},
	{ceremony.ErrOpening, fault.StatementMismatch, true},
	{ceremony.ErrRepeated, fault.OfficerRepeated, false},
	{ceremony.ErrExpired, fault.CeremonyExpired, false},
	{ceremony.ErrComplete, fault.CeremonyClosed, true},
	{ceremony.ErrSealed, fault.ComponentInvalid, false},
	{ceremony.ErrDocument, fault.RequestInvalid, true},
	{ceremony.ErrKeyKind, fault.DefinitionInvalid, true},
}

// refusal makes a refusal of an error that papers cause; a token's error stays as it is.
func refusal(err error) error {
	var known *fault.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			if r.detail {
				return fault.New(r.reason, strings.ReplaceAll(err.Error(), "\n", "; "))
			}
			return fault.New(r.reason, "")
		}
	}
	return err
}

func publicDER(key *ecdsa.PublicKey) ([]byte, error) { return x509.MarshalPKIXPublicKey(key) }
