package keyblock

import "fmt"

// NewLB returns the optional block LB: a label, up to 200 characters of printable ASCII
// (X9.143-2021 6.3.6.10). The error is [ErrContent].
func NewLB(label string) (Optional, error) {
	if _, ok := readLabel(label); !ok || len(label) > maxLabel {
		return Optional{}, fmt.Errorf("%w: LB", ErrContent)
	}
	return Optional{"LB", label}, nil
}

// maxLabel is what this package writes; it reads longer ones.
const maxLabel = 200

// Label returns the label, block LB, which is not empty.
func (h *Header) Label() (string, error) { return content(h, "LB", readLabel) }

func readLabel(data string) (string, bool) { return data, data != "" && printable(data) }

// Hash is the hash function of an HMAC key (6.3.6.5, table 13).
type Hash byte

// The hash functions.
const (
	SHA1      Hash = 0x10
	SHA224    Hash = 0x20
	SHA256    Hash = 0x21
	SHA384    Hash = 0x22
	SHA512    Hash = 0x23
	SHA512224 Hash = 0x24 // SHA-512/224
	SHA512256 Hash = 0x25 // SHA-512/256
	SHA3224   Hash = 0x30 // SHA3-224
	SHA3256   Hash = 0x31 // SHA3-256
	SHA3384   Hash = 0x32 // SHA3-384
	SHA3512   Hash = 0x33 // SHA3-512
	SHAKE128  Hash = 0x40
	SHAKE256  Hash = 0x41
)

var hashNames = map[Hash]string{
	SHA1: "SHA-1", SHA224: "SHA-224", SHA256: "SHA-256", SHA384: "SHA-384", SHA512: "SHA-512",
	SHA512224: "SHA-512/224", SHA512256: "SHA-512/256",
	SHA3224: "SHA3-224", SHA3256: "SHA3-256", SHA3384: "SHA3-384", SHA3512: "SHA3-512",
	SHAKE128: "SHAKE128", SHAKE256: "SHAKE256",
}

// String returns the function's name, such as "SHA-256"; "unknown" for what is none.
func (h Hash) String() string {
	if name, known := hashNames[h]; known {
		return name
	}
	return "unknown"
}

// NewHM returns the optional block HM, which an HMAC key needs (6.3.6.5). The error is
// [ErrContent].
func NewHM(hash Hash) (Optional, error) {
	if _, known := hashNames[hash]; !known {
		return Optional{}, fmt.Errorf("%w: HM", ErrContent)
	}
	return Optional{"HM", upperHex([]byte{byte(hash)})}, nil
}

// HMACHash returns the hash function of an HMAC key, block HM: two hex digits.
func (h *Header) HMACHash() (Hash, error) { return content(h, "HM", readHash) }

func readHash(data string) (Hash, bool) {
	b, ok := bytesOf(data)
	if !ok || len(b) != 1 || hashNames[Hash(b[0])] == "" {
		return 0, false
	}
	return Hash(b[0]), true
}

// Pedigree is what the key was ever wrapped with (6.3.6.15, table 23).
type Pedigree byte

// The pedigrees.
const (
	WrappedStrong         Pedigree = 0 // keys of equal or greater strength only
	WrappedWeak           Pedigree = 1 // a key of lesser strength
	WrappedAsymmetric     Pedigree = 2 // an asymmetric key, which a quantum computer may break
	WrappedAsymmetricWeak Pedigree = 3 // both
)

// NewWP returns the optional block WP, version 00. The error is [ErrContent].
func NewWP(p Pedigree) (Optional, error) {
	if p > WrappedAsymmetricWeak {
		return Optional{}, fmt.Errorf("%w: WP", ErrContent)
	}
	return Optional{"WP", "00" + string('0'+rune(p))}, nil
}

// Pedigree returns the wrapping pedigree, block WP: version 00 and one digit.
func (h *Header) Pedigree() (Pedigree, error) { return content(h, "WP", readPedigree) }

func readPedigree(data string) (Pedigree, bool) {
	if len(data) != 3 || data[:2] != "00" || data[2] < '0' || data[2] > '3' {
		return 0, false
	}
	return Pedigree(data[2] - '0'), true
}

// Life is how long an asymmetric key is meant to live (6.3.6.1, table 8).
type Life byte

// The lives.
const (
	Ephemeral Life = 0
	Static    Life = 1
)

// KeyLife returns the life of an asymmetric key, block AL: version 01 and two digits.
func (h *Header) KeyLife() (Life, error) { return content(h, "AL", readLife) }

func readLife(data string) (Life, bool) {
	switch data {
	case "0100":
		return Ephemeral, true
	case "0101":
		return Static, true
	}
	return 0, false
}

// Derivation is a kind of key that may be derived from this one (6.3.6.4, table 12).
type Derivation struct {
	Usage         string // 2 characters
	Algorithm     byte
	Mode          byte
	Exportability byte
}

// Derivations returns what may be derived, block DA: version 01 and five characters for each
// kind, of which there is at least one.
func (h *Header) Derivations() ([]Derivation, error) { return content(h, "DA", readDerivations) }

func readDerivations(data string) ([]Derivation, bool) {
	if len(data) < 7 || len(data)%5 != 2 || data[:2] != "01" || !alphanumeric(data) {
		return nil, false
	}
	var all []Derivation
	for rest := data[2:]; rest != ""; rest = rest[5:] {
		all = append(all, Derivation{Usage: rest[:2], Algorithm: rest[2], Mode: rest[3], Exportability: rest[4]})
	}
	return all, true
}
