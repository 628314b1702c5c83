package tr34

import "crypto"

// profiles are the profiles that have a name.
var profiles = []struct {
	name    string
	profile Profile
}{
	{"rfc", Profile{}},
	{"rfc-oaep-sha1", withHashes(Profile{}, crypto.SHA1, crypto.SHA1)},
	{"rfc-mgf1-sha1", withHashes(Profile{}, crypto.SHA256, crypto.SHA1)},
	{"annex-b", AnnexB},
	{"annex-b-oaep-sha1", withHashes(AnnexB, crypto.SHA1, crypto.SHA1)},
	{"annex-b-mgf1-sha1", withHashes(AnnexB, crypto.SHA256, crypto.SHA1)},
	{"rfc-tdes", withTDES(Profile{})},
	{"rfc-oaep-sha1-tdes", withTDES(withHashes(Profile{}, crypto.SHA1, crypto.SHA1))},
	{"rfc-mgf1-sha1-tdes", withTDES(withHashes(Profile{}, crypto.SHA256, crypto.SHA1))},
	{"annex-b-tdes", withTDES(AnnexB)},
	{"annex-b-oaep-sha1-tdes", withTDES(withHashes(AnnexB, crypto.SHA1, crypto.SHA1))},
	{"annex-b-mgf1-sha1-tdes", withTDES(withHashes(AnnexB, crypto.SHA256, crypto.SHA1))},
}

func withHashes(p Profile, oaep, mgf crypto.Hash) Profile {
	p.OAEP, p.MGF = oaep, mgf
	return p
}

// withTDES is for devices that have no AES. It carries TDES keys alone.
func withTDES(p Profile) Profile {
	p.Content = TDESCBC
	return p
}

// ProfileNamed returns the profile of a name; without one it is "rfc", the default. Its content
// cipher follows from the key ([Profile.ContentCipher]).
func ProfileNamed(name string) (Profile, bool) {
	if name == "" {
		name = "rfc"
	}
	for _, p := range profiles {
		if p.name == name {
			return p.profile, true
		}
	}
	return Profile{}, false
}

// ProfileNames returns the names of the profiles, the default first.
func ProfileNames() []string {
	names := make([]string, len(profiles))
	for i, p := range profiles {
		names[i] = p.name
	}
	return names
}

// ContentCipher returns the profile's content cipher for a key of that algorithm and size: TDES
// where the profile says so, which carries no AES key; otherwise one that is no weaker than the
// key, AES as long as an AES key is, and AES-128 for TDES.
func (p Profile) ContentCipher(algorithm byte, size int) Cipher {
	switch {
	case p.Content == TDESCBC:
		return TDESCBC
	case algorithm == 'A' && size == 24:
		return AES192CBC
	case algorithm == 'A' && size == 32:
		return AES256CBC
	}
	return AES128CBC
}
