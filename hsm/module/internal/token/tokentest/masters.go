package tokentest

import (
	"bytes"
	"crypto/aes"
	"errors"
	"reflect"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
)

const wrapRights = token.MayWrap | token.MayUnwrap

// mastersImported is the part of the suite about master keys of a known value, and their
// replacement.
func mastersImported(t *testing.T, tok *token.Token) {
	t.Run("an imported master key is the value given", func(t *testing.T) { importedValue(t, tok) })
	t.Run("an unwrap template is kept to", func(t *testing.T) { unwrapTemplates(t, tok) })
	t.Run("what no master key can be is refused", func(t *testing.T) { masterRefusals(t, tok) })
	t.Run("secret keys are described", func(t *testing.T) { describeSecrets(t, tok) })
}

func importedValue(t *testing.T, tok *token.Token) {
	do(t, tok, func(s *token.Session) error {
		value := s.Scratch()[:32]
		for i := range value {
			value[i] = byte(i)
		}
		key, err := s.ImportMaster("imported mac", token.MaySign, pkcs11.CKM_AES_CMAC, nil, value)
		if err != nil {
			return err
		}
		if err := s.CheckImportedMaster(key, token.MaySign, pkcs11.CKM_AES_CMAC); err != nil {
			return err
		}
		if s.CheckMaster(key, token.MaySign, pkcs11.CKM_AES_CMAC) == nil && tok.Knows().Origin {
			t.Error("an imported key passes for one that was made in the token")
		}
		if s.CheckImportedMaster(key, token.MaySign|token.MayWrap, pkcs11.CKM_AES_CMAC) == nil {
			t.Error("a right that is not there was not noticed")
		}
		if s.CheckImportedMaster(key, token.MaySign, token.CKMAESKeyWrapPad) == nil && tok.Knows().OneMechanism {
			t.Error("another mechanism was not noticed")
		}
		// The CMAC of one whole block, from the block cipher (NIST SP 800-38B §6.2).
		block, err := aes.NewCipher(value)
		if err != nil {
			return err
		}
		subkey, want, got := make([]byte, 16), make([]byte, 16), make([]byte, 16)
		block.Encrypt(subkey, subkey)
		carry := byte(0)
		for i := 15; i >= 0; i-- {
			subkey[i], carry = subkey[i]<<1|carry, subkey[i]>>7
		}
		subkey[15] ^= carry * 0x87
		block.Encrypt(want, subkey) // the message is zeros
		if n, err := s.Sign(pkcs11.CKM_AES_CMAC, key, got, make([]byte, 16)); err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("CMAC %X, want %X, %v", got, want, err)
		}
		if _, err := s.ImportMaster("imported mac", token.MaySign, pkcs11.CKM_AES_CMAC, nil, value); !errors.Is(err, token.ErrExists) {
			t.Errorf("a second key with the same label: %v", err)
		}
		if err := s.DestroyMaster("imported mac"); err != nil {
			return err
		}
		if err := s.DestroyMaster("imported mac"); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("destroyed twice: %v", err)
		}
		return nil
	})
	for name, call := range map[string]func(*token.Session, token.Object) error{
		"encrypt": func(s *token.Session, k token.Object) error {
			return s.Encrypt(pkcs11.CKM_AES_ECB, k, make([]byte, 16), make([]byte, 16))
		},
		"be wrapped": func(s *token.Session, k token.Object) error {
			_, err := s.Wrap(token.CKMAESKeyWrapPad, k, k)
			return err
		},
	} {
		err := tok.Do(func(s *token.Session) error {
			key, err := s.ImportMaster("imported "+name, wrapRights, token.CKMAESKeyWrapPad, nil, make([]byte, 32))
			if err != nil {
				t.Error(err)
				return err
			}
			return call(s, key)
		})
		if err == nil && (name != "be wrapped" || tok.Knows().NotExtractable) {
			t.Errorf("an imported master key can %s", name)
		}
		do(t, tok, func(s *token.Session) error { return s.DestroyMaster("imported " + name) })
	}
}

