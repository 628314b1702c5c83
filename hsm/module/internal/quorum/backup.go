package quorum

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"

	"keyd/ceremony"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// backupPurpose tells the code of a backup from other codes.
const backupPurpose = "backup"

// SealBackup vouches for a backup: this token sealed these bytes while it had this register
// pinned. What they say is the front's word, as everything in its database is: keys are sealed
// and the register is authenticated, each by itself.
func (e *Engine) SealBackup(s *token.Session, digest [sha256.Size]byte) (seal ceremony.BackupSeal, err error) {
	epoch, document, err := e.register.Document()
	if err != nil {
		return seal, err
	}
	m, err := e.masters.Of(s, epoch.Generation)
	if err != nil {
		return seal, err
	}
	check, err := m.CheckValue(s)
	if err != nil {
		return seal, err
	}
	der, err := publicDER(e.public)
	if err != nil {
		return seal, err
	}
	seal.Signed, err = sign(s, e.identity, ceremony.OfBackup, &ceremony.Backup{
		Digest: fmt.Sprintf("%x", digest), Key: der, Epoch: epoch.Version, Document: document,
		Generation: epoch.Generation, Masters: check, Development: e.development, Time: e.register.Now().Unix(),
	})
	if err != nil {
		return seal, err
	}
	seal.Code = make([]byte, ceremony.BackupCodeSize)
	return seal, e.masters.Authenticate(s, epoch.Generation, seal.Code, backupPurpose, seal.Document)
}

// Restorable is what a token says of a backup that is to be restored beside it.
type Restorable struct {
	Same bool `json:"same,omitempty"` // it has the backup's register pinned; else it is new, and can take that over

	Identity []byte `json:"identity"` // of this token: SubjectPublicKeyInfo in DER
}

// CheckBackup checks the code of a backup and its register, on a token that is set up, and
// that officers can have this token go by that register. It changes nothing. Its errors are
// for whoever is at the machine, and say what to do.
func CheckBackup(s *token.Session, seal *ceremony.BackupSeal, document []byte) (*Restorable, error) {
	said, _, err := seal.Parse()
	if err != nil {
		return nil, fmt.Errorf("the backup's seal is not one that a module has signed: %w", err)
	}
	pin, _, err := register.ReadPin(s)
	if err != nil {
		return nil, err
	}
	masters := sealing.NewSet()
	var code [ceremony.BackupCodeSize]byte
	err = masters.Authenticate(s, said.Generation, code[:], backupPurpose, seal.Document)
	if errors.Is(err, sealing.ErrNoMasters) {
		return nil, fmt.Errorf("the backup was sealed by master keys of generation %d (check value %s), which this token does not have: initialise it with their shares (masters.generation: %d in the definition of keyd init)", said.Generation, said.Masters, said.Generation)
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(code[:], seal.Code) != 1 {
		return nil, fmt.Errorf("the backup was sealed by other master keys than this token has (it says: check value %s), or it was altered", said.Masters)
	}
	epoch, err := register.New(nil, masters, false, nil, nil).Authentic(s, document)
	if err != nil {
		return nil, fmt.Errorf("the register of officers and keys in the backup: %w", err)
	}
	if epoch.Generation != pin.Generation {
		return nil, fmt.Errorf("the backup's register is of generation %d of the master keys, this token has generation %d: initialise a token with the shares of generation %d", epoch.Generation, pin.Generation, epoch.Generation)
	}
	pair, err := s.FindPair(identityLabel)
	if err != nil {
		return nil, fmt.Errorf("the token's identity: %w", err)
	}
	r := new(Restorable)
	if r.Identity, err = x509.MarshalPKIXPublicKey(pair.Public); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(document)
	if r.Same = epoch.Version == pin.Version && bytes.Equal(digest[:], pin.Digest[:]); r.Same {
		return r, nil
	}
	if len(pin.First) == 0 {
		return nil, fmt.Errorf("this token goes by version %d of its register, the backup has version %d of one: what officers have decided between is not in the backup, and the token takes no older register. Initialise another token with the same shares, or this one anew after its maker's tool has cleared it, and restore beside that", pin.Version, epoch.Version)
	}
	return r, nil
}
