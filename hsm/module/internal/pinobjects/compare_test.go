package pinobjects

import (
	"crypto/aes"
	"encoding/binary"
	"testing"
)

// TestTests: the numbers by which digits are told are the first that do it.
func TestTests(t *testing.T) {
	for which := range sides {
		var keys [16][aes.BlockSize]byte
		for digit := range keys {
			if which == 0 {
				keys[digit][aes.BlockSize-1] = byte(digit)
			} else {
				keys[digit][0] = byte(digit) << 4
			}
		}
		var found [aes.BlockSize]byte
		for n := uint64(1); ; n++ {
			binary.BigEndian.PutUint64(found[8:], n)
			if tells(t, &keys, &found) {
				break
			}
		}
		if found != tests[which] {
			t.Errorf("side %d: %X, not %X", which, tests[which], found)
		}
	}
}

func tells(t *testing.T, keys *[16][aes.BlockSize]byte, number *[aes.BlockSize]byte) bool {
	for digit := range keys {
		key, err := aes.NewCipher(keys[digit][:])
		if err != nil {
			t.Fatal(err)
		}
		var image [aes.BlockSize]byte
		key.Encrypt(image[:], number[:])
		if (image[0]&1 == 1) != (digit <= 9) {
			return false
		}
	}
	return true
}
