// Package fault holds the refusals that keyd knows: one reason for each, in the
// order in which they are checked, with the gRPC code that carries it.
//
// Every layer on both sides of the hardware boundary returns these errors; only
// the gRPC binding turns them into statuses. A sentence that comes with a reason is
// written in keyd's code and names no secret; for [PINBlockInvalid] there is none,
// so that the service is no oracle for what is wrong with a block.
package fault

import (
	"errors"

	"google.golang.org/grpc/codes"
)

// Reason is why a request was refused. Its number crosses the hardware boundary,
// its name is the Reason of google.rpc.ErrorInfo.
type Reason uint8

// The reasons, in the order in which they are checked: the first that applies wins.
// Only IdentityUnknown comes before all others, and RateLimited where it is about the
// caller and not about an account.
const (
	RequestInvalid       Reason = 1  // shape of the request
	KSNInvalid           Reason = 2  // shape of the key serial number
	IdentityUnknown      Reason = 3  // a certificate without a usable identity
	PolicyDenied         Reason = 4  // no rule of the policy allows it
	KeyNotFound          Reason = 5  // no key of that name
	KeyDisabled          Reason = 6  // stopped, not yet valid or expired
	KeySealInvalid       Reason = 7  // altered, swapped or renamed sealed key
	KeyUsageMismatch     Reason = 8  // usage, mode, direction, algorithm against format
	TranslationForbidden Reason = 9  // ISO 9564-1 / PCI PIN 3-3 matrix, peer groups
	PermitMissing        Reason = 10 // nobody at the machine has permitted it

	// Officers and what they sign.
	DefinitionInvalid  Reason = 11 // what a ceremony is to do
	OfficerUnknown     Reason = 12 // not in the roster
	SignatureInvalid   Reason = 13 // not by the officer that it names
	StatementMismatch  Reason = 14 // signed for something else
	CeremonyNotFound   Reason = 15 // no ceremony of that identifier
	CeremonyClosed     Reason = 16 // carried out or called off
	CeremonyExpired    Reason = 17 // not finished in time
	OfficerRepeated    Reason = 18 // one officer in two places
	QuorumMissing      Reason = 19 // too few officers
	ComponentInvalid   Reason = 20 // altered on the way, or for another ceremony
	CheckValueMismatch Reason = 21 // of a component, or of the whole key
	KeyExists          Reason = 22 // that version of that name
	KeyBlockInvalid    Reason = 23 // no key block of that key
	KeyValueRefused    Reason = 24 // weak, or known already
	ExportForbidden    Reason = 25 // by exportability or strength
	InitialKeyAllotted Reason = 26 // it was given to somebody else
	LedgerUnavailable  Reason = 27 // it cannot be recorded whose an initial key is, or which version of a PIN record was begun
	EpochInvalid       Reason = 28 // no epoch of this token
	EpochStale         Reason = 29 // not the one that is pinned
	Conflict           Reason = 30 // somebody else changed it meanwhile

	// Terminals and their certificates.
	TerminalNotFound     Reason = 31 // no terminal of that identifier
	CertificateInvalid   Reason = 32 // not one that a terminal can have
	CertificateRole      Reason = 33 // of a distribution host, or something else that is no terminal
	CertificateExpired   Reason = 34 // not valid now
	CertificateRevoked   Reason = 35 // by its issuer
	CertificateUntrusted Reason = 36 // leads to no root for terminals
	TerminalExists       Reason = 37 // that identifier
	PublicKeyKnown       Reason = 38 // it is another terminal's, or the terminal's is another
	TerminalState        Reason = 39 // its state does not allow it

	// Keys that terminals get.
	KeySetNotFound    Reason = 40 // no key set or key host of that name, or the terminal has none
	InjectionNotFound Reason = 41 // no injection of that identifier
	InjectionState    Reason = 42 // confirmed, expired, superseded
	RequestReplayed   Reason = 43 // a terminal's request that was used already
	ReceiptInvalid    Reason = 44 // the MAC or a check value is wrong
	NumbersExhausted  Reason = 45 // no initial key ID is left in the range

	// PINs of supervisors.
	ApprovalInvalid   Reason = 46 // not two approvers' for this
	PINRecordEnded    Reason = 47 // another version was begun, or the record was revoked
	PINWeak           Reason = 48 // well known, or too short
	PINRecordNotFound Reason = 49 // no PIN record of that subject
	PINRecordState    Reason = 50 // its state does not allow it

	// Voids.
	VoidNotFound    Reason = 51 // no void of that identifier
	VoidCodeRefused Reason = 52 // a code that cannot be used, or not by this merchant

	// Checkpoints of an audit log, which a module signs for its front.
	CheckpointOlder        Reason = 53 // over fewer entries than one that was signed
	CheckpointInconsistent Reason = 54 // over other entries than one that was signed
	CheckpointNotKept      Reason = 55 // it cannot be remembered that it was signed

	KSNReplayed        Reason = 56 // the key serial number was used, or jumps too far
	CustodyUnavailable Reason = 57 // the policy demands the token's custody, which is not to be had
	PINBlockInvalid    Reason = 58 // the PIN block does not decipher to one
	RateLimited        Reason = 59 // too many tries for one account, or requests of one identity
	ModuleUnavailable  Reason = 60 // no module answered in time
	StoreUnavailable   Reason = 61 // the database cannot be read or written
	AuditUnavailable   Reason = 62 // the audit log cannot be written
	Internal           Reason = 63 // a bug in keyd
)

