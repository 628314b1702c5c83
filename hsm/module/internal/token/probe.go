package token

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Probe is one thing that keyd needs a token for, found by trying it with a known
// answer: mechanism lists of tokens promise what calls then refuse.
type Probe struct {
	Name string
	try  func(*Session) error

	// Serves is what a token cannot do that lacks the mechanism; empty: keyd does not run
	// on such a token. A wrong answer is never put up with.
	Serves string
}

// Probes are what a token must do to host sealed keys and PIN operations, and what only some
// operations need.
var Probes = []Probe{
	{Name: "AES-ECB", try: func(s *Session) error {
		return s.knownEncryption(pkcs11.CKK_AES, pkcs11.CKM_AES_ECB, aesKey, aesPlain, aesCipher)
	}},
	{Name: "TDES-ECB, two keys", try: func(s *Session) error {
		return s.knownEncryption(pkcs11.CKK_DES2, pkcs11.CKM_DES3_ECB, tdesKey, tdesPlain, tdesCipher)
	}},
	{Name: "TDES-ECB, three keys", try: func(s *Session) error {
		return s.knownEncryption(pkcs11.CKK_DES3, pkcs11.CKM_DES3_ECB, tdesKey+tdesKey[:16], tdesPlain, tdesCipher)
	}},
	{Name: "AES-CMAC", try: func(s *Session) error {
		return s.knownMAC(pkcs11.CKK_AES, pkcs11.CKM_AES_CMAC, cmacKey, cmacMessage, cmacTag)
	}},
	{Name: "AES-CMAC of nothing", try: func(s *Session) error {
		return s.knownMAC(pkcs11.CKK_AES, pkcs11.CKM_AES_CMAC, cmacKey, "", cmacTagNothing)
	}},
	{Name: "TDES-CMAC", try: func(s *Session) error {
		return s.knownMAC(pkcs11.CKK_DES2, pkcs11.CKM_DES3_CMAC, tdesCMACKey, cmacMessage, tdesCMACTag)
	}, Serves: "CMACs with TDES keys, and TDES key blocks of version B"},
	{Name: "HMAC-SHA-256", try: func(s *Session) error {
		return s.knownMAC(pkcs11.CKK_GENERIC_SECRET, pkcs11.CKM_SHA256_HMAC, hmacKey, hmacMessage, hmacTag)
	}},
	{Name: "HMAC-SHA-256 of nothing", try: func(s *Session) error {
		return s.knownMAC(pkcs11.CKK_GENERIC_SECRET, pkcs11.CKM_SHA256_HMAC, hmacKey, "", hmacTagNothing)
	}},
	{Name: "TDES-CBC", try: func(s *Session) error { return s.knownCBC(pkcs11.CKK_DES2, pkcs11.CKM_DES3_CBC, tdesKey, 8) }},
	{Name: "AES-CBC", try: func(s *Session) error { return s.knownCBC(pkcs11.CKK_AES, pkcs11.CKM_AES_CBC, aesKey, 16) }},
	{Name: "AES-CTR", try: knownCTR},
	{Name: "AES-KWP wrap and unwrap", try: knownKeyWrap},
	{Name: "derive AES-128 by AES-ECB", try: func(s *Session) error { return s.knownDerivation(pkcs11.CKK_AES, 16) }},
	{Name: "derive AES-192 by AES-ECB", try: func(s *Session) error { return s.knownDerivation(pkcs11.CKK_AES, 24) }},
	{Name: "derive AES-256 by AES-ECB", try: func(s *Session) error { return s.knownDerivation(pkcs11.CKK_AES, 32) }},
	{Name: "derive two-key TDES by AES-ECB", try: func(s *Session) error { return s.knownDerivation(pkcs11.CKK_DES2, 16) }},
	{Name: "derive three-key TDES by AES-ECB", try: func(s *Session) error { return s.knownDerivation(pkcs11.CKK_DES3, 24) }},
}

