package sealing_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

// imported is a fresh token with master keys of a secret.
func imported(t testing.TB, secret []byte) (*token.Token, *sealing.Masters) {
	t.Helper()
	tok := tokentest.SoftHSM(t).Open(t, 1)
	var m *sealing.Masters
	do(t, tok, func(s *token.Session) (err error) {
		if err = sealing.ImportMasters(s, sealing.FirstGeneration, bytes.Clone(secret)); err == nil {
			m, err = sealing.FindMasters(s, sealing.FirstGeneration)
		}
		return err
	})
	return tok, m
}

func do(t testing.TB, tok *token.Token, f func(*token.Session) error) {
	t.Helper()
	if err := tok.Do(f); err != nil {
		t.Fatal(err)
	}
}

func secretOf(b byte) []byte { return bytes.Repeat([]byte{b, b + 1}, sealing.SecretSize/2) }

// A key that one token has sealed opens on another whose master keys are of the same secret,
// and on none of another secret.
func TestTheSameSecretMakesTheSameMasters(t *testing.T) {
	value := bytes.Repeat([]byte{0x13, 0x57}, 8)
	one, mine := imported(t, secretOf(1))
	sealed := seal(t, one, mine, header("zone", "P0", "T", "B"), value)
	check := func(tok *token.Token, m *sealing.Masters) (kcv string) {
		do(t, tok, func(s *token.Session) (err error) { kcv, err = m.CheckValue(s); return err })
		return kcv
	}
	two, same := imported(t, secretOf(1))
	k, err := open(t, two, sealing.NewCache(two, sealing.NewSet(same), 4), "zone", sealed)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	if again := seal(t, two, same, header("zone", "P0", "T", "B"), value); !bytes.Equal(again, sealed) {
		t.Error("the two tokens seal otherwise")
	}
	three, other := imported(t, secretOf(3))
	if _, err := open(t, three, sealing.NewCache(three, sealing.NewSet(other), 4), "zone", sealed); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Errorf("opened with another secret: %v", err)
	}
	if check(one, mine) != check(two, same) || check(one, mine) == check(three, other) || len(check(one, mine)) != 6 {
		t.Errorf("check values %s, %s, %s", check(one, mine), check(two, same), check(three, other))
	}
	random, made := setUp(t, 1) // of a secret that nobody has
	if check(random, made) == check(one, mine) {
		t.Error("a random secret is a known one")
	}
}

// Each generation has keys of its own, but for the one that fingerprints values.
func TestGenerations(t *testing.T) {
	tok, first := imported(t, secretOf(1))
	value := bytes.Repeat([]byte{0x24, 0x68}, 16)
	do(t, tok, func(s *token.Session) error { return sealing.ImportMasters(s, 2, secretOf(5)) })
	set := sealing.NewSet()
	var second *sealing.Masters
	do(t, tok, func(s *token.Session) (err error) { second, err = set.Of(s, 2); return err })
	h := header("k", "P0", "A", "B")
	a, b := seal(t, tok, first, h, value), seal(t, tok, second, h, value)
	pa, err := hsm.ParseSealed(a)
	if err != nil {
		t.Fatal(err)
	}
	pb, err := hsm.ParseSealed(b)
	if err != nil {
		t.Fatal(err)
	}
	if pa.Header.Fingerprint != pb.Header.Fingerprint || pa.Header.Generation != 1 || pb.Header.Generation != 2 || bytes.Equal(pa.Wrapped[0], pb.Wrapped[0]) {
		t.Error("the generations are mixed up")
	}
	cache := sealing.NewCache(tok, set, 4)
	for _, sealed := range [][]byte{a, b} {
		k, err := open(t, tok, cache, "k", sealed)
		if err != nil {
			t.Fatal(err)
		}
		k.Release()
	}
	// Parts of one generation are none of another's.
	body, err := hsm.SealedBody(pb.Header, pa.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, tok, cache, "k", append(body, pb.MAC...)); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Error(err)
	}
	do(t, tok, func(s *token.Session) error {
		if _, err := set.Of(s, 3); !errors.Is(err, sealing.ErrNoMasters) {
			t.Errorf("generation 3: %v", err)
		}
		if err := sealing.DestroyMasters(s, 2, false); err != nil {
			return err
		}
		_, err := sealing.FindMasters(s, 1) // with the fingerprint key, which generation 2 had too
		if _, gone := sealing.FindMasters(s, 2); !errors.Is(gone, sealing.ErrNoMasters) {
			t.Errorf("generation 2: %v", gone)
		}
		return err
	})
}

