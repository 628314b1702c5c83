package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/checkpoint"
	"keyd/fault"
)

// auditBinding binds keyd.v1.AuditService to package audit.
type auditBinding struct {
	keydv1.UnimplementedAuditServiceServer
	access gate
	log    *audit.Log
}

const auditService = "AuditService/"

// Bounds of an answer of ListEntries: entries, and bytes.
const (
	usualEntries = 100
	mostEntries  = 1000
	mostBytes    = 1 << 20
)

// ListEntries implements keyd.v1.AuditService.
func (b auditBinding) ListEntries(ctx context.Context, r *keydv1.ListEntriesRequest) (*keydv1.ListEntriesResponse, error) {
	if r.GetMaxResults() > mostEntries {
		return nil, fault.New(fault.RequestInvalid, fmt.Sprintf("max_results is at most %d", mostEntries))
	}
	if err := b.access.Authorize(ctx, auditService+"ListEntries", nil); err != nil {
		return nil, err
	}
	most := uint64(r.GetMaxResults())
	if most == 0 {
		most = usualEntries
	}
	size := b.log.Head().Seq // durable; what is written behind it may not last
	first := r.GetFirst()
	if first == 0 {
		first = size + 1 - min(most, size)
	}
	answer := &keydv1.ListEntriesResponse{Next: first, Size: size}
	if first > size {
		return answer, nil
	}
	reader, err := audit.OpenReader(b.log.Directory(), first)
	if err != nil {
		return nil, err
	}
	defer reader.Close() //nolint:errcheck // read only
	for bytes := 0; answer.Next <= size && uint64(len(answer.Entries)) < most && bytes < mostBytes; answer.Next++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		line, err := entry(reader, answer.Next)
		if err != nil {
			return nil, err
		}
		answer.Entries = append(answer.Entries, line)
		bytes += len(line)
	}
	return answer, nil
}

// entry reads the next entry, which is to have this number.
func entry(r *audit.Reader, seq uint64) (string, error) {
	rec, err := r.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if rec.Seq != seq {
		return "", fault.New(fault.RequestInvalid, fmt.Sprintf("the segment with entry %d has been moved to the archive", seq))
	}
	return string(rec.Line()), nil
}

// GetCheckpoint implements keyd.v1.AuditService.
func (b auditBinding) GetCheckpoint(ctx context.Context, _ *keydv1.GetCheckpointRequest) (*keydv1.GetCheckpointResponse, error) {
	if err := b.access.Authorize(ctx, auditService+"GetCheckpoint", nil); err != nil {
		return nil, err
	}
	answer := new(keydv1.GetCheckpointResponse)
	if c := b.log.Checkpoint(); c != nil {
		key, err := b.log.KeyOf(c)
		if err != nil {
			return nil, err
		}
		answer.Checkpoint, answer.PublicKey = string(c.Note), string(key)
	}
	return answer, nil
}

// GetInclusionProof implements keyd.v1.AuditService.
func (b auditBinding) GetInclusionProof(ctx context.Context, r *keydv1.GetInclusionProofRequest) (*keydv1.GetInclusionProofResponse, error) {
	if r.GetSeq() == 0 {
		return nil, fault.New(fault.RequestInvalid, "entries are numbered from 1")
	}
	if err := b.access.Authorize(ctx, auditService+"GetInclusionProof", nil); err != nil {
		return nil, err
	}
	size := b.size(r.GetSize())
	proof, err := b.log.Inclusion(r.GetSeq(), size)
	if err != nil {
		return nil, unproven(err)
	}
	reader, err := audit.OpenReader(b.log.Directory(), r.GetSeq())
	if err != nil {
		return nil, err
	}
	defer reader.Close() //nolint:errcheck // read only
	line, err := entry(reader, r.GetSeq())
	if err != nil {
		return nil, err
	}
	return &keydv1.GetInclusionProofResponse{Entry: line, Proof: hashes(proof), Size: size}, nil
}

// GetConsistencyProof implements keyd.v1.AuditService.
func (b auditBinding) GetConsistencyProof(ctx context.Context, r *keydv1.GetConsistencyProofRequest) (*keydv1.GetConsistencyProofResponse, error) {
	if r.GetFrom() == 0 {
		return nil, fault.New(fault.RequestInvalid, "every log follows an empty one: from is 1 or more")
	}
	if err := b.access.Authorize(ctx, auditService+"GetConsistencyProof", nil); err != nil {
		return nil, err
	}
	to := b.size(r.GetTo())
	proof, err := b.log.Consistency(r.GetFrom(), to)
	if err != nil {
		return nil, unproven(err)
	}
	return &keydv1.GetConsistencyProofResponse{Proof: hashes(proof), To: to}, nil
}

// size is what was asked for, or the newest checkpoint's.
func (b auditBinding) size(asked uint64) uint64 {
	if c := b.log.Checkpoint(); asked == 0 && c != nil {
		return c.Size
	}
	return asked
}

// unproven says why there is no proof.
func unproven(err error) error {
	if errors.Is(err, checkpoint.ErrOlder) {
		return fault.New(fault.RequestInvalid, "the log, or the tree that is asked for, has not so many entries")
	}
	return err
}

func hashes(list []checkpoint.Hash) [][]byte {
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i][:]
	}
	return out
}
