package policies

import "strings"

// Method is a row of the table of methods.
type Method struct {
	Name string // "PinService/TranslatePinData": service and method without the package
	Keys bool   // it works with keys, so a rule for it names keys and usages

	// Custody says that its answer and its audit entry tell where clear values existed,
	// so that a rule can demand something of it.
	Custody bool

	// Own says that a terminal which connects with its own certificate asks for it, about
	// itself. Besides it asks for operations with keys, which are those with Custody, and for
	// nothing else whatever the rules say.
	Own bool

	// Legacy says that a request for it can be one for the legacy form, see [Request].
	Legacy bool
}

// forTerminals reports whether a terminal may ever ask for it.
func (m Method) forTerminals() bool { return m.Own || m.Custody }

// Methods is every method that a policy can allow. A method that is missing here can
// be called by nobody.
var Methods = []Method{
	{Name: "PinService/TranslatePinData", Keys: true, Custody: true},
	{Name: "PinService/VerifyPinData", Keys: true, Custody: true},
	{Name: "PinService/GeneratePinData", Keys: true, Custody: true},
	{Name: "PinService/ChangePinData", Keys: true, Custody: true},
	{Name: "MacService/GenerateMac", Keys: true, Custody: true},
	{Name: "MacService/VerifyMac", Keys: true, Custody: true},
	{Name: "DataService/EncryptData", Keys: true, Custody: true},
	{Name: "DataService/DecryptData", Keys: true, Custody: true},
	{Name: "DataService/ReEncryptData", Keys: true, Custody: true},
	{Name: "DataService/GenerateCardValidationData", Keys: true, Custody: true},
	{Name: "DataService/VerifyCardValidationData", Keys: true, Custody: true},
	{Name: "StatusService/GetStatus"},
	{Name: "TerminalService/RegisterTerminal"},
	{Name: "TerminalService/GetTerminal"},
	{Name: "TerminalService/ListTerminals"},
	{Name: "TerminalService/SuspendTerminal"},
	{Name: "TerminalService/ResumeTerminal"},
	{Name: "TerminalService/RetireTerminal"},
	{Name: "TerminalService/ReplaceTerminal"},
	{Name: "TerminalService/RenewTerminalCertificate"},
	{Name: "TerminalService/ListTerminalEvents"},
	{Name: "TerminalService/SetKeyHost", Keys: true},
	{Name: "TerminalService/ListKeyHosts"},
	{Name: "TerminalService/SetKeySet", Keys: true},
	{Name: "TerminalService/ListKeySets"},
	{Name: "TerminalService/AssignKeySet"},
	{Name: "TerminalService/SetRevocationList"},
	{Name: "TerminalService/ListRevocationLists"},
	{Name: "TerminalService/ListInjections"},
	{Name: "TerminalService/GetInjection"},
	{Name: "TerminalService/UnbindTerminal"},
	{Name: "TerminalService/RebindTerminal"},
	{Name: "TerminalService/GetKeyHost", Own: true},
	{Name: "TerminalService/InjectKeys", Own: true, Legacy: true},
	{Name: "TerminalService/ConfirmKeys", Own: true},
	{Name: "TerminalService/SignIn", Own: true, Legacy: true},
	{Name: "PinRecordService/BeginPin"},
	{Name: "PinRecordService/SetPin", Keys: true},
	{Name: "PinRecordService/VerifyPin", Keys: true},
	{Name: "PinRecordService/ChangePin", Keys: true},
	{Name: "PinRecordService/RevokePin"},
	{Name: "PinRecordService/GetPinRecord"},
	{Name: "PinRecordService/ListPinRecords"},
	{Name: "PinRecordService/ListPinEvents"},
	{Name: "VoidService/CreateVoid"},
	{Name: "VoidService/ScanVoid"},
	{Name: "VoidService/AuthorizeVoid", Keys: true},
	{Name: "VoidService/ApproveVoid"},
	{Name: "VoidService/ConfirmVoid"},
	{Name: "VoidService/CancelVoid"},
	{Name: "VoidService/GetVoid"},
	{Name: "VoidService/GetVoidToken"},
	{Name: "VoidService/ListVoids"},
	{Name: "VoidService/WatchVoid"},
	{Name: "BackupService/CreateBackup"},
	{Name: "FleetService/ListNodes"},
	{Name: "FleetService/ForgetNode"},
	{Name: "AuditService/ListEntries"},
	{Name: "AuditService/GetCheckpoint"},
	{Name: "AuditService/GetInclusionProof"},
	{Name: "AuditService/GetConsistencyProof"},
	{Name: "VelocityService/ResetVerifications", Keys: true},
	{Name: "VelocityService/ResetTranslations"},
	{Name: "CeremonyService/GetModule"},
	{Name: "CeremonyService/BeginCeremony"},
	{Name: "CeremonyService/SubmitComponent"},
	{Name: "CeremonyService/ApproveCeremony"},
	{Name: "CeremonyService/AbortCeremony"},
	{Name: "CeremonyService/GetCeremony"},
	{Name: "CeremonyService/ListCeremonies"},
	{Name: "CeremonyService/ListAuthorities"},
	{Name: "KeyService/CreateKey"},
	{Name: "KeyService/ImportKey"},
	{Name: "KeyService/ExportKey"},
	{Name: "KeyService/AttachKey"},
	{Name: "KeyService/StopKeyUsage"},
	{Name: "KeyService/StartKeyUsage"},
	{Name: "KeyService/DeleteKey"},
	{Name: "KeyService/RestoreKey"},
	{Name: "KeyService/GetCertificateSigningRequest", Keys: true},
	{Name: "KeyService/GetKey", Keys: true},
	{Name: "KeyService/ListKeys"},
	{Name: "KeyService/ListKeyVersions", Keys: true},
	{Name: "KeyService/CreateAlias", Keys: true},
	{Name: "KeyService/UpdateAlias", Keys: true},
	{Name: "KeyService/DeleteAlias", Keys: true},
	{Name: "KeyService/GetAlias"},
	{Name: "KeyService/ListAliases"},
	{Name: "KeyService/TagResource", Keys: true},
	{Name: "KeyService/UntagResource", Keys: true},
	{Name: "KeyService/ListTagsForResource", Keys: true},
}

// methodIndex holds the position of a method in [Methods].
var methodIndex = func() map[string]int {
	index := make(map[string]int, len(Methods))
	for i, m := range Methods {
		index[m.Name] = i
	}
	return index
}()

// LookupMethod returns the row of the method with that name, for example
// "PinService/TranslatePinData".
func LookupMethod(name string) (Method, bool) {
	i, ok := methodIndex[name]
	if !ok {
		return Method{}, false
	}
	return Methods[i], true
}

// matchMethods returns the positions in [Methods] that a rule's entry stands for: one
// method, or all of a service for "PinService/*". It returns none for an entry that
// stands for nothing.
func matchMethods(entry string) []int {
	service, all := strings.CutSuffix(entry, "/*")
	var found []int
	for i, m := range Methods {
		if m.Name == entry || all && strings.HasPrefix(m.Name, service+"/") {
			found = append(found, i)
		}
	}
	return found
}
