package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/backup"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/store"
)

// actionBackup is what a policy allows for keyd.v1.BackupService.
const actionBackup = "BackupService/CreateBackup"

const (
	// backupPart is the size of the parts in which a backup is sent, but the last two, in
	// bytes.
	backupPart = 64 << 10

	// backupParts is how many parts wait for a caller.
	backupParts = 16

	// backupPatience is how long a backup waits for its caller to read on. Meanwhile the
	// database keeps what it would overwrite.
	backupPatience = 30 * time.Second
)

// backupBinding makes backups, one at a time.
type backupBinding struct {
	keydv1.UnimplementedBackupServiceServer
	access   gate
	steps    []grpc.UnaryServerInterceptor
	draining <-chan struct{}
	busy     *atomic.Bool

	version  string
	database store.Backups
	audit    *audit.Log
	modules  *hsm.Client
	officers *keys.Ceremonies
}

// CreateBackup implements keyd.v1.BackupService. It is a request like others: its answer, which
// the audit log has to have before, is the end of the backup.
func (b backupBinding) CreateBackup(request *keydv1.CreateBackupRequest, stream grpc.ServerStreamingServer[keydv1.CreateBackupResponse]) error {
	make := func(ctx context.Context, _ any) (any, error) { return b.create(ctx, stream) }
	end, err := chained(b.steps, &grpc.UnaryServerInfo{Server: b, FullMethod: keydv1.BackupService_CreateBackup_FullMethodName}, make)(stream.Context(), request)
	if err != nil {
		return translated{err}
	}
	return stream.Send(end.(*keydv1.CreateBackupResponse))
}

// create sends a backup but its seal, which it returns.
func (b backupBinding) create(ctx context.Context, stream grpc.ServerStreamingServer[keydv1.CreateBackupResponse]) (*keydv1.CreateBackupResponse, error) {
	if err := b.access.Authorize(ctx, actionBackup, nil); err != nil {
		return nil, err
	}
	if !b.busy.CompareAndSwap(false, true) {
		return nil, fault.New(fault.Conflict, "another backup is being made: wait for its end")
	}
	defer b.busy.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	head := b.audit.Head()
	header := &backup.Header{
		Version: b.version, Node: b.officers.Node, Time: time.Now().Unix(),
		AuditSeq: head.Seq, AuditHash: head.Hash.String(), Policy: callOf(ctx).policy.Text(),
	}
	out := &parts{ctx: ctx, draining: b.draining, ready: make(chan []byte, backupParts)}
	type made struct {
		seal    []byte
		trailer *backup.Trailer
		err     error
	}
	done := make(chan made, 1)
	go func() {
		seal, trailer, err := backup.Write(ctx, out, header, b.database, b.modules)
		if err == nil {
			err = out.flush()
		}
		close(out.ready)
		done <- made{seal, trailer, err}
	}()
	var gone error
	for part := range out.ready {
		if gone == nil {
			if gone = stream.Send(&keydv1.CreateBackupResponse{Part: part}); gone != nil {
				cancel()
			}
		}
	}
	m := <-done
	switch {
	case gone != nil:
		return nil, gone
	case m.err != nil:
		return nil, backupRefusal(ctx, m.err)
	}
	b.access.Entry(ctx).Detail = fmt.Sprintf("backup of version %d of the register: %d versions of keys, %d counters of key serial numbers", m.trailer.Register, m.trailer.Counts.Keys, m.trailer.Counts.Counters)
	return &keydv1.CreateBackupResponse{Part: m.seal}, nil
}

func backupRefusal(ctx context.Context, err error) error {
	var refused *fault.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &refused):
		return err
	case errors.Is(err, backup.ErrNoRegister):
		return fault.New(fault.Conflict, "no module has brought its register of officers and keys yet: try again")
	}
	return fault.Wrap(fault.StoreUnavailable, err)
}

// parts cuts what is written to it into parts, which wait for the caller.
type parts struct {
	ctx      context.Context
	draining <-chan struct{}
	ready    chan []byte
	part     []byte
}

// Write implements [io.Writer].
func (p *parts) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), backupPart-len(p.part))
		p.part, rest = append(p.part, rest[:n]...), rest[n:]
		if len(p.part) == backupPart {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

func (p *parts) flush() error {
	if len(p.part) == 0 {
		return nil
	}
	part := p.part
	p.part = make([]byte, 0, backupPart)
	select {
	case p.ready <- part:
		return nil
	default:
	}
	patience := time.NewTimer(backupPatience)
	defer patience.Stop()
	select {
	case p.ready <- part:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.draining:
		return fault.New(fault.ModuleUnavailable, "the service stops: connect again")
	case <-patience.C:
		return fault.New(fault.Conflict, "nobody has read on for "+backupPatience.String()+", so this backup is given up")
	}
}
