package token

/*
#include "direct.h"
*/
import "C"

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm/module/internal/locked"
)

// Object is the handle of an object in the token.
type Object uint

// Session is a session and the locked memory of the operation that uses it. Only
// one goroutine uses a session at a time.
type Session struct {
	token   *Token
	handle  pkcs11.SessionHandle
	scratch *locked.Region
	since   atomic.Int64 // Unix nanoseconds at which the current operation began; 0: idle
}

// ScratchSize is the size of a session's locked memory, in bytes.
const ScratchSize = 32 << 10

func newSession(t *Token) (*Session, error) {
	scratch, err := locked.New(ScratchSize)
	if err != nil {
		return nil, err
	}
	s := &Session{token: t, scratch: scratch}
	if s.handle, err = t.openSession(); err != nil {
		scratch.Free()
		return nil, err
	}
	return s, nil
}

// reopen closes the session, whatever state it is in, and opens another. One that cannot be closed, and so has its
// objects, stays the session.
func (s *Session) reopen() error {
	err := named("C_CloseSession", s.token.lib.ctx.CloseSession(s.handle))
	if err != nil && !hasCode(err, pkcs11.CKR_SESSION_HANDLE_INVALID) && !hasCode(err, pkcs11.CKR_SESSION_CLOSED) {
		return err
	}
	s.handle, err = s.token.openSession()
	return err
}

// Patience lets the present operation take that much longer before it counts as hanging
// ([Token.Stuck]).
func (s *Session) Patience(d time.Duration) { s.since.Add(int64(d)) }

// Scratch returns the session's locked memory. It is wiped when the operation ends.
func (s *Session) Scratch() []byte { return s.scratch.Bytes() }

// Encrypt enciphers in, whole blocks, into out under a key in the token, with a mechanism
// that has no parameter.
func (s *Session) Encrypt(mechanism uint, key Object, out, in []byte) error {
	return s.encrypt(mechanism, nil, key, out, in)
}

// Decrypt deciphers in, whole blocks, into out likewise.
func (s *Session) Decrypt(mechanism uint, key Object, out, in []byte) error {
	return s.decrypt(mechanism, nil, key, out, in)
}

// EncryptCBC enciphers in, whole blocks, with CKM_DES3_CBC or CKM_AES_CBC. iv is one block
// and stays as it is.
func (s *Session) EncryptCBC(mechanism uint, iv []byte, key Object, out, in []byte) error {
	return s.encrypt(mechanism, iv, key, out, in)
}

// DecryptCBC deciphers in likewise.
func (s *Session) DecryptCBC(mechanism uint, iv []byte, key Object, out, in []byte) error {
	return s.decrypt(mechanism, iv, key, out, in)
}

// EncryptCTR enciphers in, of any length, with CKM_AES_CTR. counter is the first counter
// block, of which all 128 bits count.
func (s *Session) EncryptCTR(counter *[16]byte, key Object, out, in []byte) error {
	p := ctrParameter(counter)
	return s.encrypt(pkcs11.CKM_AES_CTR, p[:], key, out, in)
}

// DecryptCTR deciphers in likewise.
func (s *Session) DecryptCTR(counter *[16]byte, key Object, out, in []byte) error {
	p := ctrParameter(counter)
	return s.decrypt(pkcs11.CKM_AES_CTR, p[:], key, out, in)
}

// ctrParameter is CK_AES_CTR_PARAMS: the number of counter bits and the counter block.
func ctrParameter(counter *[16]byte) (p [24]byte) {
	binary.NativeEndian.PutUint64(p[:], 128)
	copy(p[8:], counter[:])
	return p
}

