package token

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// Step is a kind of call that changes a secret inside the token (composed.go). What a token
// does is found by trying.
type Step uint8

// The steps.
const (
	StepUnwrapTDES Step = iota // [Session.UnwrapSecret]
	StepUnwrapAES
	StepWrapTDES // [Session.WrapSecret]
	StepWrapAES
	StepXOR
	StepAppend
	StepPrepend
	StepJoin
	StepExtract
	StepImage // [Session.ExtractAES], [Session.Image]
	StepRandom
	StepAgree
	steps
)

// stepNames are the calls and mechanisms of PKCS#11.
var stepNames = [steps]string{
	StepUnwrapTDES: "C_UnwrapKey CKM_DES3_ECB",
	StepUnwrapAES:  "C_UnwrapKey CKM_AES_ECB",
	StepWrapTDES:   "C_WrapKey CKM_DES3_ECB",
	StepWrapAES:    "C_WrapKey CKM_AES_ECB",
	StepXOR:        "CKM_XOR_BASE_AND_DATA",
	StepAppend:     "CKM_CONCATENATE_BASE_AND_DATA",
	StepPrepend:    "CKM_CONCATENATE_DATA_AND_BASE",
	StepJoin:       "CKM_CONCATENATE_BASE_AND_KEY",
	StepExtract:    "CKM_EXTRACT_KEY_FROM_KEY",
	StepImage:      "CKM_AES_ECB_ENCRYPT_DATA with a derived key",
	StepRandom:     "CKM_GENERIC_SECRET_KEY_GEN",
	StepAgree:      "CKM_ECDH1_DERIVE to a wrapping key",
}

// String names the call and the mechanism.
func (s Step) String() string { return stepNames[s] }

// Steps are what a token was found to do.
type Steps struct {
	missing [steps]error // what came of the trial; errUntried where nothing shows the result
}

var errUntried = errors.New("its result cannot be looked at")

// Missing returns an error that names all of these steps that the token does not do, or nil.
func (s *Steps) Missing(steps ...Step) error {
	var lacks, unseen []string
	seen := map[Step]bool{}
	for _, step := range steps {
		switch err := s.missing[step]; {
		case err == nil || seen[step]:
		case errors.Is(err, errUntried):
			unseen = append(unseen, step.String())
		default:
			lacks = append(lacks, step.String())
		}
		seen[step] = true
	}
	if len(lacks) == 0 {
		lacks = unseen // what cannot be seen counts for itself only where nothing else does
	}
	if len(lacks) == 0 {
		return nil
	}
	return errors.New("the token lacks " + strings.Join(lacks, ", "))
}

// Steps returns what the token was found to do when it was opened.
func (t *Token) Steps() *Steps { return &t.steps }

// trySteps tries the steps.
func (t *Token) trySteps() {
	for step := range steps {
		if step > StepWrapAES && t.steps.missing[StepWrapAES] != nil && !stepShows[step] {
			t.steps.missing[step] = errUntried
			continue
		}
		err := t.Do(func(s *Session) error { return errors.Join(stepTests[step](s), s.Forget()) })
		if err != nil {
			t.steps.missing[step] = fmt.Errorf("%s: %w", step, err)
		}
	}
}

// stepShows are those whose own call is refused where they are missing; of the others the result has to be
// wrapped to be seen.
var stepShows = [steps]bool{StepXOR: true, StepAppend: true, StepPrepend: true, StepJoin: true, StepExtract: true, StepImage: true}

