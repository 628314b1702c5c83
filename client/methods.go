package client

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// repeatable is whether a call may be sent again that may have been carried out.
type repeatable int

const (
	// never: only what surely was not carried out is sent again. It is what a method
	// without a row gets.
	never repeatable = iota

	// costly: a repeat may cost the account a second try, so it is made at most
	// [Config].TryRepeats times.
	costly

	// freely: nothing changes by doing it twice that matters to anybody.
	freely

	// itemwise: a stream itself is not repeated. [Stream] opens another and sends again
	// what was not answered, as items of TranslatePinData.
	itemwise
)

// methods is the table of every method. A test walks it against the contract.
var methods = map[string]repeatable{
	// A translation changes no key and no account. Done twice, it counts as two
	// translations of the account, whose limit is far above what a cardholder needs. Under a
	// BDK whose KSNs are accepted once, the database that recorded the first one
	// answers an identical retry with what it stored, and counts nothing; any other database
	// accepts it like a first one.
	keydv1.PinService_TranslatePinData_FullMethodName:       freely,
	keydv1.PinService_TranslatePinDataStream_FullMethodName: itemwise,

	// A try of the account is counted before the PIN is compared. After an answer that
	// was lost, a cardholder's one wrong PIN has cost a try, and costs another. One more
	// is worth a transaction that would have failed; many would lock the account.
	keydv1.PinService_VerifyPinData_FullMethodName: costly,
	keydv1.PinService_ChangePinData_FullMethodName: costly,

	// keyd keeps nothing of a PIN that it made: a second one harms nobody. The caller
	// gets one answer, and block and datum in it belong together; an answer that was lost is
	// in nobody's hands. What must not be done is to mix two answers.
	keydv1.PinService_GeneratePinData_FullMethodName: freely,

	// MACs, and data enciphered or deciphered: no state, and no account. Under a BDK with
	// KSN checks it is as with translations. Whoever can have MACs verified can do so
	// as often as he likes: one more is no help in guessing.
	keydv1.MacService_GenerateMac_FullMethodName:    freely,
	keydv1.MacService_VerifyMac_FullMethodName:      freely,
	keydv1.DataService_EncryptData_FullMethodName:   freely,
	keydv1.DataService_DecryptData_FullMethodName:   freely,
	keydv1.DataService_ReEncryptData_FullMethodName: freely,

	// A card verification value follows from its input. Verifying one has three digits
	// to guess, so each costs a try.
	keydv1.DataService_GenerateCardValidationData_FullMethodName: freely,
	keydv1.DataService_VerifyCardValidationData_FullMethodName:   costly,

	// It only looks.
	keydv1.StatusService_GetStatus_FullMethodName: freely,

	// A backup that broke off is worth nothing; another one is begun by whoever wants it.
	keydv1.BackupService_CreateBackup_FullMethodName: never,

	keydv1.FleetService_ListNodes_FullMethodName:  freely,
	keydv1.FleetService_ForgetNode_FullMethodName: never, // a person's

	// A reset uses up a permit that somebody at the machine gave for one reset. If the first
	// was carried out, a second would take the next permit for the account, or be refused
	// and so hide that the first was done. A person looks what happened.
	keydv1.VelocityService_ResetVerifications_FullMethodName: never,
	keydv1.VelocityService_ResetTranslations_FullMethodName:  never,

	// What officers decide is carried out once. After an answer that was lost, a second
	// BeginCeremony would open a second ceremony, and a second paper would be refused, which
	// hides that the first was taken. A person looks what happened.
	keydv1.CeremonyService_BeginCeremony_FullMethodName:   never,
	keydv1.CeremonyService_SubmitComponent_FullMethodName: never,
	keydv1.CeremonyService_ApproveCeremony_FullMethodName: never,
	keydv1.CeremonyService_AbortCeremony_FullMethodName:   never,
	keydv1.KeyService_CreateKey_FullMethodName:            never,
	keydv1.KeyService_ImportKey_FullMethodName:            never,
	keydv1.KeyService_ExportKey_FullMethodName:            never,
	keydv1.KeyService_AttachKey_FullMethodName:            never,
	keydv1.KeyService_StopKeyUsage_FullMethodName:         never,
	keydv1.KeyService_StartKeyUsage_FullMethodName:        never,
	keydv1.KeyService_DeleteKey_FullMethodName:            never,
	keydv1.KeyService_RestoreKey_FullMethodName:           never,

	// An alias is set by what it was before, and tags may have been changed by somebody else
	// between the two: these are a person's as well.
	keydv1.KeyService_CreateAlias_FullMethodName:   never,
	keydv1.KeyService_UpdateAlias_FullMethodName:   never,
	keydv1.KeyService_DeleteAlias_FullMethodName:   never,
	keydv1.KeyService_TagResource_FullMethodName:   never,
	keydv1.KeyService_UntagResource_FullMethodName: never,

	// A certificate signing request is signed anew each time, and says the same.
	keydv1.KeyService_GetCertificateSigningRequest_FullMethodName: freely,

	// A try of the subject is counted before its PIN, or its code, is compared: one more is worth a
	// transaction that would have failed. A PIN that was set or changed may be set or changed by the
	// same request again.
	keydv1.PinRecordService_VerifyPin_FullMethodName: costly,
	keydv1.PinRecordService_SetPin_FullMethodName:    costly,
	keydv1.PinRecordService_ChangePin_FullMethodName: costly,

	// The same approvals have the same answer, and are carried out once. What is revoked stays so.
	keydv1.PinRecordService_BeginPin_FullMethodName:       freely,
	keydv1.PinRecordService_RevokePin_FullMethodName:      freely,
	keydv1.PinRecordService_GetPinRecord_FullMethodName:   freely,
	keydv1.PinRecordService_ListPinRecords_FullMethodName: freely,
	keydv1.PinRecordService_ListPinEvents_FullMethodName:  freely,

	// A terminal that is registered with the same content already is left as it is. A change
	// of its state that was made cannot be made again, so a repeat would be refused, which
	// hides that the first was made. A person looks what happened.
	keydv1.TerminalService_RegisterTerminal_FullMethodName:         freely,
	keydv1.TerminalService_RenewTerminalCertificate_FullMethodName: freely, // likewise
	keydv1.TerminalService_SuspendTerminal_FullMethodName:          never,
	keydv1.TerminalService_ResumeTerminal_FullMethodName:           never,
	keydv1.TerminalService_RetireTerminal_FullMethodName:           never,
	keydv1.TerminalService_ReplaceTerminal_FullMethodName:          never,

	// The same host or key set again changes nothing that matters; so does the same list, or the
	// same key set for the same terminal.
	keydv1.TerminalService_SetKeyHost_FullMethodName:        freely,
	keydv1.TerminalService_SetKeySet_FullMethodName:         freely,
	keydv1.TerminalService_AssignKeySet_FullMethodName:      freely,
	keydv1.TerminalService_SetRevocationList_FullMethodName: itemwise, // its caller sends the whole list again

	// The same request gets the same answer, and the same receipt the same injection, whichever
	// keyd on one database is asked. One that asks for keys anew and comes twice costs a number and
	// one of the day's injections; the second answer is the one that counts. A second sign-in makes other session keys; the terminal
	// uses those of the answer that it got, and those before them are still good.
	keydv1.TerminalService_InjectKeys_FullMethodName:  freely,
	keydv1.TerminalService_ConfirmKeys_FullMethodName: freely,
	keydv1.TerminalService_SignIn_FullMethodName:      freely,

	// A token that was made has ended the terminal's keys. Another one is made for whoever has
	// seen what happened.
	keydv1.TerminalService_UnbindTerminal_FullMethodName: never,
	keydv1.TerminalService_RebindTerminal_FullMethodName: never,

	// Each change of a void has an identifier of the caller's, and the same one again gets the same
	// answer. PINs are the exception: after an answer that was lost before the void was changed,
	// the supervisor's PIN is tried again, which costs a try when it is wrong.
	keydv1.VoidService_CreateVoid_FullMethodName:    freely,
	keydv1.VoidService_ScanVoid_FullMethodName:      freely,
	keydv1.VoidService_AuthorizeVoid_FullMethodName: costly,
	keydv1.VoidService_ApproveVoid_FullMethodName:   freely,
	keydv1.VoidService_ConfirmVoid_FullMethodName:   freely,
	keydv1.VoidService_CancelVoid_FullMethodName:    freely,
	keydv1.VoidService_WatchVoid_FullMethodName:     never, // who watches opens another stream, which begins with the void as it is
	keydv1.VoidService_GetVoid_FullMethodName:       freely,
	keydv1.VoidService_GetVoidToken_FullMethodName:  freely,
	keydv1.VoidService_ListVoids_FullMethodName:     freely,

	// These only look.
	keydv1.TerminalService_GetKeyHost_FullMethodName:          freely,
	keydv1.TerminalService_ListKeyHosts_FullMethodName:        freely,
	keydv1.TerminalService_ListKeySets_FullMethodName:         freely,
	keydv1.TerminalService_ListRevocationLists_FullMethodName: freely,
	keydv1.TerminalService_ListInjections_FullMethodName:      freely,
	keydv1.TerminalService_GetInjection_FullMethodName:        freely,
	keydv1.TerminalService_GetTerminal_FullMethodName:         freely,
	keydv1.TerminalService_ListTerminals_FullMethodName:       freely,
	keydv1.TerminalService_ListTerminalEvents_FullMethodName:  freely,
	keydv1.AuditService_ListEntries_FullMethodName:            freely,
	keydv1.AuditService_GetCheckpoint_FullMethodName:          freely,
	keydv1.AuditService_GetInclusionProof_FullMethodName:      freely,
	keydv1.AuditService_GetConsistencyProof_FullMethodName:    freely,
	keydv1.CeremonyService_GetModule_FullMethodName:           freely,
	keydv1.CeremonyService_GetCeremony_FullMethodName:         freely,
	keydv1.CeremonyService_ListCeremonies_FullMethodName:      freely,
	keydv1.CeremonyService_ListAuthorities_FullMethodName:     freely,
	keydv1.KeyService_GetKey_FullMethodName:                   freely,
	keydv1.KeyService_ListKeys_FullMethodName:                 freely,
	keydv1.KeyService_ListKeyVersions_FullMethodName:          freely,
	keydv1.KeyService_GetAlias_FullMethodName:                 freely,
	keydv1.KeyService_ListAliases_FullMethodName:              freely,
	keydv1.KeyService_ListTagsForResource_FullMethodName:      freely,
}

