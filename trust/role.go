package trust

import (
	"crypto/x509"
	"slices"
	"strings"
	"unicode"
)

// OtherRole says which role other than a terminal's a certificate names, or nothing. A
// distribution host (the KDH of ANSI X9 TR-34) is named in the subject: by the word KDH in its
// common name or in an organisational unit. Of the extended key usages that Go knows a device
// may have that of a TLS client; those of makers count for nothing.
func OtherRole(c *x509.Certificate) string {
	for _, name := range append(slices.Clone(c.Subject.OrganizationalUnit), c.Subject.CommonName) {
		words := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, "KDH") }) {
			return "names a key distribution host (KDH) in its subject"
		}
	}
	if slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool { return u != x509.ExtKeyUsageClientAuth && u != x509.ExtKeyUsageAny }) {
		return "has an extended key usage for something other than a terminal"
	}
	return ""
}
