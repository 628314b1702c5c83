package tr34

import "crypto"

// Cipher is a content encryption algorithm, always in CBC mode with the padding of RFC 5652
// §6.3.
type Cipher int

// The ciphers, with keys of 16, 24, 32 and 24 bytes.
const (
	AES128CBC Cipher = iota
	AES192CBC
	AES256CBC
	TDESCBC
)

// Profile is what devices and hosts do differently. The zero value is the default and follows
// RFC 5652, RFC 4055 and the key block of TR 34-2019 B.2.2.2. It says what is written; a
// reader takes from it the hashes alone, and knows all shapes.
type Profile struct {
	// OAEP is the hash of RSAES-OAEP, SHA-256 or SHA-1; 0 is SHA-256. MGF is the hash of its
	// mask generation, 0 the same. The label is empty. A reader refuses others.
	OAEP, MGF crypto.Hash

	// Content encrypts the key block. A reader knows all of them, and refuses one that is
	// weaker than the key.
	Content Cipher

	// SampleOrder writes and signs the signed attributes in the order of the samples in
	// TR 34-2019 annex B (content type, freshness, header, digest), and not in that of DER.
	SampleOrder bool

	// BareContent leaves out tag and length of the SEQUENCE that is signed.
	BareContent bool

	// ContentInAlgorithm puts the encrypted content inside the SEQUENCE of its algorithm.
	ContentInAlgorithm bool

	// UntaggedOAEP writes all OAEP parameters, without their explicit tags.
	UntaggedOAEP bool

	// SignedVersion1 writes SignedData version 1, where RFC 5652 §5.1 says 3.
	SignedVersion1 bool

	// AnnexDKeyBlock writes the key block as TR 34-2019 annex D has it: version 0, and the
	// header a bare OCTET STRING. The samples have version 1 and an attribute.
	AnnexDKeyBlock bool
}

// AnnexB is the shape of the samples in TR 34-2019 annex B, which hosts and HSMs that grew
// from the edition of 2012 write and read.
var AnnexB = Profile{SampleOrder: true, BareContent: true, ContentInAlgorithm: true, UntaggedOAEP: true, SignedVersion1: true}

// hashes returns the two hashes of OAEP.
func (p Profile) hashes() (oaep, mgf crypto.Hash, err error) {
	if oaep = p.OAEP; oaep == 0 {
		oaep = crypto.SHA256
	}
	if mgf = p.MGF; mgf == 0 {
		mgf = oaep
	}
	for _, h := range []crypto.Hash{oaep, mgf} {
		if h != crypto.SHA256 && h != crypto.SHA1 {
			return 0, 0, ErrProfile
		}
	}
	return oaep, mgf, nil
}
