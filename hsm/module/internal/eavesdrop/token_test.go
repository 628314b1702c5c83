package eavesdrop

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func anyRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestComputesWhatTheTokenComputes changes random secrets of a token in random ways and wraps what comes of
// it under a key that is known: each step is computed here as well, and nothing is otherwise. The values
// that were made in the token are known in the end, because they follow; without that key none is.
func TestComputesWhatTheTokenComputes(t *testing.T) {
	random := anyRandom(t)
	r := Record(t, tokentest.NSSPath(t))
	tok := tokentest.NSSThrough(t, r.Library).Open(t, 1)
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	r.Mark(t)
	const rounds = 40
	err := tok.Do(func(s *token.Session) error {
		key, err := s.Import(pkcs11.CKK_AES, token.MayWrap|token.MayUnwrap|token.MayEncrypt|token.MayDecrypt|token.MayDerive, bytes(16))
		if err != nil {
			return err
		}
		for range rounds {
			size := 16
			var o token.Object
			if random.IntN(2) == 0 {
				o, err = s.UnwrapSecret(pkcs11.CKM_AES_ECB, key, bytes(size))
			} else {
				o, err = s.RandomSecret(size)
			}
			for step := 0; step < 6 && err == nil; step++ {
				switch random.IntN(6) {
				case 0:
					o, err = s.XOR(o, bytes(size))
				case 1:
					if size > 3 {
						bit := random.IntN(9)
						size -= 1 + bit/8 + 1
						o, err = s.Extract(o, bit, size)
					}
				case 2:
					n := 1 + random.IntN(4)
					size += n
					o, err = s.Append(o, bytes(n))
				case 3:
					n := 1 + random.IntN(4)
					size += n
					o, err = s.Prepend(bytes(n), o)
				case 4:
					if size <= 24 {
						size *= 2
						o, err = s.Join(o, o)
					}
				case 5:
					var image token.Object
					if image, err = s.Image(key, bytes(16), 4); err == nil {
						size += 4
						o, err = s.Join(o, image)
					}
				}
			}
			if err == nil {
				err = s.WrapSecret(pkcs11.CKM_AES_ECB, key, o, make([]byte, (size+15)/16*16))
			}
			if err != nil {
				return err
			}
		}
		return s.Forget()
	})
	if err != nil {
		t.Fatal(err)
	}
	w := Listen(t, r)
	if _, problems := w.Find(nil); len(problems) != 0 {
		t.Error(problems)
	}
	if known, all := w.Objects(); known < all-rounds/4 || all < 3*rounds { // of a few everything was cut away
		t.Errorf("something is known of %d objects of %d", known, all)
	}
	// Without the key that was imported nothing but images and data are left.
	text, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text[r.from:]), "\n")
	if !strings.HasPrefix(lines[0], "C_CreateObject") {
		t.Fatalf("the first call is %.40q", lines[0])
	}
	deaf := &Recording{path: record(t, strings.Join(lines, "")), from: int64(len(lines[0]))}
	w = Listen(t, deaf)
	_, problems := w.Find(nil)
	known, all := w.Objects()
	if len(problems) != 0 || known == all {
		t.Errorf("%v, %d of %d", problems, known, all)
	}
	for _, o := range w.all {
		if _, whole := o.known.value(); whole {
			t.Errorf("all is known of what %s made", o.made)
		}
	}
}
