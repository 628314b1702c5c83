package module

import (
	"errors"
	"os"

	"google.golang.org/protobuf/proto"

	"keyd/checkpoint"
	"keyd/fault"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/checkpoints"
	"keyd/hsm/module/internal/token"
)

// CreateCheckpoints opens the file in which the modules of a host remember what checkpoints of
// audit logs they have signed, and makes it if it is missing. The supervisor calls it and hands
// the descriptor on.
func CreateCheckpoints(path string) (*os.File, error) {
	return patiently(func() (*os.File, error) { return checkpoints.Create(path) })
}

// CheckCheckpoints says what is wrong with an existing file.
func CheckCheckpoints(path string) error { return checkpoints.Check(path) }

func lastCheckpoint(m *wire.LastCheckpoint) (string, error) {
	if !checkpoint.ValidOrigin(m.Origin) {
		return "", malformed
	}
	return m.Origin, nil
}

func (s *server) lastCheckpoint(origin string) (checkpoint.Tree, error) {
	last, err := s.engines.checkpoints.Last(origin)
	return last, checkpointRefusal(err)
}

func checkpointKept(t checkpoint.Tree) proto.Message {
	return &wire.CheckpointKept{Size: t.Size, Root: t.Root[:]}
}

// tree is a tree of an audit log as a front shows it.
type tree struct {
	origin string
	tree   checkpoint.Tree
	proof  []checkpoint.Hash
}

func signCheckpoint(m *wire.SignCheckpoint) (t tree, err error) {
	t.origin, t.tree.Size = m.Origin, m.Size
	if !checkpoint.ValidOrigin(m.Origin) || len(m.Root) != len(t.tree.Root) || !t.tree.Valid() || len(m.Proof) > checkpoint.MaxProof {
		return tree{}, malformed
	}
	copy(t.tree.Root[:], m.Root)
	for _, hash := range m.Proof {
		if len(hash) != len(checkpoint.Hash{}) {
			return tree{}, malformed
		}
		t.proof = append(t.proof, checkpoint.Hash(hash))
	}
	return t, nil
}

type signedTree struct {
	signature, key []byte
	began          bool
}

// signCheckpoint signs a tree once it is on the disk that no other may follow but one that has
// all of its entries.
func (s *server) signCheckpoint(t tree) (signed signedTree, err error) {
	if signed.began, err = s.engines.checkpoints.Advance(t.origin, t.tree, t.proof); err != nil {
		return signedTree{}, checkpointRefusal(err)
	}
	if signed.key, err = s.engines.officers.PublicKey(); err != nil {
		return signedTree{}, err
	}
	signed.signature, err = withSession(s, func(session *token.Session) ([]byte, error) {
		return s.engines.officers.SignCheckpoint(session, t.origin, t.tree)
	})
	return signed, err
}

func checkpointSigned(s signedTree) proto.Message {
	return &wire.CheckpointSigned{Signature: s.signature, Key: s.key, Began: s.began}
}

// checkpointRefusal turns an error about a checkpoint into a refusal.
func checkpointRefusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, checkpoint.ErrOlder):
		return fault.New(fault.CheckpointOlder, "")
	case errors.Is(err, checkpoint.ErrInconsistent):
		return fault.New(fault.CheckpointInconsistent, "")
	}
	var detail string
	for _, known := range []error{checkpoints.ErrNone, checkpoints.ErrDamaged, checkpoints.ErrFull} {
		if errors.Is(err, known) {
			detail = known.Error()
		}
	}
	if detail == "" {
		detail = "their file cannot be written or read"
	}
	return fault.New(fault.CheckpointNotKept, detail)
}
