package hsm

import (
	"context"

	"keyd/checkpoint"
	"keyd/fault"
	"keyd/hsm/internal/wire"
)

// LastCheckpoint returns the tree of an audit log that the modules have signed last; the one
// over nothing if there is none. Errors are refusals of package fault.
func (c *Client) LastCheckpoint(ctx context.Context, origin string) (t checkpoint.Tree, err error) {
	var answer wire.CheckpointKept
	if err := c.call(ctx, 0, wire.OpLastCheckpoint, &wire.LastCheckpoint{Origin: origin}, &answer); err != nil {
		return checkpoint.Tree{}, err
	}
	if len(answer.Root) != len(t.Root) || answer.Size > checkpoint.MaxSize {
		return checkpoint.Tree{}, fault.Wrap(fault.Internal, wire.ErrFrame)
	}
	t.Size = answer.Size
	copy(t.Root[:], answer.Root)
	return t, nil
}

// SignCheckpoint has a module sign a tree of an audit log, with the proof that it has all
// entries of the last one ([Client.LastCheckpoint]). Refusals are [fault.CheckpointOlder],
// [fault.CheckpointInconsistent] and [fault.CheckpointNotKept].
func (c *Client) SignCheckpoint(ctx context.Context, origin string, t checkpoint.Tree, proof []checkpoint.Hash) (*checkpoint.Signed, error) {
	request := &wire.SignCheckpoint{Origin: origin, Size: t.Size, Root: t.Root[:]}
	for i := range proof {
		request.Proof = append(request.Proof, proof[i][:])
	}
	var answer wire.CheckpointSigned
	if err := c.call(ctx, 0, wire.OpSignCheckpoint, request, &answer); err != nil {
		return nil, err
	}
	key, err := checkpoint.ParseKey(answer.Key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	signed, err := checkpoint.Assemble(origin, t, key, answer.Signature)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	return &checkpoint.Signed{Checkpoint: signed, Key: key, Began: answer.Began}, nil
}
