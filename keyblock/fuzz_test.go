package keyblock

import (
	"bytes"
	"slices"
	"testing"
	"unicode"
)

var printableASCII = &unicode.RangeTable{R16: []unicode.Range16{{Lo: ' ', Hi: '~', Stride: 1}}}

// FuzzParse asserts for any text: no panic, nothing returned with an error, and that what is
// accepted prints to a block that reads as the same, from where on printing changes nothing.
func FuzzParse(f *testing.F) {
	for _, v := range readVectors(f, "unwrap", 94) {
		f.Add([]byte(v.KeyBlock))
	}
	f.Add([]byte("S" + genuine))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		b, err := Parse(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the text was changed")
		}
		if err != nil {
			if b != nil {
				t.Fatal("a block was returned with an error")
			}
			return
		}
		canonical := b.Text()
		again, err := Parse(canonical)
		if err != nil || !equal(again.Header, b.Header) || !bytes.Equal(again.HeaderText, b.HeaderText) ||
			!bytes.Equal(again.Encrypted, b.Encrypted) || !bytes.Equal(again.MAC, b.MAC) || !bytes.Equal(again.Text(), canonical) {
			t.Fatalf("%s reads as %+v, %v", canonical, again, err)
		}
		reprints(t, &b.Header, b.HeaderText, len(canonical)-len(b.HeaderText))
		_, _ = b.Header.Validate(), b.Header.CheckBlocks()
	})
}

// FuzzParseHeader asserts the same of a header alone.
func FuzzParseHeader(f *testing.F) {
	for _, v := range readVectors(f, "header_parse", 35) {
		f.Add(unhex(f, v.HeaderHex))
	}
	for _, v := range readVectors(f, "header_prefix", 13) {
		f.Add([]byte(v.HeaderPrefix))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, size, err := ParseHeader(text)
		if err != nil {
			if size != 0 || !equal(h, Header{}) {
				t.Fatal("a header was returned with an error")
			}
			return
		}
		if size < fixedSize || size > len(text) {
			t.Fatalf("length %d of %d", size, len(text))
		}
		if size%CipherBlock(h.Version) == 0 {
			reprints(t, &h, text[:size], 0)
		}
		for _, read := range readers {
			_, _ = read(&h)
		}
	})
}

// reprints: an aligned header prints to what reads as the same header. Only lengths of optional
// blocks in a longer form than needed change, and then the padding of before may not fit.
func reprints(t *testing.T, h *Header, text []byte, body int) {
	t.Helper()
	printed, err := h.Encode(body)
	if err != nil {
		if shortest(h) == len(text) && len(text)+body <= maxLength {
			t.Fatalf("%s does not print: %v", text, err)
		}
		return
	}
	again, size, err := ParseHeader(printed)
	if err != nil || size != len(printed) {
		t.Fatalf("%s printed as %s, which does not read: %v", text, printed, err)
	}
	if n := len(h.Blocks); len(again.Blocks) == n+1 && shortest(h) != len(text) {
		again.Blocks = slices.Clip(again.Blocks[:n])
	}
	if !equal(again, *h) {
		t.Fatalf("%s printed as %s", text, printed)
	}
	if shortest(h) == len(text) && !bytes.Equal(printed[5:], text[5:]) {
		t.Fatalf("%s printed as %s", text, printed)
	}
}

// shortest is the length of a header whose optional blocks have the shortest form of length.
func shortest(h *Header) int {
	size := fixedSize
	for _, block := range h.Blocks {
		if size += shortestBlock + len(block.Data); shortestBlock+len(block.Data) > 0xFF {
			size += 6
		}
	}
	return size
}
