package hsm

import "keyd/dukpt"

// PINKey is a key in its role of enciphering a PIN block.
type PINKey struct {
	Key         Key
	KSN         dukpt.KSN // zero unless the key is a BDK
	WorkingType WorkingType
	Format      Format
}

// TranslatePIN asks for a PIN block under another key.
type TranslatePIN struct {
	Incoming, Outgoing PINKey
	PAN                string // 0 to 19 decimal digits
	Block              []byte // 8 or 16 bytes
	Demands
}

// TranslatedPIN is the answer to [TranslatePIN].
type TranslatedPIN struct {
	Block      []byte
	CheckValue string // KCV of the outgoing key
	Custody    Custody
}

// VerifyPIN asks whether the PIN in a block is the one of a verification value.
// Exactly one of VisaPVV and IBM3624 is set.
type VerifyPIN struct {
	Incoming     PINKey
	Verification Key
	PAN          string // 1 to 19 decimal digits
	Block        []byte // 8 or 16 bytes
	VisaPVV      *VisaPVV
	IBM3624      *IBM3624
	Demands
}

// VisaPVV is a Visa PIN verification value.
type VisaPVV struct {
	KeyIndex uint8  // PVKI, 0 to 9
	PVV      string // 4 decimal digits; empty where one is asked for
}

// IBM3624 is an IBM 3624 PIN offset.
type IBM3624 struct {
	Offset string // 4 to 12 decimal digits; empty where one is asked for
}

// VerifiedPIN is the answer to [VerifyPIN].
type VerifiedPIN struct {
	Verified bool
	Custody  Custody
}

// GeneratePIN asks for a random PIN: its block, and the value to verify it by. Exactly one
// of VisaPVV and IBM3624 is set, without a value.
type GeneratePIN struct {
	Outgoing   PINKey
	Generation Key
	PAN        string // 1 to 19 decimal digits
	Length     uint8  // of the PIN, 4 to 12 digits; an offset is as long
	VisaPVV    *VisaPVV
	IBM3624    *IBM3624
	Demands
}

// GeneratedPIN is the answer to [GeneratePIN].
type GeneratedPIN struct {
	Block   []byte
	Datum   string // PVV or offset
	Custody Custody
}

// ChangePIN asks for the value to verify a new PIN by, if the current one is right. Exactly
// one of VisaPVV and IBM3624 is set, with the current value.
type ChangePIN struct {
	Incoming, NewIncoming PINKey // of the two blocks
	Verification          Key
	PAN                   string // 1 to 19 decimal digits
	Current, New          []byte // 8 or 16 bytes each
	VisaPVV               *VisaPVV
	IBM3624               *IBM3624
	Demands
}

// ChangedPIN is the answer to [ChangePIN].
type ChangedPIN struct {
	Verified bool
	Datum    string // new PVV or offset; empty unless verified
	Custody  Custody
}

// ResetTries asks for the tries of an account to be reset, which somebody at the
// machine has permitted: those of verifications under a key or, without one, those of
// translations.
type ResetTries struct {
	Verification *Key
	PAN          string // 1 to 19 decimal digits
}
