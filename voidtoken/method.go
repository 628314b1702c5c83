package voidtoken

import "slices"

// Method is a way in which a void was authorised.
type Method string

// The methods. There are no others.
const (
	SupervisorPIN  Method = "SUPERVISOR_PIN"  // a supervisor's PIN, at the terminal
	CardholderPIN  Method = "CARDHOLDER_PIN"  // the cardholder's PIN, at the terminal
	RemoteApproval Method = "REMOTE_APPROVAL" // a supervisor elsewhere, under a client certificate
	PhonePasskey   Method = "PHONE_PASSKEY"   // a supervisor's passkey (WebAuthn), on the phone
	PhonePIN       Method = "PHONE_PIN"       // a supervisor's PIN, typed on the phone
)

// methods are all of them, in the order in which a token has them.
var methods = []Method{SupervisorPIN, CardholderPIN, RemoteApproval, PhonePasskey, PhonePIN}

// Methods returns all methods, in the order in which a token has them.
func Methods() []Method { return slices.Clone(methods) }

// Valid reports whether a method is one of those above.
func (m Method) Valid() bool { return slices.Contains(methods, m) }

// OnPhone reports whether it is a way that begins with a code that a phone scans.
func (m Method) OnPhone() bool { return m == PhonePasskey || m == PhonePIN }

// Authorization is a method and who used it.
type Authorization struct {
	Method  Method `json:"method"`
	Subject string `json:"subject"` // a reference, see [ValidSubject]: no PIN, no PAN
}

// validAuthorizations reports whether there is at least one, each method at most once and in
// the order of [Methods], and no subject twice: one person is never two.
func validAuthorizations(list []Authorization) bool {
	before := -1
	for i, a := range list {
		place := slices.Index(methods, a.Method)
		if place <= before || !ValidSubject(a.Subject) || slices.ContainsFunc(list[:i], func(b Authorization) bool { return b.Subject == a.Subject }) {
			return false
		}
		before = place
	}
	return before >= 0
}

// sameSet reports whether a set of methods is that of the authorisations.
func sameSet(set []Method, list []Authorization) bool {
	for _, a := range list {
		if !slices.Contains(set, a.Method) {
			return false
		}
	}
	return len(set) == len(list)
}

// validSet reports whether a list is a set of methods, not empty.
func validSet(set []Method) bool {
	for i, m := range set {
		if !m.Valid() || slices.Contains(set[:i], m) {
			return false
		}
	}
	return len(set) > 0
}
