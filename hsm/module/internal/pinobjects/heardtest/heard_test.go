// Package heardtest listens to calls that are provoked: somebody who sees all of them also sends blocks of his choice, as
// any client may. It is a package of its own because a process loads one library.
package heardtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/eavesdrop"
	"keyd/hsm/module/internal/pinobjects"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/pinblock"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// bench is a token whose calls are recorded, with a key of each kind.
type bench struct {
	*testing.T
	session *token.Session
	tools   *pinobjects.Tools
	key     map[int]pinobjects.Key // by the size of a block
	cipher  map[int]cipher.Block
	pan     pinblock.PAN
}

// listened is the record of what the tests provoke: the library is loaded once.
func listened(t *testing.T, f func(*bench)) {
	t.Helper()
	b := &bench{T: t, key: map[int]pinobjects.Key{}, cipher: map[int]cipher.Block{}}
	tok := tokentest.NSSThrough(t, eavesdrop.Record(t, tokentest.NSSPath(t)).Library).Open(t, 1)
	b.tools = pinobjects.New(tok)
	var err error
	if b.pan, err = pinblock.ParsePAN("4111111111111111"); err != nil {
		t.Fatal(err)
	}
	if err := tok.Do(func(s *token.Session) error {
		b.session = s
		value := make([]byte, 24)
		_, _ = rand.Read(value)
		tdes, err := s.Import(pkcs11.CKK_DES3, token.MayWrap|token.MayUnwrap, value)
		if err != nil {
			return err
		}
		wide, err := s.Import(pkcs11.CKK_AES, token.MayWrap|token.MayUnwrap|token.MayEncrypt|token.MayDecrypt, value[:16])
		if err != nil {
			return err
		}
		b.key[8], b.key[16] = pinobjects.Key{Mechanism: pkcs11.CKM_DES3_ECB, Object: tdes}, pinobjects.Key{Mechanism: pkcs11.CKM_AES_ECB, Object: wide}
		if b.cipher[8], err = des.NewTripleDESCipher(value); err != nil {
			return err
		}
		if b.cipher[16], err = aes.NewCipher(value[:16]); err != nil {
			return err
		}
		f(b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// heard is what the record got by f.
func (b *bench) heard(f func()) string {
	b.Helper()
	read := func() string {
		text, err := os.ReadFile(os.Getenv("KEYD_RECORD"))
		if err != nil {
			b.Fatal(err)
		}
		return string(text)
	}
	before := len(read())
	f()
	return read()[before:]
}

// open has a block opened as one of a format.
func (b *bench) open(f pinblock.Format, block []byte) (pin pinobjects.PIN, ok bool) {
	b.Helper()
	pin, ok, err := b.tools.Open(b.session, f, b.key[f.Size()], append([]byte(nil), block...), make([]byte, 16), b.pan)
	if err != nil {
		b.Fatal(err)
	}
	return pin, ok
}

// field is the clear block of a PIN.
func (b *bench) field(f pinblock.Format, digits string) []byte {
	b.Helper()
	var slot [pinblock.PINSize]byte
	pin := pinblock.PINIn(&slot)
	if err := pin.SetDigits([]byte(digits)); err != nil {
		b.Fatal(err)
	}
	var random [pinblock.RandomSize]byte
	_, _ = rand.Read(random[:])
	plain := make([]byte, f.Size())
	if err := pinblock.Encode(plain, f, pin, b.pan, &random); err != nil {
		b.Fatal(err)
	}
	return plain
}

func (b *bench) enciphered(plain []byte) []byte {
	out := make([]byte, len(plain))
	b.cipher[len(plain)].Encrypt(out, plain)
	return out
}

var wrapped = regexp.MustCompile(`(?m)^C_WrapKey .* out=([0-9a-f]+)`)

func TestHeard(t *testing.T) {
	listened(t, func(b *bench) {
		b.open(pinblock.ISO0, b.enciphered(b.field(pinblock.ISO0, "1234"))) // the tools are there
		t.Run("a block of another format", func(t *testing.T) {
			// Of all that a block shows which is given out for one of another format there is nothing that depends
			// on the PIN's digits.
			for _, way := range [][2]pinblock.Format{{pinblock.ISO0, pinblock.ISO3}, {pinblock.ISO3, pinblock.ISO0}} {
				seen := map[string]int{}
				for n := range 40 {
					block := b.enciphered(b.field(way[0], fmt.Sprintf("%012d", n*10000019)))
					for _, m := range wrapped.FindAllStringSubmatch(b.heard(func() { b.open(way[1], block) }), -1) {
						seen[m[1]]++
					}
				}
				if len(seen) != 1 { // the first byte
					t.Errorf("%v as %v: %d different ciphertexts", way[0], way[1], len(seen))
				}
			}
		})
		t.Run("an inner layer that was overheard", func(t *testing.T) {
			// The inner layer of format 4 given out for a block does not have its outer layer taken off in sight.
			for _, digits := range []string{"1234", "98765432", "123456789012"} {
				field := b.field(pinblock.ISO4, digits)
				record := b.heard(func() {
					if _, ok := b.open(pinblock.ISO4, b.enciphered(field)); ok {
						t.Error("it is a block")
					}
				})
				masked := append([]byte(nil), field...)
				if err := b.pan.XORField4(masked); err != nil {
					t.Fatal(err)
				}
				for _, clear := range [][]byte{field, masked} {
					if strings.Contains(record, hex.EncodeToString(clear)) {
						t.Errorf("the PIN field %X crossed", clear)
					}
				}
			}
		})
		t.Run("whether digits are decimal", func(t *testing.T) {
			// In format 0 another account changes the PIN's digits, and who sends one after the other and hears which of
			// them makes decimal ones knows the PIN but for the last bit of each digit.
			seen := map[string]int{}
			for n := range 40 {
				pin, ok := b.open(pinblock.ISO0, b.enciphered(b.field(pinblock.ISO0, "123456")))
				if !ok {
					t.Fatal("it is no block")
				}
				record := b.heard(func() {
					if decimal, err := b.tools.Decimal(b.session, &pin); err != nil || !decimal {
						t.Error(decimal, err)
					}
				})
				all := wrapped.FindAllStringSubmatch(record, -1)
				if len(all) != 6 {
					t.Fatalf("%d looks", len(all))
				}
				for _, m := range all {
					if seen[m[1]]++; seen[m[1]] > 1 {
						t.Fatalf("PIN %d: a ciphertext comes again", n)
					}
				}
			}
		})
	})
}
