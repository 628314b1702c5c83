package ceremony

import (
	"slices"
	"strings"

	"keyd/hsm"
	"keyd/keyblock"
)

// KeySpec is the part of a key's header ([hsm.Header]) that officers decide. Codes are
// those of ANSI X9.143-2021.
type KeySpec struct {
	Name          string           `json:"name"`
	Version       uint32           `json:"version"` // 1 for a new name, else the one after the newest
	Usage         string           `json:"usage"`
	Algorithm     string           `json:"algorithm"`
	Length        uint16           `json:"length"` // bytes
	Mode          string           `json:"mode_of_use"`
	Exportability string           `json:"exportability"`          // "N": never; "E": in key blocks under a key of this token; "S": likewise, and whoever gets it may pass it on in other forms
	NotBefore     int64            `json:"not_before,omitempty"`   // Unix seconds
	NotAfter      int64            `json:"not_after,omitempty"`    // Unix seconds
	Direction     string           `json:"direction,omitempty"`    // B0, P0, D0, M*
	Peers         []string         `json:"peers,omitempty"`        // B0, P0, D0, V1, V2; S0: of the session keys of terminals whose host signs with it
	Formats       []hsm.Format     `json:"formats,omitempty"`      // B0, P0
	DataModes     []string         `json:"data_modes,omitempty"`   // B0, D0
	MACLength     uint8            `json:"mac_length,omitempty"`   // B0, M*
	KSNCheck      string           `json:"ksn,omitempty"`          // B0: "monotonic"
	IBM3624       *hsm.IBM3624Rule `json:"ibm3624,omitempty"`      // V1
	AllowChange   bool             `json:"allow_change,omitempty"` // V1, V2

	InjectionHosts []string `json:"injection_hosts,omitempty"` // B0: key pairs (S0) whose host may send initial keys to terminals
	PINKind        string   `json:"pin_kind,omitempty"`        // B0, P0: "record", for PINs of PIN records and no others
}

// Header returns the header that the key is sealed under; the module fills in generation,
// check value and fingerprint.
func (k *KeySpec) Header() hsm.Header {
	return hsm.Header{
		Name: k.Name, Version: k.Version, Usage: k.Usage, Algorithm: k.Algorithm, Length: k.Length, Mode: k.Mode,
		Exportability: k.Exportability, NotBefore: k.NotBefore, NotAfter: k.NotAfter,
		Custody: hsm.CustodyToken, Direction: k.Direction, Peers: k.Peers, Formats: k.Formats,
		DataModes: k.DataModes, MACLength: k.MACLength, KSNCheck: k.KSNCheck, IBM3624: k.IBM3624, AllowChange: k.AllowChange, InjectionHosts: k.InjectionHosts, PINKind: k.PINKind,
	}
}

// SameUse reports whether a later version of a key may be used for exactly what an earlier
// one may: only version, length, validity and value differ.
func SameUse(a, b *hsm.Header) bool {
	plain := func(h *hsm.Header) string {
		c := *h
		c.Version, c.Generation, c.Length, c.NotBefore, c.NotAfter, c.CheckValue, c.Fingerprint, c.Blocks, c.Object, c.Public = 0, 0, 0, 0, 0, "", "", nil, "", nil
		encoded, err := c.Marshal()
		if err != nil {
			return ""
		}
		return string(encoded)
	}
	first := plain(a)
	return first != "" && first == plain(b)
}

// pairUsages are those of key pairs, which are made in the token.
var pairUsages = map[string]bool{"S0": true, "S1": true, "S2": true, "K2": true, "K3": true}

// IsPair reports whether the key is a key pair: algorithm R (RSA) or E (elliptic curve).
func (k *KeySpec) IsPair() bool { return k.Algorithm == "R" || k.Algorithm == "E" }

// MaxPeers bounds the peer groups of a key.
const MaxPeers = 32

// MaxInjectionHosts bounds the key pairs that a base derivation key names.
const MaxInjectionHosts = 8

