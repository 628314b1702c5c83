package module

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"keyd/ceremony"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/token"
)

func sealBackup(m *wire.SealBackup) (digest [sha256.Size]byte, err error) {
	if len(m.Digest) != len(digest) {
		return digest, malformed
	}
	return [sha256.Size]byte(m.Digest), nil
}

func (s *server) sealBackup(digest [sha256.Size]byte) (ceremony.BackupSeal, error) {
	return withSession(s, func(session *token.Session) (ceremony.BackupSeal, error) {
		return s.engines.officers.SealBackup(session, digest)
	})
}

func backupSealed(seal ceremony.BackupSeal) proto.Message {
	return &wire.BackupSealed{Statement: wireSigned(seal.Signed), Code: seal.Code}
}

// CheckRequest is what a token is asked about a backup before that is restored.
type CheckRequest struct {
	Seal     ceremony.BackupSeal `json:"seal"`
	Register []byte              `json:"register"` // the document with its code
}

// CheckAnswer says that the backup can be restored beside this token.
type CheckAnswer = quorum.Restorable

// maxCheck bounds a request, in bytes: a register in base64, and a seal.
const maxCheck = 3 << 20

// CheckBackup asks the token about a backup, in a process of its own that has the token's PIN
// and no peer. It reads a [CheckRequest] from in and writes a [CheckAnswer] to out. It changes
// nothing. A backup that cannot be restored beside this token is a [Permanent] error, which
// says what to do.
func CheckBackup(o Options, in io.Reader, out io.Writer) error {
	b, err := io.ReadAll(io.LimitReader(in, maxCheck+1))
	if err != nil {
		return err
	}
	request, err := ceremony.Decode[CheckRequest](b, maxCheck)
	if err != nil {
		return Permanent{errors.New("keyd restore: the request is malformed")}
	}
	tok, _, err := openToken(o, os.Getppid(), false)
	if err != nil {
		return err
	}
	if err := checkMark(tok, false); err != nil {
		return err
	}
	if _, err := findMasters(tok); err != nil {
		return err
	}
	var answer *CheckAnswer
	err = tok.Do(func(s *token.Session) (err error) {
		answer, err = quorum.CheckBackup(s, &request.Seal, request.Register)
		return err
	})
	if err != nil {
		return Permanent{fmt.Errorf("keyd restore: %w", err)}
	}
	encoded, err := ceremony.Encode(answer)
	if err != nil {
		return err
	}
	_, err = out.Write(encoded)
	return err
}
