package sealing

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/token"
)

// ErrKey is wrapped by errors about a key that cannot be sealed. They name what is
// wrong and never the value.
var ErrKey = errors.New("key refused")

// maxKey is the largest key in bytes (an HMAC key).
const maxKey = 128

// Seal seals a clear key under its header, in which it fills generation, length,
// check value and fingerprint. value is locked memory of the caller's, who wipes it.
func (m *Masters) Seal(session *token.Session, h hsm.Header, value []byte) ([]byte, error) {
	if h.Custody != hsm.CustodyToken && h.Custody != hsm.CustodyModule {
		return nil, fmt.Errorf("%w: custody %q", ErrKey, h.Custody)
	}
	if h.Algorithm == "T" && len(value) == 24 && doubleLength(h.Usage) {
		// One may be written as K1 K2 K1.
		if subtle.ConstantTimeCompare(value[:8], value[16:]) != 1 {
			return nil, fmt.Errorf("%w: a TDES key of usage %s has 16 bytes", ErrKey, h.Usage)
		}
		value = value[:16]
	}
	keyType, err := KeyType(h.Algorithm, len(value))
	if err != nil {
		return nil, err
	}
	h.Generation, h.Length = m.Generation, uint16(len(value))
	region, err := locked.New(2 * maxKey)
	if err != nil {
		return nil, err
	}
	defer region.Free()
	if h.CheckValue, err = checkValue(session, h.Algorithm, keyType, value); err != nil {
		return nil, err
	}
	if h.Fingerprint, err = m.Fingerprint(session, h.Algorithm, value, region.Bytes()); err != nil {
		return nil, err
	}
	parts := [][]byte{value}
	if size := paddedSize(h.Algorithm, len(value)); size != len(value) {
		padded := region.Bytes()[:size]
		clear(padded[copy(padded, value):])
		parts[0] = padded
	}
	for i := range twins(&h) {
		twin := region.Bytes()[i*maxKey : i*maxKey+len(value)]
		putTwin(twin, value, h.Usage, i)
		parts = append(parts, twin)
	}
	var wrapped [][]byte
	for _, part := range parts {
		w, err := m.wrap(session, m.wrapping(h.Custody), keyType, part)
		if err != nil {
			return nil, err
		}
		wrapped = append(wrapped, w)
	}
	return m.finish(session, &h, wrapped)
}

// finish puts a sealed key together: the header and the wrapped parts with their code.
func (m *Masters) finish(session *token.Session, h *hsm.Header, wrapped [][]byte) ([]byte, error) {
	body, err := hsm.SealedBody(h, wrapped)
	if err != nil {
		return nil, err
	}
	mac := make([]byte, hsm.MACSize)
	if err := code(session, m.mac, mac, body); err != nil {
		return nil, err
	}
	return slices.Concat(body, mac), nil
}

// wrap brings a clear value into the token as an extractable session object, wraps
// it and destroys the object.
func (m *Masters) wrap(session *token.Session, wrapping token.Object, keyType uint, value []byte) ([]byte, error) {
	object, err := session.Import(keyType, token.Extractable, value)
	if err != nil {
		return nil, err
	}
	wrapped, err := session.Wrap(token.CKMAESKeyWrapPad, wrapping, object)
	if gone := session.Destroy(object); err == nil {
		err = gone
	}
	return wrapped, err
}

// KeyType returns the PKCS#11 key type for an algorithm of X9.143 and a length in
// bytes. Single DES is refused.
func KeyType(algorithm string, length int) (uint, error) {
	switch {
	case algorithm == "T" && length == 16:
		return pkcs11.CKK_DES2, nil
	case algorithm == "T" && length == 24:
		return pkcs11.CKK_DES3, nil
	case algorithm == "T" && length == 8:
		return 0, fmt.Errorf("%w: single DES is not accepted; TDES keys have 16 or 24 bytes", ErrKey)
	case algorithm == "A" && (length == 16 || length == 24 || length == 32):
		return pkcs11.CKK_AES, nil
	case algorithm == "H" && length >= 16 && (length <= 64 || length <= maxKey && length%8 == 0):
		return pkcs11.CKK_GENERIC_SECRET, nil
	}
	return 0, fmt.Errorf("%w: algorithm %q with %d bytes (T has 16 or 24, A 16, 24 or 32, H 16 to 64, or a multiple of 8 up to %d)", ErrKey, algorithm, length, maxKey)
}

// paddedSize is the size in bytes with which a key goes into the token. An HMAC key has
// zeros at its end, which change nothing (RFC 2104, for up to 64 bytes): SoftHSM 2.6.1
// wraps lengths that are no multiple of 8 otherwise than RFC 5649 says, and makes no
// HMAC with a key shorter than the hash.
func paddedSize(algorithm string, size int) int {
	if algorithm != "H" {
		return size
	}
	return max(32, (size+7)/8*8)
}

// CheckValue returns the KCV of a clear value, which must be a key of the algorithm.
func CheckValue(session *token.Session, algorithm string, value []byte) (string, error) {
	keyType, err := KeyType(algorithm, len(value))
	if err != nil {
		return "", err
	}
	return checkValue(session, algorithm, keyType, value)
}

// checkValue computes the KCV of ANSI X9.24-1 annex A: three bytes, as six
// upper-case hex digits. TDES enciphers a block of zeros, AES makes a CMAC of one,
// and HMAC is over the empty message (ANSI X9.143, KC block).
func checkValue(session *token.Session, algorithm string, keyType uint, value []byte) (string, error) {
	if algorithm == "H" {
		var check string
		erase.Do(func() {
			mac := hmac.New(sha256.New, value)
			check = kcv(mac.Sum(nil))
		})
		return check, nil
	}
	object, err := session.Import(keyType, token.MayEncrypt|token.MaySign, value)
	if err != nil {
		return "", err
	}
	var zeros, out [16]byte
	if algorithm == "T" {
		err = session.Encrypt(pkcs11.CKM_DES3_ECB, object, out[:8], zeros[:8])
	} else {
		_, err = session.Sign(pkcs11.CKM_AES_CMAC, object, out[:], zeros[:])
	}
	if gone := session.Destroy(object); err == nil {
		err = gone
	}
	return kcv(out[:]), err
}

func kcv(b []byte) string { return strings.ToUpper(hex.EncodeToString(b[:3])) }

// Fingerprint is a keyed digest of a key value: equal for values that are the same key of the
// same algorithm, useless to whoever has not the token. Parity bits of TDES keys do not count,
// and K1 K2 K1 is the same key as K1 K2. buffer is locked memory, 32 bytes longer than the
// value, or more.
func (m *Masters) Fingerprint(session *token.Session, algorithm string, value, buffer []byte) (string, error) {
	const domain = "keyd key fingerprint\x00"
	message := buffer[:0]
	message = append(message, domain...)
	message = append(message, algorithm[0])
	message = append(message, value...)
	if algorithm == "T" {
		message = normalize(message, len(message)-len(value))
	}
	mac := make([]byte, hsm.MACSize)
	err := code(session, m.fingerprints, mac, message)
	clear(message)
	return strings.ToUpper(hex.EncodeToString(mac)), err
}

// normalize gives the TDES key that begins at an offset odd parity, and drops a third part
// that repeats the first.
func normalize(message []byte, at int) []byte {
	key := message[at:]
	for i := range key {
		key[i] = key[i]&^1 | byte(bits.OnesCount8(key[i]&^1)&1^1)
	}
	if len(key) == 24 && subtle.ConstantTimeCompare(key[:8], key[16:]) == 1 {
		clear(key[16:])
		return message[:at+16]
	}
	return message
}
