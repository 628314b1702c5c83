package tokentest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"keyd/hsm/module/internal/token"
)

// These name, in the environment, the token that another process works on; its PIN comes
// through standard input. With them a test binary is that process ([Run]).
const (
	otherLibrary    = "KEYD_TOKEN_TEST_LIBRARY"
	otherParameters = "KEYD_TOKEN_TEST_PARAMETERS"
	otherLabel      = "KEYD_TOKEN_TEST_LABEL"
)

// survivesTheProcess: what one process puts on a token another finds, and the first sees
// what the other did while it has the token open.
func survivesTheProcess(t *testing.T, tok *token.Token, fresh Fresh) {
	do(t, tok, func(one *token.Session) error {
		if _, err := one.PutData("from the first", []byte("value")); err != nil {
			return err
		}
		if err := one.SetMark("from the first"); err != nil {
			return err
		}
		if _, err := one.GenerateEC("from the first", elliptic.P256(), token.PairAgrees); err != nil {
			return err
		}
		return tok.Do(func(two *token.Session) error { // another session, at the same time
			list, err := two.FindData("from the first")
			if len(list) != 1 || string(list[0].Value) != "value" {
				t.Errorf("another session found %v", list)
			}
			return err
		})
	})
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), otherLibrary+"="+fresh.Path, otherParameters+"="+fresh.Parameters, otherLabel+"="+fresh.Label)
	child.Stdin = strings.NewReader(string(fresh.PIN))
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("the other process: %v\n%s", err, out)
	}
	do(t, tok, func(s *token.Session) error {
		if list, err := s.FindData("from the first"); err != nil || len(list) != 0 {
			t.Errorf("what the other process destroyed is found: %v, %v", list, err)
		}
		list, err := s.FindData("from the other")
		if len(list) != 1 || string(list[0].Value) != "answer" {
			t.Errorf("what the other process put: %v", list)
		}
		if err != nil {
			return err
		}
		_, err = s.FindPair("from the other")
		return err
	})
}

// otherProcess finds what the first one put on the token, and puts something there itself.
func otherProcess() error {
	pin, err := io.ReadAll(io.LimitReader(os.Stdin, 64))
	if err != nil {
		return err
	}
	library, err := token.Load(os.Getenv(otherLibrary), os.Getenv(otherParameters))
	if err != nil {
		return err
	}
	slot, info, err := library.FindToken(os.Getenv(otherLabel))
	if err != nil {
		return err
	}
	tok, err := library.Open(slot, info, pin, 1)
	if err != nil {
		return err
	}
	return tok.Do(func(s *token.Session) error {
		list, err := s.FindData("from the first")
		if err != nil {
			return err
		}
		if len(list) != 1 || string(list[0].Value) != "value" {
			return fmt.Errorf("found %v", list)
		}
		if marked, err := s.HasMark("from the first"); err != nil || !marked {
			return fmt.Errorf("the mark: %v, %w", marked, err)
		}
		pair, err := s.FindPair("from the first")
		if err != nil {
			return err
		}
		if _, ok := pair.Public.(*ecdsa.PublicKey); !ok {
			return errors.New("the public key is of another type")
		}
		if _, err := s.PutData("from the other", []byte("answer")); err != nil {
			return err
		}
		if _, err := s.GenerateEC("from the other", elliptic.P384(), token.PairSigns); err != nil {
			return err
		}
		return s.DestroyData(list[0].Object)
	})
}
