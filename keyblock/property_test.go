package keyblock

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawHeader draws any header that can be printed.
func drawHeader(t *rapid.T) Header {
	letter := rapid.StringMatching(`[0-9A-Za-z]`)
	two := rapid.StringMatching(`[0-9A-Za-z]{2}`)
	h := Header{
		Version: rapid.SampledFrom([]byte("ABCD")).Draw(t, "version"), Usage: two.Draw(t, "usage"), Algorithm: letter.Draw(t, "algorithm")[0],
		Mode: letter.Draw(t, "mode")[0], KeyVersion: two.Draw(t, "key version"), Exportability: letter.Draw(t, "exportability")[0], Reserved: two.Draw(t, "reserved"),
	}
	ids := rapid.SliceOfNDistinct(two.Filter(func(id string) bool { return id != paddingID }), 0, 6, rapid.ID).Draw(t, "ids")
	for _, id := range ids {
		size := rapid.OneOf(rapid.IntRange(0, 30), rapid.IntRange(245, 260), rapid.IntRange(0, 700)).Draw(t, "size")
		h.Blocks = append(h.Blocks, Optional{ID: id, Data: rapid.StringOfN(rapid.RuneFrom(nil, printableASCII), size, size, -1).Draw(t, "data")})
	}
	return h
}

// TestPrintedReadsBack: what is printed reads as it was, with a padding block at most, and
// prints again to the same text.
func TestPrintedReadsBack(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		h := drawHeader(t)
		cipherBlock := CipherBlock(h.Version)
		key := rapid.SliceOfN(rapid.Byte(), cipherBlock, 8*cipherBlock).Draw(t, "key")
		key = key[:len(key)/cipherBlock*cipherBlock]
		mac := rapid.SliceOfN(rapid.Byte(), MACSize(h.Version), MACSize(h.Version)).Draw(t, "MAC")
		text, err := h.Encode(2 * (len(key) + len(mac)))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, strings.ToUpper(hex.EncodeToString(key)+hex.EncodeToString(mac))...)
		b, err := Parse(text)
		if err != nil || !bytes.Equal(b.Encrypted, key) || !bytes.Equal(b.MAC, mac) || !bytes.Equal(b.Text(), text) {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := b.Header.Encode(2 * (len(key) + len(mac)))
		if err != nil || !bytes.Equal(again, b.HeaderText) {
			t.Fatalf("printed %s, then %s, %v", b.HeaderText, again, err)
		}
		if n := len(b.Header.Blocks); n == len(h.Blocks)+1 && b.Header.Blocks[n-1].ID == paddingID {
			b.Header.Blocks = b.Header.Blocks[:n-1]
		}
		if !equal(b.Header, h) {
			t.Fatalf("%+v became %+v", h, b.Header)
		}
	})
}
