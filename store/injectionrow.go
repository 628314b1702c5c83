package store

import (
	"context"
	"database/sql"
	"math"
	"time"
)

func insertInjection(ctx context.Context, tx *sql.Tx, i *Injection) error {
	values, err := injectionValues(i)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, addInjection, values...)
	return err
}

func injectionValues(i *Injection) ([]any, error) {
	keys, err := encodeAllotted(i.Keys)
	if err != nil {
		return nil, err
	}
	return []any{
		i.ID, i.Terminal, int64(i.Number), string(i.State), i.Method, i.KeySet, int64(i.KeySetVersion), notNull(i.Request), notNull(i.Nonce), keys, int64(i.Revision),
		notNull(i.Answer), joined(i.KeyBlocks), notNull(i.Record), notNull(i.Receipt), notNull(i.Statement), i.Failure,
		i.Created.UnixMicro(), i.ConfirmBy.UnixMicro(), micros(i.Confirmed),
	}, nil
}

// scanInjection takes the columns as they come; see scan.
func scanInjection(from scanner) (Injection, error) {
	r, err := readRow(from, 20)
	if err != nil {
		return Injection{}, err
	}
	i := Injection{
		ID: r.text(0), Terminal: r.text(1), Number: r.number(2), State: InjectionState(r.text(3)), Method: r.text(4), KeySet: r.text(5), KeySetVersion: r.small(6),
		Request: r.bytes(7), Nonce: r.bytes(8), Revision: r.number(10),
		Answer: r.bytes(11), KeyBlocks: split(r.bytes(12)), Record: r.bytes(13), Receipt: r.bytes(14), Statement: r.bytes(15), Failure: r.text(16),
		Created: r.time(17), ConfirmBy: r.time(18), Confirmed: r.timeOrNone(19),
	}
	keys, invalid := decodeAllotted(r.bytes(9))
	i.Keys = keys
	if invalid == nil {
		invalid = i.Validate()
	}
	if err := r.end(invalid); err != nil {
		return Injection{}, err
	}
	return i, nil
}

// Injection implements [Injections].
func (s *tables) Injection(ctx context.Context, terminal, id string) (Injection, error) {
	if !validTerminalName(terminal) || !validInjectionID(id) {
		return Injection{}, s.none(ctx)
	}
	return one(ctx, s, scanInjection, getInjection, terminal, id)
}

// InjectionOfNonce implements [Injections].
func (s *tables) InjectionOfNonce(ctx context.Context, terminal string, nonce []byte) (Injection, error) {
	if !validTerminalName(terminal) || !validDigest(nonce) {
		return Injection{}, s.none(ctx)
	}
	return one(ctx, s, scanInjection, getInjectionOfNonce, terminal, nonce)
}

// InjectionOfRequest implements [Injections].
func (s *tables) InjectionOfRequest(ctx context.Context, terminal string, request []byte) (Injection, error) {
	if !validTerminalName(terminal) || !validDigest(request) {
		return Injection{}, s.none(ctx)
	}
	return one(ctx, s, scanInjection, getInjectionOfRequest, terminal, request)
}

// ConfirmedInjection implements [Injections].
func (s *tables) ConfirmedInjection(ctx context.Context, terminal string) (Injection, error) {
	if !validTerminalName(terminal) {
		return Injection{}, s.none(ctx)
	}
	return one(ctx, s, scanInjection, getConfirmedInjection, terminal)
}

// ListInjections implements [Injections].
func (s *tables) ListInjections(ctx context.Context, terminal string, before uint64, limit int) ([]Injection, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	if before == 0 || before > math.MaxInt64 {
		before = math.MaxInt64
	}
	return collect(ctx, s, scanInjection, listInjections, reachable(terminal), int64(before), limit)
}

// DueInjections implements [Injections].
func (s *tables) DueInjections(ctx context.Context, now, begun time.Time, limit int) ([]Injection, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanInjection, dueInjections, now.UnixMicro(), begun.UnixMicro(), limit)
}
