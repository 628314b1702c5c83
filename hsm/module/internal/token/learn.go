package token

/*
#include "direct.h"
*/
import "C"

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"github.com/miekg/pkcs11"
)

// ckmAESKeyWrapKWP is CKM_AES_KEY_WRAP_KWP of PKCS#11 3.0.
const ckmAESKeyWrapKWP = 0x210B

// Knows says which protections of a key a token keeps to: found by trying with session
// objects when it was opened. Nothing is written to the token for it.
type Knows struct {
	NotExtractable bool // a key that is not extractable cannot be wrapped (CKA_EXTRACTABLE)
	DeriveRight    bool // only a key with the right is derived from (CKA_DERIVE)
	OneMechanism   bool // a key has the mechanisms that it was given and no other (CKA_ALLOWED_MECHANISMS)
	UnwrapTemplate bool // a key says what the keys that it unwraps may be (CKA_UNWRAP_TEMPLATE)
	Origin         bool // a key says whether it was made in the token (CKA_LOCAL)
}

// Knows returns what the token was found to keep to.
func (t *Token) Knows() Knows { return t.knows }

// Protection is one line of [Knows] for people.
type Protection struct {
	Name string
	Kept bool
	Lost string // what it means that it is not kept
}

// Protections returns all lines. What a token does not keep to, whoever takes a module over
// can do; a module itself does it nowhere.
func (t *Token) Protections() []Protection {
	return []Protection{
		{"keys that are not extractable stay inside", t.knows.NotExtractable, "a module that was taken over can have every key of the token wrapped under one that it knows"},
		{"derivation only with the right to it", t.knows.DeriveRight, "a module that was taken over can derive from every key"},
		{"keys have their mechanisms and no other", t.knows.OneMechanism, "only its rights close a key to what it is not for"},
		{"wrapping keys restrict what they unwrap", t.knows.UnwrapTemplate, "a module that was taken over can have keys in the custody of the token unwrapped as extractable"},
		{"keys say where they were made", t.knows.Origin, "that a key pair was made in the token is not read back"},
	}
}

// learn finds out what a token does differently.
func (t *Token) learn() error {
	h, err := t.openSession()
	if err != nil {
		return err
	}
	s := &Session{token: t, handle: h}
	defer func() { _ = t.lib.ctx.CloseSession(s.handle) }() // with its objects
	if err := s.learnAttributes(); err != nil {
		return err
	}
	if err := s.learnKeyWrap(); err != nil {
		return err
	}
	return s.learnRefusals()
}

// learnKeyWrap finds the number of AES-KWP. Where neither is it, the probe says so.
func (s *Session) learnKeyWrap() error {
	t := s.token
	t.keyWrapPad = pkcs11.CKM_AES_KEY_WRAP_PAD
	right, err := s.wrapsLikeRFC5649()
	if err != nil || right {
		return err
	}
	if err := s.reopen(); err != nil { // whatever the attempt has left
		return err
	}
	t.keyWrapPad = ckmAESKeyWrapKWP
	right, err = s.wrapsLikeRFC5649()
	if !right {
		t.keyWrapPad = pkcs11.CKM_AES_KEY_WRAP_PAD
	}
	return err
}

// learnAttributes asks a key that was just made for what it knows of itself.
func (s *Session) learnAttributes() error {
	key, err := s.token.lib.ctx.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
	})
	if err != nil {
		return named("C_GenerateKey", err)
	}
	knows := func(kind uint) bool {
		_, err := s.attribute(Object(key), kind)
		return !hasCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
	}
	k := &s.token.knows
	k.OneMechanism = knows(pkcs11.CKA_ALLOWED_MECHANISMS)
	k.UnwrapTemplate = knows(pkcs11.CKA_UNWRAP_TEMPLATE)
	k.Origin, err = s.flag(Object(key), pkcs11.CKA_LOCAL)
	return err
}

// wrapsLikeRFC5649 wraps the known key with the number that is being tried.
func (s *Session) wrapsLikeRFC5649() (bool, error) {
	kek, err := s.Import(pkcs11.CKK_AES, MayWrap, fromHex(kwpKey))
	if err != nil {
		return false, err
	}
	key, err := s.Import(pkcs11.CKK_AES, Extractable, fromHex(aesKey))
	if err != nil {
		return false, err
	}
	wrapped, err := s.Wrap(CKMAESKeyWrapPad, kek, key)
	var refused *Error
	if errors.As(err, &refused) {
		return false, nil // it does not know the number
	}
	return err == nil && bytes.Equal(wrapped, fromHex(kwpWrapped)), err
}

// learnRefusals asks for what a token should refuse.
func (s *Session) learnRefusals() error {
	kek, err := s.Import(pkcs11.CKK_AES, MayWrap, fromHex(kwpKey))
	if err != nil {
		return err
	}
	key, err := s.Import(pkcs11.CKK_AES, MayEncrypt, fromHex(aesKey))
	if err != nil {
		return err
	}
	_, err = s.Wrap(CKMAESKeyWrapPad, kek, key)
	s.token.knows.NotExtractable = err != nil
	_, err = s.Derive(key, fromHex(aesPlain), pkcs11.CKK_AES, 16, MayEncrypt)
	s.token.knows.DeriveRight = err != nil
	return nil
}

// wrapMechanism is a mechanism's number in this token.
func (t *Token) wrapMechanism(mechanism uint) C.keyd_ulong {
	if mechanism == CKMAESKeyWrapPad {
		mechanism = t.keyWrapPad
	}
	return C.keyd_ulong(mechanism)
}

// allowed is the CKA_ALLOWED_MECHANISMS of a key that has these; nothing for a token that
// does not know it.
func (t *Token) allowed(mechanisms ...uint) []*pkcs11.Attribute {
	if !t.knows.OneMechanism {
		return nil
	}
	var list []byte
	for _, m := range mechanisms {
		list = binary.NativeEndian.AppendUint64(list, uint64(t.wrapMechanism(m)))
	}
	return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, list)}
}

// local is the CKA_LOCAL of a key that was made in the token; nothing for a token that says
// false of every key.
func (t *Token) local() []*pkcs11.Attribute {
	if !t.knows.Origin {
		return nil
	}
	return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LOCAL, true)}
}

// newID is a CKA_ID that no other object has.
func newID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return id
}
