package keys

import (
	"strconv"
	"strings"
)

// versioned stands between the name of a key and the number of a version.
const versioned = "?version="

// maxReference is the length of the longest reference, in bytes.
const maxReference = MaxName + len(versioned) + len("4294967295")

// ValidReference reports whether a request can name a key like that: by its name, by an
// alias, which looks like a name, or as "NAME?version=N" with N from 1 to 4294967295,
// without leading zeros.
func ValidReference(reference string) bool {
	if ValidName(reference) {
		return true
	}
	name, _, ok := parsePinned(reference)
	return ok && ValidName(name)
}

// NameIn returns the name or alias in a reference.
func NameIn(reference string) string {
	name, _, _ := strings.Cut(reference, "?")
	return name
}

// parsePinned reads a reference to one version.
func parsePinned(reference string) (name string, version uint32, ok bool) {
	if len(reference) > maxReference {
		return "", 0, false
	}
	name, digits, ok := strings.Cut(reference, versioned)
	if !ok || digits == "" || digits[0] < '1' || digits[0] > '9' {
		return "", 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return name, uint32(n), err == nil
}
