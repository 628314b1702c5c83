package keyblock

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// vector is an entry of testdata/tr31.json.
type vector struct {
	ID            string      `json:"id"`
	Kind          string      `json:"kind"`
	HeaderHex     string      `json:"header_hex"`
	HeaderPrefix  string      `json:"header_prefix"`
	HeaderLength  int         `json:"header_length"`
	Count         int         `json:"optional_block_count"`
	KeyBlock      string      `json:"key_block"`
	Version       string      `json:"version"`
	Usage         string      `json:"key_usage"`
	Algorithm     string      `json:"algorithm"`
	Mode          string      `json:"mode_of_use"`
	KeyVersion    string      `json:"key_version"`
	Exportability string      `json:"exportability"`
	Reserved      string      `json:"reserved"`
	Blocks        [][2]string `json:"optional_blocks"`
	Valid         *bool       `json:"valid"`
	Disputed      bool        `json:"disputed"`
	Reason        string      `json:"reason"`
	RejectedAt    string      `json:"rejected_at"`
}

func (v *vector) blocks() (blocks []Optional) {
	for _, b := range v.Blocks {
		blocks = append(blocks, Optional{ID: b[0], Data: b[1]})
	}
	return blocks
}

// readVectors returns the vectors of a kind, of which there must be as many as said.
func readVectors(t testing.TB, kind string, count int) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/tr31.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(v vector) bool { return v.Kind != kind })
	if len(all) != count {
		t.Fatalf("%d vectors of kind %s, want %d", len(all), kind, count)
	}
	return all
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// headerReasons are the errors of the reasons that the vectors give.
var headerReasons = map[string]error{
	"header shorter than 16":                                     ErrShort,
	"header not alphanumeric":                                    ErrCharacter,
	"optional block count not decimal":                           ErrCountField,
	"optional block id truncated":                                ErrOptionalID,
	"optional block length not hex / truncated":                  ErrOptionalLength,
	"length of length is zero":                                   ErrLengthOfLength,
	"optional block length does not cover its own id and length": ErrOptionalShort,
	"optional block data truncated":                              ErrOptionalData,
	"optional block data not printable ASCII":                    ErrOptionalText,
}

func TestHeaderVectors(t *testing.T) {
	disputed := 0
	for _, v := range readVectors(t, "header_parse", 35) {
		t.Run(v.ID, func(t *testing.T) {
			text := unhex(t, v.HeaderHex)
			h, size, err := ParseHeader(text)
			want := headerReasons[v.Reason]
			if v.Disputed {
				// Both write KS with a length of length of 01 or 02 that counts bytes of two
				// digits. The examples of X9.143-2021 count digits (04 before 05CC in the CT
				// blocks below, which others wrote), and so does keyd: the length is then 1 or
				// 01, which is too short. Read otherwise, 0004 would ask for eight digits.
				disputed++
				want = ErrOptionalShort
			}
			if v.Valid == nil || !*v.Valid {
				if want == nil || err != want || size != 0 || !equal(h, Header{}) {
					t.Fatalf("%v (%d, %+v), want %v for %q", err, size, h, want, v.Reason)
				}
				return
			}
			if err != nil || size != v.HeaderLength || !slices.Equal(h.Blocks, v.blocks()) {
				t.Fatalf("%v, length %d, blocks %q", err, size, h.Blocks)
			}
			body, err := strconv.Atoi(string(text[1:5]))
			if err != nil {
				t.Fatal(err)
			}
			again, err := h.Encode(max(0, body-size))
			if err != nil || !bytes.Equal(again[5:], text[5:size]) {
				t.Fatalf("printed %s, %v", again, err)
			}
			if body > 0 && !bytes.Equal(again, text[:size]) {
				t.Fatalf("printed %s", again)
			}
		})
	}
	if disputed != 2 {
		t.Errorf("%d disputed vectors", disputed)
	}
}

