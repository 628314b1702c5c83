package module

import (
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
)

var malformed = fault.New(fault.RequestInvalid, "")

// The functions below check the shape of what a front sent. The front did so too, but
// it may have been taken over.

func translatePIN(m *wire.TranslatePin) (r hsm.TranslatePIN, err error) {
	if r.Incoming, err = pinKey(m.Incoming); err != nil {
		return r, err
	}
	if r.Outgoing, err = pinKey(m.Outgoing); err != nil {
		return r, err
	}
	r.PAN, r.Block, r.Demands = m.Pan, m.Block, demands(m.Demands)
	return r, checkBlock(r.Block, &r.Incoming)
}

func verifyPIN(m *wire.VerifyPin) (r hsm.VerifyPIN, err error) {
	if r.Incoming, err = pinKey(m.Incoming); err != nil {
		return r, err
	}
	if r.Verification, err = key(m.Verification); err != nil {
		return r, err
	}
	r.PAN, r.Block, r.Demands = m.Pan, m.Block, demands(m.Demands)
	switch expected := m.Expected.(type) {
	case *wire.VerifyPin_VisaPvv:
		r.VisaPVV, err = visaPVV(expected.VisaPvv, 4)
	case *wire.VerifyPin_Ibm3624:
		r.IBM3624, err = ibm3624(expected.Ibm3624)
	default:
		return r, malformed
	}
	if err != nil {
		return r, err
	}
	return r, checkBlock(r.Block, &r.Incoming)
}

func generatePIN(m *wire.GeneratePin) (r hsm.GeneratePIN, err error) {
	if r.Outgoing, err = pinKey(m.Outgoing); err != nil {
		return r, err
	}
	if r.Generation, err = key(m.Generation); err != nil {
		return r, err
	}
	if m.Length < 4 || m.Length > 12 {
		return r, malformed
	}
	r.PAN, r.Length, r.Demands = m.Pan, uint8(m.Length), demands(m.Demands)
	switch method := m.Method.(type) {
	case *wire.GeneratePin_VisaPvv:
		r.VisaPVV, err = visaPVV(method.VisaPvv, 0)
	case *wire.GeneratePin_Ibm3624:
		if method.Ibm3624.GetOffset() != "" {
			return r, malformed
		}
		r.IBM3624 = &hsm.IBM3624{}
	default:
		return r, malformed
	}
	return r, err
}

func changePIN(m *wire.ChangePin) (r hsm.ChangePIN, err error) {
	if r.Incoming, err = pinKey(m.Incoming); err != nil {
		return r, err
	}
	if r.NewIncoming, err = pinKey(m.NewIncoming); err != nil {
		return r, err
	}
	if r.Verification, err = key(m.Verification); err != nil {
		return r, err
	}
	r.PAN, r.Current, r.New, r.Demands = m.Pan, m.Current, m.New, demands(m.Demands)
	switch expected := m.Expected.(type) {
	case *wire.ChangePin_VisaPvv:
		r.VisaPVV, err = visaPVV(expected.VisaPvv, 4)
	case *wire.ChangePin_Ibm3624:
		r.IBM3624, err = ibm3624(expected.Ibm3624)
	default:
		return r, malformed
	}
	if err != nil {
		return r, err
	}
	if err := checkBlock(r.Current, &r.Incoming); err != nil {
		return r, err
	}
	return r, checkBlock(r.New, &r.NewIncoming)
}

func visaPVV(m *wire.VisaPvv, digitsOfPVV int) (*hsm.VisaPVV, error) {
	if m == nil || m.KeyIndex > 9 || !digits(m.Pvv, digitsOfPVV, digitsOfPVV) {
		return nil, malformed
	}
	return &hsm.VisaPVV{KeyIndex: uint8(m.KeyIndex), PVV: m.Pvv}, nil
}

func ibm3624(m *wire.Ibm3624) (*hsm.IBM3624, error) {
	if m == nil || !digits(m.Offset, 4, 12) {
		return nil, malformed
	}
	return &hsm.IBM3624{Offset: m.Offset}, nil
}

func checkBlock(block []byte, k *hsm.PINKey) error {
	if len(block) != k.Format.BlockSize() {
		return malformed
	}
	return nil
}

func pinKey(m *wire.PinKey) (p hsm.PINKey, err error) {
	if m == nil || m.Format > uint32(hsm.Format4) {
		return p, malformed
	}
	p.Format = hsm.Format(m.Format)
	p.Key, p.KSN, p.WorkingType, err = derivable(m.Key, m.Ksn, m.WorkingType)
	return p, err
}

func generateMAC(m *wire.GenerateMac) (r hsm.GenerateMAC, err error) {
	if m.Length > 32 || len(m.Message) > hsm.MaxMessage {
		return r, malformed
	}
	r.Key, err = macKey(m.Key)
	r.Message, r.Length, r.Demands = m.Message, uint8(m.Length), demands(m.Demands)
	return r, err
}

