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
}

func withHashes(p Profile, oaep, mgf crypto.Hash) Profile {
	p.OAEP, p.MGF = oaep, mgf
	return p
}

// ProfileNamed returns the profile of a name; without one it is "rfc", the default. Its content
// cipher is for the caller to choose ([ContentCipher]).
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

// ContentCipher returns the content cipher for a key of that algorithm and size, which is no
// weaker: AES as long as an AES key is, and AES-128 for TDES.
func ContentCipher(algorithm byte, size int) Cipher {
	switch {
	case algorithm == 'A' && size == 24:
		return AES192CBC
	case algorithm == 'A' && size == 32:
		return AES256CBC
	}
	return AES128CBC
}