// verdict is what an error says about another try.
type verdict int

const (
	// final: the same request would get the same answer, or the caller's time is up.
	final verdict = iota

	// unsure: another try may help, and this one may have been carried out.
	unsure

	// unrecorded is unsure, but no KSN was recorded: there is no stored answer, so nothing
	// draws the call back to the same keyd.
	unrecorded

	// later: nothing was done, and the server says when another try may help: it has
	// attached google.rpc.RetryInfo. Without that, final.
	later
)

// verdicts is the table of every reason. A test walks it against keyd's.
var verdicts = map[Reason]verdict{
	RequestInvalid:       final,
	KSNInvalid:           final,
	IdentityUnknown:      final,
	PolicyDenied:         final,
	KeyNotFound:          final,
	KeyDisabled:          final,
	KeySealInvalid:       final, // an incident
	KeyUsageMismatch:     final,
	TranslationForbidden: final,
	PermitMissing:        final,

	// What officers sign is right or wrong, whoever is asked.
	DefinitionInvalid:  final,
	OfficerUnknown:     final,
	SignatureInvalid:   final,
	StatementMismatch:  final,
	CeremonyNotFound:   final,
	CeremonyClosed:     final,
	CeremonyExpired:    final,
	OfficerRepeated:    final,
	QuorumMissing:      final,
	ComponentInvalid:   final,
	CheckValueMismatch: final,
	KeyExists:          final,
	KeyBlockInvalid:    final,
	KeyValueRefused:    final,
	ExportForbidden:    final,
	InitialKeyAllotted: final,
	LedgerUnavailable:  unsure, // a person looks whether the ceremony was carried out
	EpochInvalid:       final,
	Conflict:           final, // a person looks what the other one did

	// A module without the newest register refuses every key before it does anything; its
	// front brings it within moments, and another keyd may have it. Only where the token lost
	// its sessions at the same time may a try have been counted. No KSN was recorded.
	EpochStale: unrecorded,

	// The inventory of terminals, and certificates, are as they are.
	TerminalNotFound:     final,
	CertificateInvalid:   final,
	CertificateRole:      final,
	CertificateExpired:   final,
	CertificateRevoked:   final,
	CertificateUntrusted: final,
	TerminalExists:       final,
	PublicKeyKnown:       final,
	TerminalState:        final,
	ApprovalInvalid:      final,
	PINRecordEnded:       final,
	PINWeak:              final,
	PINRecordNotFound:    final,
	PINRecordState:       final,
	VoidNotFound:         final,
	VoidCodeRefused:      final,

	// So are key sets and injections. A request that was answered, or a number that is another's,
	// stays so.
	KeySetNotFound:    final,
	InjectionNotFound: final,
	InjectionState:    final,
	RequestReplayed:   final,
	ReceiptInvalid:    final,
	NumbersExhausted:  final,

	// Between a front and its modules; no method of a caller's meets them.
	CheckpointOlder:        final,
	CheckpointInconsistent: final,
	CheckpointNotKept:      unsure,

	KSNReplayed:        final, // an identical retry would have had the stored answer
	CustodyUnavailable: final,
	PINBlockInvalid:    final,

	// With RetryInfo the caller's own limit is meant, before anything was done.
	// Without, an account's tries are used up: asking again is what the limit is against.
	RateLimited: later,

	// The module may have counted a try before it was lost. KSNs are recorded after the
	// module's answer, so none was.
	ModuleUnavailable: unrecorded,

	// The record of a KSN, or the result, may be there although it could not be
	// confirmed, or must be withheld.
	StoreUnavailable: unsure,
	AuditUnavailable: unsure,

	Internal: final, // a bug, which another keyd of the same version has too
}

// judge returns what an error says, and for later how long to wait. cut: the attempt's
// time was over, and the call's is not.
func judge(err error, cut bool) (verdict, time.Duration) {
	s, ok := status.FromError(err)
	if !ok {
		return final, 0
	}
	var reason Reason
	pause := time.Duration(-1)
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				reason = Reason(d.GetReason())
			}
		case *errdetails.RetryInfo:
			if d.GetRetryDelay() != nil {
				pause = max(0, d.GetRetryDelay().AsDuration())
			}
		}
	}
	if reason != "" {
		v := verdicts[reason] // a reason of a newer keyd: final
		if v == later && pause < 0 {
			v = final
		}
		return v, max(0, pause)
	}
	switch {
	case s.Code() == codes.Unavailable: // the connection broke, or something between here and keyd
		return unsure, 0
	case s.Code() == codes.DeadlineExceeded && cut:
		return unsure, 0
	}
	return final, 0
}
