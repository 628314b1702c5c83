package tokentest

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
)

// dataObjects is the part of the suite about data objects.
func dataObjects(t *testing.T, tok *token.Token) {
	large := make([]byte, token.MaxData)
	_, _ = rand.Read(large) // never fails
	for _, value := range [][]byte{nil, {0}, []byte("value"), large} {
		var object token.Object
		do(t, tok, func(s *token.Session) (err error) { object, err = s.PutData("data", value); return err })
		do(t, tok, func(s *token.Session) error {
			list, err := s.FindData("data")
			if err != nil {
				return err
			}
			if len(list) != 1 || !bytes.Equal(list[0].Value, value) {
				t.Fatalf("put %d bytes, found %d objects", len(value), len(list))
			}
			if list, err := s.FindData("dat"); err != nil || len(list) != 0 {
				t.Errorf("part of the label: %d objects, %v", len(list), err)
			}
			return s.DestroyData(list[0].Object)
		})
		do(t, tok, func(s *token.Session) error {
			if list, err := s.FindData("data"); err != nil || len(list) != 0 {
				t.Errorf("after its end: %d objects, %v", len(list), err)
			}
			return nil
		})
		if tok.Do(func(s *token.Session) error { return s.DestroyData(object) }) == nil {
			t.Error("destroyed twice")
		}
	}
	do(t, tok, func(s *token.Session) error {
		for i := range 130 { // more than one answer of C_FindObjects holds
			if _, err := s.PutData("many", []byte{byte(i)}); err != nil {
				return err
			}
		}
		return nil
	})
	do(t, tok, func(s *token.Session) error {
		list, err := s.FindData("many")
		if err != nil {
			return err
		}
		var seen [130]bool
		for _, d := range list {
			seen[d.Value[0]] = true
			if err := s.DestroyData(d.Object); err != nil {
				return err
			}
		}
		for i, ok := range seen {
			if !ok {
				t.Errorf("value %d was not found", i)
			}
		}
		return nil
	})
	dataRefusals(t, tok)
}

func dataRefusals(t *testing.T, tok *token.Token) {
	key := master(t, tok, "no data")
	do(t, tok, func(s *token.Session) error {
		if _, err := s.PutData("data", make([]byte, token.MaxData+1)); err == nil {
			t.Error("put more than the largest value")
		}
		for _, label := range hostileLabels {
			_, put := s.PutData(label, nil)
			_, found := s.FindData(label)
			if !errors.Is(put, token.ErrLabel) || !errors.Is(found, token.ErrLabel) {
				t.Errorf("label of %d bytes: %v, %v", len(label), put, found)
			}
		}
		if s.DestroyData(key) == nil {
			t.Error("a master key was destroyed as data")
		}
		if err := s.SetMark("public mark"); err != nil {
			return err
		}
		if list, err := s.FindData("public mark"); err != nil || len(list) != 0 {
			t.Errorf("a public object counts as data: %d, %v", len(list), err)
		}
		_, _, err := s.FindSecret("no data")
		return err
	})
	dataIsNoKey(t, tok)
}

// dataIsNoKey: whatever a token keeps data objects and marks as, they are found as what they
// are, and two that hold the same are two.
func dataIsNoKey(t *testing.T, tok *token.Token) {
	const label = "one label"
	do(t, tok, func(s *token.Session) error {
		for range 2 {
			if _, err := s.PutData(label, []byte("same")); err != nil {
				return err
			}
		}
		if marked, err := s.HasMark(label); err != nil || marked {
			t.Errorf("before there is a mark: %v, %v", marked, err)
		}
		if err := s.SetMark(label); err != nil {
			return err
		}
		if _, _, err := s.FindSecret(label); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("data is found as a key: %v", err)
		}
		if err := s.DestroyMaster(label); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("data was destroyed as a key: %v", err)
		}
		key, err := s.ImportMaster(label, token.MaySign, pkcs11.CKM_AES_CMAC, nil, make([]byte, 32))
		if err != nil {
			return err
		}
		if s.DestroyData(key) == nil {
			t.Error("an imported master key was destroyed as data")
		}
		list, err := s.FindData(label)
		if err != nil || len(list) != 2 || string(list[0].Value) != "same" || string(list[1].Value) != "same" {
			t.Errorf("two objects with one label: %v, %v", list, err)
		}
		for _, d := range list {
			if err := s.DestroyData(d.Object); err != nil {
				return err
			}
		}
		if list, err := s.FindData(label); err != nil || len(list) != 0 {
			t.Errorf("after their end: %v, %v", list, err)
		}
		found, _, err := s.FindSecret(label)
		if err == nil && found != key {
			t.Error("another key was found")
		}
		return errors.Join(err, s.DestroyMaster(label))
	})
}

// concurrentObjects makes, finds and destroys token objects in two sessions at once, while
// in the others session objects come and go and a master key is used.
func concurrentObjects(t *testing.T, tok *token.Token) {
	kek := master(t, tok, "concurrent use")
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() {
			label := fmt.Sprint("concurrent ", i)
			for range 20 {
				if err := tok.Do(func(s *token.Session) error { return comeAndGo(s, label) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	var users sync.WaitGroup
	for range 2 {
		users.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := tok.Do(func(s *token.Session) error { return wrapAndUnwrap(s, kek, tok.Knows().UnwrapTemplate) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	close(done)
	users.Wait()
}

func wrapAndUnwrap(s *token.Session, kek token.Object, strict bool) error {
	key, err := s.Import(pkcs11.CKK_AES, token.Extractable, make([]byte, 16))
	if err != nil {
		return err
	}
	wrapped, err := s.Wrap(token.CKMAESKeyWrapPad, kek, key)
	if err != nil {
		return err
	}
	_, err = s.UnwrapExtractable(token.CKMAESKeyWrapPad, kek, wrapped, pkcs11.CKK_AES)
	if errors.Is(err, token.ErrNotExtractable) != strict {
		return fmt.Errorf("unwrapped against the template: %w", err)
	}
	return s.Destroy(key)
}

func comeAndGo(s *token.Session, label string) error {
	if _, err := s.PutData(label, []byte(label)); err != nil {
		return err
	}
	made, err := s.GenerateEC(label, elliptic.P256(), token.PairAgrees)
	if err != nil {
		return err
	}
	if _, err := s.ImportMaster(label, token.MaySign, pkcs11.CKM_AES_CMAC, nil, make([]byte, 32)); err != nil {
		return err
	}
	if _, err := s.PairLabels("concurrent "); err != nil {
		return err
	}
	found, err := s.FindPair(label)
	if err != nil {
		return err
	}
	if found.Private != made.Private {
		return errors.New("another pair was found")
	}
	list, err := s.FindData(label)
	if err != nil {
		return err
	}
	if len(list) != 1 || string(list[0].Value) != label {
		return fmt.Errorf("%d data objects where one was put", len(list))
	}
	return errors.Join(s.DestroyData(list[0].Object), s.DestroyPair(label), s.DestroyMaster(label))
}
