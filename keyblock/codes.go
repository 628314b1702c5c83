package keyblock

// AlgorithmName returns the name of an algorithm (X9.143-2021 6.3.2, table 3), and an empty
// one for what is none. A digit is a proprietary algorithm.
func AlgorithmName(code byte) string {
	switch code {
	case 'A':
		return "AES"
	case 'D':
		return "single DES"
	case 'E':
		return "elliptic curve"
	case 'H':
		return "HMAC"
	case 'R':
		return "RSA"
	case 'S':
		return "DSA"
	case 'T':
		return "TDES"
	}
	return proprietary(code)
}

// ModeName returns the name of a mode of use (6.3.3, table 4) likewise.
func ModeName(code byte) string {
	switch code {
	case 'B':
		return "encrypt and decrypt"
	case 'C':
		return "generate and verify"
	case 'D':
		return "decrypt only"
	case 'E':
		return "encrypt only"
	case 'G':
		return "generate only"
	case 'N':
		return "no special restriction"
	case 'S':
		return "sign only"
	case 'T':
		return "sign and decrypt"
	case 'V':
		return "verify only"
	case 'X':
		return "derive keys"
	case 'Y':
		return "make key variants"
	}
	return proprietary(code)
}

// ExportabilityName returns the name of an exportability (6.3.5, table 6), and an empty one
// for what is none.
func ExportabilityName(code byte) string {
	switch code {
	case 'E':
		return "exportable in a trusted key block"
	case 'N':
		return "not exportable"
	case 'S':
		return "exportable in other forms too"
	}
	return ""
}

// ContextName returns the name of a key context (6.2, table 1), and an empty one for what is
// none.
func ContextName(code byte) string {
	switch code {
	case '0':
		return "as the wrapping key says"
	case '1':
		return "storage only"
	case '2':
		return "exchange only"
	}
	return ""
}

func proprietary(code byte) string {
	if code >= '0' && code <= '9' {
		return "proprietary"
	}
	return ""
}