// Where the power goes while master keys are made or destroyed, doing it again ends it.
func TestMastersAfterALossOfPower(t *testing.T) {
	tok, whole := imported(t, secretOf(1))
	sealed := seal(t, tok, whole, header("zone", "P0", "A", "B"), bytes.Repeat([]byte{1, 2}, 8))
	for _, gone := range []string{"keyd master 1 wrap token", "keyd master 1 wrap module", "keyd master 1 mac", "keyd master fingerprint"} {
		do(t, tok, func(s *token.Session) error { return s.DestroyMaster(gone) })
		if err := tok.Do(func(s *token.Session) error { _, err := sealing.FindMasters(s, 1); return err }); !errors.Is(err, sealing.ErrNoMasters) {
			t.Errorf("without %q: %v", gone, err)
		}
		do(t, tok, func(s *token.Session) error { return sealing.ImportMasters(s, 1, secretOf(1)) })
		k, err := open(t, tok, sealing.NewCache(tok, sealing.NewSet(), 4), "zone", sealed)
		if err != nil {
			t.Fatalf("after %q was made again: %v", gone, err)
		}
		k.Release()
	}
	do(t, tok, func(s *token.Session) error {
		if err := s.DestroyMaster("keyd master 1 mac"); err != nil {
			return err
		}
		return errors.Join(sealing.DestroyMasters(s, 1, true), sealing.DestroyMasters(s, 1, true))
	})
}

// What the module must read can be read, by Read alone; what it must not read cannot, by no
// means that the token has.
func TestCustodyDecidesWhatIsReadable(t *testing.T) {
	tok, masters := imported(t, secretOf(1))
	set := sealing.NewSet(masters)
	for _, c := range []struct {
		usage, algorithm string
		value            []byte
	}{
		{"P0", "T", bytes.Repeat([]byte{0x13, 0x57}, 8)}, {"D0", "T", bytes.Repeat([]byte{0x13, 0x57, 0x9B}, 8)}, {"P0", "A", bytes.Repeat([]byte{0x24, 0x68}, 16)},
		{"M7", "H", bytes.Repeat([]byte{0xAB}, 17)}, {"B0", "T", bytes.Repeat([]byte{0x13, 0x57}, 8)}, {"K1", "T", bytes.Repeat([]byte{0x13, 0x57}, 12)}, {"K1", "A", bytes.Repeat([]byte{0x24, 0x68}, 8)},
	} {
		h := header("k", c.usage, c.algorithm, "N")
		if h.Usage == "B0" {
			h.Mode = "X"
		}
		h.Custody = hsm.CustodyModule
		readable := seal(t, tok, masters, h, c.value)
		h.Custody = hsm.CustodyToken
		kept := seal(t, tok, masters, h, c.value)
		do(t, tok, func(s *token.Session) error {
			out := s.Scratch()[:256]
			n, err := set.Read(s, readable, out)
			if err != nil || !bytes.Equal(out[:n], c.value) {
				t.Errorf("%s %s: read %d bytes, %v", c.usage, c.algorithm, n, err)
			}
			clear(out)
			n, err = set.Read(s, kept, out)
			if fault.Of(err).Reason != fault.ExportForbidden || n != 0 || len(bytes.Trim(out, "\x00")) != 0 {
				t.Errorf("%s %s: %d bytes were read against custody: %v", c.usage, c.algorithm, n, err)
			}
			// Neither is anything read of what only looks like a sealed key.
			for i := range readable {
				altered := bytes.Clone(readable)
				altered[i] ^= 0x40
				if n, err := set.Read(s, altered, out); fault.Of(err).Reason != fault.KeySealInvalid || n != 0 {
					t.Fatalf("byte %d altered: %d, %v", i, n, err)
				}
			}
			return nil
		})
		// The front may give the wrapped value of one custody for the other: the token's own
		// keys tell them apart.
		parsed, err := hsm.ParseSealed(kept)
		if err != nil {
			t.Fatal(err)
		}
		for label, may := range map[string]bool{"keyd master 1 wrap token": false, "keyd master 1 wrap module": true} {
			wrapped := parsed.Wrapped[0]
			if may {
				p, err := hsm.ParseSealed(readable)
				if err != nil {
					t.Fatal(err)
				}
				wrapped = p.Wrapped[0]
			}
			err := tok.Do(func(s *token.Session) error {
				key, err := s.Find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
				if err != nil {
					return err
				}
				_, err = s.UnwrapReadable(token.CKMAESKeyWrapPad, key, wrapped, s.Scratch()[:256])
				return err
			})
			if may && err != nil || !may && !errors.Is(err, token.ErrNotReadable) {
				t.Errorf("%s: %v", label, err)
			}
		}
	}
}

// A sealed key that may be read is used like any other, and what it may be read for is
// nowhere else.
func TestReadableKeysAreUsedLikeAnyOther(t *testing.T) {
	tok, masters := imported(t, secretOf(1))
	h := header("k", "P0", "A", "B")
	h.Custody = hsm.CustodyModule
	k, err := open(t, tok, sealing.NewCache(tok, sealing.NewSet(masters), 4), "k", seal(t, tok, masters, h, bytes.Repeat([]byte{1, 2}, 8)))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	do(t, tok, func(s *token.Session) error {
		return s.Encrypt(k.Mechanism(), k.Object, make([]byte, 16), make([]byte, 16))
	})
	for _, custody := range []string{"", "both", "TOKEN"} {
		h.Custody = custody
		if err := tok.Do(func(s *token.Session) error { _, err := masters.Seal(s, h, bytes.Repeat([]byte{1, 2}, 8)); return err }); !errors.Is(err, sealing.ErrKey) {
			t.Errorf("custody %q: %v", custody, err)
		}
	}
}

