package policies

import (
	"fmt"
	"strings"
)

// maxKeyName is the length of the longest key name, in bytes.
const maxKeyName = 128

// checkGlob refuses a pattern that could match no key name. In a pattern "*" stands
// for any number of characters, none and separators included, and "?" for exactly
// one; every other character stands for itself, case included.
func checkGlob(pattern string) error {
	if pattern == "" {
		return fmt.Errorf("an empty key name matches no key; name a key, a pattern such as \"acme.*\", or \"*\" for every key")
	}
	if len(pattern) > maxKeyName {
		return fmt.Errorf("a key name has at most %d characters, this pattern has %d", maxKeyName, len(pattern))
	}
	for _, c := range []byte(pattern) {
		if !keyNameCharacter(c) && c != '*' && c != '?' {
			return fmt.Errorf("%q cannot be part of a key name; letters, digits and ._:/@+=#~- can, and the wildcards * and ?", c)
		}
	}
	return nil
}

func keyNameCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("._:/@+=#~-", c) >= 0
}

// matchGlob reports whether the pattern covers the whole name. It goes back to the
// last "*" only, so the work is bounded by the product of both lengths.
func matchGlob(pattern, name string) bool {
	p, n := 0, 0
	star, resume := -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			resume++
			p, n = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