// Known answers.
const (
	// FIPS 197 appendix C.1.
	aesKey    = "000102030405060708090A0B0C0D0E0F"
	aesPlain  = "00112233445566778899AABBCCDDEEFF"
	aesCipher = "69C4E0D86A7B0430D8CDB78070B4C55A"
	// A Visa transformed security parameter and its encipherment.
	tdesKey    = "0123456789ABCDEFFEDCBA9876543210"
	tdesPlain  = "1012345678911234"
	tdesCipher = "6A77E65CFE349D60"
	// NIST SP 800-38B appendix D.1, example 2.
	cmacKey     = "2B7E151628AED2A6ABF7158809CF4F3C"
	cmacMessage = "6BC1BEE22E409F96E93D7E117393172A"
	cmacTag     = "070A16B46B4D4144F79BDD9DD04A287C"
	// The same, example 1.
	cmacTagNothing = "BB1D6929E95937287FA37D129B756746"
	// NIST SP 800-38B appendix D.4 with two-key TDES.
	tdesCMACKey = "0123456789ABCDEF23456789ABCDEF01"
	tdesCMACTag = "CC18A0B79AF2413B"
	// ISO/IEC 9797-2:2011 annex B.3.4. The key has zeros at its end, which changes nothing:
	// SoftHSM takes no shorter one than the hash.
	hmacKey        = "00112233445566778899AABBCCDDEEFF00000000000000000000000000000000"
	hmacMessage    = "6D65737361676520646967657374"
	hmacTag        = "1F12288F42F42661349E5DB741CE19F3B8C3A8149FD4B8981237FA200FEB104F"
	hmacTagNothing = "E8A06537F096CCF1A3C425A56CEA054072C4A8DB67BD28CFB02FBEAF84B35F6C"
	// NIST SP 800-38A appendix F.5.1.
	ctrKey     = "2B7E151628AED2A6ABF7158809CF4F3C"
	ctrCounter = "F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF"
	ctrPlain   = "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C"
	ctrCipher  = "874D6191B620E3261BEF6864990DB6CE9806F66B7970FDFF"
	// RFC 5649, computed with OpenSSL 3.0 (id-aes256-wrap-pad) for aesKey. The RFC's
	// own examples have keys that are no multiple of 8 bytes: SoftHSM 2.6.1 pads those
	// before it wraps them, so keyd seals none.
	kwpKey     = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	kwpWrapped = "337E07DCE17686CDDFA15EA637C777E760FF617B002FE46B"
)

// Try runs the probe. A wrong answer is an error, like a refusal. The error wraps
// [ErrLacks] if keyd runs on a token that lacks the mechanism, and this one does.
func (p Probe) Try(t *Token) error {
	err := t.Do(p.try)
	if p.Serves != "" && hasCode(err, pkcs11.CKR_MECHANISM_INVALID) {
		t.lacks.Store(p.Name, true)
		return fmt.Errorf("%s: %w: it serves for %s", p.Name, ErrLacks, p.Serves)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	return nil
}

// ErrLacks is returned by a probe whose mechanism the token does not have.
var ErrLacks = errors.New("the token has no such mechanism")

// Lacks reports whether the probe has found that the token does not have its mechanism.
func (t *Token) Lacks(p Probe) bool {
	_, found := t.lacks.Load(p.Name)
	return found
}

var errAnswer = errors.New("the answer is wrong")

func fromHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return b
}

func (s *Session) knownEncryption(keyType, mechanism uint, key, plain, cipher string) error {
	object, err := s.Import(keyType, MayEncrypt|MayDecrypt, fromHex(key))
	if err != nil {
		return err
	}
	out := make([]byte, len(plain)/2)
	if err := s.Encrypt(mechanism, object, out, fromHex(plain)); err != nil {
		return err
	}
	if !bytes.Equal(out, fromHex(cipher)) {
		return errAnswer
	}
	if err := s.Decrypt(mechanism, object, out, fromHex(cipher)); err != nil {
		return err
	}
	if !bytes.Equal(out, fromHex(plain)) {
		return errAnswer
	}
	return s.Destroy(object)
}

func (s *Session) knownMAC(keyType, mechanism uint, key, message, tag string) error {
	object, err := s.Import(keyType, MaySign, fromHex(key))
	if err != nil {
		return err
	}
	out := make([]byte, 32)
	n, err := s.Sign(mechanism, object, out, fromHex(message))
	if err != nil {
		return err
	}
	if !bytes.Equal(out[:n], fromHex(tag)) {
		return errAnswer
	}
	return s.Destroy(object)
}