// Validate checks a specification. Errors wrap [ErrDefinition], name the field and say
// what it may be.
func (k *KeySpec) Validate() error {
	usage, ok := keyblock.LookUpUsage(k.Usage)
	algorithms := within(usage.Algorithms, "TAH")
	if pairUsages[k.Usage] {
		algorithms = within(usage.Algorithms, "RE")
	}
	switch {
	case strings.HasPrefix(k.Name, hsm.TerminalPrefix):
		return wrong("key.name: names that begin with %q are of keys that modules make for terminals", hsm.TerminalPrefix)
	case !validKeyName(k.Name):
		return wrong("key.name has 1 to 128 letters, digits and ._:/@+=#~-, and begins with a letter or a digit")
	case k.Version == 0:
		return wrong("key.version is 1 for a new key, else the number after its newest version")
	case !ok || algorithms == "" || k.Usage == "I0":
		return wrong("key.usage is none that a key can have here: B0, C0, D0, K0, K1, M0 to M8, P0, V0 to V5 and others of X9.143, and S0, S1, S2, K2, K3 for key pairs")
	case len(k.Algorithm) != 1 || !strings.Contains(algorithms, k.Algorithm):
		return wrong("key.algorithm of a %s key is one of %s", k.Usage, strings.Join(strings.Split(algorithms, ""), ", "))
	case len(k.Mode) != 1 || !strings.Contains(usage.Modes, k.Mode):
		return wrong("key.mode_of_use of a %s key is one of %s", k.Usage, strings.Join(strings.Split(usage.Modes, ""), ", "))
	case !lengthFits(k.Algorithm, k.Length):
		return wrong("key.length is in bytes: T 16 or 24, A 16, 24 or 32, H 16 to 64, R 256 to 512 (the modulus), E 32, 48 or 66 (the curve)")
	case len(k.Exportability) != 1 || !strings.Contains("ENS", k.Exportability):
		return wrong("key.exportability is N (never), E or S")
	case k.IsPair() && k.Exportability != "N":
		return wrong("key.exportability of a key pair is N: its private key never leaves the token")
	case k.NotBefore < 0 || k.NotAfter < 0 || k.NotAfter != 0 && k.NotAfter <= k.NotBefore:
		return wrong("key.not_after is later than key.not_before")
	}
	return k.validateUse()
}

