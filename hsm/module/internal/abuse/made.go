package abuse

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
)

// named is the outcome where an object that keyd made has the attributes that keyd means it
// to have: tokens give rights of their own where a template leaves one out.
const named = "no other right"

// madeByKeyd are no abuses but the templates that keyd sends, looked at in the token.
var madeByKeyd = Chapter{"What keyd makes", []Attempt{
	{"an imported key that may encipher", madeWith(key{on: []uint{pkcs11.CKA_SENSITIVE, pkcs11.CKA_ENCRYPT}}, func(s *token.Session) (token.Object, error) {
		return s.Import(pkcs11.CKK_AES, token.MayEncrypt, random(16))
	}), named, named, "the template names every right"},
	{"a derived key that may make MACs", madeWith(key{on: []uint{pkcs11.CKA_SENSITIVE, pkcs11.CKA_SIGN}}, func(s *token.Session) (token.Object, error) {
		base, err := s.Import(pkcs11.CKK_AES, token.MayDerive, random(16))
		if err != nil {
			return 0, err
		}
		return s.Derive(base, random(16), pkcs11.CKK_AES, 16, token.MaySign)
	}), named, named, "the template names every right"},
	{"a random secret", madeWith(composed(), func(s *token.Session) (token.Object, error) { return s.RandomSecret(16) }), named, named, "the template names every right"},
	{"a PIN block", madeWith(composed(), aBlock), Missing, named, "the template names every right"},
	{"a PIN block changed by XOR", madeWith(composed(), changed(func(s *token.Session, block token.Object) (token.Object, error) {
		return s.XOR(block, random(8))
	})), Missing, named, "the template names every right"},
	{"a part of a PIN block", madeWith(composed(), changed(func(s *token.Session, block token.Object) (token.Object, error) {
		return s.Extract(block, 8, 3)
	})), Missing, named, "the template names every right"},
	{"a PIN block with something behind it", madeWith(composed(), changed(func(s *token.Session, block token.Object) (token.Object, error) {
		return s.Append(block, random(8))
	})), Missing, named, "the template names every right"},
	{"a PIN block twice", madeWith(composed(), changed(func(s *token.Session, block token.Object) (token.Object, error) {
		return s.Join(block, block)
	})), Missing, named, "the template names every right"},
	{"an AES key of a PIN block", madeWith(composed(), changed(func(s *token.Session, block token.Object) (token.Object, error) {
		twice, err := s.Join(block, block)
		if err != nil {
			return 0, err
		}
		return s.ExtractAES(twice, 0, 16)
	})), Missing, named, "the template names every right"},
}}

// madeWith has keyd's own calls make an object, and compares every right of it.
func madeWith(want key, makes func(*token.Session) (token.Object, error)) func(*Hostile) error {
	return func(h *Hostile) error {
		return h.tok.Do(func(s *token.Session) error {
			o, err := makes(s)
			var failed *token.Error
			if errors.As(err, &failed) {
				return &refusal{call: failed.Call, code: pkcs11.Error(failed.Code), missing: failed.Code == pkcs11.CKR_MECHANISM_INVALID}
			}
			if err != nil {
				return err
			}
			for _, right := range rights {
				on, err := h.flag(object(o), right)
				if err != nil {
					return needed(err)
				}
				if on != slices.Contains(want.on, right) {
					return instead(fmt.Sprintf("attribute 0x%X is %v", right, on))
				}
			}
			return instead(named)
		})
	}
}

// aBlock makes an object of ciphertext as keyd does.
func aBlock(s *token.Session) (token.Object, error) {
	value := random(16)
	odd(value)
	zone, err := s.Import(pkcs11.CKK_DES2, token.MayUnwrap, value)
	if err != nil {
		return 0, err
	}
	return s.UnwrapSecret(pkcs11.CKM_DES3_ECB, zone, random(8))
}

func changed(f func(s *token.Session, block token.Object) (token.Object, error)) func(*token.Session) (token.Object, error) {
	return func(s *token.Session) (token.Object, error) {
		block, err := aBlock(s)
		if err != nil {
			return 0, err
		}
		return f(s, block)
	}
}
