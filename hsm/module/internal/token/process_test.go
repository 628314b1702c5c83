package token_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

// processLabel names, in the environment, the token that the other process works on; its
// PIN comes through standard input. With it a test binary is that process ([TestMain]).
const processLabel = "KEYD_TOKEN_TEST_LABEL"

// TestSurvivesTheProcess: what one process puts on a token another finds, and the first
// sees what the other did while it has the token open.
func TestSurvivesTheProcess(t *testing.T) {
	fresh := tokentest.SoftHSM(t)
	tok := fresh.Open(t, 2)
	do(t, tok, func(one *token.Session) error {
		if _, err := one.PutData("from the first", []byte("value")); err != nil {
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
	child.Env = append(os.Environ(), processLabel+"="+fresh.Label)
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
func otherProcess(label string) error {
	pin := make([]byte, 64)
	n, err := os.Stdin.Read(pin)
	if err != nil {
		return err
	}
	library, err := token.Load(tokentest.SoftHSMPath, "")
	if err != nil {
		return err
	}
	slot, info, err := library.FindToken(label)
	if err != nil {
		return err
	}
	tok, err := library.Open(slot, info, pin[:n], 1)
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
		pair, err := s.FindPair("from the first")
		if err != nil {
			return err
		}
		if _, ok := pair.Public.(*ecdsa.PublicKey); !ok {
			return fmt.Errorf("a public key of type %T", pair.Public)
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
