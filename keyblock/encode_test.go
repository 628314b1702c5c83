package keyblock

import (
	"fmt"
	"strings"
	"testing"
)

func plain(version byte, blocks ...Optional) *Header {
	return &Header{Version: version, Usage: "P0", Algorithm: 'T', Mode: 'E', KeyVersion: "00", Exportability: 'E', Reserved: "00", Blocks: blocks}
}

func TestEncodeRefuses(t *testing.T) {
	many := make([]Optional, 0, 100)
	for i := range 100 {
		many = append(many, Optional{ID: fmt.Sprintf("%02d", i), Data: "0000"})
	}
	for _, c := range []struct {
		name   string
		header *Header
		body   int
		want   error
	}{
		{"version E", plain('E'), 0, ErrVersion},
		{"no version", &Header{}, 0, ErrVersion},
		{"usage of 3", &Header{Version: 'B', Usage: "P00", KeyVersion: "00", Reserved: "00"}, 0, ErrFieldSize},
		{"mode that is no letter", &Header{Version: 'B', Usage: "P0", Algorithm: 'T', KeyVersion: "00", Exportability: 'E', Reserved: "00"}, 0, ErrCharacter},
		{"usage with a space", &Header{Version: 'B', Usage: "P ", Algorithm: 'T', Mode: 'E', KeyVersion: "00", Exportability: 'E', Reserved: "00"}, 0, ErrCharacter},
		{"ID of 3", plain('B', Optional{"KSN", ""}), 0, ErrOptionalID},
		{"ID with a sign", plain('B', Optional{"K!", ""}), 0, ErrOptionalID},
		{"data with a line end", plain('B', Optional{"KS", "\n"}), 0, ErrOptionalText},
		{"the same ID twice", plain('B', Optional{"KS", ""}, Optional{"KS", ""}), 0, ErrDuplicate},
		{"padding first", plain('B', Optional{"PB", "0000"}, Optional{"KS", ""}), 0, ErrPaddingPosition},
		{"padding that does not fit", plain('B', Optional{"PB", "000"}), 0, ErrPadding},
		{"padding of another version", plain('D', Optional{"PB", "0000"}), 0, ErrPadding},
		{"100 blocks", plain('B', many...), 0, ErrTooMany},
		{"99 blocks and padding", plain('B', append([]Optional{{"AA", "0"}}, many[1:99]...)...), 0, ErrTooMany},
		{"data of 10,000", plain('B', Optional{"LB", strings.Repeat("x", 10000)}), 0, ErrTooLong},
		{"body of 9,984", plain('B'), 9984, ErrTooLong},
		{"body of 4", plain('B'), 4, ErrTotalAlignment},
		{"body of 8 in D", plain('D'), 8, ErrTotalAlignment},
		{"body of -8", plain('B'), -8, ErrTotalAlignment},
	} {
		if text, err := c.header.Encode(c.body); err != c.want || text != nil {
			t.Errorf("%s: %s, %v, want %v", c.name, text, err, c.want)
		}
	}
}

func TestEncodePads(t *testing.T) {
	for _, c := range []struct {
		version byte
		data    int
		want    string // after the block
	}{
		{'B', 4, ""}, {'B', 0, "PB04"}, {'B', 3, "PB0900000"}, {'B', 2, "PB0A000000"}, {'B', 1, "PB0B0000000"}, {'B', 7, "PB0500"[:5]},
		{'D', 12, ""}, {'D', 8, "PB04"}, {'D', 9, "PB13000000000000000"}, {'D', 4, "PB080000"},
	} {
		h := plain(c.version, Optional{"LB", strings.Repeat("x", c.data)})
		text, err := h.Encode(32)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(text[20+c.data:]); got != c.want {
			t.Errorf("%c, %d characters: padded with %q, want %q", c.version, c.data, got, c.want)
		}
		if want := fmt.Sprintf("%c%04dP0TE00E0%d00", c.version, len(text)+32, 1+min(1, len(c.want))); string(text[:16]) != want {
			t.Errorf("%s, want %s", text[:16], want)
		}
	}
}
