package tokentest

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
)

// Conformance checks that a token does what keyd needs of it, and refuses what keyd
// relies on it to refuse.
func Conformance(t *testing.T, fresh Fresh) {
	tok := fresh.Open(t, 4)
	for _, probe := range token.Probes {
		t.Run(probe.Name, func(t *testing.T) {
			if err := probe.Try(tok); errors.Is(err, token.ErrLacks) != slices.Contains(fresh.Lacks, probe.Name) || err != nil && !errors.Is(err, token.ErrLacks) {
				t.Error(err)
			}
		})
	}
	t.Run("master key attributes are what was asked for", func(t *testing.T) { masterAttributes(t, tok) })
	t.Run("an unwrapped key is sensitive and stays inside", func(t *testing.T) { unwrappedStays(t, tok) })
	t.Run("a session survives a failed call", func(t *testing.T) { survivesFailure(t, tok) })
	t.Run("a wrapped key that was altered is refused", func(t *testing.T) { alteredWrap(t, tok) })
	t.Run("stale objects are noticed and the keeper renewed", func(t *testing.T) { renews(t, tok) })
	t.Run("sessions work concurrently", func(t *testing.T) { concurrent(t, tok, fresh.Lacks) })
	t.Run("an operation that hangs is noticed", func(t *testing.T) { stuck(t, tok) })
	t.Run("a mark is found again", func(t *testing.T) { marks(t, tok) })
	t.Run("key pairs", func(t *testing.T) { pairs(t, tok) })
	t.Run("data objects", func(t *testing.T) { dataObjects(t, tok) })
	t.Run("token objects come and go concurrently", func(t *testing.T) { concurrentObjects(t, tok) })
	t.Run("what is on the token survives the process", func(t *testing.T) { survivesTheProcess(t, tok, fresh) })
	t.Run("imported master keys", func(t *testing.T) { mastersImported(t, tok) })
}

func do(t *testing.T, tok *token.Token, f func(*token.Session) error) {
	t.Helper()
	if err := tok.Do(f); err != nil {
		t.Fatal(err)
	}
}

func master(t *testing.T, tok *token.Token, label string) (key token.Object) {
	t.Helper()
	do(t, tok, func(s *token.Session) (err error) {
		key, err = s.GenerateMaster(label, token.MayWrap|token.MayUnwrap, token.CKMAESKeyWrapPad, []token.TemplateBool{
			{Type: pkcs11.CKA_SENSITIVE, Value: true}, {Type: pkcs11.CKA_EXTRACTABLE, Value: false}})
		return err
	})
	return key
}

func masterAttributes(t *testing.T, tok *token.Token) {
	key := master(t, tok, "attributes")
	do(t, tok, func(s *token.Session) error {
		if err := s.CheckMaster(key, token.MayWrap|token.MayUnwrap, token.CKMAESKeyWrapPad); err != nil {
			return err
		}
		if s.CheckMaster(key, token.MayWrap, token.CKMAESKeyWrapPad) == nil {
			t.Error("a right that should not be there was not noticed")
		}
		if s.CheckMaster(key, token.MayWrap|token.MayUnwrap, pkcs11.CKM_AES_CMAC) == nil && tok.Knows().OneMechanism {
			t.Error("another mechanism was not noticed")
		}
		return nil
	})
	// One mechanism, and no other right: the key does nothing but wrap.
	block := make([]byte, 16)
	for name, call := range map[string]func(*token.Session) error{
		"encrypt": func(s *token.Session) error { return s.Encrypt(pkcs11.CKM_AES_ECB, key, block, block) },
		"decrypt": func(s *token.Session) error { return s.Decrypt(pkcs11.CKM_AES_ECB, key, block, block) },
		"derive": func(s *token.Session) error {
			_, err := s.Derive(key, block, pkcs11.CKK_AES, 16, token.MayEncrypt)
			return err
		},
		"sign": func(s *token.Session) error { _, err := s.Sign(pkcs11.CKM_AES_CMAC, key, block, block); return err },
	} {
		if tok.Do(call) == nil && (name != "derive" || tok.Knows().DeriveRight) {
			t.Errorf("a master key can %s", name)
		}
	}
}

