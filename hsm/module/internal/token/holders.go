package token

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// holder is the kind of a secret key that does nothing and holds something: NSS keeps no
// data objects. Its value is random, it has no right, and what it holds lies in its CKA_ID
// with 16 random bytes behind, since NSS takes two keys with one CKA_ID for the same. So
// what it holds is neither enciphered nor authenticated in the token's files, as a key's
// value is.
//
// Its label begins with control characters, which no label has that a caller may give or ask
// for: it is never found as a key, nor a key as a holder.
type holder string

// The kinds of holders.
const (
	dataHolder holder = "\x01keyd data\x01"
	markHolder holder = "\x01keyd mark\x01"
)

// holderFlags are the attributes of every holder that can be read: those of a master key
// without a right.
func holderFlags() []*pkcs11.Attribute { return flagAttributes(masterFlags(0)) }

// template describes the holders of a label.
func (h holder) template(label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, string(h)+label),
	}
}

// putHolder makes one, for a caller that has checked label and value and holds the lock of
// token objects. It is read back: a token may cut what it does not expect.
func (s *Session) putHolder(h holder, label string, value []byte) (Object, error) {
	attributes := append(holderFlags(),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, string(h)+label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, append(bytes.Clone(value), newID()...)),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, newID()))
	handle, err := s.token.lib.ctx.CreateObject(s.handle, attributes)
	if err != nil {
		return 0, named("C_CreateObject", err)
	}
	held, err := s.held(Object(handle))
	if err == nil && !bytes.Equal(held, value) {
		err = errors.New("the token has kept something else than it was given")
	}
	if err != nil {
		return 0, errors.Join(err, s.Destroy(Object(handle)))
	}
	return Object(handle), nil
}

// held reads what a holder holds.
func (s *Session) held(object Object) ([]byte, error) {
	if err := s.checkAttributes("data object", object, holderFlags()); err != nil {
		return nil, err
	}
	id, err := s.attribute(object, pkcs11.CKA_ID)
	if err != nil {
		return nil, err
	}
	n := len(id) - len(newID())
	if n < 0 || n > MaxData {
		return nil, fmt.Errorf("a data object has %d bytes, which keyd puts into none", len(id))
	}
	return id[:n:n], nil
}

// isHolder reports whether an object is a holder of this kind.
func (s *Session) isHolder(h holder, object Object) (bool, error) {
	class, err := s.number(object, pkcs11.CKA_CLASS)
	if err != nil || class != pkcs11.CKO_SECRET_KEY {
		return false, err
	}
	label, err := s.attribute(object, pkcs11.CKA_LABEL)
	if hasCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) {
		return false, nil
	}
	return strings.HasPrefix(string(label), string(h)), err
}