// stepTests are known answers. Each looks at a secret by what a key of its own makes of it.
var stepTests = [steps]func(*Session) error{
	StepUnwrapTDES: func(s *Session) error {
		return s.knownUnwrap(pkcs11.CKK_DES2, pkcs11.CKM_DES3_ECB, tdesKey, tdesPlain, tdesCipher)
	},
	StepUnwrapAES: func(s *Session) error {
		return s.knownUnwrap(pkcs11.CKK_AES, pkcs11.CKM_AES_ECB, aesKey, aesPlain, aesCipher)
	},
	StepWrapTDES: func(s *Session) error {
		return s.knownWrap(pkcs11.CKK_DES2, pkcs11.CKM_DES3_ECB, tdesKey, tdesPlain, tdesCipher)
	},
	StepWrapAES: func(s *Session) error {
		if err := s.knownWrap(pkcs11.CKK_AES, pkcs11.CKM_AES_ECB, aesKey, aesPlain, aesCipher); err != nil {
			return err
		}
		secret, err := s.imported(fromHex(aesPlain)[:5]) // which gets zeros up to a block
		return s.expect(secret, err, append(fromHex(aesPlain)[:5], make([]byte, 11)...))
	},
	StepXOR: func(s *Session) error {
		base, err := s.imported(fromHex(aesPlain))
		if err != nil {
			return err
		}
		short, err := s.XOR(base, []byte{0xFF, 0x0F, 0xF0})
		return s.expect(short, err, []byte{0xFF, 0x1E, 0xD2})
	},
	StepAppend: func(s *Session) error {
		base, err := s.imported([]byte{1, 2})
		if err != nil {
			return err
		}
		longer, err := s.Append(base, []byte{3})
		return s.expect(longer, err, []byte{1, 2, 3})
	},
	StepPrepend: func(s *Session) error {
		base, err := s.imported([]byte{1, 2})
		if err != nil {
			return err
		}
		longer, err := s.Prepend([]byte{3}, base)
		return s.expect(longer, err, []byte{3, 1, 2})
	},
	StepJoin: func(s *Session) error {
		base, err := s.imported([]byte{1, 2})
		if err != nil {
			return err
		}
		other, err := s.imported([]byte{3})
		if err != nil {
			return err
		}
		longer, err := s.Join(base, other)
		return s.expect(longer, err, []byte{1, 2, 3})
	},
	StepExtract: func(s *Session) error {
		base, err := s.imported(fromHex("329F84A9"))
		if err != nil {
			return err
		}
		part, err := s.Extract(base, 5, 2)
		return s.expect(part, err, fromHex("53F0"))
	},
	StepImage: func(s *Session) error {
		base, err := s.imported(fromHex("FF" + aesKey))
		if err != nil {
			return err
		}
		key, err := s.ExtractAES(base, 8, 16)
		if err != nil {
			return err
		}
		image, err := s.Image(key, fromHex(aesPlain), 1)
		return s.expect(image, err, fromHex(aesCipher)[:1])
	},
	StepRandom: func(s *Session) error {
		var seen [2][16]byte
		for i := range seen {
			secret, err := s.RandomSecret(16)
			if err != nil {
				return err
			}
			key, err := s.Import(pkcs11.CKK_AES, MayWrap, fromHex(aesKey))
			if err != nil {
				return err
			}
			if err := s.WrapSecret(pkcs11.CKM_AES_ECB, key, secret, seen[i][:]); err != nil {
				return err
			}
		}
		if seen[0] == seen[1] {
			return errAnswer
		}
		return nil
	},
	StepAgree: knownAgreement,
}

// imported makes a secret of a value that everybody may know.
func (s *Session) imported(value []byte) (Object, error) {
	return s.Import(pkcs11.CKK_GENERIC_SECRET, MayDerive|Extractable, value)
}

// expect compares a secret that a step has made.
func (s *Session) expect(secret Object, err error, value []byte) error {
	if err != nil {
		return err
	}
	key, err := s.Import(pkcs11.CKK_AES, MayWrap|MayEncrypt, fromHex(aesKey))
	if err != nil {
		return err
	}
	var got, want, padded [16]byte
	copy(padded[:], value)
	if err := s.WrapSecret(pkcs11.CKM_AES_ECB, key, secret, got[:]); err != nil {
		return fmt.Errorf("the result cannot be looked at: %w", err)
	}
	if err := s.Encrypt(pkcs11.CKM_AES_ECB, key, want[:], padded[:]); err != nil {
		return err
	}
	if got != want {
		return errAnswer
	}
	return nil
}

func (s *Session) knownWrap(keyType, mechanism uint, key, plain, cipher string) error {
	wrapping, err := s.Import(keyType, MayWrap, fromHex(key))
	if err != nil {
		return err
	}
	secret, err := s.imported(fromHex(plain))
	if err != nil {
		return err
	}
	out := make([]byte, len(cipher)/2)
	if err := s.WrapSecret(mechanism, wrapping, secret, out); err != nil {
		return err
	}
	if !bytes.Equal(out, fromHex(cipher)) {
		return errAnswer
	}
	return nil
}

func (s *Session) knownUnwrap(keyType, mechanism uint, key, plain, cipher string) error {
	unwrapping, err := s.Import(keyType, MayUnwrap, fromHex(key))
	if err != nil {
		return err
	}
	secret, err := s.UnwrapSecret(mechanism, unwrapping, fromHex(cipher))
	return s.expect(secret, err, fromHex(plain))
}

// knownAgreement looks at a secret by the key that both sides have.
func knownAgreement(s *Session) error {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	object, peer, err := s.Agree(own.PublicKey())
	if err != nil {
		return err
	}
	defer func() { _ = s.token.Discard(object) }() // the keeper's end destroys it too
	value, err := own.ECDH(peer)
	if err != nil {
		return err
	}
	defer clear(value)
	secret, err := s.imported(fromHex(aesPlain))
	if err != nil {
		return err
	}
	var got, want [16]byte
	if err := s.WrapSecret(pkcs11.CKM_AES_ECB, object, secret, got[:]); err != nil {
		return err
	}
	var block cipher.Block
	if block, err = aes.NewCipher(value); err != nil {
		return err
	}
	block.Encrypt(want[:], fromHex(aesPlain))
	if got != want {
		return errAnswer
	}
	return nil
}
