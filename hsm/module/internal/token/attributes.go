package token

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/pkcs11"
)

// MaxLabel is the longest label that keyd gives an object or looks for, in bytes.
const MaxLabel = 128

// ErrLabel is returned for a label that is empty, longer than [MaxLabel], not UTF-8, or
// has control characters.
var ErrLabel = errors.New("a label must be 1 to 128 bytes of UTF-8 without control characters")

// ErrExists is returned where a new object would have the label of another.
var ErrExists = errors.New("the token has an object with this label already")

func checkLabel(label string) error {
	if label == "" {
		return ErrLabel
	}
	return checkPrefix(label)
}

// checkPrefix is checkLabel for the beginning of one, which may be nothing.
func checkPrefix(prefix string) error {
	if len(prefix) > MaxLabel || !utf8.ValidString(prefix) {
		return ErrLabel
	}
	for _, r := range prefix {
		if unicode.IsControl(r) {
			return ErrLabel
		}
	}
	return nil
}

// absent makes sure that no token object of a class has the label.
func (s *Session) absent(class uint, label string) error {
	found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	if err == nil && len(found) != 0 {
		err = fmt.Errorf("%w: %q", ErrExists, label)
	}
	return err
}

// findAll returns all token objects that the template describes, in the token's order.
// CKA_TOKEN is added, for what [Session.Find] says. The caller holds the lock of token
// objects.
func (s *Session) findAll(template ...*pkcs11.Attribute) ([]Object, error) {
	ctx := s.token.lib.ctx
	template = append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}, template...)
	if err := ctx.FindObjectsInit(s.handle, template); err != nil {
		return nil, named("C_FindObjectsInit", err)
	}
	var all []Object
	for {
		found, _, err := ctx.FindObjects(s.handle, 64)
		if err != nil {
			_ = ctx.FindObjectsFinal(s.handle) // the caller is told of the first failure
			return nil, named("C_FindObjects", err)
		}
		if len(found) == 0 {
			return all, named("C_FindObjectsFinal", ctx.FindObjectsFinal(s.handle))
		}
		for _, object := range found {
			all = append(all, Object(object))
		}
	}
}

// attribute reads one attribute that is no secret. Secrets are read with value.
func (s *Session) attribute(object Object, kind uint) ([]byte, error) {
	got, err := s.attributes(object, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	if err != nil {
		return nil, err
	}
	return got[0].Value, nil
}

// attributes reads attributes of these types, in their order: in one call, since each takes
// the way through the library twice. A type that the token does not know fails them all.
func (s *Session) attributes(object Object, kinds []*pkcs11.Attribute) ([]*pkcs11.Attribute, error) {
	got, err := s.token.lib.ctx.GetAttributeValue(s.handle, pkcs11.ObjectHandle(object), kinds)
	if err != nil {
		return nil, named("C_GetAttributeValue", err)
	}
	if len(got) != len(kinds) {
		return nil, fmt.Errorf("C_GetAttributeValue: %d attributes where %d were asked for", len(got), len(kinds))
	}
	return got, nil
}

// flag reads a CK_BBOOL.
func (s *Session) flag(object Object, kind uint) (bool, error) {
	b, err := s.attribute(object, kind)
	if err == nil && len(b) != 1 {
		err = fmt.Errorf("attribute 0x%X has %d bytes where a boolean was expected", kind, len(b))
	}
	return err == nil && b[0] != 0, err
}

// number reads a CK_ULONG.
func (s *Session) number(object Object, kind uint) (uint, error) {
	b, err := s.attribute(object, kind)
	if err == nil && len(b) != 8 {
		err = fmt.Errorf("attribute 0x%X has %d bytes where a number was expected", kind, len(b))
	}
	if err != nil {
		return 0, err
	}
	return uint(binary.NativeEndian.Uint64(b)), nil
}

// checkAttributes reads attributes back and compares. what stands before the error.
func (s *Session) checkAttributes(what string, object Object, want []*pkcs11.Attribute) error {
	kinds := make([]*pkcs11.Attribute, len(want))
	for i, w := range want {
		kinds[i] = pkcs11.NewAttribute(w.Type, nil)
	}
	got, err := s.attributes(object, kinds)
	if err != nil {
		return err
	}
	for i, w := range want {
		if got[i].Type != w.Type || !bytes.Equal(got[i].Value, w.Value) {
			return fmt.Errorf("%s: attribute 0x%X is not what keyd gives it: the key was not made by keyd or has been tampered with", what, w.Type)
		}
	}
	return nil
}

// flagAttributes are booleans as the pkcs11 package has them.
func flagAttributes(flags []TemplateBool) []*pkcs11.Attribute {
	list := make([]*pkcs11.Attribute, 0, len(flags))
	for _, f := range flags {
		list = append(list, pkcs11.NewAttribute(f.Type, f.Value))
	}
	return list
}

// hasCode reports whether err is a failed call with this return value.
func hasCode(err error, code uint) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Code == code
}