// knownCBC enciphers two blocks and compares with the same computed of ECB calls, whose
// answers are known.
func (s *Session) knownCBC(keyType, mechanism uint, key string, size int) error {
	object, err := s.Import(keyType, MayEncrypt|MayDecrypt, fromHex(key))
	if err != nil {
		return err
	}
	plain, iv := fromHex(aesPlain + aesCipher)[:2*size], fromHex(cmacTag)[:size]
	ecb := uint(pkcs11.CKM_AES_ECB)
	if size == 8 {
		ecb = pkcs11.CKM_DES3_ECB
	}
	want, chain := make([]byte, 2*size), bytes.Clone(iv)
	for i := 0; i < len(plain); i += size {
		subtle.XORBytes(chain, chain, plain[i:i+size])
		if err := s.Encrypt(ecb, object, want[i:i+size], chain); err != nil {
			return err
		}
		copy(chain, want[i:])
	}
	out := make([]byte, 2*size)
	if err := s.EncryptCBC(mechanism, iv, object, out, plain); err != nil {
		return err
	}
	if !bytes.Equal(out, want) {
		return errAnswer
	}
	if err := s.DecryptCBC(mechanism, iv, object, out, want); err != nil {
		return err
	}
	if !bytes.Equal(out, plain) {
		return errAnswer
	}
	return s.Destroy(object)
}

// knownCTR also shows that a message need not be whole blocks.
func knownCTR(s *Session) error {
	object, err := s.Import(pkcs11.CKK_AES, MayEncrypt|MayDecrypt, fromHex(ctrKey))
	if err != nil {
		return err
	}
	out, counter := make([]byte, len(ctrPlain)/2), [16]byte(fromHex(ctrCounter))
	if err := s.EncryptCTR(&counter, object, out, fromHex(ctrPlain)); err != nil {
		return err
	}
	if !bytes.Equal(out, fromHex(ctrCipher)) {
		return errAnswer
	}
	if err := s.DecryptCTR(&counter, object, out, fromHex(ctrCipher)); err != nil {
		return err
	}
	if !bytes.Equal(out, fromHex(ctrPlain)) {
		return errAnswer
	}
	return s.Destroy(object)
}

func knownKeyWrap(s *Session) error {
	kek, err := s.Import(pkcs11.CKK_AES, MayWrap|MayUnwrap, fromHex(kwpKey))
	if err != nil {
		return err
	}
	key, err := s.Import(pkcs11.CKK_AES, Extractable, fromHex(aesKey))
	if err != nil {
		return err
	}
	wrapped, err := s.Wrap(CKMAESKeyWrapPad, kek, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(wrapped, fromHex(kwpWrapped)) {
		return errAnswer
	}
	unwrapped, err := s.Unwrap(CKMAESKeyWrapPad, kek, wrapped, pkcs11.CKK_AES, MayEncrypt)
	if err != nil {
		return err
	}
	out := make([]byte, 16)
	if err := s.Encrypt(pkcs11.CKM_AES_ECB, unwrapped, out, fromHex(aesPlain)); err != nil {
		return err
	}
	if !bytes.Equal(out, fromHex(aesCipher)) {
		return errAnswer
	}
	for _, object := range []Object{kek, key} {
		if err := s.Destroy(object); err != nil {
			return err
		}
	}
	return s.token.Discard(unwrapped)
}

// knownDerivation derives a key from two blocks (or one, for a key of 16 bytes) and
// compares what it enciphers with the same computed here.
func (s *Session) knownDerivation(keyType uint, size int) error {
	base, err := s.Import(pkcs11.CKK_AES, MayDerive, fromHex(aesKey))
	if err != nil {
		return err
	}
	data := fromHex(aesPlain + cmacMessage)[:(size+15)/16*16]
	length, mechanism := 0, uint(pkcs11.CKM_DES3_ECB)
	if keyType == pkcs11.CKK_AES {
		length, mechanism = size, pkcs11.CKM_AES_ECB
	}
	derived, err := s.Derive(base, data, keyType, length, MayEncrypt)
	if err != nil {
		return err
	}
	parent, err := aes.NewCipher(fromHex(aesKey))
	if err != nil {
		return err
	}
	value := make([]byte, 32)
	for i := 0; i < len(data); i += 16 {
		parent.Encrypt(value[i:], data[i:])
	}
	want, got := make([]byte, 16), make([]byte, 16)
	if keyType == pkcs11.CKK_AES {
		block, err := aes.NewCipher(value[:size])
		if err != nil {
			return err
		}
		block.Encrypt(want, fromHex(aesPlain))
	} else {
		block, err := des.NewTripleDESCipher(append(value[:size:size], value[:24-size]...))
		if err != nil {
			return err
		}
		block.Encrypt(want, fromHex(aesPlain))
		block.Encrypt(want[8:], fromHex(aesPlain)[8:])
	}
	if err := s.Encrypt(mechanism, derived, got, fromHex(aesPlain)); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errAnswer
	}
	if err := s.Destroy(base); err != nil {
		return err
	}
	return s.Destroy(derived)
}
