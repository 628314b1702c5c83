package software

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"keyd/dukpt"
)

// ErrSelfTest is wrapped by every error of [SelfTest].
var ErrSelfTest = errors.New("dukpt/software: power-on self-test failed")

// knownAnswer is one power-on self-test: compute returns what must equal want.
type knownAnswer struct {
	name    string
	want    string // hex
	compute func() ([]byte, error)
}

// knownAnswers has a test for each algorithm of this package. The figures are published: NIST SP 500-20 (TDES
// under equal parts is DES), X9.24-1:2009 A.4.2 (a PIN block at counter 1; keys at counter 8), NIST SP 800-67
// appendix B (three keys), X9.24-3:2017 supplement (AES-128).
var knownAnswers = []knownAnswer{
	{"TDES", "690F5B0D9A26939B" + "1B9C1845EB993A7A" + "A826FD8CE53B855F", selfTestTDES},
	{"TDES DUKPT", "6AC292FAA1315B4D858AB3A3D7D5933A" + "27F66D5244FF621EAA6F6120EDEB427F" + "C39B2778B058AC376FB18DC906F75CBA", selfTestTDESDUKPT},
	{"AES DUKPT", "AF8CB133A78F8DC2D1359F18527593FB", selfTestAESDUKPT},
}

// SelfTest computes a known answer for each algorithm of this package: TDES, TDES DUKPT and AES DUKPT. A
// process that derives keys calls it before its first request and ends when it returns an error, which wraps
// [ErrSelfTest] and names the algorithm. Both sides.
func SelfTest() error { return selfTest(knownAnswers) }

// SelfTests returns the names of the tests that [SelfTest] does.
func SelfTests() []string {
	names := make([]string, len(knownAnswers))
	for i, a := range knownAnswers {
		names[i] = a.name
	}
	return names
}

// SelfTestSimulatingFailure does what [SelfTest] does with a wrong known answer for the named test, so that
// it can be shown that a process which fails its self-tests ends. It changes nothing for other callers. It
// returns an error always; that of an unknown name does not wrap [ErrSelfTest].
func SelfTestSimulatingFailure(name string) error {
	answers := append([]knownAnswer(nil), knownAnswers...)
	for i := range answers {
		if answers[i].name == name {
			answers[i].want = flipFirstBit(answers[i].want)
			return selfTest(answers)
		}
	}
	return fmt.Errorf("dukpt/software: no self-test is called %q", name)
}

func selfTest(answers []knownAnswer) error {
	for _, a := range answers {
		want, err := hex.DecodeString(a.want)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSelfTest, a.name, err)
		}
		got, err := a.compute()
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrSelfTest, a.name, err)
		}
		if subtle.ConstantTimeCompare(got, want) != 1 {
			return fmt.Errorf("%w: %s", ErrSelfTest, a.name)
		}
	}
	return nil
}

// selfTestTDES enciphers a block under a key of equal parts, a two-key and a three-key, and deciphers it again.
func selfTestTDES() ([]byte, error) {
	var out []byte
	for _, c := range []struct{ key, plain string }{
		{"7CA110454A1A6E577CA110454A1A6E57", "01A1D6D039776742"},
		{"042666B49184CF5C68DE9628D0397B36", "041274EDCBA9876F"},
		{"0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123", "5468652071756663"},
	} {
		var k TDESKey
		if err := k.Set(mustHex(c.key)); err != nil {
			return nil, err
		}
		plain, cipher, again := mustHex(c.plain), make([]byte, 8), make([]byte, 8)
		k.Encrypt(cipher, plain)
		k.Decrypt(again, cipher)
		if subtle.ConstantTimeCompare(again, plain) != 1 {
			return nil, errors.New("decryption does not undo encryption")
		}
		out = append(out, cipher...)
	}
	return out, nil
}

// selfTestTDESDUKPT derives an initial key, and from it a PIN key and a data key.
func selfTestTDESDUKPT() ([]byte, error) {
	bdk := mustHex("0123456789ABCDEFFEDCBA9876543210")
	ksn, err := dukpt.ParseKSN(mustHex("FFFF9876543210E00008"))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 3*TDESKeySize)
	ik, pin, data := out[:16], out[16:32], out[32:]
	if err := TDESInitialKey(ik, bdk, ksn); err != nil {
		return nil, err
	}
	if err := TDESTransactionKey(data, ik, ksn); err != nil {
		return nil, err
	}
	if err := TDESWorkingKey(pin, data, dukpt.VariantPIN); err != nil {
		return nil, err
	}
	return out, TDESWorkingKey(data, data, dukpt.VariantDataRequest)
}

// selfTestAESDUKPT walks from a BDK to a PIN key.
func selfTestAESDUKPT() ([]byte, error) {
	ksn, err := dukpt.ParseKSN(mustHex("123456789012345600000001"))
	if err != nil {
		return nil, err
	}
	path, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 16)
	return out, AESDerive(out, mustHex("FEDCBA9876543210F1F1F1F1F1F1F1F1"), path)
}

// mustHex decodes a constant of this file.
func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("dukpt/software: constant is not hex")
	}
	return b
}

func flipFirstBit(s string) string {
	b := mustHex(s)
	b[0] ^= 0x80
	return hex.EncodeToString(b)
}