// A TDES key block protection key is sealed with its two variants, which encipher as the key
// XORed with their masks does (X9.143-2021 7.3), and which may do by its mode of use no more
// than that takes.
func TestProtectionKeysHaveTheirVariants(t *testing.T) {
	tok, masters := imported(t, secretOf(1))
	cache := sealing.NewCache(tok, sealing.NewSet(masters), 16)
	for _, usage := range []string{"K0", "K1"} {
		for mode, deciphers := range map[string]bool{"B": true, "D": true, "E": false, "N": true} {
			for _, value := range [][]byte{bytes.Repeat([]byte{0x13, 0x57, 0x9B, 0xDF}, 4), bytes.Repeat([]byte{0x13, 0x57, 0x9B, 0xDF, 0x24, 0x68}, 4)} {
				name := usage + mode
				k, err := open(t, tok, cache, name, seal(t, tok, masters, header(name, usage, "T", mode), value))
				if err != nil {
					t.Fatal(err)
				}
				for mask, object := range map[byte]token.Object{0x45: k.Twin, 0x4D: k.MACVariant} {
					variant := bytes.Clone(value)
					for i := range variant {
						variant[i] ^= mask
					}
					if object == 0 {
						t.Fatalf("%s has no variant %02X", name, mask)
					}
					got, want := make([]byte, 8), make([]byte, 8)
					do(t, tok, func(s *token.Session) error {
						keyType, err := sealing.KeyType("T", len(value))
						if err != nil {
							return err
						}
						clear, err := s.Import(keyType, token.MayEncrypt, variant)
						if err != nil {
							return err
						}
						return errors.Join(s.Encrypt(pkcs11.CKM_DES3_ECB, object, got, make([]byte, 8)), s.Encrypt(pkcs11.CKM_DES3_ECB, clear, want, make([]byte, 8)))
					})
					if !bytes.Equal(got, want) {
						t.Errorf("%s: variant %02X is another key", name, mask)
					}
					err := tok.Do(func(s *token.Session) error { return s.Decrypt(pkcs11.CKM_DES3_ECB, object, got, want) })
					if (err == nil) != deciphers {
						t.Errorf("%s: variant %02X deciphers: %v", name, mask, err)
					}
				}
				for what, err := range map[string]error{
					"encipher": tok.Do(func(s *token.Session) error {
						return s.Encrypt(pkcs11.CKM_DES3_ECB, k.Object, make([]byte, 8), make([]byte, 8))
					}),
					"decipher": tok.Do(func(s *token.Session) error {
						return s.Decrypt(pkcs11.CKM_DES3_ECB, k.Object, make([]byte, 8), make([]byte, 8))
					}),
				} {
					if err == nil {
						t.Errorf("%s: the key itself may %s", name, what)
					}
				}
				k.Release()
			}
		}
		k, err := open(t, tok, cache, "aes", seal(t, tok, masters, header("aes", usage, "A", "B"), bytes.Repeat([]byte{1, 2}, 16)))
		if err != nil {
			t.Fatal(err)
		}
		if k.Twin != 0 || k.MACVariant != 0 {
			t.Error("an AES protection key has variants")
		}
		k.Release()
	}
}

// One secret per purpose, the same in every generation.
func TestSecretsFollowFromThePurpose(t *testing.T) {
	tok, first := imported(t, secretOf(1))
	do(t, tok, func(s *token.Session) error {
		if err := sealing.ImportMasters(s, 2, secretOf(9)); err != nil {
			return err
		}
		second, err := sealing.FindMasters(s, 2)
		if err != nil {
			return err
		}
		a, err := first.Secret(s, "one")
		if err != nil {
			return err
		}
		b, err := second.Secret(s, "one")
		if err != nil {
			return err
		}
		c, err := first.Secret(s, "two")
		if a != b || a == c {
			t.Error("secrets are mixed up")
		}
		return err
	})
}

// The code of a document is for one purpose, of one generation.
func TestDocumentCodesAreForOnePurpose(t *testing.T) {
	tok, first := imported(t, secretOf(1))
	do(t, tok, func(s *token.Session) error {
		if err := sealing.ImportMasters(s, 2, secretOf(9)); err != nil {
			return err
		}
		second, err := sealing.FindMasters(s, 2)
		if err != nil {
			return err
		}
		seen := make(map[[16]byte]bool)
		for _, m := range []*sealing.Masters{first, second} {
			for _, purpose := range []string{"epoch", "other"} {
				for _, document := range []string{"", "a", "b"} {
					var mac [16]byte
					if err := m.Authenticate(s, mac[:], purpose, []byte(document)); err != nil {
						return err
					}
					if seen[mac] {
						t.Errorf("the code of %q for %q is another's", document, purpose)
					}
					seen[mac] = true
				}
			}
		}
		return nil
	})
}
