package ceremony

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
)

// Backup is what a module says of a backup that its front made: which bytes it sealed, by
// whose identity, and which register the token had pinned at that moment. What is in the
// backup is the front's word; the module vouches for when and where it was made.
type Backup struct {
	Digest      string `json:"digest"`     // SHA-256 of everything before the seal
	Key         []byte `json:"key"`        // the identity's SubjectPublicKeyInfo in DER
	Epoch       uint64 `json:"epoch"`      // version of the register that was pinned
	Document    string `json:"document"`   // its digest
	Generation  uint32 `json:"generation"` // of the master keys that made the code
	Masters     string `json:"masters"`    // their check value
	Development bool   `json:"development,omitempty"`
	Time        int64  `json:"time"`
}

// BackupSeal ends a backup: a [Backup], signed with the token's identity, and a code by the
// master keys, which another token with the same ones can check that has never met the
// identity.
type BackupSeal struct {
	Signed
	Code []byte `json:"code"` // BackupCodeSize bytes
}

// BackupCodeSize is the size of the code of a backup, in bytes.
const BackupCodeSize = 16

// Parse checks the signature of a seal and returns what the module says, and its identity,
// under which the signature is good; whose that is, is for who has confirmed it to say.
func (s *BackupSeal) Parse() (*Backup, *ecdsa.PublicKey, error) {
	b, err := Decode[Backup](s.Document, MaxDocument)
	if err != nil {
		return nil, nil, err
	}
	key, err := ParseKey(b.Key)
	if err != nil {
		return nil, nil, err
	}
	if err := Verify(key, OfBackup, s.Document, s.Signature); err != nil {
		return nil, nil, err
	}
	if !validDigest(b.Digest) || !validDigest(b.Document) || b.Epoch == 0 || b.Generation == 0 || len(s.Code) != BackupCodeSize {
		return nil, nil, ErrDocument
	}
	return b, key, nil
}

// Of returns an error unless the seal is that of a backup with this digest.
func (b *Backup) Of(digest [sha256.Size]byte) error {
	if b.Digest != fmt.Sprintf("%x", digest) {
		return fmt.Errorf("%w: the seal is that of another backup", ErrDocument)
	}
	return nil
}