func unwrappedStays(t *testing.T, tok *token.Token) {
	kek := master(t, tok, "stays")
	value := bytes.Repeat([]byte{0x5A}, 16)
	do(t, tok, func(s *token.Session) error {
		clear, err := s.Import(pkcs11.CKK_AES, token.Extractable, value)
		if err != nil {
			return err
		}
		wrapped, err := s.Wrap(token.CKMAESKeyWrapPad, kek, clear)
		if err != nil {
			return err
		}
		key, err := s.Unwrap(token.CKMAESKeyWrapPad, kek, wrapped, pkcs11.CKK_AES, token.MayEncrypt|token.Extractable)
		if err != nil {
			return err
		}
		if _, err := s.Wrap(token.CKMAESKeyWrapPad, kek, key); err == nil && tok.Knows().NotExtractable {
			t.Error("an unwrapped key can be wrapped again")
		}
		return nil
	})
}

func survivesFailure(t *testing.T, tok *token.Token) {
	for range 2 * tok.Sessions() {
		err := tok.Do(func(s *token.Session) error {
			key, err := s.Import(pkcs11.CKK_AES, token.MayEncrypt, make([]byte, 16))
			if err != nil {
				return err
			}
			out := make([]byte, 15)
			return s.Encrypt(pkcs11.CKM_AES_ECB, key, out, make([]byte, 15)) // no whole block
		})
		var failed *token.Error
		if !errors.As(err, &failed) {
			t.Fatalf("encrypting 15 bytes: %v", err)
		}
	}
	if err := token.Probes[0].Try(tok); err != nil {
		t.Error(err)
	}
}

func alteredWrap(t *testing.T, tok *token.Token) {
	kek := master(t, tok, "altered")
	var wrapped []byte
	do(t, tok, func(s *token.Session) error {
		clear, err := s.Import(pkcs11.CKK_AES, token.Extractable, make([]byte, 16))
		if err != nil {
			return err
		}
		wrapped, err = s.Wrap(token.CKMAESKeyWrapPad, kek, clear)
		return err
	})
	for i := range wrapped {
		altered := bytes.Clone(wrapped)
		altered[i] ^= 1
		err := tok.Do(func(s *token.Session) error {
			_, err := s.Unwrap(token.CKMAESKeyWrapPad, kek, altered, pkcs11.CKK_AES, token.MayEncrypt)
			return err
		})
		if err == nil {
			t.Errorf("byte %d altered: unwrapped all the same", i)
		}
	}
}

func renews(t *testing.T, tok *token.Token) {
	generation := tok.Generation()
	if err := tok.Renew(generation); err != nil {
		t.Fatal(err)
	}
	if tok.Generation() != generation+1 {
		t.Error("the generation did not change")
	}
	if err := tok.Renew(generation); err != nil || tok.Generation() != generation+1 {
		t.Error("a second renewal of the same generation did something")
	}
	if err := token.Probes[0].Try(tok); err != nil { // still logged in
		t.Error(err)
	}
	const nowhere = token.Object(0xFFFFFF)
	err := tok.Do(func(s *token.Session) error {
		return s.Encrypt(pkcs11.CKM_AES_ECB, nowhere, make([]byte, 16), make([]byte, 16))
	})
	if token.ClassOf(err) != token.HandleStale {
		t.Errorf("an unknown handle is not seen as stale: %v", err)
	}
}

func concurrent(t *testing.T, tok *token.Token, lacks []string) {
	var wait sync.WaitGroup
	for range 4 * tok.Sessions() {
		wait.Go(func() {
			for range 50 {
				for _, probe := range token.Probes {
					if slices.Contains(lacks, probe.Name) {
						continue
					}
					if err := probe.Try(tok); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wait.Wait()
}

func stuck(t *testing.T, tok *token.Token) {
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		_ = tok.Do(func(*token.Session) error { close(entered); <-leave; return nil })
	}()
	<-entered
	if !tok.Stuck(-time.Second) {
		t.Error("a session in use does not count")
	}
	if tok.Stuck(time.Hour) {
		t.Error("a short operation counts as stuck")
	}
	close(leave)
	<-left
	if tok.Stuck(-time.Second) {
		t.Error("an idle token counts as stuck")
	}
}

func marks(t *testing.T, tok *token.Token) {
	do(t, tok, func(s *token.Session) error {
		if found, err := s.HasMark("mark"); err != nil || found {
			t.Errorf("before: %v, %v", found, err)
		}
		if err := s.SetMark("mark"); err != nil {
			return err
		}
		if found, err := s.HasMark("mark"); err != nil || !found {
			t.Errorf("after: %v, %v", found, err)
		}
		return nil
	})
}
