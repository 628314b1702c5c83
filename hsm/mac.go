package hsm

import "keyd/dukpt"

// MACAlgorithm is a way to make a MAC, as the contract numbers it (keyd.v1
// MacKey.Algorithm).
type MACAlgorithm uint8

// The algorithms.
const (
	MACAlgorithm1 MACAlgorithm = 1 // ISO 9797-1 algorithm 1: CBC-MAC, TDES
	MACAlgorithm3 MACAlgorithm = 2 // ISO 9797-1 algorithm 3: retail MAC (ANSI X9.19)
	CMAC          MACAlgorithm = 3 // NIST SP 800-38B
	HMACSHA256    MACAlgorithm = 4 // RFC 2104
)

// MACSize returns the size of a whole MAC in bytes: 8 for ISO 9797-1, 16 for a CMAC with
// AES, else 8, and 32 for an HMAC. aes says that the key, or working key, is one of AES.
func (a MACAlgorithm) MACSize(aes bool) int {
	switch {
	case a == HMACSHA256:
		return 32
	case a == CMAC && aes:
		return 16
	}
	return 8
}

// MinMAC is the least size of any MAC in bytes.
const MinMAC = 4

// Least returns the least size of a MAC in bytes, for one whose whole has that many: 4 of
// 8, as X9.19 has it, and 8 of more (NIST SP 800-38B appendix A). A key's header may demand
// more. Who may verify short MACs finds longer ones a byte at a time.
func (a MACAlgorithm) Least(whole int, h *Header) int {
	least := MinMAC
	if whole > 8 {
		least = 8
	}
	return max(least, int(h.MACLength))
}

// MaxMessage bounds a message that a MAC is made of, and data that are enciphered, in
// bytes.
const MaxMessage = 32 << 10

// MACKey is a key in its role of making MACs.
type MACKey struct {
	Key         Key
	KSN         dukpt.KSN // zero unless the key is a BDK
	WorkingType WorkingType
	Algorithm   MACAlgorithm
	Response    bool  // DUKPT: the MAC goes from this host to the terminal
	Padding     uint8 // of ISO 9797-1: 1 or 2
}

// GenerateMAC asks for the MAC of a message.
type GenerateMAC struct {
	Key     MACKey
	Message []byte // at most MaxMessage bytes
	Length  uint8  // bytes, the leftmost ones; 0: the whole
	Demands
}

// GeneratedMAC is the answer to [GenerateMAC].
type GeneratedMAC struct {
	MAC        []byte
	CheckValue string // KCV of the key, or the BDK
	Custody    Custody
}

// VerifyMAC asks whether a MAC is that of a message. A MAC that is not is no error.
type VerifyMAC struct {
	Key     MACKey
	Message []byte // at most MaxMessage bytes
	MAC     []byte // MinMAC bytes to the whole
	Demands
}

// VerifiedMAC is the answer to [VerifyMAC].
type VerifiedMAC struct {
	Verified bool
	Custody  Custody
}