// unwrapTemplates: whether made or imported, a master key whose template forbids it lets
// nothing out, where the token knows templates, and one without a template gives the very key.
func unwrapTemplates(t *testing.T, tok *token.Token) {
	strict := []token.TemplateBool{{Type: pkcs11.CKA_SENSITIVE, Value: true}, {Type: pkcs11.CKA_EXTRACTABLE, Value: false}}
	for _, c := range []struct {
		label  string
		make   func(*token.Session) (token.Object, error)
		strict bool
	}{
		{"made strict", func(s *token.Session) (token.Object, error) {
			return s.GenerateMaster("made strict", wrapRights, token.CKMAESKeyWrapPad, strict)
		}, true},
		{"imported strict", func(s *token.Session) (token.Object, error) {
			return s.ImportMaster("imported strict", wrapRights, token.CKMAESKeyWrapPad, strict, bytes.Repeat([]byte{7}, 32))
		}, true},
		{"made", func(s *token.Session) (token.Object, error) {
			return s.GenerateMaster("made", wrapRights, token.CKMAESKeyWrapPad, nil)
		}, false},
		{"imported", func(s *token.Session) (token.Object, error) {
			return s.ImportMaster("imported", wrapRights, token.CKMAESKeyWrapPad, nil, bytes.Repeat([]byte{7}, 32))
		}, false},
	} {
		var kek token.Object
		var wrapped []byte
		do(t, tok, func(s *token.Session) (err error) {
			if kek, err = c.make(s); err != nil {
				return err
			}
			clear, err := s.Import(pkcs11.CKK_AES, token.Extractable, bytes.Repeat([]byte{0x5A}, 16))
			if err != nil {
				return err
			}
			if wrapped, err = s.Wrap(token.CKMAESKeyWrapPad, kek, clear); err != nil {
				return err
			}
			return s.Destroy(clear)
		})
		err := tok.Do(func(s *token.Session) error {
			key, err := s.UnwrapExtractable(token.CKMAESKeyWrapPad, kek, wrapped, pkcs11.CKK_AES)
			if err != nil {
				return err
			}
			again, err := s.Wrap(token.CKMAESKeyWrapPad, kek, key)
			if err != nil {
				return err
			}
			if !bytes.Equal(again, wrapped) { // AES-KWP has no randomness
				t.Errorf("%s: another key came out", c.label)
			}
			if s.Encrypt(pkcs11.CKM_AES_ECB, key, make([]byte, 16), make([]byte, 16)) == nil {
				t.Errorf("%s: the unwrapped key enciphers", c.label)
			}
			return s.Destroy(key)
		})
		strict := c.strict && tok.Knows().UnwrapTemplate
		if strict != errors.Is(err, token.ErrNotExtractable) || !strict && err != nil {
			t.Errorf("%s: %v", c.label, err)
		}
		do(t, tok, func(s *token.Session) error { // what it is there for still works
			key, err := s.Unwrap(token.CKMAESKeyWrapPad, kek, wrapped, pkcs11.CKK_AES, token.MayEncrypt)
			if err != nil {
				return err
			}
			if err := tok.Discard(key); err != nil {
				return err
			}
			return s.DestroyMaster(c.label)
		})
	}
	err := tok.Do(func(s *token.Session) error {
		_, err := s.UnwrapExtractable(token.CKMAESKeyWrapPad, 1, nil, pkcs11.CKK_AES)
		return err
	})
	if err == nil {
		t.Error("nothing was unwrapped")
	}
}

func masterRefusals(t *testing.T, tok *token.Token) {
	do(t, tok, func(s *token.Session) error {
		for _, size := range []int{0, 16, 31, 33, 1 << 16} {
			if _, err := s.ImportMaster("refused", token.MaySign, pkcs11.CKM_AES_CMAC, nil, make([]byte, size)); err == nil {
				t.Errorf("a value of %d bytes was imported", size)
			}
		}
		if _, err := s.ImportMaster("refused", wrapRights, token.CKMAESKeyWrapPad, make([]token.TemplateBool, 17), make([]byte, 32)); err == nil {
			t.Error("a template of 17 attributes was imported")
		}
		for _, label := range hostileLabels {
			_, imported := s.ImportMaster(label, token.MaySign, pkcs11.CKM_AES_CMAC, nil, make([]byte, 32))
			_, _, found := s.FindSecret(label)
			for _, err := range []error{imported, s.DestroyMaster(label), found} {
				if !errors.Is(err, token.ErrLabel) {
					t.Errorf("label of %d bytes: %v", len(label), err)
				}
			}
		}
		if _, _, err := s.FindSecret("refused"); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("something was left: %v", err)
		}
		return nil
	})
}

func describeSecrets(t *testing.T, tok *token.Token) {
	do(t, tok, func(s *token.Session) error {
		made, err := s.GenerateMaster("described", wrapRights, token.CKMAESKeyWrapPad, nil)
		if err != nil {
			return err
		}
		// A session object is not found, whatever its label would be.
		session, err := s.Import(pkcs11.CKK_AES, token.MayEncrypt, make([]byte, 16))
		if err != nil {
			return err
		}
		found, info, err := s.FindSecret("described")
		if err != nil {
			return err
		}
		if found != made || len(info.ID) != 16 {
			t.Errorf("found %d with ID %X, made %d", found, info.ID, made)
		}
		info.ID = nil
		want := token.SecretInfo{
			KeyType: pkcs11.CKK_AES, Length: 32, Private: true, Sensitive: true, Wrap: true, Unwrap: true,
			AlwaysSensitive: true, NeverExtractable: true, Local: tok.Knows().Origin,
		}
		if !reflect.DeepEqual(info, want) {
			t.Errorf("made: %+v", info)
		}
		if err := s.DestroyMaster("described"); err != nil {
			return err
		}
		if _, err := s.ImportMaster("described", token.MaySign, pkcs11.CKM_AES_CMAC, nil, make([]byte, 32)); err != nil {
			return err
		}
		if _, info, err = s.FindSecret("described"); err != nil {
			return err
		}
		info.ID = nil
		want = token.SecretInfo{KeyType: pkcs11.CKK_AES, Length: 32, Private: true, Sensitive: true, Sign: true}
		if !reflect.DeepEqual(info, want) {
			t.Errorf("imported: %+v", info)
		}
		if err := s.DestroyMaster("described"); err != nil {
			return err
		}
		return s.Destroy(session)
	})
}