func verifyMAC(m *wire.VerifyMac) (r hsm.VerifyMAC, err error) {
	if len(m.Mac) > 32 || len(m.Message) > hsm.MaxMessage {
		return r, malformed
	}
	r.Key, err = macKey(m.Key)
	r.Message, r.MAC, r.Demands = m.Message, m.Mac, demands(m.Demands)
	return r, err
}

func macKey(m *wire.MacKey) (k hsm.MACKey, err error) {
	if m == nil || m.Algorithm < uint32(hsm.MACAlgorithm1) || m.Algorithm > uint32(hsm.HMACSHA256) || m.Padding < 1 || m.Padding > 2 {
		return k, malformed
	}
	k.Algorithm, k.Response, k.Padding = hsm.MACAlgorithm(m.Algorithm), m.Response, uint8(m.Padding)
	k.Key, k.KSN, k.WorkingType, err = derivable(m.Key, m.Ksn, m.WorkingType)
	return k, err
}

func encryptData(m *wire.EncryptData) (r hsm.EncryptData, err error) {
	r.Key, err = dataKey(m.Key)
	r.Data, r.IV, r.Demands = m.Data, m.Iv, demands(m.Demands)
	return r, err
}

func decryptData(m *wire.DecryptData) (r hsm.DecryptData, err error) {
	r.Key, err = dataKey(m.Key)
	r.Data, r.IV, r.Demands = m.Data, m.Iv, demands(m.Demands)
	return r, err
}

func reEncryptData(m *wire.ReEncryptData) (r hsm.ReEncryptData, err error) {
	if r.Incoming, err = dataKey(m.Incoming); err != nil {
		return r, err
	}
	r.Outgoing, err = dataKey(m.Outgoing)
	r.Data, r.IV, r.OutgoingIV, r.Demands = m.Data, m.Iv, m.OutgoingIv, demands(m.Demands)
	return r, err
}

// dataKey checks a key; what sizes data and initialization vectors have depends on it, and
// is checked when it is open.
func dataKey(m *wire.DataKey) (k hsm.DataKey, err error) {
	if m == nil || m.Mode < uint32(hsm.CBC) || m.Mode > uint32(hsm.CTR) {
		return k, malformed
	}
	k.Mode, k.Response = hsm.DataMode(m.Mode), m.Response
	k.Key, k.KSN, k.WorkingType, err = derivable(m.Key, m.Ksn, m.WorkingType)
	return k, err
}

func generateCVV(m *wire.GenerateCvv) (r hsm.GenerateCVV, err error) {
	if r.Key, err = key(m.Key); err != nil {
		return r, err
	}
	r.Demands = demands(m.Demands)
	r.Input, err = cvvInput(m.Input)
	return r, err
}

func verifyCVV(m *wire.VerifyCvv) (r hsm.VerifyCVV, err error) {
	if r.Key, err = key(m.Key); err != nil {
		return r, err
	}
	if !digits(m.Value, hsm.CVVSize, hsm.CVVSize) {
		return r, malformed
	}
	r.Value, r.Demands = m.Value, demands(m.Demands)
	r.Input, err = cvvInput(m.Input)
	return r, err
}

func cvvInput(m *wire.CvvInput) (hsm.CVVInput, error) {
	if m == nil || !digits(m.Pan, 12, 19) || !digits(m.Expiry, 4, 4) || !digits(m.ServiceCode, 3, 3) {
		return hsm.CVVInput{}, malformed
	}
	return hsm.CVVInput{PAN: m.Pan, Expiry: m.Expiry, ServiceCode: m.ServiceCode}, nil
}

func resetTries(m *wire.ResetTries) (r hsm.ResetTries, err error) {
	if !digits(m.Pan, 1, 19) {
		return r, malformed
	}
	r.PAN = m.Pan
	if m.Verification != nil {
		k, err := key(m.Verification)
		if err != nil {
			return r, err
		}
		r.Verification = &k
	}
	return r, nil
}

// derivable is a key and, where it is a BDK, its transaction.
func derivable(m *wire.SealedKey, serial []byte, workingType uint32) (k hsm.Key, ksn dukpt.KSN, t hsm.WorkingType, err error) {
	if workingType > uint32(hsm.WorkingAES256) {
		return k, ksn, t, malformed
	}
	if k, err = key(m); err != nil {
		return k, ksn, t, err
	}
	if len(serial) > 0 {
		if ksn, err = dukpt.ParseKSN(serial); err != nil {
			return k, ksn, t, fault.New(fault.KSNInvalid, "")
		}
	}
	return k, ksn, hsm.WorkingType(workingType), nil
}

func key(m *wire.SealedKey) (hsm.Key, error) {
	if m == nil || m.Name == "" || len(m.Sealed) > hsm.MaxSealedSize {
		return hsm.Key{}, malformed
	}
	return hsm.Key{Name: m.Name, Sealed: m.Sealed}, nil
}

func demands(m *wire.Demands) hsm.Demands {
	return hsm.Demands{KSNRefused: m.GetKsnRefused(), TokenCustody: m.GetTokenCustody()}
}

func digits(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
