package keyblock

// alphanumeric is the format AN of X9.143-2021 clause 4.
func alphanumeric[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// printable is the format PA of clause 4.
func printable[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// number reads digits of base 10 or 16, the latter in upper case only, of which there must
// be one to eight.
func number[T ~string | ~[]byte](s T, base int) (int, bool) {
	if len(s) < 1 || len(s) > 8 {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		digit := int(s[i]) - '0'
		if s[i] >= 'A' && s[i] <= 'F' {
			digit = int(s[i]) - 'A' + 10
		} else if digit < 0 || digit > 9 {
			return 0, false
		}
		if digit >= base {
			return 0, false
		}
		n = n*base + digit
	}
	return n, true
}
