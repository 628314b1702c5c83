package hsm

import "keyd/dukpt"

// DataMode is a mode of operation, as the contract numbers it (keyd.v1 DataKey.Mode).
// Nothing is padded.
type DataMode uint8

// The modes.
const (
	CBC DataMode = 1 // TDES or AES; data are whole blocks
	CTR DataMode = 2 // AES; data have any length
)

// String returns "CBC" or "CTR", as headers of keys have it.
func (m DataMode) String() string {
	switch m {
	case CBC:
		return "CBC"
	case CTR:
		return "CTR"
	}
	return "unknown"
}

// DataKey is a key in its role of enciphering data.
type DataKey struct {
	Key         Key
	KSN         dukpt.KSN // zero unless the key is a BDK
	WorkingType WorkingType
	Mode        DataMode
	Response    bool // DUKPT: the data go from this host to the terminal
}

// EncryptData asks for data to be enciphered.
type EncryptData struct {
	Key  DataKey
	Data []byte // 1 to MaxMessage bytes
	IV   []byte // CBC: a block, or none for a random one; CTR: none
	Demands
}

// EncryptedData is the answer to [EncryptData] and [ReEncryptData].
type EncryptedData struct {
	Data       []byte
	IV         []byte // CTR: the first counter block
	CheckValue string // KCV of the key, or the BDK
	Custody    Custody
}

// DecryptData asks for data to be deciphered.
type DecryptData struct {
	Key  DataKey
	Data []byte // 1 to MaxMessage bytes
	IV   []byte // a block; CTR: the first counter block
	Demands
}

// DecryptedData is the answer to [DecryptData].
type DecryptedData struct {
	Data    []byte
	Custody Custody
}

// ReEncryptData asks for data to be enciphered under another key.
type ReEncryptData struct {
	Incoming, Outgoing DataKey
	Data               []byte // 1 to MaxMessage bytes
	IV                 []byte // of Data, as in DecryptData
	OutgoingIV         []byte // as in EncryptData
	Demands
}
