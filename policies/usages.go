package policies

// keyUsages are the key usage codes of ANSI X9.143-2021 table 6 that have a meaning
// there. The numeric codes "10" to "99" are left to proprietary use.
var keyUsages = func() map[string]bool {
	known := make(map[string]bool)
	for _, code := range []string{
		"B0", "B1", "B2", "B3",
		"C0",
		"D0", "D1", "D2", "D3",
		"E0", "E1", "E2", "E3", "E4", "E5", "E6", "E7",
		"I0",
		"K0", "K1", "K2", "K3", "K4",
		"M0", "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8",
		"P0", "P1",
		"S0", "S1", "S2",
		"V0", "V1", "V2", "V3", "V4", "V5",
		"X0",
	} {
		known[code] = true
	}
	return known
}()

// KnownUsage reports whether code is a key usage of ANSI X9.143, two characters, that a
// rule may name.
func KnownUsage(code string) bool {
	proprietary := len(code) == 2 && '1' <= code[0] && code[0] <= '9' && '0' <= code[1] && code[1] <= '9'
	return proprietary || keyUsages[code]
}
