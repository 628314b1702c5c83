package token

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/locked"
)

// CKMAESKeyWrapPad stands for AES-KWP of RFC 5649 in every call of this package, whichever
// number the token has for it: CKM_AES_KEY_WRAP_PAD of PKCS#11 2.40, which SoftHSM 2.6.1
// carries out like that and NSS otherwise, or CKM_AES_KEY_WRAP_KWP of 3.0. Which one it is
// [Library.Open] finds by trying.
const CKMAESKeyWrapPad = pkcs11.CKM_AES_KEY_WRAP_PAD

// ErrNoObject is returned where the token has no such object.
var ErrNoObject = errors.New("the token has no such object")

// Find returns the one token object that the template describes. CKA_TOKEN is added:
// an unfiltered search races with the session objects of other sessions.
func (s *Session) Find(template ...*pkcs11.Attribute) (Object, error) {
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	return s.find(template...)
}

// find is Find for a caller that holds the lock of token objects.
func (s *Session) find(template ...*pkcs11.Attribute) (Object, error) {
	ctx := s.token.lib.ctx
	template = append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}, template...)
	if err := ctx.FindObjectsInit(s.handle, template); err != nil {
		return 0, named("C_FindObjectsInit", err)
	}
	found, _, err := ctx.FindObjects(s.handle, 2)
	if end := ctx.FindObjectsFinal(s.handle); err == nil {
		err = end
	}
	if err != nil {
		return 0, named("C_FindObjects", err)
	}
	switch len(found) {
	case 0:
		return 0, ErrNoObject
	case 1:
		return Object(found[0]), nil
	}
	return 0, errors.New("the token has several objects where one was expected")
}

// GenerateMaster makes an AES-256 master key inside the token with these attributes
// besides those that every master key has, and reads them back: token object,
// private, sensitive, not extractable, not modifiable. CKA_ID is random, since NSS takes
// two keys with one CKA_ID for the same.
//
// mechanism and unwrapTemplate are what a token keeps to that knows the attributes. NSS
// knows neither, and they are left out: there a key is closed to other mechanisms as far as
// its rights close it, so that one that wraps does so with each mechanism that wraps, and
// what it unwraps gets the attributes that the caller asks for ([Token.Knows]).
func (s *Session) GenerateMaster(label string, rights Rights, mechanism uint, unwrapTemplate []TemplateBool) (Object, error) {
	attributes, free, err := s.token.masterAttributes(label, rights, mechanism, unwrapTemplate)
	if err != nil {
		return 0, err
	}
	defer free()
	ctx := s.token.lib.ctx
	s.token.tokenObjects.Lock()
	handle, err := ctx.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		append(attributes, pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32)))
	s.token.tokenObjects.Unlock()
	if err != nil {
		return 0, named("C_GenerateKey", err)
	}
	return Object(handle), s.CheckMaster(Object(handle), rights, mechanism)
}

// TemplateBool is a boolean attribute that an unwrap template forces.
type TemplateBool struct {
	Type  uint
	Value bool
}

func (t *Token) masterAttributes(label string, rights Rights, mechanism uint, unwrap []TemplateBool) ([]*pkcs11.Attribute, func(), error) {
	attributes := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, newID()),
	}
	attributes = append(attributes, t.allowed(mechanism)...)
	attributes = append(attributes, flagAttributes(masterFlags(rights))...)
	if len(unwrap) == 0 || !t.knows.UnwrapTemplate {
		return attributes, func() {}, nil
	}
	// An attribute array points to its values; both lie outside the Go heap, since
	// the pkcs11 package copies the array but not what it points to.
	region, err := locked.New(4096)
	if err != nil {
		return nil, nil, err
	}
	mem := region.Bytes()
	values := mem[2048:]
	const entry = 24 // type, pointer, length
	for i, t := range unwrap {
		values[i] = 0
		if t.Value {
			values[i] = 1
		}
		binary.NativeEndian.PutUint64(mem[i*entry:], uint64(t.Type))
		binary.NativeEndian.PutUint64(mem[i*entry+8:], uint64(uintptr(unsafe.Pointer(&values[i]))))
		binary.NativeEndian.PutUint64(mem[i*entry+16:], 1)
	}
	attributes = append(attributes, pkcs11.NewAttribute(pkcs11.CKA_UNWRAP_TEMPLATE, mem[:len(unwrap)*entry:len(unwrap)*entry]))
	return attributes, region.Free, nil
}

func masterFlags(rights Rights) []TemplateBool {
	return []TemplateBool{
		{pkcs11.CKA_TOKEN, true},
		{pkcs11.CKA_PRIVATE, true},
		{pkcs11.CKA_SENSITIVE, true},
		{pkcs11.CKA_EXTRACTABLE, false},
		{pkcs11.CKA_MODIFIABLE, false},
		{pkcs11.CKA_ENCRYPT, rights&MayEncrypt != 0},
		{pkcs11.CKA_DECRYPT, rights&MayDecrypt != 0},
		{pkcs11.CKA_SIGN, rights&MaySign != 0},
		{pkcs11.CKA_VERIFY, false},
		{pkcs11.CKA_DERIVE, rights&MayDerive != 0},
		{pkcs11.CKA_WRAP, rights&MayWrap != 0},
		{pkcs11.CKA_UNWRAP, rights&MayUnwrap != 0},
	}
}

// CheckMaster reads the attributes of a master key back and refuses it if one is not
// as it should be, whoever made it: rights, protection, type and length, origin in this
// token, and the one mechanism it may be used with; the last two as far as the token knows
// the attributes. An unwrap template cannot be read through the pkcs11 package.
func (s *Session) CheckMaster(key Object, rights Rights, mechanism uint) error {
	return s.checkAttributes("master key", key, append(append(s.token.commonMaster(rights, mechanism), s.token.local()...),
		pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_NEVER_EXTRACTABLE, true)))
}
