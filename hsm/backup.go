package hsm

import (
	"context"
	"crypto/sha256"

	"keyd/hsm/internal/wire"
)

// BackupSeal ends a backup: ceremony.Backup, signed, and its code by the master keys.
type BackupSeal struct {
	Signed

	Code []byte
}

// SealBackup has a module vouch for a backup with that digest.
func (c *Client) SealBackup(ctx context.Context, digest [sha256.Size]byte) (BackupSeal, error) {
	var answer wire.BackupSealed
	if err := c.call(ctx, 0, wire.OpSealBackup, &wire.SealBackup{Digest: digest[:]}, &answer); err != nil {
		return BackupSeal{}, err
	}
	return BackupSeal{signed(answer.Statement), answer.Code}, nil
}
