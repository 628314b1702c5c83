package token

/*
#include "direct.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// ErrNotReadable is returned where a wrapping key lets nothing that it unwraps be read.
var ErrNotReadable = errors.New("the wrapping key lets nothing that it unwraps be read")

// UnwrapReadable unwraps a key and reads its value into locked memory of the caller's: for
// keys that leave as key blocks, which no token makes. It returns the length in bytes. The
// error wraps [ErrNotReadable] if the wrapping key's unwrap template forbids it.
func (s *Session) UnwrapReadable(mechanism uint, wrappingKey Object, wrapped, out []byte) (n int, err error) {
	if len(wrapped) == 0 {
		return 0, &Error{Call: "C_UnwrapKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.unwrap.add(0)
	var object C.keyd_ulong
	rv := C.keyd_unwrap_readable(s.token.lib.direct, C.keyd_ulong(s.handle), s.token.wrapMechanism(mechanism), C.keyd_ulong(wrappingKey),
		unsafe.Pointer(&wrapped[0]), C.keyd_ulong(len(wrapped)), &object)
	err = call("C_UnwrapKey", uint(rv))
	if hasCode(err, pkcs11.CKR_TEMPLATE_INCONSISTENT) || hasCode(err, pkcs11.CKR_ATTRIBUTE_READ_ONLY) {
		return 0, fmt.Errorf("%w: %w", ErrNotReadable, err)
	}
	if err != nil {
		return 0, err
	}
	key := Object(object)
	defer func() { err = errors.Join(err, s.Destroy(key)) }()
	sensitive, err := s.flag(key, pkcs11.CKA_SENSITIVE)
	if err != nil {
		return 0, err
	}
	if sensitive {
		return 0, ErrNotReadable
	}
	return s.value(key, out)
}

// Random fills out, which is half of a secret at most: the pkcs11 package leaves a copy on
// the C heap.
func (s *Session) Random(out []byte) error {
	b, err := s.token.lib.ctx.GenerateRandom(s.handle, len(out))
	defer clear(b)
	if err != nil {
		return named("C_GenerateRandom", err)
	}
	if copy(out, b) != len(out) {
		return &Error{Call: "C_GenerateRandom", Code: pkcs11.CKR_GENERAL_ERROR}
	}
	return nil
}

// DeriveReadable is [Session.Derive] whose value, as long as out, goes to locked memory of
// the caller's: for initial keys that leave as key blocks.
func (s *Session) DeriveReadable(base Object, data, out []byte) (err error) {
	if len(data) == 0 || len(data) > 64 || len(out) == 0 {
		return &Error{Call: "C_DeriveKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.derive.add(0)
	var pinned [64]byte // the structure passed to C points to it
	n := copy(pinned[:], data)
	var object C.keyd_ulong
	rv := C.keyd_derive_readable(s.token.lib.direct, C.keyd_ulong(s.handle), pkcs11.CKM_AES_ECB_ENCRYPT_DATA, C.keyd_ulong(base),
		unsafe.Pointer(&pinned[0]), C.keyd_ulong(n), C.keyd_ulong(len(out)), &object)
	if err := call("C_DeriveKey", uint(rv)); err != nil {
		return err
	}
	key := Object(object)
	defer func() { err = errors.Join(err, s.Destroy(key)) }()
	read, err := s.value(key, out)
	if err == nil && read != len(out) {
		err = &Error{Call: "C_GetAttributeValue", Code: pkcs11.CKR_GENERAL_ERROR}
	}
	return err
}
