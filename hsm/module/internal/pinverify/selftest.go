package pinverify

import (
	"errors"

	"keyd/pinblock"
)

// SelfTest works known answers of both methods, from the enciphered values that their
// source shows (CyberChef payment tests, PVK 0123456789ABCDEFFEDCBA9876543210, PAN
// 5432101234567890, PIN 1234), and checks that another PIN is refused. The module calls
// it before its first verification, and ends on an error.
func SelfTest() error {
	pan, err := pinblock.ParsePAN("5432101234567890")
	if err != nil {
		return err
	}
	var right, wrong pinblock.PIN
	if err := errors.Join(right.SetDigits([]byte("1234")), wrong.SetDigits([]byte("1235"))); err != nil {
		return err
	}
	return errors.Join(selfTestVisa(pan, &right, &wrong), selfTestIBM3624(pan, &right, &wrong))
}

var (
	knownTSP           = [TSPSize]byte{0x10, 0x12, 0x34, 0x56, 0x78, 0x91, 0x12, 0x34}
	knownEncipheredTSP = [TSPSize]byte{0x6A, 0x77, 0xE6, 0x5C, 0xFE, 0x34, 0x9D, 0x60}
	knownPVV           = "6776"

	knownValidation           = [ValidationSize]byte{0x54, 0x32, 0x10, 0x12, 0x34, 0x56, 0x78, 0x90}
	knownEncipheredValidation = [ValidationSize]byte{0x8A, 0x37, 0x12, 0xEE, 0x04, 0xF0, 0x10, 0xA0}
	knownNatural              = [NaturalSize]byte([]byte("8037124404501000"))
	knownOffset               = "3207"
)

func selfTestVisa(pan pinblock.PAN, right, wrong *pinblock.PIN) error {
	fault := errors.New("self-test of Visa PVV failed")
	var tsp [TSPSize]byte
	if err := PutTSP(&tsp, pan, 1, right); err != nil || tsp != knownTSP {
		return fault
	}
	var pvv [PVVSize]byte
	PutPVV(&pvv, &knownEncipheredTSP)
	if ok, err := VerifyPVV(&pvv, right, knownPVV); err != nil || !ok {
		return fault
	}
	if ok, err := VerifyPVV(&pvv, right, "6777"); err != nil || ok {
		return fault
	}
	if err := PutTSP(&tsp, pan, 1, wrong); err != nil || tsp == knownTSP {
		return fault
	}
	return nil
}

func selfTestIBM3624(pan pinblock.PAN, right, wrong *pinblock.PIN) error {
	fault := errors.New("self-test of IBM 3624 failed")
	m, err := NewIBM3624(Rule{DecimalizationTable: "0123456789012345", Start: 0, Length: 16, Pad: "F"})
	if err != nil {
		return fault
	}
	var validation [ValidationSize]byte
	if err := m.PutValidationData(&validation, pan); err != nil || validation != knownValidation {
		return fault
	}
	var natural Natural
	if err := m.NaturalPIN(&natural, &knownEncipheredValidation); err != nil || natural.d != knownNatural {
		return fault
	}
	if ok, err := natural.Verify(right, knownOffset); err != nil || !ok {
		return fault
	}
	if ok, err := natural.Verify(wrong, knownOffset); err != nil || ok {
		return fault
	}
	return nil
}
