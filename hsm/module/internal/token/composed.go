package token

/*
#include "direct.h"
*/
import "C"

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// The calls below change a secret without its leaving the token: each makes a new session
// object of this session of one that is there, sensitive, which can be derived from and wrapped
// and nothing else. All that crosses the interface is public data and ciphertext. The objects
// are gone after [Session.Forget], or one by one by [Session.Destroy]. Bits are counted from
// the left, sizes are bytes.

// UnwrapSecret opens ciphertext of whole blocks (CKM_DES3_ECB or CKM_AES_ECB) to an object.
func (s *Session) UnwrapSecret(mechanism uint, key Object, in []byte) (Object, error) {
	if len(in) == 0 {
		return 0, &Error{Call: "C_UnwrapKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.unwrap.add(0)
	var object C.keyd_ulong
	rv := C.keyd_unwrap_secret(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism), C.keyd_ulong(key),
		unsafe.Pointer(&in[0]), C.keyd_ulong(len(in)), &object)
	return Object(object), call("C_UnwrapKey", uint(rv))
}

// WrapSecret enciphers a secret with such a mechanism into out, which has exactly the size
// of the ciphertext: the secret's, with zeros up to a whole block (PKCS#11 2.40 §2.8, CKM_AES_ECB).
func (s *Session) WrapSecret(mechanism uint, key, secret Object, out []byte) error {
	if len(out) == 0 {
		return &Error{Call: "C_WrapKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.wrap.add(0)
	n := C.keyd_ulong(len(out))
	rv := C.keyd_wrap_secret(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism), C.keyd_ulong(key),
		C.keyd_ulong(secret), unsafe.Pointer(&out[0]), &n)
	if err := call("C_WrapKey", uint(rv)); err != nil {
		return err
	}
	if int(n) != len(out) {
		return &Error{Call: "C_WrapKey", Code: pkcs11.CKR_WRAPPED_KEY_LEN_RANGE}
	}
	return nil
}

// XOR combines a secret with data; the result is as long as the shorter one
// (CKM_XOR_BASE_AND_DATA).
func (s *Session) XOR(base Object, data []byte) (Object, error) {
	return s.deriveData(pkcs11.CKM_XOR_BASE_AND_DATA, base, data, pkcs11.CKK_GENERIC_SECRET, 0)
}

// Append puts data behind a secret (CKM_CONCATENATE_BASE_AND_DATA).
func (s *Session) Append(base Object, data []byte) (Object, error) {
	return s.deriveData(pkcs11.CKM_CONCATENATE_BASE_AND_DATA, base, data, pkcs11.CKK_GENERIC_SECRET, 0)
}

// Prepend puts data before a secret (CKM_CONCATENATE_DATA_AND_BASE).
func (s *Session) Prepend(data []byte, base Object) (Object, error) {
	return s.deriveData(pkcs11.CKM_CONCATENATE_DATA_AND_BASE, base, data, pkcs11.CKK_GENERIC_SECRET, 0)
}

// Join puts a secret behind another (CKM_CONCATENATE_BASE_AND_KEY).
func (s *Session) Join(first, second Object) (Object, error) {
	return s.deriveNumber(pkcs11.CKM_CONCATENATE_BASE_AND_KEY, first, uint(second), pkcs11.CKK_GENERIC_SECRET, 0)
}

// Extract takes size bytes out of a secret from a bit on (CKM_EXTRACT_KEY_FROM_KEY). They
// must end within it: not every token goes on at the beginning.
func (s *Session) Extract(base Object, bit, size int) (Object, error) {
	return s.deriveNumber(pkcs11.CKM_EXTRACT_KEY_FROM_KEY, base, uint(bit), pkcs11.CKK_GENERIC_SECRET, size)
}

// ExtractAES is Extract of an AES key, from which [Session.Image] derives.
func (s *Session) ExtractAES(base Object, bit, size int) (Object, error) {
	return s.deriveNumber(pkcs11.CKM_EXTRACT_KEY_FROM_KEY, base, uint(bit), pkcs11.CKK_AES, size)
}

// Image enciphers data under an AES key that is a secret, and makes the leading bytes of the
// result a secret (CKM_AES_ECB_ENCRYPT_DATA).
func (s *Session) Image(key Object, data []byte, size int) (Object, error) {
	return s.deriveData(pkcs11.CKM_AES_ECB_ENCRYPT_DATA, key, data, pkcs11.CKK_GENERIC_SECRET, size)
}

// RandomSecret makes a secret of random bytes (CKM_GENERIC_SECRET_KEY_GEN).
func (s *Session) RandomSecret(size int) (Object, error) {
	s.token.tallies.generate.add(0)
	var object C.keyd_ulong
	rv := C.keyd_generate_secret(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(size), &object)
	return Object(object), call("C_GenerateKey", uint(rv))
}

// Forget destroys all session objects of this session, with two calls: it closes the session
// and opens another.
func (s *Session) Forget() error {
	s.token.tallies.sessions.add(0)
	s.token.tallies.sessions.add(0)
	return s.reopen()
}

func (s *Session) deriveData(mechanism uint, base Object, data []byte, keyType uint, size int) (Object, error) {
	if len(data) == 0 || len(data) > 64 {
		return 0, &Error{Call: "C_DeriveKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.derive.add(0)
	var pinned [64]byte // the structure passed to C points to it
	n := copy(pinned[:], data)
	var object C.keyd_ulong
	rv := C.keyd_derive_data(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism), C.keyd_ulong(base),
		unsafe.Pointer(&pinned[0]), C.keyd_ulong(n), C.keyd_ulong(keyType), C.keyd_ulong(size), &object)
	return Object(object), call("C_DeriveKey", uint(rv))
}

func (s *Session) deriveNumber(mechanism uint, base Object, number, keyType uint, size int) (Object, error) {
	s.token.tallies.derive.add(0)
	var object C.keyd_ulong
	rv := C.keyd_derive_number(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism), C.keyd_ulong(base),
		C.keyd_ulong(number), C.keyd_ulong(keyType), C.keyd_ulong(size), &object)
	return Object(object), call("C_DeriveKey", uint(rv))
}

// Agree makes an AES-256 key that the token and the holder of peer's private key have and that
// nobody learns who sees the calls (ECDH on P-256, CKD_NULL; NIST SP 800-56A §5.7.1.2): the key is
// the secret itself. It is an object of the keeper, which wraps and does nothing else; the
// token's key pair is of this session. The token's public key is returned with it.
func (s *Session) Agree(peer *ecdh.PublicKey) (key Object, public *ecdh.PublicKey, err error) {
	if peer == nil || peer.Curve() != ecdh.P256() {
		return 0, nil, errors.New("Agree: the peer's key is not on P-256")
	}
	p256, err := curveParameters(elliptic.P256())
	if err != nil {
		return 0, nil, err
	}
	ctx, no, yes := s.token.lib.ctx, false, true
	publicObject, private, err := ctx.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, no),
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, no),
			pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, yes),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, yes),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, no),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, no),
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, no),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, no),
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, yes),
		})
	if err != nil {
		return 0, nil, named("C_GenerateKeyPair", err)
	}
	got, err := ctx.GetAttributeValue(s.handle, publicObject, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil)})
	if err != nil {
		return 0, nil, named("C_GetAttributeValue", err)
	}
	var point []byte
	if rest, err := asn1.Unmarshal(got[0].Value, &point); err != nil || len(rest) != 0 {
		return 0, nil, errors.New("Agree: the token's point is no OCTET STRING")
	}
	if public, err = ecdh.P256().NewPublicKey(point); err != nil {
		return 0, nil, err
	}
	s.token.mu.Lock() // the keeper is one session
	defer s.token.mu.Unlock()
	to := peer.Bytes()
	var object C.keyd_ulong
	rv := C.keyd_agree(s.token.lib.direct, C.keyd_ulong(s.token.keeper), C.keyd_ulong(private), unsafe.Pointer(&to[0]), C.keyd_ulong(len(to)), 32, &object)
	return Object(object), public, call("C_DeriveKey", uint(rv))
}
