package keyblock

import (
	"strings"
	"testing"
)

// genuine is vector t31-115.
const genuine = "B0096P0TE00E0000D7ED9E189BC6F715125B265B149DF8FE218A396785608923D6197378386A3759308FC49A2AA891BA"

func TestFaultsAreToldApart(t *testing.T) {
	body := genuine[16:]
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", ErrShort},
		{"a letter only", "S", ErrShort},
		{"15 characters", genuine[:15], ErrShort},
		{"a space", "B0096P0T 00E0000" + body, ErrCharacter},
		{"a byte above ASCII", "B0096P0T\xC300E0000" + body, ErrCharacter},
		{"version E", "E0096P0TE00E0000" + body, ErrVersion},
		{"version in lower case", "b0096P0TE00E0000" + body, ErrVersion},
		{"two letters before the version", "SR" + genuine, ErrVersion},
		{"another letter before the version", "T" + genuine, ErrVersion},
		{"length in hex", "B006AP0TE00E0000" + body, ErrLengthField},
		{"length with a sign", "B+096P0TE00E0000" + body, ErrCharacter},
		{"number of blocks in hex", "B0096P0TE00E0A00" + body, ErrCountField},
		{"length too long", "B0104P0TE00E0000" + body, ErrTotalLength},
		{"length too short", "B0088P0TE00E0000" + body, ErrTotalLength},
		{"a line end after the block", genuine + "\n", ErrTotalLength},
		{"97 characters", "B0097P0TE00E0000" + body + "0", ErrTotalAlignment},
		{"8 more than 96 in D", "D0104P0TE00E0000" + body + "00000000", ErrTotalAlignment},
		{"no optional block where one is", "B0016P0TE00E0100", ErrOptionalID},
		{"ID with a space", "B0024P0TE00E0100K 080000", ErrOptionalID},
		{"length in lower case", "B0032P0TE00E0100KS0a000000000000", ErrOptionalLength},
		{"nine digits of length", "B0032P0TE00E0100KS00090000000000", ErrLengthOfLength},
		{"no digit of length", "B0032P0TE00E0100KS00000000000000", ErrLengthOfLength},
		{"length 3", "B0024P0TE00E0100KS030000", ErrOptionalShort},
		{"length 9 in the extended form of 10", "B0032P0TE00E0100KS00040009000000", ErrOptionalShort},
		{"length past the end", "B0024P0TE00E0100KS090000", ErrOptionalData},
		{"a huge length", "B0032P0TE00E0100KS0008FFFFFFFF00", ErrOptionalData},
		{"a tab in data", "B0024P0TE00E0100KS0800\t0", ErrOptionalText},
		{"two KS", "B0032P0TE00E0200KS080000KS080000", ErrDuplicate},
		{"two PB", "B0032P0TE00E0200PB080000PB080000", ErrPaddingPosition},
		{"PB first", "B0032P0TE00E0200PB080000KS080000", ErrPaddingPosition},
		{"half a MAC", "B0024P0TE00E000012345678", ErrMACTruncated},
		{"MAC only", "A0024P0TE00E000012345678", ErrNoKey},
		{"header of 20", "A0064P0TE00E0100TT04" + strings.Repeat("0", 44), ErrHeaderAlignment},
		{"key of 12 bytes", "A0048P0TE00E0000" + strings.Repeat("0", 32), ErrKeyAlignment},
		{"a letter in the key", "B0096P0TE00E0000G" + body[1:], ErrKeyHex},
		{"a letter in the MAC", genuine[:95] + "G", ErrMACHex},
	} {
		if b, err := Parse([]byte(c.text)); err != c.want || b != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestWhatIsReadLeniently(t *testing.T) {
	for name, text := range map[string]string{
		"S before the version": "S" + genuine, "R before the version": "R" + genuine,
		"hex in lower case": genuine[:16] + strings.ToLower(genuine[16:]), "as it is": genuine,
	} {
		b, err := Parse([]byte(text))
		if err != nil || string(b.Text()) != genuine || string(b.HeaderText) != genuine[:16] || len(b.Encrypted) != 32 || len(b.MAC) != 8 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the result holds is its own.
	text := []byte(genuine)
	b, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	clear(text)
	if string(b.Text()) != genuine {
		t.Error("the block changed with the text it was read from")
	}
}

// The extended form is read with one to eight digits, and printed with four where two do not
// hold the length.
func TestExtendedLength(t *testing.T) {
	for _, c := range []struct {
		text      string
		canonical bool
	}{
		{"KS00020F" + strings.Repeat("x", 7), false},
		{"KS0002FF" + strings.Repeat("x", 247), false},
		{"KS0008000000FF" + strings.Repeat("x", 241), false},
		{"KS00060000FF" + strings.Repeat("x", 243), false},
		{"KS0003106" + strings.Repeat("x", 253), false},
		{"KSFF" + strings.Repeat("x", 251), true},
		{"KS00040106" + strings.Repeat("x", 252), true},
	} {
		h, size, err := ParseHeader([]byte("B0000P0TE00E0100" + c.text + "after it"))
		if err != nil || size != fixedSize+len(c.text) || len(h.Blocks) != 1 {
			t.Errorf("%s: %v, length %d", c.text, err, size)
			continue
		}
		again, err := appendBlock(nil, h.Blocks[0])
		if err != nil || (string(again) == c.text) != c.canonical {
			t.Errorf("%s: printed %s, %v", c.text, again, err)
		}
	}
}

func TestComponent(t *testing.T) {
	for version, want := range map[string]bool{"00": false, "c1": true, "12": false, "C1": false, "": false} {
		if h := (Header{KeyVersion: version}); h.IsComponent() != want {
			t.Errorf("%q: %t", version, !want)
		}
	}
}
