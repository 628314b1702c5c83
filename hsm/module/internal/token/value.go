package token

/*
#include "direct.h"
*/
import "C"

import (
	"unsafe"

	"github.com/miekg/pkcs11"
)

// value reads an object's CKA_VALUE into memory of the caller's and returns its length.
// It does not go through the pkcs11 package, which leaves a copy on the C heap.
func (s *Session) value(object Object, out []byte) (int, error) {
	if len(out) == 0 {
		return 0, &Error{Call: "C_GetAttributeValue", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	n := C.keyd_ulong(len(out))
	rv := C.keyd_value(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(object), unsafe.Pointer(&out[0]), &n)
	return int(n), call("C_GetAttributeValue", uint(rv))
}

// valueSize returns the length of an object's CKA_VALUE.
func (s *Session) valueSize(object Object) (int, error) {
	var n C.keyd_ulong
	rv := C.keyd_value(s.token.lib.direct, C.keyd_ulong(s.handle), C.keyd_ulong(object), nil, &n)
	return int(n), call("C_GetAttributeValue", uint(rv))
}
