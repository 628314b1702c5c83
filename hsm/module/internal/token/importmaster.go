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

// ErrNotExtractable is returned where a wrapping key lets nothing that it unwraps be
// extractable.
var ErrNotExtractable = errors.New("the wrapping key lets nothing that it unwraps be wrapped again")

// ImportMaster brings a known AES-256 master key into the token, with the attributes of
// [Session.GenerateMaster] but for its origin, as far as the token knows them, and checks them ([Session.CheckImportedMaster]).
// value is 32 bytes of locked memory of the caller's, which wipes it; unwrapTemplate has at
// most 16 entries. The error wraps [ErrExists] if a secret key has the label already. A key
// that is not as asked is destroyed.
func (s *Session) ImportMaster(label string, rights Rights, mechanism uint, unwrapTemplate []TemplateBool, value []byte) (Object, error) {
	if err := checkLabel(label); err != nil {
		return 0, err
	}
	if len(value) != 32 {
		return 0, fmt.Errorf("a master key has 32 bytes, not %d", len(value))
	}
	if len(unwrapTemplate) > C.KEYD_UNWRAP_TEMPLATE_MAX {
		return 0, fmt.Errorf("an unwrap template of %d attributes is too long", len(unwrapTemplate))
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	if err := s.absent(pkcs11.CKO_SECRET_KEY, label); err != nil {
		return 0, err
	}
	if !s.token.knows.UnwrapTemplate {
		unwrapTemplate = nil
	}
	flags, on := splitFlags(masterFlags(rights))
	unwrap, unwrapOn := splitFlags(unwrapTemplate)
	id := newID()
	var allowed, some C.keyd_ulong
	if s.token.knows.OneMechanism {
		allowed, some = s.token.wrapMechanism(mechanism), 1
	}
	var object C.keyd_ulong
	rv := C.keyd_import_master(s.token.lib.direct, C.keyd_ulong(s.handle),
		unsafe.Pointer(unsafe.StringData(label)), C.keyd_ulong(len(label)),
		unsafe.SliceData(flags), unsafe.SliceData(on), C.keyd_ulong(len(flags)),
		unsafe.Pointer(&id[0]), C.keyd_ulong(len(id)),
		allowed, some,
		unsafe.SliceData(unwrap), unsafe.SliceData(unwrapOn), C.keyd_ulong(len(unwrap)),
		unsafe.Pointer(&value[0]), C.keyd_ulong(len(value)), &object)
	if err := call("C_CreateObject", uint(rv)); err != nil {
		return 0, err
	}
	if err := s.CheckImportedMaster(Object(object), rights, mechanism); err != nil {
		return 0, errors.Join(err, s.Destroy(Object(object)))
	}
	return Object(object), nil
}

// splitFlags lays booleans out for C, which builds the template of them.
func splitFlags(flags []TemplateBool) ([]C.keyd_ulong, []C.uchar) {
	types, values := make([]C.keyd_ulong, len(flags)), make([]C.uchar, len(flags))
	for i, f := range flags {
		types[i] = C.keyd_ulong(f.Type)
		if f.Value {
			values[i] = 1
		}
	}
	return types, values
}

// CheckImportedMaster is [Session.CheckMaster] for a key of [Session.ImportMaster]: the same,
// except that the key need not have been made in this token, nor always have been
// sensitive and never extractable. That it is so now is checked.
func (s *Session) CheckImportedMaster(key Object, rights Rights, mechanism uint) error {
	return s.checkAttributes("master key", key, s.token.commonMaster(rights, mechanism))
}

// commonMaster are the attributes of every master key that can be read.
func (t *Token) commonMaster(rights Rights, mechanism uint) []*pkcs11.Attribute {
	return append(append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
	}, t.allowed(mechanism)...), flagAttributes(masterFlags(rights))...)
}

// DestroyMaster removes the token's secret key with that label. The error wraps
// [ErrNoObject] if there is none; of several none is removed.
func (s *Session) DestroyMaster(label string) error {
	if err := checkLabel(label); err != nil {
		return err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	key, err := s.findSecret(label)
	if err != nil {
		return err
	}
	return s.Destroy(key)
}

// UnwrapExtractable unwraps a key as a session object of this session that is sensitive,
// can be wrapped by another key, and has no other right: for the replacement of master keys.
// The caller destroys it. The error wraps [ErrNotExtractable] if the wrapping key's unwrap
// template forbids it, whether the token says so or makes a key that is not extractable.
func (s *Session) UnwrapExtractable(mechanism uint, wrappingKey Object, wrapped []byte, keyType uint) (Object, error) {
	if len(wrapped) == 0 {
		return 0, &Error{Call: "C_UnwrapKey", Code: pkcs11.CKR_ARGUMENTS_BAD}
	}
	s.token.tallies.unwrap.add(0)
	var object C.keyd_ulong
	rv := C.keyd_unwrap_extractable(s.token.lib.direct, C.keyd_ulong(s.handle), s.token.wrapMechanism(mechanism), C.keyd_ulong(wrappingKey),
		unsafe.Pointer(&wrapped[0]), C.keyd_ulong(len(wrapped)), C.keyd_ulong(keyType), &object)
	err := call("C_UnwrapKey", uint(rv))
	if hasCode(err, pkcs11.CKR_TEMPLATE_INCONSISTENT) || hasCode(err, pkcs11.CKR_ATTRIBUTE_READ_ONLY) {
		return 0, fmt.Errorf("%w: %w", ErrNotExtractable, err)
	}
	if err != nil {
		return 0, err
	}
	key := Object(object)
	extractable, err := s.flag(key, pkcs11.CKA_EXTRACTABLE)
	if err == nil && !extractable {
		err = ErrNotExtractable
	}
	if err == nil {
		err = s.checkAttributes("unwrapped key", key, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true)})
	}
	if err != nil {
		return 0, errors.Join(err, s.Destroy(key))
	}
	return key, nil
}
