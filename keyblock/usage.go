package keyblock

import "slices"

// Usage is a row of the table of key usages (X9.143-2021 6.3.1, table 2).
type Usage struct {
	Code       string // 2 characters
	Name       string // for people
	Algorithms string // the letters that fit
	Modes      string // the modes of use that fit
}

// What fits. Mode N fits every usage, since older blocks have it: TR-31:2005 knew no others
// for many. What a key with N may do is then for its reader to bound. Algorithm D, single
// DES, fits none.
const (
	symmetric  = "AT"
	asymmetric = "ERS"
	encrypting = "BDEN"
	macs       = "CGVN"
	deriving   = "XN"
)

var usages = []Usage{
	{"B0", "base derivation key", symmetric, "XYN"},
	{"B1", "initial DUKPT key", symmetric, deriving},
	{"B2", "base key variant key", symmetric, "XYN"},
	{"B3", "key derivation key, not of X9.24", "AHT", deriving},
	{"C0", "card verification key", symmetric, macs},
	{"D0", "data encryption key", symmetric, encrypting},
	{"D1", "asymmetric data encryption key", "ER", encrypting},
	{"D2", "data encryption key for decimalization tables", symmetric, encrypting},
	{"D3", "data encryption key for sensitive data", symmetric, encrypting},
	{"E0", "EMV issuer master key, application cryptograms", symmetric, deriving},
	{"E1", "EMV issuer master key, secure messaging for confidentiality", symmetric, deriving},
	{"E2", "EMV issuer master key, secure messaging for integrity", symmetric, deriving},
	{"E3", "EMV issuer master key, data authentication code", symmetric, deriving},
	{"E4", "EMV issuer master key, dynamic numbers", symmetric, deriving},
	{"E5", "EMV issuer master key, card personalization", symmetric, deriving},
	{"E6", "EMV issuer master key, other", symmetric, deriving},
	{"E7", "EMV key pair for PIN encryption", "ER", encrypting},
	{"I0", "initialization vector", symmetric, "N"},
	{"K0", "key encryption key", symmetric, encrypting},
	{"K1", "key block protection key", symmetric, encrypting},
	{"K2", "TR-34 key pair of a key receiving device", "ER", "BDENSTV"},
	{"K3", "key pair for key wrapping or key agreement", "ER", "BDENX"},
	{"K4", "key block protection key of ISO 20038", "A", encrypting},
	{"M0", "MAC key, ISO 16609 algorithm 1", "T", macs},
	{"M1", "MAC key, ISO 9797-1 algorithm 1", symmetric, macs},
	{"M2", "MAC key, ISO 9797-1 algorithm 2", symmetric, macs},
	{"M3", "MAC key, ISO 9797-1 algorithm 3 (retail MAC)", symmetric, macs},
	{"M4", "MAC key, ISO 9797-1 algorithm 4", symmetric, macs},
	{"M5", "MAC key, ISO 9797-1:1999 algorithm 5", symmetric, macs},
	{"M6", "MAC key, CMAC", symmetric, macs},
	{"M7", "MAC key, HMAC", "H", macs},
	{"M8", "MAC key, ISO 9797-1:2011 algorithm 6", symmetric, macs},
	{"P0", "PIN encryption key", symmetric, encrypting},
	{"P1", "PIN generation key", symmetric, "GN"},
	{"S0", "key pair for digital signatures", asymmetric, "NSTV"},
	{"S1", "key pair of a certification authority", asymmetric, "NSTV"},
	{"S2", "key pair for use outside X9.24", asymmetric, "BDENSTVX"},
	{"V0", "PIN verification key, other", symmetric, macs},
	{"V1", "PIN verification key, IBM 3624", symmetric, macs},
	{"V2", "PIN verification key, Visa PVV", symmetric, macs},
	{"V3", "PIN verification key, X9.132 algorithm 1", symmetric, macs},
	{"V4", "PIN verification key, X9.132 algorithm 2", symmetric, macs},
	{"V5", "PIN verification key, X9.132 algorithm 3", symmetric, macs},
}

// Usages returns the table of key usages.
func Usages() []Usage { return slices.Clone(usages) }

// LookUpUsage returns the row of a usage. Two digits are a proprietary usage (6.3.1), which
// fits whatever the other tables have.
func LookUpUsage(code string) (Usage, bool) {
	for _, u := range usages {
		if u.Code == code {
			return u, true
		}
	}
	if _, digits := number(code, 10); digits && len(code) == 2 {
		return Usage{Code: code, Name: "proprietary usage", Algorithms: "ADEHRST0123456789", Modes: "BCDEGNSTVXY0123456789"}, true
	}
	return Usage{}, false
}
