package pinverify

const hexDigits = "0123456789ABCDEF"

// digit returns the digit at i, 0 to 15, of 8 bytes with two digits each.
func digit(b *[8]byte, i int) byte { return b[i/2] >> (4 * (1 - i%2)) & 0xF }

// decimalDigits reports whether s, which is not secret, has ASCII digits only.
func decimalDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// bit returns 1 for true. The compiler makes it a move, not a branch.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