func (k *KeySpec) validateUse() error {
	pins := k.Usage == "B0" || k.Usage == "P0"
	oneWay := pins || k.Usage == "D0" || k.Usage[0] == 'M' // has a side that sends and one that receives
	linked := pins || k.Usage == "D0" || k.Usage == "V1" || k.Usage == "V2" || k.Usage == "S0"
	switch {
	case oneWay && k.Direction != hsm.DirectionIncoming && k.Direction != hsm.DirectionOutgoing && k.Direction != hsm.DirectionBoth:
		return wrong("key.direction of a %s key is incoming, outgoing or both", k.Usage)
	case !oneWay && k.Direction != "":
		return wrong("key.direction belongs to B0, P0, D0 and M keys")
	case !linked && k.Peers != nil:
		return wrong("key.peers belongs to B0, P0, D0, V1, V2 and S0 keys")
	case len(k.Peers) > MaxPeers || slices.ContainsFunc(k.Peers, func(p string) bool { return p != "*" && !validPeer(p) }):
		return wrong("key.peers names at most %d groups, each with 1 to 32 lower-case letters, digits and hyphens, or \"*\" for every group", MaxPeers)
	case !pins && k.Formats != nil:
		return wrong("key.formats belongs to B0 and P0 keys")
	case k.MACLength != 0 && k.Usage != "B0" && k.Usage[0] != 'M':
		return wrong("key.mac_length belongs to M and B0 keys")
	case k.MACLength != 0 && (k.MACLength < hsm.MinMAC || k.MACLength > 32):
		return wrong("key.mac_length is from %d to 32 bytes", hsm.MinMAC)
	case k.DataModes != nil && k.Usage != "D0" && k.Usage != "B0":
		return wrong("key.data_modes belongs to D0 and B0 keys")
	case len(k.DataModes) > 1:
		return wrong("key.data_modes names one mode: with two, data of one can be read through the other")
	case k.KSNCheck != "" && (k.Usage != "B0" || k.KSNCheck != hsm.KSNMonotonic):
		return wrong("key.ksn is monotonic, for B0 keys")
	case (k.IBM3624 != nil) != (k.Usage == "V1"):
		return wrong("key.ibm3624 belongs to V1 keys, which need it")
	case k.AllowChange && k.Usage != "V1" && k.Usage != "V2":
		return wrong("key.allow_change belongs to V1 and V2 keys")
	case k.InjectionHosts != nil && (k.Usage != "B0" || k.Mode != "X" && k.Mode != "N"):
		return wrong("key.injection_hosts belongs to B0 keys of mode of use X or N")
	case len(k.InjectionHosts) > MaxInjectionHosts || slices.ContainsFunc(k.InjectionHosts, func(h string) bool { return !validKeyName(h) }):
		return wrong("key.injection_hosts names at most %d key pairs of usage S0", MaxInjectionHosts)
	}
	phones := k.Usage == "K3" && k.Algorithm == "E" // with which phones agree on a key for a PIN
	switch {
	case k.PINKind == "":
	case k.PINKind != hsm.PINRecord || !pins && !phones:
		return wrong("key.pin_kind is record, for B0 and P0 keys, and for key pairs of usage K3 on P-256")
	case phones && (k.Length != 32 || k.Mode != "X"):
		return wrong("key.pin_kind of a K3 key pair goes with P-256 (length 32) and key.mode_of_use X")
	case phones:
	case k.Direction != hsm.DirectionIncoming:
		return wrong("key.direction of a key for PIN records is incoming: their PINs go nowhere")
	case k.Peers != nil:
		return wrong("key.peers does not go with key.pin_kind: the PINs of PIN records go to no other key")
	case slices.Contains(k.Formats, hsm.Format1):
		return wrong("key.formats of a key for PIN records are ISO_FORMAT_0, _3 and _4, which bind a PIN to its record")
	}
	for _, m := range k.DataModes {
		if m != hsm.CBC.String() && m != hsm.CTR.String() {
			return wrong("key.data_modes may hold CBC or CTR")
		}
	}
	for i, f := range k.Formats {
		if slices.Contains(k.Formats[:i], f) || !carries(k.Usage, k.Algorithm, f) {
			return wrong("key.formats: TDES keys carry ISO_FORMAT_0, _1 and _3, AES keys ISO_FORMAT_4, each once")
		}
	}
	if r := k.IBM3624; r != nil && r.AllowUnboundPAN {
		return wrong("key.ibm3624: allow_unbound_pan is for known test keys")
	}
	return nil
}

// within returns the letters of a list that are in another.
func within(letters, allowed string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(allowed, r) {
			return r
		}
		return -1
	}, letters)
}

// carries reports whether a key can carry PIN blocks of a format. An AES BDK has TDES
// working keys too.
func carries(usage, algorithm string, f hsm.Format) bool {
	switch f {
	case hsm.Format0, hsm.Format1, hsm.Format3:
		return algorithm == "T" || usage == "B0"
	case hsm.Format4:
		return algorithm == "A"
	}
	return false
}

func lengthFits(algorithm string, n uint16) bool {
	switch algorithm {
	case "T":
		return n == 16 || n == 24
	case "A":
		return n == 16 || n == 24 || n == 32
	case "H":
		return n >= 16 && n <= 64
	case "R":
		return n >= 256 && n <= 512 && n%8 == 0
	case "E":
		return n == 32 || n == 48 || n == 66
	}
	return false
}

// validKeyName is what keys.ValidName accepts.
func validKeyName(s string) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !plain && (i == 0 || strings.IndexByte("._:/@+=#~-", c) < 0) {
			return false
		}
	}
	return true
}

func validPeer(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