func (s *Session) encrypt(mechanism uint, parameter []byte, key Object, out, in []byte) error {
	if len(in) == 0 || len(out) < len(in) {
		return &Error{Call: "C_Encrypt", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.cipher(mechanism, true, len(in))
	return call("C_Encrypt", uint(C.keyd_encrypt(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism),
		unsafe.Pointer(unsafe.SliceData(parameter)), C.keyd_ulong(len(parameter)),
		C.keyd_ulong(key), unsafe.Pointer(&in[0]), C.keyd_ulong(len(in)), unsafe.Pointer(&out[0]))))
}

func (s *Session) decrypt(mechanism uint, parameter []byte, key Object, out, in []byte) error {
	if len(in) == 0 || len(out) < len(in) {
		return &Error{Call: "C_Decrypt", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.cipher(mechanism, false, len(in))
	return call("C_Decrypt", uint(C.keyd_decrypt(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism),
		unsafe.Pointer(unsafe.SliceData(parameter)), C.keyd_ulong(len(parameter)),
		C.keyd_ulong(key), unsafe.Pointer(&in[0]), C.keyd_ulong(len(in)), unsafe.Pointer(&out[0]))))
}

// nothing stands for an empty message: a pointer that is nil is a bad argument.
var nothing [1]byte

// Sign makes a MAC over in, which may be empty, and returns its length; out must have room
// for all of it. On a token that makes no CMACs with TDES keys, as NSS softokn, the error of
// one is a refusal of package fault too.
func (s *Session) Sign(mechanism uint, key Object, out, in []byte) (int, error) {
	if len(out) == 0 {
		return 0, &Error{Call: "C_Sign", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	message := unsafe.Pointer(unsafe.SliceData(in))
	if len(in) == 0 {
		message = unsafe.Pointer(&nothing)
	}
	s.token.tallies.sign.add(0)
	n := C.keyd_ulong(len(out))
	rv := C.keyd_sign(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(mechanism),
		C.keyd_ulong(key), message, C.keyd_ulong(len(in)), unsafe.Pointer(&out[0]), &n)
	err := call("C_Sign", uint(rv))
	if mechanism == pkcs11.CKM_DES3_CMAC && hasCode(err, pkcs11.CKR_MECHANISM_INVALID) {
		err = fmt.Errorf("%w: %w", fault.New(fault.KeyUsageMismatch, "this token makes no CMACs with TDES keys: use an AES key"), err)
	}
	return int(n), err
}

// Rights are what a session key may be used for.
type Rights int

// The rights of PKCS#11 that keyd gives to session keys.
const (
	MayEncrypt  Rights = C.KEYD_ENCRYPT
	MayDecrypt  Rights = C.KEYD_DECRYPT
	MaySign     Rights = C.KEYD_SIGN
	MayDerive   Rights = C.KEYD_DERIVE
	MayWrap     Rights = C.KEYD_WRAP
	MayUnwrap   Rights = C.KEYD_UNWRAP
	Extractable Rights = C.KEYD_EXTRACTABLE // only for a key that is being sealed
)

// Import brings a clear key into the token as a sensitive session object of this
// session. value is memory of the caller's, which wipes it.
func (s *Session) Import(keyType uint, rights Rights, value []byte) (Object, error) {
	if len(value) == 0 {
		return 0, &Error{Call: "C_CreateObject", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	var object C.keyd_ulong
	rv := C.keyd_import(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(keyType), C.int(rights),
		unsafe.Pointer(&value[0]), C.keyd_ulong(len(value)), &object)
	return Object(object), call("C_CreateObject", uint(rv))
}

// Unwrap unwraps a key as a sensitive, non-extractable session object of the keeper,
// so that it outlives this session. The key's length is that of the wrapped value.
func (s *Session) Unwrap(mechanism uint, wrappingKey Object, wrapped []byte, keyType uint, rights Rights) (Object, error) {
	if len(wrapped) == 0 {
		return 0, &Error{Call: "C_UnwrapKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.unwrap.add(0)
	s.token.mu.Lock() // the keeper is one session
	defer s.token.mu.Unlock()
	var object C.keyd_ulong
	rv := C.keyd_unwrap(s.token.lib.direct, C.keyd_ulong(s.token.keeper), s.token.wrapMechanism(mechanism), C.keyd_ulong(wrappingKey),
		unsafe.Pointer(&wrapped[0]), C.keyd_ulong(len(wrapped)), C.keyd_ulong(keyType), 0, C.int(rights), &object)
	return Object(object), call("C_UnwrapKey", uint(rv))
}

// Derive derives a key by encrypting data under base (CKM_AES_ECB_ENCRYPT_DATA); its
// value is the leading bytes of the result. length is the key's in bytes for AES and 0
// for key types of one length. It is a sensitive, non-extractable object of this
// session.
func (s *Session) Derive(base Object, data []byte, keyType uint, length int, rights Rights) (Object, error) {
	return s.token.derive(s.handle, base, data, keyType, length, rights)
}

// DeriveKept is [Session.Derive] to an object of the keeper, so that it outlives this
// session.
func (s *Session) DeriveKept(base Object, data []byte, keyType uint, length int, rights Rights) (Object, error) {
	s.token.mu.Lock() // the keeper is one session
	defer s.token.mu.Unlock()
	return s.token.derive(s.token.keeper, base, data, keyType, length, rights)
}

func (t *Token) derive(session pkcs11.SessionHandle, base Object, data []byte, keyType uint, length int, rights Rights) (Object, error) {
	if len(data) == 0 {
		return 0, &Error{Call: "C_DeriveKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	t.tallies.derive.add(0)
	var pinned [64]byte // the structure passed to C points to it
	n := copy(pinned[:], data)
	var object C.keyd_ulong
	rv := C.keyd_derive(t.lib.direct, C.keyd_ulong(session), pkcs11.CKM_AES_ECB_ENCRYPT_DATA, C.keyd_ulong(base),
		unsafe.Pointer(&pinned[0]), C.keyd_ulong(n), C.keyd_ulong(keyType), C.keyd_ulong(length), C.int(rights), &object)
	return Object(object), call("C_DeriveKey", uint(rv))
}

// Destroy removes an object that an operation made.
func (s *Session) Destroy(object Object) error {
	s.token.tallies.destroy.add(0)
	return call("C_DestroyObject", uint(C.keyd_destroy(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(object))))
}

// Discard removes an object that the keeper owns ([Session.Unwrap]).
func (t *Token) Discard(object Object) error {
	t.tallies.destroy.add(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	return call("C_DestroyObject", uint(C.keyd_destroy(t.lib.direct, C.keyd_ulong(t.keeper), C.keyd_ulong(object))))
}

// maxWrapped is the room for a wrapped key, in bytes: more than any that keyd wraps.
const maxWrapped = 1024

// Wrap wraps an extractable key. The result is ciphertext.
func (s *Session) Wrap(mechanism uint, wrappingKey, key Object) ([]byte, error) {
	// Not by the pkcs11 package, which asks for the length first: NSS 3.87 answers less
	// than AES-KWP needs.
	var out [maxWrapped]byte
	n := C.keyd_ulong(len(out))
	rv := C.keyd_wrap_secret(s.token.lib.direct, C.keyd_ulong(s.handle), s.token.wrapMechanism(mechanism),
		C.keyd_ulong(wrappingKey), C.keyd_ulong(key), unsafe.Pointer(&out[0]), &n)
	if err := call("C_WrapKey", uint(rv)); err != nil {
		return nil, err
	}
	if n > maxWrapped {
		return nil, &Error{Call: "C_WrapKey", Code: pkcs11.CKR_WRAPPED_KEY_LEN_RANGE}
	}
	return bytes.Clone(out[:n]), nil
}
