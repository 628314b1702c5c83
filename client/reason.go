package client

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is why keyd refused a request: the reason of google.rpc.ErrorInfo.
// docs/errors.md says what each means and what to do.
type Reason string

// The reasons, in the order in which keyd checks them. A newer keyd may have others.
const (
	RequestInvalid         Reason = "REQUEST_INVALID"
	KSNInvalid             Reason = "KSN_INVALID"
	IdentityUnknown        Reason = "IDENTITY_UNKNOWN"
	PolicyDenied           Reason = "POLICY_DENIED"
	KeyNotFound            Reason = "KEY_NOT_FOUND"
	KeyDisabled            Reason = "KEY_DISABLED"
	KeySealInvalid         Reason = "KEY_SEAL_INVALID"
	KeyUsageMismatch       Reason = "KEY_USAGE_MISMATCH"
	TranslationForbidden   Reason = "TRANSLATION_FORBIDDEN"
	PermitMissing          Reason = "PERMIT_MISSING"
	DefinitionInvalid      Reason = "DEFINITION_INVALID"
	OfficerUnknown         Reason = "OFFICER_UNKNOWN"
	SignatureInvalid       Reason = "SIGNATURE_INVALID"
	StatementMismatch      Reason = "STATEMENT_MISMATCH"
	CeremonyNotFound       Reason = "CEREMONY_NOT_FOUND"
	CeremonyClosed         Reason = "CEREMONY_CLOSED"
	CeremonyExpired        Reason = "CEREMONY_EXPIRED"
	OfficerRepeated        Reason = "OFFICER_REPEATED"
	QuorumMissing          Reason = "QUORUM_MISSING"
	ComponentInvalid       Reason = "COMPONENT_INVALID"
	CheckValueMismatch     Reason = "CHECK_VALUE_MISMATCH"
	KeyExists              Reason = "KEY_EXISTS"
	KeyBlockInvalid        Reason = "KEY_BLOCK_INVALID"
	KeyValueRefused        Reason = "KEY_VALUE_REFUSED"
	ExportForbidden        Reason = "EXPORT_FORBIDDEN"
	InitialKeyAllotted     Reason = "INITIAL_KEY_ALLOTTED"
	LedgerUnavailable      Reason = "LEDGER_UNAVAILABLE"
	EpochInvalid           Reason = "EPOCH_INVALID"
	EpochStale             Reason = "EPOCH_STALE"
	Conflict               Reason = "CONFLICT"
	TerminalNotFound       Reason = "TERMINAL_NOT_FOUND"
	CertificateInvalid     Reason = "CERTIFICATE_INVALID"
	CertificateRole        Reason = "CERTIFICATE_ROLE"
	CertificateExpired     Reason = "CERTIFICATE_EXPIRED"
	CertificateRevoked     Reason = "CERTIFICATE_REVOKED"
	CertificateUntrusted   Reason = "CERTIFICATE_UNTRUSTED"
	TerminalExists         Reason = "TERMINAL_EXISTS"
	PublicKeyKnown         Reason = "PUBLIC_KEY_KNOWN"
	TerminalState          Reason = "TERMINAL_STATE"
	KeySetNotFound         Reason = "KEY_SET_NOT_FOUND"
	InjectionNotFound      Reason = "INJECTION_NOT_FOUND"
	InjectionState         Reason = "INJECTION_STATE"
	RequestReplayed        Reason = "REQUEST_REPLAYED"
	ReceiptInvalid         Reason = "RECEIPT_INVALID"
	NumbersExhausted       Reason = "NUMBERS_EXHAUSTED"
	ApprovalInvalid        Reason = "APPROVAL_INVALID"
	PINRecordEnded         Reason = "PIN_RECORD_ENDED"
	PINWeak                Reason = "PIN_WEAK"
	PINRecordNotFound      Reason = "PIN_RECORD_NOT_FOUND"
	PINRecordState         Reason = "PIN_RECORD_STATE"
	VoidNotFound           Reason = "VOID_NOT_FOUND"
	VoidCodeRefused        Reason = "VOID_CODE_REFUSED"
	CheckpointOlder        Reason = "CHECKPOINT_OLDER"
	CheckpointInconsistent Reason = "CHECKPOINT_INCONSISTENT"
	CheckpointNotKept      Reason = "CHECKPOINT_NOT_KEPT"
	KSNReplayed            Reason = "KSN_REPLAYED"
	CustodyUnavailable     Reason = "CUSTODY_UNAVAILABLE"
	PINBlockInvalid        Reason = "PIN_BLOCK_INVALID"
	RateLimited            Reason = "RATE_LIMITED"
	ModuleUnavailable      Reason = "MODULE_UNAVAILABLE"
	StoreUnavailable       Reason = "STORE_UNAVAILABLE"
	AuditUnavailable       Reason = "AUDIT_UNAVAILABLE"
	Internal               Reason = "INTERNAL"
)

const (
	errorDomain  = "keyd"
	requestIDKey = "request_id"
)

// ReasonOf returns the reason of a refusal, and the identifier under which keyd's operator
// finds the request in the logs. Both are empty if err is no refusal of keyd's: nil, the
// caller's deadline, a connection that broke.
func ReasonOf(err error) (reason Reason, requestID string) {
	if err == nil {
		return "", ""
	}
	s, ok := status.FromError(err)
	if !ok {
		return "", ""
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return Reason(info.GetReason()), info.GetMetadata()[requestIDKey]
		}
	}
	return "", ""
}

// Outcome is what came of a verification: of a PIN, a MAC or a card verification value.
type Outcome int

const (
	// Unknown: there is no answer. The value may have been looked at, and a try counted.
	// Nothing may be concluded about the cardholder.
	Unknown Outcome = iota

	// Right: it was verified.
	Right

	// Wrong: it was looked at, and is not the one. That is keyd's answer, not an error.
	Wrong

	// Refused: keyd did not say whether it is right, and would not if it were asked again
	// in the same way. [ReasonOf] says why. No cardholder has typed a wrong PIN by that.
	Refused
)

// String returns the outcome as a word.
func (o Outcome) String() string {
	switch o {
	case Right:
		return "right"
	case Wrong:
		return "wrong"
	case Refused:
		return "refused"
	}
	return "unknown"
}

// OutcomeOf tells a wrong PIN from a refusal and from no answer. It takes what
// VerifyPinData, ChangePinData, VerifyMac or VerifyCardValidationData returned.
func OutcomeOf(answer interface{ GetVerified() bool }, err error) Outcome {
	if err == nil {
		if answer.GetVerified() {
			return Right
		}
		return Wrong
	}
	reason, _ := ReasonOf(err)
	switch c := status.Code(err); {
	case reason == "", c == codes.Unavailable, c == codes.Internal:
		return Unknown
	}
	return Refused
}
