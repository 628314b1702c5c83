package sealing

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Some keys lie in the token itself: key pairs, whose private keys no token gives away, and
// keys that the token held before and that officers attach. Such a sealed key has a header
// and no part; what it is about is found by a label.

// parts is how many wrapped parts a sealed key has.
func parts(h *hsm.Header) int {
	if h.Object != "" {
		return 0
	}
	return 1 + twins(h)
}

// SealHeld seals the header of a key that lies in the token. Length, check value and
// fingerprint are the caller's.
func (m *Masters) SealHeld(session *token.Session, h hsm.Header) ([]byte, error) {
	h.Generation, h.Custody = m.Generation, hsm.CustodyToken
	return m.finish(session, &h, nil)
}

// PairPrefix begins the labels of keyd's key pairs that officers make; more follows,
// see package quorum.
const PairPrefix = "keyd pair "

// PublicValues returns what stands for check value and fingerprint of a key pair: the first
// bytes of the SHA-256 of its SubjectPublicKeyInfo (RFC 5280), which is returned too.
func PublicValues(public crypto.PublicKey) (check, fingerprint string, der []byte, err error) {
	if der, err = x509.MarshalPKIXPublicKey(public); err != nil {
		return "", "", nil, err
	}
	sum := sha256.Sum256(der)
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	return text[:6], text[:2*hsm.MACSize], der, nil
}

// Pair returns the key pair that a sealed key is about, once its seal has been checked. The
// public key must be the one that was sealed.
func (s *Set) Pair(session *token.Session, sealed []byte) (*hsm.Header, token.Pair, error) {
	parsed, _, err := s.open(session, sealed)
	if err != nil {
		return nil, token.Pair{}, err
	}
	h := parsed.Header
	if len(h.Public) == 0 || !strings.HasPrefix(h.Object, PairPrefix) {
		return nil, token.Pair{}, fault.New(fault.KeyUsageMismatch, "it is no key pair")
	}
	pair, err := session.FindPair(h.Object)
	if errors.Is(err, token.ErrNoObject) {
		return nil, token.Pair{}, fault.New(fault.KeySealInvalid, "the token does not hold this key pair")
	}
	if err != nil {
		return nil, token.Pair{}, err
	}
	if _, _, der, err := PublicValues(pair.Public); err != nil || !bytes.Equal(der, h.Public) {
		return nil, token.Pair{}, fault.New(fault.KeySealInvalid, "the token holds another key pair under this label")
	}
	return h, pair, nil
}

// Attach looks at a secret key that the token holds, and says whether it can be used under a
// header: it is of that type and length, nobody can read it or change it, and it has the
// rights that the header's usage and mode of use need. What it returns besides is its check
// value, and a fingerprint of where it is, since nobody knows its value.
func (m *Masters) Attach(session *token.Session, h *hsm.Header, label string) (check, fingerprint string, err error) {
	if strings.HasPrefix(label, "keyd ") {
		return "", "", fault.New(fault.DefinitionInvalid, "object: this is one of keyd's own")
	}
	if twins(h) > 0 {
		return "", "", fault.New(fault.DefinitionInvalid, fmt.Sprintf("object: a TDES key of usage %s is used in parts, which no token makes of a key that it holds", h.Usage))
	}
	object, err := held(session, h, label)
	if fault.Of(err).Reason == fault.KeySealInvalid {
		return "", "", fault.New(fault.DefinitionInvalid, "object: the token holds no secret key of this label")
	}
	if err != nil {
		return "", "", err
	}
	if check, err = heldCheckValue(session, h, object); err != nil {
		return "", "", err
	}
	mac := make([]byte, hsm.MACSize)
	if err := code(session, m.fingerprints, mac, []byte("keyd attached\x00"+label)); err != nil {
		return "", "", err
	}
	return check, strings.ToUpper(hex.EncodeToString(mac)), nil
}

// held finds the secret key that a header is about, and refuses one that does not fit.
func held(session *token.Session, h *hsm.Header, label string) (token.Object, error) {
	keyType, err := KeyType(h.Algorithm, int(h.Length))
	if err != nil {
		return 0, err
	}
	object, info, err := session.FindSecret(label)
	if errors.Is(err, token.ErrNoObject) {
		return 0, fault.New(fault.KeySealInvalid, "the token holds no secret key of this label")
	}
	if err != nil {
		return 0, err
	}
	need := rights(h)
	has := map[token.Rights]bool{token.MayEncrypt: info.Encrypt, token.MayDecrypt: info.Decrypt, token.MaySign: info.Sign, token.MayDerive: info.Derive}
	lacks := false
	for right, there := range has {
		lacks = lacks || need&right != 0 && !there
	}
	switch {
	case info.KeyType != keyType || info.Length != int(h.Length):
		err = errors.New("is of another type or length")
	case !info.Private || !info.Sensitive || info.Extractable || info.Modifiable:
		err = errors.New("can be read or changed: it has to be private, sensitive, not extractable and not modifiable")
	case info.Wrap || info.Unwrap:
		err = errors.New("may wrap or unwrap other keys")
	case lacks:
		err = errors.New("lacks a right that the usage and mode of use need")
	}
	if err != nil {
		return 0, fault.New(fault.KeyUsageMismatch, "the token's key "+err.Error())
	}
	return object, nil
}

// heldCheckValue makes the check value of a key that the token holds with what right it has.
func heldCheckValue(session *token.Session, h *hsm.Header, object token.Object) (string, error) {
	var zeros, out [16]byte
	r := rights(h)
	switch {
	case h.Algorithm == "T" && r&token.MayEncrypt != 0:
		err := session.Encrypt(pkcs11.CKM_DES3_ECB, object, out[:8], zeros[:8])
		return kcv(out[:]), err
	case h.Algorithm == "A" && r&token.MaySign != 0:
		_, err := session.Sign(pkcs11.CKM_AES_CMAC, object, out[:], zeros[:])
		return kcv(out[:]), err
	case h.Algorithm == "A" && r&token.MayEncrypt != 0:
		err := cmacOfZeros(&out, func(block []byte) error { return session.Encrypt(pkcs11.CKM_AES_ECB, object, block, block) })
		return kcv(out[:]), err
	case h.Algorithm == "A" && r&token.MayDerive != 0:
		err := cmacOfZeros(&out, func(block []byte) error { return session.DeriveReadable(object, bytes.Clone(block), block) })
		return kcv(out[:]), err
	}
	return "", fault.New(fault.DefinitionInvalid, "object: nothing that this key may do gives a check value")
}

// cmacOfZeros is the AES-CMAC of a block of zeros (NIST SP 800-38B) by the cipher alone: the
// encipherment of the first subkey.
func cmacOfZeros(out *[16]byte, encipher func(block []byte) error) error {
	clear(out[:])
	if err := encipher(out[:]); err != nil {
		return err
	}
	carry := out[0] >> 7
	for i := range 15 {
		out[i] = out[i]<<1 | out[i+1]>>7
	}
	out[15] = out[15]<<1 ^ carry*0x87
	return encipher(out[:])
}
