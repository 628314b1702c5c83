package sealing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func setUp(t testing.TB, sessions int) (*token.Token, *sealing.Masters) {
	t.Helper()
	tok := tokentest.SoftHSM(t).Open(t, sessions)
	var masters *sealing.Masters
	err := tok.Do(func(s *token.Session) (err error) {
		if _, err := sealing.FindMasters(s, sealing.FirstGeneration); !errors.Is(err, sealing.ErrNoMasters) {
			return fmt.Errorf("a fresh token has masters: %w", err)
		}
		if err := sealing.CreateMasters(s, sealing.FirstGeneration); err != nil {
			return err
		}
		if err := sealing.CreateMasters(s, sealing.FirstGeneration); err != nil { // again: nothing to do
			return err
		}
		masters, err = sealing.FindMasters(s, sealing.FirstGeneration)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tok, masters
}

func header(name, usage, algorithm, mode string) hsm.Header {
	return hsm.Header{Name: name, Version: 1, Usage: usage, Algorithm: algorithm, Mode: mode, Exportability: "N",
		Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Peers: []string{"*"}, Formats: []hsm.Format{0, 1, 3, 4}}
}

func seal(t testing.TB, tok *token.Token, m *sealing.Masters, h hsm.Header, value []byte) []byte {
	t.Helper()
	var sealed []byte
	if err := tok.Do(func(s *token.Session) (err error) { sealed, err = m.Seal(s, h, value); return err }); err != nil {
		t.Fatal(err)
	}
	return sealed
}

func open(t testing.TB, tok *token.Token, c *sealing.Cache, name string, sealed []byte) (k sealing.Key, err error) {
	t.Helper()
	err = tok.Do(func(s *token.Session) error { k, err = c.Open(s, name, sealed); return err })
	return k, err
}

func TestSealedKeyWorksAndIsAuthentic(t *testing.T) {
	tok, masters := setUp(t, 2)
	cache := sealing.NewCache(tok, sealing.NewSet(masters), 8)
	value := bytes.Repeat([]byte{0x13, 0x57}, 8)
	sealed := seal(t, tok, masters, header("zone", "P0", "T", "B"), value)
	if bytes.Contains(sealed, value) {
		t.Fatal("the sealed key holds the key in clear")
	}
	k, err := open(t, tok, cache, "zone", sealed)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	var first, second [8]byte
	err = tok.Do(func(s *token.Session) error {
		clear, err := s.Import(pkcs11.CKK_DES2, token.MayEncrypt, value)
		if err != nil {
			return err
		}
		if err := s.Encrypt(pkcs11.CKM_DES3_ECB, clear, first[:], make([]byte, 8)); err != nil {
			return err
		}
		return s.Encrypt(k.Mechanism(), k.Object, second[:], make([]byte, 8))
	})
	if err != nil || first != second {
		t.Fatalf("the unsealed key is another key: %v", err)
	}
	if got := fmt.Sprintf("%X", first[:3]); got != k.Header.CheckValue {
		t.Errorf("check value %s, want %s", k.Header.CheckValue, got)
	}
	if again := seal(t, tok, masters, header("zone", "P0", "T", "B"), value); !bytes.Equal(again, sealed) {
		t.Error("sealing is not deterministic")
	}

	if _, err := open(t, tok, cache, "other", sealed); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Errorf("renamed: %v", err)
	}
	for i := range sealed {
		altered := bytes.Clone(sealed)
		altered[i] ^= 0x10
		if _, err := open(t, tok, cache, "zone", altered); fault.Of(err).Reason != fault.KeySealInvalid {
			t.Fatalf("byte %d altered: %v", i, err)
		}
		if _, err := open(t, tok, cache, "zone", sealed[:i]); fault.Of(err).Reason != fault.KeySealInvalid {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestSealedPartsCannotBeSwapped(t *testing.T) {
	tok, masters := setUp(t, 1)
	cache := sealing.NewCache(tok, sealing.NewSet(masters), 8)
	a := seal(t, tok, masters, header("a", "P0", "T", "D"), bytes.Repeat([]byte{1}, 16))
	b := seal(t, tok, masters, header("b", "P0", "T", "E"), bytes.Repeat([]byte{2}, 16))
	pa, err := hsm.ParseSealed(a)
	if err != nil {
		t.Fatal(err)
	}
	pb, err := hsm.ParseSealed(b)
	if err != nil {
		t.Fatal(err)
	}
	body, err := hsm.SealedBody(pa.Header, pb.Wrapped) // a's header on b's key
	if err != nil {
		t.Fatal(err)
	}
	for _, mac := range [][]byte{pa.MAC, pb.MAC, make([]byte, 16)} {
		if _, err := open(t, tok, cache, "a", append(bytes.Clone(body), mac...)); fault.Of(err).Reason != fault.KeySealInvalid {
			t.Errorf("swapped key was opened: %v", err)
		}
	}
	other, otherMasters := setUp(t, 1) // another token
	if _, err := open(t, other, sealing.NewCache(other, sealing.NewSet(otherMasters), 8), "a", a); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Errorf("another token opened the key: %v", err)
	}
}

func TestModeOfUseBecomesTokenRights(t *testing.T) {
	tok, masters := setUp(t, 1)
	cache := sealing.NewCache(tok, sealing.NewSet(masters), 8)
	for mode, may := range map[string][2]bool{"E": {true, false}, "D": {false, true}, "B": {true, true}} {
		sealed := seal(t, tok, masters, header("k"+mode, "P0", "A", mode), bytes.Repeat([]byte{7}, 32))
		k, err := open(t, tok, cache, "k"+mode, sealed)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 16)
		encrypt := tok.Do(func(s *token.Session) error { return s.Encrypt(k.Mechanism(), k.Object, out, make([]byte, 16)) })
		decrypt := tok.Do(func(s *token.Session) error { return s.Decrypt(k.Mechanism(), k.Object, out, make([]byte, 16)) })
		if (encrypt == nil) != may[0] || (decrypt == nil) != may[1] {
			t.Errorf("mode %s: encrypt %v, decrypt %v", mode, encrypt, decrypt)
		}
		k.Release()
	}
}

func TestCheckValues(t *testing.T) {
	tok, masters := setUp(t, 1)
	for _, v := range readKCV(t) {
		algorithm := map[string]string{"TDES/legacy_zero_encrypt": "T", "AES/cmac_zero_block": "A", "HMAC/hmac_sha256_empty": "H"}[v.Algorithm+"/"+v.Method]
		value := make([]byte, len(v.Key)/2)
		if _, err := fmt.Sscanf(v.Key, "%X", &value); err != nil {
			t.Fatalf("%s: %v", v.ID, err)
		}
		if algorithm == "" || len(value) == 8 {
			// Not check values of ANSI X9.24-1 annex A / X9.143: single DES, and for AES
			// a CMAC of ones, a CMAC of nothing, an encipherment of zeros.
			excluded[v.ID] = true
			continue
		}
		usage := map[string]string{"T": "P0", "A": "P0", "H": "M7"}[algorithm]
		sealed := seal(t, tok, masters, header(v.ID, usage, algorithm, "N"), value)
		parsed, err := hsm.ParseSealed(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.ToUpper(v.KCV[:6]); parsed.Header.CheckValue != want {
			t.Errorf("%s: check value %s, want %s", v.ID, parsed.Header.CheckValue, want)
		}
	}
	if len(excluded) != 5 {
		t.Errorf("excluded %v: five vectors are variants that keyd does not use", excluded)
	}
}

var excluded = map[string]bool{}

type kcvVector struct{ ID, Algorithm, Method, Key, KCV string }

func readKCV(t *testing.T) (vectors []kcvVector) {
	t.Helper()
	b, err := os.ReadFile("../../../../officer/testdata/kcv.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) == 0 {
		t.Fatalf("kcv.json: %v", err)
	}
	return vectors
}

func TestKeysThatAreRefused(t *testing.T) {
	tok, masters := setUp(t, 1)
	for name, c := range map[string]struct {
		h     hsm.Header
		value []byte
	}{
		"single DES":            {header("k", "P0", "T", "B"), make([]byte, 8)},
		"AES of 20 bytes":       {header("k", "P0", "A", "B"), make([]byte, 20)},
		"unknown algorithm":     {header("k", "P0", "R", "B"), make([]byte, 16)},
		"three-key TDES as BDK": {header("k", "B0", "T", "X"), append(make([]byte, 16), 1, 2, 3, 4, 5, 6, 7, 8)},
	} {
		err := tok.Do(func(s *token.Session) error { _, err := masters.Seal(s, c.h, c.value); return err })
		if !errors.Is(err, sealing.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A double-length BDK written as K1 K2 K1 is one.
	seal(t, tok, masters, header("k", "B0", "T", "X"), append(bytes.Repeat([]byte{1}, 8), append(bytes.Repeat([]byte{2}, 8), bytes.Repeat([]byte{1}, 8)...)...))
}

func TestCacheIsBoundedSharedAndRenewed(t *testing.T) {
	tok, masters := setUp(t, 4)
	cache := sealing.NewCache(tok, sealing.NewSet(masters), 4)
	var sealed [12][]byte
	for i := range sealed {
		sealed[i] = seal(t, tok, masters, header(fmt.Sprint(i), "P0", "A", "B"), bytes.Repeat([]byte{byte(i)}, 16))
	}
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for round := range 200 {
				i := (worker*7 + round) % len(sealed)
				err := tok.Do(func(s *token.Session) error {
					k, err := cache.Open(s, fmt.Sprint(i), sealed[i])
					if err != nil {
						return err
					}
					defer k.Release()
					out := make([]byte, 16)
					return s.Encrypt(k.Mechanism(), k.Object, out, out)
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	if n := cache.Len(); n > 4 {
		t.Errorf("the cache holds %d keys", n)
	}
	if err := tok.Renew(tok.Generation()); err != nil {
		t.Fatal(err)
	}
	k, err := open(t, tok, cache, "3", sealed[3])
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	if err := tok.Do(func(s *token.Session) error {
		return s.Encrypt(k.Mechanism(), k.Object, make([]byte, 16), make([]byte, 16))
	}); err != nil {
		t.Errorf("after renewal: %v", err)
	}
	if cache.Len() != 1 {
		t.Errorf("after renewal the cache holds %d keys", cache.Len())
	}
}
