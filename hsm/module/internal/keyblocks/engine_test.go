package keyblocks

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/keyblock"
)

const (
	tdesKBPK = "89E88CF7931444F334BD7547FC3F380C"
	aesKBPK  = "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6"
)

func kbpkFor(version byte) (algorithm, value string) {
	if version == 'D' {
		return "A", aesKBPK
	}
	return "T", tdesKBPK
}

// withVersion runs f with the KBPK of a version.
func withVersion(t *testing.T, tok *token.Token, version byte, f func(s *token.Session, k KBPK)) {
	t.Helper()
	algorithm, value := kbpkFor(version)
	with(t, tok, algorithm, unhex(t, value), f)
}

func header(version byte, blocks ...keyblock.Optional) *keyblock.Header {
	return &keyblock.Header{Version: version, Usage: "P0", Algorithm: 'T', Mode: 'E', KeyVersion: "00", Exportability: 'E', Reserved: "00", Blocks: blocks}
}

// forged makes a block whose MAC is right of any payload, whole cipher blocks.
func forged(t *testing.T, s *token.Session, k KBPK, version byte, payload []byte) *keyblock.Block {
	t.Helper()
	text, err := header(version).Encode(2 * (len(payload) + keyblock.MACSize(version)))
	if err != nil {
		t.Fatal(err)
	}
	b := &keyblock.Block{Header: *header(version), HeaderText: text, Encrypted: make([]byte, len(payload)), MAC: make([]byte, keyblock.MACSize(version))}
	w := workOf(s)
	defer w.wipe()
	place := w.message[copy(w.message, text):][:copy(w.message[len(text):], payload)]
	if version == 'B' || version == 'D' {
		err = k.closeDerived(s, w, b, place)
	} else {
		err = k.closeVariant(s, w, b, place)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKBPKCheck(t *testing.T) {
	whole := KBPK{Key: 1, EncryptionVariant: 2, MACVariant: 3}
	for _, c := range []struct {
		algorithm string
		length    int
		versions  string
		want      error
	}{
		{"T", 16, "ABC", nil}, {"T", 24, "ABC", nil}, {"A", 16, "D", nil}, {"A", 24, "D", nil}, {"A", 32, "D", nil},
		{"A", 16, "ABCE", ErrKBPKAlgorithm}, {"T", 16, "DE", ErrKBPKAlgorithm}, {"T", 8, "D", ErrKBPKAlgorithm}, {"", 16, "ABCD", ErrKBPKAlgorithm}, {"D", 8, "ABCD", ErrKBPKAlgorithm},
		{"T", 8, "ABC", ErrKBPKSingleDES},
		{"T", 0, "ABC", ErrKBPKLength}, {"T", 7, "ABC", ErrKBPKLength}, {"T", 32, "ABC", ErrKBPKLength}, {"T", 19, "ABC", ErrKBPKLength},
		{"A", 8, "D", ErrKBPKLength}, {"A", 19, "D", ErrKBPKLength}, {"A", 64, "D", ErrKBPKLength}, {"A", 0, "D", ErrKBPKLength},
	} {
		for _, version := range []byte(c.versions) {
			k := whole
			k.Algorithm, k.Length = c.algorithm, c.length
			if err := k.Check(version); err != c.want || err != nil && !errors.Is(err, ErrKBPK) {
				t.Errorf("%s with %d bytes, version %c: %v, want %v", c.algorithm, c.length, version, err, c.want)
			}
		}
	}
	for version, k := range map[byte]KBPK{
		'A': {Key: 1, MACVariant: 3}, 'C': {Key: 1, EncryptionVariant: 2}, 'B': {EncryptionVariant: 2, MACVariant: 3}, 'D': {},
	} {
		k.Algorithm, k.Length = "T", 16
		if version == 'D' {
			k.Algorithm = "A"
		}
		if err := k.Check(version); err != ErrKBPKAbsent {
			t.Errorf("version %c without an object: %v", version, err)
		}
	}
	for version, k := range map[byte]KBPK{'B': {Key: 1}, 'A': {EncryptionVariant: 2, MACVariant: 3}} {
		k.Algorithm, k.Length = "T", 16
		if err := k.Check(version); err != nil {
			t.Errorf("version %c with what it needs: %v", version, err)
		}
	}
}

// One bit altered anywhere is found, and nothing is written.
func TestAlteredBlocks(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	key := unhex(t, "F039121BEC83D26B169BDCD5B22AAF8F")
	for _, version := range []byte("ABCD") {
		withVersion(t, tok, version, func(s *token.Session, k KBPK) {
			b := forged(t, s, k, version, append([]byte{0, 128}, append(key, make([]byte, 14)...)...))
			out := make([]byte, 32)
			if n, err := Unwrap(s, k, b, out); err != nil || !bytes.Equal(out[:n], key) {
				t.Fatalf("%c: %v", version, err)
			}
			clear(out)
			refused := func(what string, want error) {
				t.Helper()
				if n, err := Unwrap(s, k, b, out); err != want || n != 0 || !zero(out) {
					t.Errorf("%c, %s: %d, %v, want %v", version, what, n, err, want)
				}
			}
			for _, part := range [][]byte{b.Encrypted, b.MAC} {
				for i := range part {
					part[i] ^= 1 << (i % 8)
					refused("a bit", ErrMAC)
					part[i] ^= 1 << (i % 8)
				}
			}
			// Another usage, read from an altered text.
			genuine := b.Header
			copy(b.HeaderText[5:], "D0")
			refused("the text alone", ErrBlock)
			b.Header.Usage = "D0"
			refused("usage", ErrMAC)
			copy(b.HeaderText[5:], "P0")
			refused("the header alone", ErrBlock)
			b.Header = genuine
			b.Header.Blocks = []keyblock.Optional{{ID: "LB", Data: "x"}}
			refused("an optional block that the text has not", ErrBlock)
			b.Header = genuine

			mac := b.MAC
			b.MAC = mac[:len(mac)-1]
			refused("a shorter MAC", ErrBlock)
			b.MAC = nil
			refused("no MAC", ErrBlock)
			b.MAC = mac
			encrypted := b.Encrypted
			b.Encrypted = nil
			refused("no key", ErrBlock)
			b.Encrypted = encrypted[:len(encrypted)-1]
			refused("no whole cipher block", ErrBlock)
		})
	}
	if _, err := Unwrap(nil, KBPK{}, &keyblock.Block{}, nil); err != ErrBlock {
		t.Errorf("an empty block: %v", err)
	}
}

// The swap of two blocks' bodies, and versions A and C under the same key, are found too.
func TestPartsOfOtherBlocks(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	payload := append([]byte{0, 128}, make([]byte, 30)...)
	withVersion(t, tok, 'A', func(s *token.Session, k KBPK) {
		text := string(forged(t, s, k, 'A', payload).Text())
		b, err := keyblock.Parse([]byte("C" + text[1:]))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unwrap(s, k, b, make([]byte, 16)); err != ErrMAC {
			t.Errorf("A read as C: %v", err)
		}
	})
}

// In versions A and C nothing is deciphered before the MAC was verified: an encryption variant
// that does not exist is not missed.
func TestMACComesFirst(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	for _, version := range []byte("AC") {
		withVersion(t, tok, version, func(s *token.Session, k KBPK) {
			b := forged(t, s, k, version, make([]byte, 32))
			b.MAC[0] ^= 1
			k.EncryptionVariant = 0xFFFFFF
			if _, err := Unwrap(s, k, b, make([]byte, 32)); err != ErrMAC {
				t.Errorf("%c: %v", version, err)
			}
		})
	}
}

// Lengths inside a genuine payload of 32 bytes.
func TestInnerLength(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	for _, version := range []byte("ABCD") {
		withVersion(t, tok, version, func(s *token.Session, k KBPK) {
			for _, c := range []struct {
				bits, room, n int
				want          error
			}{
				{240, 64, 30, nil}, {240, 30, 30, nil}, {8, 64, 1, nil}, {128, 16, 16, nil},
				{0, 64, 0, ErrNoKey}, {3, 64, 0, ErrBits}, {129, 64, 0, ErrBits}, {65535, 64, 0, ErrBits},
				{248, 64, 0, ErrLength}, {65528, 64, 0, ErrLength}, {240, 29, 0, ErrOutput}, {8, 0, 0, ErrOutput},
			} {
				payload := bytes.Repeat([]byte{0x5A}, 32)
				payload[0], payload[1] = byte(c.bits>>8), byte(c.bits)
				out := make([]byte, c.room)
				n, err := Unwrap(s, k, forged(t, s, k, version, payload), out)
				if err != c.want || n != c.n || !bytes.Equal(out[:n], payload[2:2+n]) || !zero(out[n:]) {
					t.Errorf("%c, %d bits: %d, %v, want %d, %v", version, c.bits, n, err, c.n, c.want)
				}
			}
		})
	}
}

func TestWrapRefuses(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	key := make([]byte, 16)
	withVersion(t, tok, 'B', func(s *token.Session, k KBPK) {
		unknown, long := header('B'), header('B', keyblock.Optional{ID: "LB", Data: strings.Repeat("x", 9900)})
		unknown.Usage = "Q0"
		aes := k
		aes.Algorithm = "A"
		for _, c := range []struct {
			name   string
			kbpk   KBPK
			header *keyblock.Header
			value  []byte
			want   error
		}{
			{"version A", k, header('A'), key, ErrReadOnly},
			{"version E", k, header('E'), key, keyblock.ErrVersion},
			{"an unknown usage", k, unknown, key, keyblock.ErrUsage},
			{"TDES for D", k, header('D'), key, ErrKBPKAlgorithm},
			{"AES for B", aes, header('B'), key, ErrKBPKAlgorithm},
			{"no key", k, header('B'), nil, ErrKeyLength},
			{"a key of 4,097", k, header('B'), make([]byte, 4097), ErrKeyLength},
			{"a header that leaves no room", k, long, key, keyblock.ErrTooLong},
			{"a header that does not print", k, header('B', keyblock.Optional{ID: "L", Data: ""}), key, keyblock.ErrOptionalID},
		} {
			if text, err := Wrap(s, c.kbpk, c.header, c.value); err != c.want || text != nil {
				t.Errorf("%s: %s, %v, want %v", c.name, text, err, c.want)
			}
		}
	})
}

// A key of any length in a block of any written version comes back; the value lies in the
// session's own memory, before what this package works in.
func TestWrapThenUnwrap(tb *testing.T) {
	tok := tokentest.SoftHSM(tb).Open(tb, 1)
	for _, version := range []byte("BCD") {
		withVersion(tb, tok, version, func(s *token.Session, k KBPK) {
			rapid.Check(tb, func(t *rapid.T) {
				h := header(version)
				h.Algorithm = rapid.SampledFrom([]byte("AT")).Draw(t, "algorithm")
				size := rapid.OneOf(rapid.SampledFrom([]int{16, 24, 32}), rapid.IntRange(1, 100), rapid.IntRange(4000, maxKey)).Draw(t, "size")
				if label := rapid.StringMatching(`[ -~]{0,60}`).Draw(t, "label"); label != "" {
					h.Blocks = []keyblock.Optional{{ID: "LB", Data: label}}
				}
				key := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "key")
				memory := s.Scratch()[:token.ScratchSize-WorkSize]
				defer clear(memory)
				value, out := memory[:size], memory[8192:]
				copy(value, key)
				first, err := Wrap(s, k, h, value)
				if err != nil {
					t.Fatal(err)
				}
				b, err := keyblock.Parse(first)
				if err != nil || !bytes.Equal(b.Text(), first) {
					t.Fatalf("%s: %v", first, err)
				}
				padding := len(b.Encrypted) - lengthSize - size
				second, err := Wrap(s, k, h, value)
				if err != nil || padding >= 8 && bytes.Equal(first, second) {
					t.Fatalf("wrapped twice to the same block, %v", err)
				}
				n, err := Unwrap(s, k, b, out)
				if err != nil || !bytes.Equal(out[:n], key) || !bytes.Equal(value, key) {
					t.Fatalf("%v, key of %d bytes", err, n)
				}
				if !zero(s.Scratch()[token.ScratchSize-WorkSize:]) {
					t.Fatal("locked memory was not wiped")
				}
			})
		})
	}
}

// Both derived keys are destroyed, whatever comes of a block.
func TestDerivedKeysAreDestroyed(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	destroyed := func() uint64 {
		for _, call := range tok.Calls() {
			if call.Name == "C_DestroyObject" {
				return call.Count
			}
		}
		t.Fatal("destroyed objects are not counted")
		return 0
	}
	for version, want := range map[byte]uint64{'B': 2, 'C': 0, 'D': 2} {
		withVersion(t, tok, version, func(s *token.Session, k KBPK) {
			before := destroyed()
			b, out := forged(t, s, k, version, make([]byte, 32)), make([]byte, 32)
			if got := destroyed() - before; got != want {
				t.Errorf("%c: wrapping destroys %d objects, want %d", version, got, want)
			}
			for _, refusal := range []error{ErrNoKey, ErrMAC} {
				before = destroyed()
				if _, err := Unwrap(s, k, b, out); err != refusal {
					t.Errorf("%c: %v", version, err)
				}
				if got := destroyed() - before; got != want {
					t.Errorf("%c, %v: unwrapping destroys %d objects, want %d", version, refusal, got, want)
				}
				b.MAC[0] ^= 1
			}
		})
	}
}

// How long the key is does not show, for all lengths of TDES and AES.
func TestLengthIsHidden(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	for _, c := range []struct {
		version, algorithm byte
		sizes              []int
		payload            int
	}{
		{'B', 'T', []int{16, 24}, 32}, {'C', 'T', []int{16, 24}, 32}, {'D', 'T', []int{16, 24}, 32},
		{'B', 'A', []int{16, 24, 32}, 40}, {'C', 'A', []int{16, 24, 32}, 40}, {'D', 'A', []int{16, 24, 32}, 48},
	} {
		withVersion(t, tok, c.version, func(s *token.Session, k KBPK) {
			for _, size := range c.sizes {
				h := header(c.version)
				h.Algorithm = c.algorithm
				text, err := Wrap(s, k, h, make([]byte, size))
				if err != nil {
					t.Fatal(err)
				}
				if want := 16 + 2*(c.payload+keyblock.MACSize(c.version)); len(text) != want {
					t.Errorf("%c, %c of %d bytes: %d characters, want %d", c.version, c.algorithm, size, len(text), want)
				}
			}
		})
	}
}

// The CBC-MAC of a message that is enciphered in parts is that of the whole: computed here.
func TestCBCMACOfALongHeader(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	variant := masked(unhex(t, tdesKBPK), MACVariantMask)
	block, err := des.NewTripleDESCipher(append(variant, variant[:8]...))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 2000, 2020, 2028, 4076, 5000} {
		withVersion(t, tok, 'C', func(s *token.Session, k KBPK) {
			text, err := Wrap(s, k, header('C', keyblock.Optional{ID: "LB", Data: strings.Repeat("x", size)}), make([]byte, 1000))
			if err != nil {
				t.Fatal(err)
			}
			b, err := keyblock.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			message := append(bytes.Clone(b.HeaderText), b.Encrypted...)
			cipher.NewCBCEncrypter(block, make([]byte, 8)).CryptBlocks(message, message)
			if want := message[len(message)-8:][:4]; !bytes.Equal(b.MAC, want) {
				t.Errorf("header of %d characters: MAC %X, want %X", len(b.HeaderText), b.MAC, want)
			}
		})
	}
}
