package pinobjects_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/pinobjects"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/pinblock"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

var formats = []pinblock.Format{pinblock.ISO0, pinblock.ISO3, pinblock.ISO4}

// bench is a token with two keys of each kind, and the same keys here.
type bench struct {
	*testing.T
	tools   *pinobjects.Tools
	tdes    [3]token.Object
	aes     [2]token.Object
	tdesKey [3]cipher.Block
	aesKey  [2]cipher.Block
}

var (
	once sync.Once
	tok  *token.Token
)

// on runs f with a session of a fresh token.
func on(t *testing.T, f func(b *bench, s *token.Session)) {
	t.Helper()
	once.Do(func() { tok = tokentest.NSS(t).Open(t, 1) })
	b := &bench{T: t, tools: pinobjects.New(tok)}
	if err := tok.Do(func(s *token.Session) error {
		for i := range 3 {
			value := make([]byte, 24)
			_, _ = rand.Read(value)
			var err error
			if b.tdesKey[i], err = des.NewTripleDESCipher(value); err != nil {
				return err
			}
			if b.tdes[i], err = s.Import(pkcs11.CKK_DES3, token.MayWrap|token.MayUnwrap, value); err != nil {
				return err
			}
			if i == 2 {
				break
			}
			if b.aesKey[i], err = aes.NewCipher(value[:16]); err != nil {
				return err
			}
			if b.aes[i], err = s.Import(pkcs11.CKK_AES, token.MayWrap|token.MayUnwrap|token.MayEncrypt|token.MayDecrypt, value[:16]); err != nil {
				return err
			}
		}
		f(b, s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// key is the i-th key for a format.
func (b *bench) key(f pinblock.Format, i int) (pinobjects.Key, cipher.Block) {
	if f == pinblock.ISO4 {
		return pinobjects.Key{Mechanism: pkcs11.CKM_AES_ECB, Object: b.aes[i]}, b.aesKey[i]
	}
	return pinobjects.Key{Mechanism: pkcs11.CKM_DES3_ECB, Object: b.tdes[i]}, b.tdesKey[i]
}

// seal enciphers a clear block.
func seal(f pinblock.Format, key cipher.Block, plain []byte, pan pinblock.PAN) []byte {
	block := make([]byte, len(plain))
	key.Encrypt(block, plain)
	if f == pinblock.ISO4 {
		_ = pan.XORField4(block) // 16 bytes
		key.Encrypt(block, block)
	}
	return block
}

func unseal(f pinblock.Format, key cipher.Block, block []byte, pan pinblock.PAN) []byte {
	plain := make([]byte, len(block))
	key.Decrypt(plain, block)
	if f == pinblock.ISO4 {
		_ = pan.XORField4(plain) // 16 bytes
		key.Decrypt(plain, plain)
	}
	return plain
}

func digits(n int, from string) string {
	var s strings.Builder
	for range n {
		s.WriteByte(from[mathrand.IntN(len(from))])
	}
	return s.String()
}

func (b *bench) pan() pinblock.PAN {
	pan, err := pinblock.ParsePAN(digits(1+mathrand.IntN(19), "0123456789"))
	if err != nil {
		b.Fatal(err)
	}
	return pan
}

// random is a clear block of a random PIN.
func (b *bench) random(f pinblock.Format, length int, from string, pan pinblock.PAN) (pin pinblock.PIN, plain []byte) {
	b.Helper()
	var slot [pinblock.PINSize]byte
	slot[0] = byte(length)
	for i := range length {
		slot[1+i] = byte(strings.IndexByte("0123456789ABCDEF", from[mathrand.IntN(len(from))]))
	}
	pin = *pinblock.PINIn(&slot)
	plain = make([]byte, f.Size())
	var r [pinblock.RandomSize]byte
	_, _ = rand.Read(r[:])
	if err := pinblock.Encode(plain, f, &pin, pan, &r); err != nil {
		b.Fatal(err)
	}
	return pin, plain
}

func TestEveryFormatBecomesEveryOther(t *testing.T) {
	on(t, func(b *bench, s *token.Session) {
		for _, in := range formats {
			for _, out := range formats {
				for length := pinblock.MinPINLen; length <= pinblock.MaxPINLen; length++ {
					for range 20 {
						pan := b.pan()
						pin, plain := b.random(in, length, "0123456789ABCDEF", pan)
						keyIn, cipherIn := b.key(in, 0)
						keyOut, cipherOut := b.key(out, 1)
						opened, ok, err := b.tools.Open(s, in, keyIn, seal(in, cipherIn, plain, pan), make([]byte, 16), pan)
						if err != nil || !ok || opened.Length != length {
							t.Fatalf("%v, length %d: %v, %v, %d", in, length, ok, err, opened.Length)
						}
						var r [pinblock.RandomSize]byte
						_, _ = rand.Read(r[:])
						block := make([]byte, out.Size())
						if err := b.tools.Close(s, &opened, out, keyOut, block, &r); err != nil {
							t.Fatal(err)
						}
						var got pinblock.PIN
						if err := pinblock.Decode(&got, out, unseal(out, cipherOut, block, pan), pan); err != nil || !got.Equal(&pin) {
							t.Fatalf("%v to %v, length %d: %v", in, out, length, err)
						}
					}
				}
			}
		}
	})
}

// calls is how many the token has had.
func calls() (n uint64) {
	for _, c := range tok.Calls() {
		n += c.Count
	}
	return n
}

// TestMalformedBlocks: a block is one exactly when package pinblock says so, and all that are none take the
// same number of calls.
func TestMalformedBlocks(t *testing.T) {
	on(t, func(b *bench, s *token.Session) {
		for _, f := range formats {
			took := map[uint64]int{}
			for n := range 1500 {
				pan := b.pan()
				_, plain := b.random(f, pinblock.MinPINLen+n%9, "0123456789ABCDEF", pan)
				place := mathrand.IntN(16)
				if n%4 == 0 {
					place = n / 4 % 2 // control field and length
				}
				plain[place/2] ^= byte(1+mathrand.IntN(15)) << (4 * (1 - place%2))
				var want pinblock.PIN
				good := pinblock.Decode(&want, f, plain, pan) == nil
				key, cipher := b.key(f, 0)
				before := calls()
				_, ok, err := b.tools.Open(s, f, key, seal(f, cipher, plain, pan), make([]byte, 16), pan)
				if !ok {
					took[calls()-before]++
				}
				if err != nil || ok != good {
					t.Fatalf("%v: digit %d of %X: %v, %v; want %v", f, place, plain, ok, err, good)
				}
			}
			if len(took) != 1 {
				t.Errorf("%v: malformed blocks by their number of token calls: %v", f, took)
			}
		}
	})
}

// TestComparisons: what is enciphered for a comparison, and whether digits are decimal, is as package
// pinverify has it.
func TestComparisons(t *testing.T) {
	on(t, func(b *bench, s *token.Session) {
		for n := range 1200 {
			f, pan := formats[n%3], b.pan()
			from := "0123456789"
			if n%2 == 0 {
				from += "ABCDEF"
			}
			pin, plain := b.random(f, pinblock.MinPINLen+n/3%9, from, pan)
			key, cipher := b.key(f, 0)
			opened, ok, err := b.tools.Open(s, f, key, seal(f, cipher, plain, pan), make([]byte, 16), pan)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			var want, got [pinverify.TSPSize]byte
			if err := pinverify.PutTSP(&want, pan, n%10, &pin); err != nil {
				t.Fatal(err)
			}
			b.tdesKey[2].Encrypt(want[:], want[:])
			if err := b.tools.TSP(s, &opened, n%10, b.tdes[2], &got); err != nil || got != want {
				t.Fatalf("%v: %X, want %X: %v", f, got, want, err)
			}
			if decimal, err := b.tools.Decimal(s, &opened); err != nil || decimal != pin.Decimal() {
				t.Fatalf("%v: %v, %v; want %v", f, decimal, err, pin.Decimal())
			}
		}
	})
}

// TestRandomPINs: they have the length asked for and decimal digits, each about as often as another.
func TestRandomPINs(t *testing.T) {
	on(t, func(b *bench, s *token.Session) {
		var count [10]int
		all := 0
		for n := range 600 {
			f, length, pan := formats[n%3], pinblock.MinPINLen+n%9, b.pan()
			made, err := b.tools.Random(s, length, pan)
			if err != nil {
				t.Fatal(err)
			}
			key, cipher := b.key(f, 0)
			var r [pinblock.RandomSize]byte
			_, _ = rand.Read(r[:])
			block := make([]byte, f.Size())
			if err := b.tools.Close(s, &made, f, key, block, &r); err != nil {
				t.Fatal(err)
			}
			var pin pinblock.PIN
			if err := pinblock.Decode(&pin, f, unseal(f, cipher, block, pan), pan); err != nil || pin.Len() != length || !pin.Decimal() {
				t.Fatalf("%v, length %d: %v", f, length, err)
			}
			for i := range length {
				count[pin.Digit(i)]++
				all++
			}
		}
		for digit, n := range count {
			if n < all/10-all/40 || n > all/10+all/40 { // six standard deviations and more
				t.Errorf("digit %d: %d times of %d", digit, n, all)
			}
		}
	})
}
