package module

import (
	"google.golang.org/protobuf/proto"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/pinops"
)

// The messages of outcomes. None has a field for a clear PIN, PIN block or key.

func pinAnswer(op *pinops.Operation) proto.Message {
	switch {
	case op.Translate != nil:
		a := op.Translated
		return &wire.TranslatedPin{Block: a.Block, CheckValue: a.CheckValue, Custody: uint32(a.Custody)}
	case op.Verify != nil:
		return &wire.VerifiedPin{Verified: op.Verified.Verified, Custody: uint32(op.Verified.Custody)}
	case op.Generate != nil:
		a := op.Generated
		return &wire.GeneratedPin{Block: a.Block, Datum: a.Datum, Custody: uint32(a.Custody)}
	}
	a := op.Changed
	return &wire.ChangedPin{Verified: a.Verified, Datum: a.Datum, Custody: uint32(a.Custody)}
}

func generatedMAC(a hsm.GeneratedMAC) proto.Message {
	return &wire.GeneratedMac{Mac: a.MAC, CheckValue: a.CheckValue, Custody: uint32(a.Custody)}
}

func verifiedMAC(a hsm.VerifiedMAC) proto.Message {
	return &wire.VerifiedMac{Verified: a.Verified, Custody: uint32(a.Custody)}
}

func encryptedData(a hsm.EncryptedData) proto.Message {
	return &wire.EncryptedData{Data: a.Data, Iv: a.IV, CheckValue: a.CheckValue, Custody: uint32(a.Custody)}
}

func decryptedData(a hsm.DecryptedData) proto.Message {
	return &wire.DecryptedData{Data: a.Data, Custody: uint32(a.Custody)}
}

func generatedCVV(a hsm.GeneratedCVV) proto.Message {
	return &wire.GeneratedCvv{Value: a.Value, CheckValue: a.CheckValue, Custody: uint32(a.Custody)}
}

func verifiedCVV(a hsm.VerifiedCVV) proto.Message {
	return &wire.VerifiedCvv{Verified: a.Verified, Custody: uint32(a.Custody)}
}

func triesReset(struct{}) proto.Message { return &wire.TriesReset{} }
