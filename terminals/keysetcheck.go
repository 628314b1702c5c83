package terminals

import (
	"fmt"
	"slices"
	"strings"

	"keyd/fault"
	"keyd/keys"
	"keyd/store"
)

// sessionUsages are what session keys are for, with the algorithms of each.
var sessionUsages = map[string]string{"P0": "TA", "M1": "T", "M3": "T", "M6": "TA", "D0": "TA"}

func wrong(format string, a ...any) error {
	return fault.New(fault.RequestInvalid, "key_set."+fmt.Sprintf(format, a...))
}

// check says what is wrong with a key set by itself.
func (k *KeySet) check() error {
	if !ValidOwner(k.Name) {
		return wrong("name has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	}
	agreement, token := slices.Contains(k.Methods, KeyAgreement), slices.ContainsFunc(k.Methods, Method.token)
	for i, m := range k.Methods {
		if m != KeyAgreement && !m.token() || slices.Contains(k.Methods[:i], m) {
			return wrong("methods names methods of injection, each once")
		}
	}
	switch {
	case len(k.Methods) == 0:
		return wrong("methods names at least one")
	case agreement != (k.AgreementHost != "") || token != (k.TokenHost != ""):
		return wrong("key_agreement_host and tr34_host are set where the key set has their methods, and nowhere else")
	case agreement && !ValidOwner(k.AgreementHost) || token && !ValidOwner(k.TokenHost):
		return wrong("key_agreement_host and tr34_host are names of key hosts")
	case k.Profile != "" && (!token || !slices.Contains(profiles, k.Profile)):
		return wrong("tr34_profile is one of %s, with TR-34 only", strings.Join(profiles, ", "))
	case token && k.Master.Bare:
		return wrong("master_key.bare goes with key agreement only: by TR-34 the other keys come in key blocks under the master key, and a bare one protects none")
	case !possibleKey(k.Master.Algorithm, k.Master.Length):
		return wrong("master_key is TDES (T) of 16 or 24 bytes or AES (A) of 16, 24 or 32 bytes")
	}
	if err := k.checkInitial(token); err != nil {
		return err
	}
	return k.checkSession()
}

// checkInitial checks the initial keys. By TR-34 they come under the master key.
func (k *KeySet) checkInitial(token bool) error {
	if len(k.Initial) > MaxInitial {
		return wrong("initial_keys are at most %d", MaxInitial)
	}
	seen := map[string]bool{}
	for i := range k.Initial {
		s := &k.Initial[i]
		tdes := len(s.Prefix) == 5
		switch {
		case !possibleName(s.Name, seen):
			return wrong("initial_keys: each has a name of its own, of 1 to 16 lower-case letters and digits, other than %s and %s", store.MasterName, store.ReceiptName)
		case !keys.ValidReference(s.Key):
			return wrong("initial_keys: key_id is the name of a key, NAME?version=N or an alias")
		case !tdes && len(s.Prefix) != 4:
			return wrong("initial_keys: prefix has 5 bytes under a TDES base derivation key, 4 under an AES one")
		case s.Own && (s.First != 0 || s.Last != 0):
			return wrong("initial_keys: a terminal with own identifiers is allotted no numbers, so first and last are 0")
		case s.Last < s.First:
			return wrong("initial_keys: last is not below first")
		case tdes && s.Last >= tdesNumbers:
			return wrong("initial_keys: under TDES a device's number has 19 bits, so last is at most %d", tdesNumbers-1)
		case token && !tdes && k.Master.Algorithm == "T":
			return wrong("initial_keys: an AES initial key does not go under a TDES master key")
		}
	}
	return nil
}

func (k *KeySet) checkSession() error {
	if len(k.Session) > MaxSession {
		return wrong("session_keys are at most %d", MaxSession)
	}
	seen := map[string]bool{}
	for i := range k.Session {
		s := &k.Session[i]
		algorithms, known := sessionUsages[s.Usage]
		switch {
		case !possibleName(s.Name, seen):
			return wrong("session_keys: each has a name of its own, of 1 to 16 lower-case letters and digits, other than %s and %s", store.MasterName, store.ReceiptName)
		case !known:
			return wrong("session_keys: usage is P0, M1, M3, M6 or D0")
		case !possibleKey(s.Algorithm, s.Length) || !strings.Contains(algorithms, s.Algorithm):
			return wrong("session_keys: a %s key is one of the algorithms %s, TDES (T) of 16 or 24 bytes or AES (A) of 16, 24 or 32 bytes", s.Usage, algorithms)
		case s.Hours == 0 || s.Hours > MaxHours:
			return wrong("session_keys: hours are 1 to %d", MaxHours)
		case strength(s.Algorithm, s.Length) > strength(k.Master.Algorithm, k.Master.Length):
			return wrong("session_keys: none is stronger than the master key under which it goes")
		case k.Master.Bare && s.Algorithm != k.Master.Algorithm:
			return wrong("session_keys: as bare cryptograms they are of the algorithm of the master key")
		}
	}
	return nil
}

// possibleName reports whether a key can have a name that no other of its kind has.
func possibleName(name string, seen map[string]bool) bool {
	ok := name != "" && len(name) <= store.MaxKeyPart && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == "" &&
		name != store.MasterName && name != store.ReceiptName && !seen[name]
	seen[name] = true
	return ok
}

func possibleKey(algorithm string, length uint32) bool { return strength(algorithm, length) > 0 }