// Row is a line of the table of reasons.
type Row struct {
	Reason  Reason
	Name    string     // of google.rpc.ErrorInfo
	Code    codes.Code // of the gRPC status
	Message string     // what the caller reads
}

// Table is every reason in the order of checking.
var Table = []Row{
	{RequestInvalid, "REQUEST_INVALID", codes.InvalidArgument, "the request is not well formed"},
	{KSNInvalid, "KSN_INVALID", codes.InvalidArgument, "the key serial number is not valid"},
	{IdentityUnknown, "IDENTITY_UNKNOWN", codes.Unauthenticated, "the client certificate carries no SPIFFE identity"},
	{PolicyDenied, "POLICY_DENIED", codes.PermissionDenied, "the policy does not allow this"},
	{KeyNotFound, "KEY_NOT_FOUND", codes.NotFound, "there is no such key"},
	{KeyDisabled, "KEY_DISABLED", codes.FailedPrecondition, "the key is stopped or not valid now"},
	{KeySealInvalid, "KEY_SEAL_INVALID", codes.FailedPrecondition, "the stored key is not what was sealed under this name"},
	{KeyUsageMismatch, "KEY_USAGE_MISMATCH", codes.FailedPrecondition, "the key may not be used this way"},
	{TranslationForbidden, "TRANSLATION_FORBIDDEN", codes.FailedPrecondition, "this translation is forbidden"},
	{PermitMissing, "PERMIT_MISSING", codes.FailedPrecondition, "nobody has permitted this at the machine"},
	{DefinitionInvalid, "DEFINITION_INVALID", codes.InvalidArgument, "the definition is refused"},
	{OfficerUnknown, "OFFICER_UNKNOWN", codes.PermissionDenied, "the roster has no such officer"},
	{SignatureInvalid, "SIGNATURE_INVALID", codes.PermissionDenied, "the signature is not the officer's over this statement"},
	{StatementMismatch, "STATEMENT_MISMATCH", codes.FailedPrecondition, "the statement was signed for something else"},
	{CeremonyNotFound, "CEREMONY_NOT_FOUND", codes.NotFound, "there is no such ceremony"},
	{CeremonyClosed, "CEREMONY_CLOSED", codes.FailedPrecondition, "the ceremony is over"},
	{CeremonyExpired, "CEREMONY_EXPIRED", codes.FailedPrecondition, "the ceremony was not finished in time"},
	{OfficerRepeated, "OFFICER_REPEATED", codes.FailedPrecondition, "one officer cannot take this place too"},
	{QuorumMissing, "QUORUM_MISSING", codes.FailedPrecondition, "more officers are needed"},
	{ComponentInvalid, "COMPONENT_INVALID", codes.InvalidArgument, "the component was altered, or is for another ceremony"},
	{CheckValueMismatch, "CHECK_VALUE_MISMATCH", codes.FailedPrecondition, "the check value is another"},
	{KeyExists, "KEY_EXISTS", codes.AlreadyExists, "this version of the key exists"},
	{KeyBlockInvalid, "KEY_BLOCK_INVALID", codes.InvalidArgument, "the key block is not valid"},
	{KeyValueRefused, "KEY_VALUE_REFUSED", codes.FailedPrecondition, "this key value is not accepted"},
	{ExportForbidden, "EXPORT_FORBIDDEN", codes.FailedPrecondition, "the key may not leave this way"},
	{InitialKeyAllotted, "INITIAL_KEY_ALLOTTED", codes.FailedPrecondition, "that initial key was given to somebody else"},
	{LedgerUnavailable, "LEDGER_UNAVAILABLE", codes.Unavailable, "the modules cannot write their ledger, so nothing is done that has to stand in it"},
	{EpochInvalid, "EPOCH_INVALID", codes.FailedPrecondition, "the register of officers and keys is not one of this token"},
	{EpochStale, "EPOCH_STALE", codes.Unavailable, "the register of officers and keys is not the newest"},
	{Conflict, "CONFLICT", codes.Aborted, "somebody else changed it meanwhile"},
	{TerminalNotFound, "TERMINAL_NOT_FOUND", codes.NotFound, "there is no such terminal"},
	{CertificateInvalid, "CERTIFICATE_INVALID", codes.InvalidArgument, "this is no certificate of a terminal"},
	{CertificateRole, "CERTIFICATE_ROLE", codes.FailedPrecondition, "the certificate is of something other than a terminal"},
	{CertificateExpired, "CERTIFICATE_EXPIRED", codes.FailedPrecondition, "the certificate is not valid now"},
	{CertificateRevoked, "CERTIFICATE_REVOKED", codes.FailedPrecondition, "the certificate was revoked"},
	{CertificateUntrusted, "CERTIFICATE_UNTRUSTED", codes.FailedPrecondition, "the certificate leads to no root for terminals"},
	{TerminalExists, "TERMINAL_EXISTS", codes.AlreadyExists, "there is another terminal of this identifier"},
	{PublicKeyKnown, "PUBLIC_KEY_KNOWN", codes.FailedPrecondition, "this public key is not the terminal's"},
	{TerminalState, "TERMINAL_STATE", codes.FailedPrecondition, "the terminal's state does not allow this"},
	{KeySetNotFound, "KEY_SET_NOT_FOUND", codes.NotFound, "there is no such key set or key host"},
	{InjectionNotFound, "INJECTION_NOT_FOUND", codes.NotFound, "the terminal has no such injection"},
	{InjectionState, "INJECTION_STATE", codes.FailedPrecondition, "the injection's state does not allow this"},
	{RequestReplayed, "REQUEST_REPLAYED", codes.FailedPrecondition, "the terminal's request was used before"},
	{ReceiptInvalid, "RECEIPT_INVALID", codes.FailedPrecondition, "the receipt is not the terminal's, or is of other keys"},
	{NumbersExhausted, "NUMBERS_EXHAUSTED", codes.FailedPrecondition, "the key set has no number left for another terminal"},
	{ApprovalInvalid, "APPROVAL_INVALID", codes.PermissionDenied, "the approval is not that of the approvers whom this needs"},
	{PINRecordEnded, "PIN_RECORD_ENDED", codes.FailedPrecondition, "the PIN record is dead: another version was begun, or it was revoked"},
	{PINWeak, "PIN_WEAK", codes.InvalidArgument, "the PIN is one that others guess"},
	{PINRecordNotFound, "PIN_RECORD_NOT_FOUND", codes.NotFound, "there is no such PIN record"},
	{PINRecordState, "PIN_RECORD_STATE", codes.FailedPrecondition, "the state of the PIN record does not allow this"},
	{VoidNotFound, "VOID_NOT_FOUND", codes.NotFound, "there is no such void"},
	{VoidCodeRefused, "VOID_CODE_REFUSED", codes.FailedPrecondition, "this code cannot be used"},
	{CheckpointOlder, "CHECKPOINT_OLDER", codes.FailedPrecondition, "the audit log has fewer entries than it had"},
	{CheckpointInconsistent, "CHECKPOINT_INCONSISTENT", codes.FailedPrecondition, "the audit log does not have the entries that it had"},
	{CheckpointNotKept, "CHECKPOINT_NOT_KEPT", codes.Unavailable, "the modules cannot remember a checkpoint, so none is signed"},
	{KSNReplayed, "KSN_REPLAYED", codes.FailedPrecondition, "the key serial number is not a new one"},
	{CustodyUnavailable, "CUSTODY_UNAVAILABLE", codes.FailedPrecondition, "this cannot be done inside the token, as the policy demands"},
	{PINBlockInvalid, "PIN_BLOCK_INVALID", codes.InvalidArgument, "the PIN block is not valid"},
	{RateLimited, "RATE_LIMITED", codes.ResourceExhausted, "there were too many tries"},
	{ModuleUnavailable, "MODULE_UNAVAILABLE", codes.Unavailable, "no security module answered in time"},
	{StoreUnavailable, "STORE_UNAVAILABLE", codes.Unavailable, "the database cannot be read or written"},
	{AuditUnavailable, "AUDIT_UNAVAILABLE", codes.Unavailable, "the audit log cannot be written, so nothing is done"},
	{Internal, "INTERNAL", codes.Internal, "an internal error; the operator's log has the details"},
}

