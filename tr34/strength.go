package tr34

// Strength returns the strength in bits (NIST SP 800-57 part 1, table 2) of a key of RSA with a
// modulus of so many bits: 112 from 2,048, 128 from 3,072, 192 from 7,680, and 0 below 2,048.
// A key may travel under an RSA key that is at least as strong: two- and three-key TDES under
// RSA-2048, AES-128 under RSA-3072. AES-192 needs RSA-7680; AES-256 never travels by TR-34,
// for no RSA key that is taken here carries it.
func Strength(modulusBits int) int {
	switch {
	case modulusBits >= 7680:
		return 192
	case modulusBits >= 3072:
		return 128
	case modulusBits >= 2048:
		return 112
	}
	return 0
}

// KeyStrength returns the strength in bits of a symmetric key of size bytes of the algorithm
// that a header names (X9.143-2021 6.3.2): T is TDES with 16 or 24 bytes (80 and 112 bits), A
// is AES with 16, 24 or 32. It is 0 for any other algorithm or size.
func KeyStrength(algorithm byte, size int) int {
	switch {
	case algorithm == 'T' && size == 16:
		return 80
	case algorithm == 'T' && size == 24:
		return 112
	case algorithm == 'A' && (size == 16 || size == 24 || size == 32):
		return size * 8
	}
	return 0
}