// Headers that another implementation writes: with a padding block of the size that Encode
// gives it, they read, and print as they are.
func TestHeaderPrefixVectors(t *testing.T) {
	for _, v := range readVectors(t, "header_prefix", 13) {
		t.Run(v.ID, func(t *testing.T) {
			text := []byte(v.HeaderPrefix)
			cipherBlock := CipherBlock(text[0])
			if v.Count == len(v.Blocks)+1 {
				text = appendPadding(text, cipherBlock)
			}
			h, size, err := ParseHeader(text)
			if err != nil || size != len(text) || len(h.Blocks) != v.Count || !slices.Equal(h.Blocks[:len(v.Blocks)], v.blocks()) {
				t.Fatalf("%v, length %d, blocks %q", err, size, h.Blocks)
			}
			h.Blocks = h.Blocks[:len(v.Blocks)]
			if size%cipherBlock != 0 {
				// A template of another program: without a padding block it heads no key block.
				if v.ID != "t31-062" {
					t.Fatalf("length %d", size)
				}
				return
			}
			total, err := strconv.Atoi(v.HeaderPrefix[1:5])
			if err != nil {
				t.Fatal(err)
			}
			body, same := total-size, 0
			if total%cipherBlock != 0 {
				body, same = 0, 5 // the length is made up
			}
			again, err := h.Encode(body)
			if err != nil || !bytes.Equal(again[same:], text[same:]) {
				t.Fatalf("printed %s, %v", again, err)
			}
			if err := h.Validate(); err != nil {
				t.Error(err)
			}
			if err := h.CheckBlocks(); (err != nil) != (v.ID == "t31-064") { // KS holds a maker's text
				t.Error(err)
			}
		})
	}
}

// blockReasons are the errors of the faults that show without the key.
var blockReasons = map[string]error{
	"encrypted key not hexadecimal":                   ErrKeyHex,
	"MAC not hexadecimal":                             ErrMACHex,
	"MAC truncated":                                   ErrMACTruncated,
	"no encrypted key present":                        ErrNoKey,
	"length field not decimal":                        ErrLengthField,
	"total length not a multiple of the cipher block": ErrTotalAlignment,
}

func TestBlockVectors(t *testing.T) {
	for _, v := range readVectors(t, "unwrap", 94) {
		t.Run(v.ID, func(t *testing.T) {
			b, err := Parse([]byte(v.KeyBlock))
			want := blockReasons[v.Reason]
			switch {
			case v.Version == "E":
				want = ErrVersion
			case strings.Contains(v.Reason, "as printed: length field wrong"):
				want = ErrTotalLength
			case v.ID == "t31-096":
				want = ErrKeyAlignment // given for its KBPK, but the encrypted key has 28 bytes
			}
			if err != want || err != nil && b != nil {
				t.Fatalf("%v, want %v for %q", err, want, v.Reason)
			}
			if err != nil {
				return
			}
			if canonical := b.Text(); !strings.EqualFold(string(canonical), v.KeyBlock) || !bytes.HasPrefix([]byte(v.KeyBlock), b.HeaderText) {
				t.Errorf("printed %s", canonical)
			}
			header, err := b.Header.Encode(len(v.KeyBlock) - len(b.HeaderText))
			if err != nil || !bytes.Equal(header, b.HeaderText) {
				t.Errorf("header printed %s, %v", header, err)
			}
			if v.Valid == nil || !*v.Valid {
				return
			}
			if want := (Header{
				Version: v.Version[0], Usage: v.Usage, Algorithm: v.Algorithm[0], Mode: v.Mode[0], KeyVersion: v.KeyVersion,
				Exportability: v.Exportability[0], Reserved: v.Reserved, Blocks: v.blocks(),
			}); !equal(b.Header, want) {
				t.Errorf("%+v, want %+v", b.Header, want)
			}
			// One source encrypts under an initial key.
			if err := b.Header.Validate(); err != nil && (v.Usage != "B1" || v.Mode != "E" || !errors.Is(err, ErrUsageMode)) {
				t.Errorf("%s %s %s: %v", v.Usage, v.Algorithm, v.Mode, err)
			}
			if err := b.Header.CheckBlocks(); (err != nil) != (v.ID == "t31-190") { // KS is no hex, TS has no zone
				t.Error(err)
			}
		})
	}
}

// equal does not tell no blocks from an empty slice.
func equal(a, b Header) bool {
	blocks := slices.Equal(a.Blocks, b.Blocks)
	return blocks && a.Version == b.Version && a.Usage == b.Usage && a.Algorithm == b.Algorithm && a.Mode == b.Mode &&
		a.KeyVersion == b.KeyVersion && a.Exportability == b.Exportability && a.Reserved == b.Reserved
}