// Error is a refusal.
type Error struct {
	Reason Reason
	detail string
	cause  error
}

// New returns a refusal. detail is a sentence of keyd's own that helps the caller,
// or empty; it is dropped for [PINBlockInvalid].
func New(r Reason, detail string) *Error {
	if r == PINBlockInvalid {
		detail = ""
	}
	return &Error{Reason: r, detail: detail}
}

// Wrap returns a refusal whose cause is for the operator's log only: it never
// becomes part of the message.
func Wrap(r Reason, cause error) *Error {
	return &Error{Reason: r, cause: cause}
}

// Error is what the caller may read.
func (e *Error) Error() string {
	message := e.Reason.row().Message
	if e.detail != "" {
		message += ": " + e.detail
	}
	return message
}

// Detail returns the sentence that came with the reason.
func (e *Error) Detail() string { return e.detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is reports two refusals for the same reason as equal.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Reason == e.Reason
}

// Of returns err as a refusal; what is none becomes [Internal] with err as cause.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Wrap(Internal, err)
}

// ParseReason returns the reason with that number; an unknown one is [Internal].
func ParseReason(n uint32) Reason {
	if n >= 1 && n <= uint32(len(Table)) {
		return Reason(n)
	}
	return Internal
}

// Code returns the gRPC code that carries the reason.
func (r Reason) Code() codes.Code { return r.row().Code }

// String returns the reason's name in google.rpc.ErrorInfo.
func (r Reason) String() string { return r.row().Name }

func (r Reason) row() Row {
	if r >= 1 && int(r) <= len(Table) {
		return Table[r-1]
	}
	return Table[Internal-1]
}
