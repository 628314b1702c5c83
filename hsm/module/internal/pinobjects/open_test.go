package pinobjects

import (
	"encoding/hex"
	"testing"
)

// TestIsField: an inner layer given out for a block of format 4 is told by what its outer layer becomes. Of
// few fill digits alone nothing is concluded: they are what one honest layer in 65,536 has.
func TestIsField(t *testing.T) {
	for layer, want := range map[string]bool{
		"441234AAAAAAAAAA": true, "44EF34AAAAAAAAAA": true, "4812345678AAAAAA": true, "48F2345678AAAAAA": true,
		"49123456789AAAAA": true, "49F23456789AAAAA": false, "4C123456789012AA": true, "4C12345678901FAA": false,
		"4312AAAAAAAAAAAA": false, "4D1234567890123A": false, "041234AAAAAAAAAA": false, "341234AAAAAAAAAA": false,
		"441234AAAAAAAAAB": false, "44123AAAAAAAAAAA": true, "4812345678ABAAAA": false, "B1946AC92492D234": false,
	} {
		field, err := hex.DecodeString(layer + "0123456789ABCDEF")
		if err != nil {
			t.Fatal(err)
		}
		if got := isField(field); got != want {
			t.Errorf("%s: %v", layer, got)
		}
	}
}
