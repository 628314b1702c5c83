package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	injectionColumns = `id, terminal, number, state, method, key_set, key_set_version, request, nonce, keys, revision,
		answer, key_blocks, record, receipt, statement, failure, created_at, confirm_by, confirmed_at`

	addInjection = `INSERT INTO injections (` + injectionColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)`

	getInjection = `SELECT ` + injectionColumns + ` FROM injections WHERE terminal = $1 AND id = $2`

	getInjectionOfNonce = `SELECT ` + injectionColumns + ` FROM injections WHERE terminal = $1 AND nonce = $2 AND length(nonce) > 0`

	getInjectionOfRequest = `SELECT ` + injectionColumns + ` FROM injections WHERE terminal = $1 AND request = $2 ORDER BY number DESC LIMIT 1`

	getConfirmedInjection = `SELECT ` + injectionColumns + ` FROM injections WHERE terminal = $1 AND state = 'CONFIRMED' ORDER BY number DESC LIMIT 1`

	listInjections = `SELECT ` + injectionColumns + ` FROM injections WHERE terminal = $1 AND number < $2 AND state <> 'BEGUN' ORDER BY number DESC LIMIT $3`

	dueInjections = `SELECT ` + injectionColumns + ` FROM injections
		WHERE state = 'PENDING' AND confirm_by <= $1 OR state = 'BEGUN' AND created_at < $2 ORDER BY confirm_by LIMIT $3`

	newestInjection = `SELECT coalesce(max(number), 0) FROM injections WHERE terminal = $1`

	unconfirmedInjections = `SELECT count(*) FROM injections WHERE terminal = $1 AND created_at > $2 AND confirmed_at = 0`

	allInjections = `SELECT count(*) FROM injections WHERE terminal = $1 AND created_at > $2`

	hasNonce = `SELECT 1 FROM injections WHERE terminal = $1 AND nonce = $2 AND length(nonce) > 0`

	openInjections = `SELECT id FROM injections WHERE terminal = $1 AND state = $2 AND id <> $3 AND confirm_by > $4 AND confirm_by <= $5`

	retryInjection = `UPDATE injections SET state = 'BEGUN', keys = $1, revision = revision + 1, failure = '', created_at = $2, confirm_by = $3
		WHERE terminal = $4 AND id = $5`

	answerInjection = `UPDATE injections SET state = 'PENDING', revision = revision + 1, answer = $1, key_blocks = $2, record = $3, confirm_by = $4
		WHERE terminal = $5 AND id = $6`

	confirmInjection = `UPDATE injections SET state = 'CONFIRMED', revision = revision + 1, answer = $1, key_blocks = $1, receipt = $2, statement = $3, confirmed_at = $4
		WHERE terminal = $5 AND id = $6`

	endInjection = `UPDATE injections SET state = $1, revision = revision + 1, answer = $2, key_blocks = $2, failure = $3 WHERE terminal = $4 AND id = $5`

	nextEvent = `UPDATE terminals SET revision = revision + 1 WHERE id = $1`
)

// BeginInjection implements [Injections].
func (s *tables) BeginInjection(ctx context.Context, b Begin) (Injection, error) {
	i := b.Injection
	i.State, i.Revision, i.Number = InjectionBegun, 1, 1
	if err := errors.Join(i.Validate(), validWanted(b.Wanted)); err != nil {
		return Injection{}, err
	}
	err := s.engine.transaction(ctx, func(tx *sql.Tx) error {
		if err := getsKeys(ctx, tx, &i, b.PublicKey); err != nil {
			return err
		}
		replayed, err := exists(ctx, tx, hasNonce, i.Terminal, notNull(i.Nonce))
		switch {
		case err != nil:
			return err
		case replayed:
			return fmt.Errorf("terminal %s: an injection of this request: %w", i.Terminal, ErrExists)
		}
		since := i.Created.AddDate(0, 0, -1)
		for _, bound := range []struct {
			query string
			most  int
		}{{unconfirmedInjections, b.Most}, {allInjections, b.MostAll}} {
			var there int64
			if err := tx.QueryRowContext(ctx, bound.query, i.Terminal, since.UnixMicro()).Scan(&there); err != nil {
				return err
			}
			if there >= int64(bound.most) {
				return fmt.Errorf("terminal %s: injections within a day: %w", i.Terminal, ErrTooMany)
			}
		}
		var newest int64
		if err := tx.QueryRowContext(ctx, newestInjection, i.Terminal).Scan(&newest); err != nil {
			return err
		}
		i.Number = uint64(newest) + 1
		if i.Keys, err = allot(ctx, tx, i.Terminal, i.ID, b.Wanted); err != nil {
			return err
		}
		return insertInjection(ctx, tx, &i)
	})
	if err != nil {
		return Injection{}, err
	}
	return i, nil
}

// getsKeys returns [ErrConflict] unless the terminal may be given the keys of an injection.
func getsKeys(ctx context.Context, tx *sql.Tx, i *Injection, publicKey []byte) error {
	t, err := scanTerminal(tx.QueryRowContext(ctx, getTerminal, i.Terminal))
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("terminal %s: %w", i.Terminal, ErrNotFound)
	}
	if err != nil {
		return err
	}
	if t.State != TerminalRegistered || t.KeySet != i.KeySet || publicKey != nil && !bytes.Equal(t.PublicKey, publicKey) {
		return fmt.Errorf("terminal %s: %w", i.Terminal, ErrConflict)
	}
	if t.Revision > MaxTerminalEvents-keptEvents {
		return fmt.Errorf("terminal %s: events: %w", i.Terminal, ErrTooMany)
	}
	var newest int64
	if err := tx.QueryRowContext(ctx, newestSet, i.KeySet).Scan(&newest); err != nil {
		return err
	}
	if newest != int64(i.KeySetVersion) {
		return fmt.Errorf("key set %s: %w", i.KeySet, ErrConflict)
	}
	return nil
}

// RetryInjection implements [Injections].
func (s *tables) RetryInjection(ctx context.Context, terminal, id string, revision uint64, publicKey []byte, wanted []Wanted, at, confirmBy time.Time) (Injection, error) {
	if err := validWanted(wanted); err != nil {
		return Injection{}, err
	}
	var next Injection
	err := s.engine.transaction(ctx, func(tx *sql.Tx) error {
		i, err := atRevision(ctx, tx, terminal, id, revision, InjectionBegun, InjectionFailed)
		if err != nil {
			return err
		}
		if err := getsKeys(ctx, tx, i, publicKey); err != nil {
			return err
		}
		if len(wanted) > 0 {
			if i.Keys, err = allot(ctx, tx, terminal, id, wanted); err != nil {
				return err
			}
		}
		keys, err := encodeAllotted(i.Keys)
		if err != nil {
			return err
		}
		i.State, i.Failure, i.Created, i.ConfirmBy = InjectionBegun, "", at, confirmBy
		i.Revision++
		if err := i.Validate(); err != nil {
			return err
		}
		next = *i
		_, err = tx.ExecContext(ctx, retryInjection, keys, at.UnixMicro(), confirmBy.UnixMicro(), terminal, id)
		return err
	})
	if err != nil {
		return Injection{}, err
	}
	return next, nil
}

// AnswerInjection implements [Injections].
func (s *tables) AnswerInjection(ctx context.Context, g Given, e TerminalEvent) error {
	e.Terminal, e.Number = g.Terminal, 1
	master := TerminalKey{Terminal: g.Terminal, Name: MasterName, Version: 1, Injection: g.ID, Sealed: g.Master, NotAfter: time.Unix(0, 0), CreatedAt: g.At}
	receipt := master
	receipt.Name, receipt.Sealed = ReceiptName, g.ReceiptKey
	if err := errors.Join(master.Validate(), receipt.Validate(), e.Validate()); err != nil {
		return err
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		i, err := atRevision(ctx, tx, g.Terminal, g.ID, g.Revision, InjectionBegun)
		if err != nil {
			return err
		}
		i.State, i.Answer, i.KeyBlocks, i.Record, i.ConfirmBy = InjectionPending, g.Answer, g.KeyBlocks, g.Record, g.ConfirmBy
		if err := i.Validate(); err != nil {
			return err
		}
		if err := getsKeys(ctx, tx, i, nil); err != nil {
			return err
		}
		if err := endAll(ctx, tx, g.Terminal, g.ID, InjectionPending, InjectionExpired, "", 0, g.At.UnixMicro()); err != nil {
			return err
		}
		if err := supersede(ctx, tx, g.Terminal, g.ID, InjectionPending); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, answerInjection, g.Answer, joined(g.KeyBlocks), g.Record, g.ConfirmBy.UnixMicro(), g.Terminal, g.ID); err != nil {
			return err
		}
		for _, k := range []TerminalKey{master, receipt} {
			if _, err := tx.ExecContext(ctx, addTerminalKey, terminalKeyValues(&k)...); err != nil {
				return err
			}
		}
		return appendEvent(ctx, tx, &e)
	})
}

// supersede ends the other injections of a terminal that are in a state. One that was not
// confirmed in time has expired before.
func supersede(ctx context.Context, tx *sql.Tx, terminal, id string, state InjectionState) error {
	return endAll(ctx, tx, terminal, id, state, InjectionSuperseded, "", 0, math.MaxInt64)
}

// ConfirmInjection implements [Injections].
func (s *tables) ConfirmInjection(ctx context.Context, terminal, id string, revision uint64, receipt, statement []byte, at time.Time, e TerminalEvent) error {
	e.Terminal, e.Number = terminal, 1
	if err := e.Validate(); err != nil {
		return err
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		i, err := atRevision(ctx, tx, terminal, id, revision, InjectionPending)
		if err != nil {
			return err
		}
		if !at.Before(i.ConfirmBy) {
			return fmt.Errorf("injection %s: %w: the time to confirm it is over", id, ErrConflict)
		}
		i.State, i.Answer, i.KeyBlocks, i.Receipt, i.Statement, i.Confirmed = InjectionConfirmed, nil, nil, receipt, statement, at
		if err := i.Validate(); err != nil {
			return err
		}
		if err := isRegistered(ctx, tx, terminal); err != nil {
			return err
		}
		if err := supersede(ctx, tx, terminal, id, InjectionConfirmed); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, confirmInjection, []byte{}, receipt, statement, at.UnixMicro(), terminal, id); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, dropReceiptKey, terminal, id); err != nil {
			return err
		}
		for _, k := range i.Keys {
			if _, err := tx.ExecContext(ctx, confirmInitial, k.BDK, k.ID); err != nil {
				return err
			}
		}
		return appendEvent(ctx, tx, &e)
	})
}

// EndInjection implements [Injections].
func (s *tables) EndInjection(ctx context.Context, terminal, id string, revision uint64, state InjectionState, failure string, e TerminalEvent) error {
	from := map[InjectionState]InjectionState{InjectionFailed: InjectionBegun, InjectionExpired: InjectionPending}[state]
	e.Terminal, e.Number = terminal, 1
	if err := e.Validate(); err != nil {
		return err
	}
	if from == "" || len(failure) > MaxFailure || !printable(failure) {
		return fmt.Errorf("%w: an injection fails or expires, for a reason of at most %d bytes", ErrInvalid, MaxFailure)
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		if _, err := atRevision(ctx, tx, terminal, id, revision, from); err != nil {
			return err
		}
		if err := endOne(ctx, tx, terminal, id, state, failure); err != nil {
			return err
		}
		return appendEvent(ctx, tx, &e)
	})
}

// EndInjections implements [Injections].
func (s *tables) EndInjections(ctx context.Context, terminal string, e TerminalEvent) error {
	e.Terminal, e.Number = terminal, 1
	if err := e.Validate(); err != nil {
		return err
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		if err := endInjections(ctx, tx, terminal); err != nil {
			return err
		}
		return appendEvent(ctx, tx, &e)
	})
}

// endInjections ends what a terminal has, within a transaction.
func endInjections(ctx context.Context, tx *sql.Tx, terminal string) error {
	for from, to := range map[InjectionState]InjectionState{InjectionPending: InjectionEnded, InjectionConfirmed: InjectionEnded, InjectionBegun: InjectionFailed} {
		failure := ""
		if to == InjectionFailed {
			failure = "the terminal's keys were ended meanwhile"
		}
		if err := endAll(ctx, tx, terminal, "", from, to, failure, 0, math.MaxInt64); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, dropTerminalKeys, terminal)
	return err
}

// endAll ends the injections of a terminal, but one, that are in a state and were to be confirmed
// after the first time and not after the last.
func endAll(ctx context.Context, tx *sql.Tx, terminal, but string, from, to InjectionState, failure string, first, last int64) error {
	rows, err := tx.QueryContext(ctx, openInjections, terminal, string(from), but, first, last)
	if err != nil {
		return err
	}
	var open []string
	if err := eachRow(rows, func(from scanner) (id string, err error) { err = from.Scan(&id); return }, func(id string) error {
		open = append(open, id)
		return nil
	}); err != nil {
		return err
	}
	for _, id := range open {
		if err := endOne(ctx, tx, terminal, id, to, failure); err != nil {
			return err
		}
	}
	return nil
}

// endOne takes an injection to a state in which it has neither answer nor sealed keys.
func endOne(ctx context.Context, tx *sql.Tx, terminal, id string, state InjectionState, failure string) error {
	if _, err := tx.ExecContext(ctx, endInjection, string(state), []byte{}, failure, terminal, id); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, dropInjectionKeys, terminal, id)
	return err
}

// atRevision returns an injection that is at a revision, and in one of some states.
func atRevision(ctx context.Context, tx *sql.Tx, terminal, id string, revision uint64, states ...InjectionState) (*Injection, error) {
	i, err := scanInjection(tx.QueryRowContext(ctx, getInjection, terminal, id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("injection %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if i.State == s && i.Revision == revision {
			return &i, nil
		}
	}
	return nil, fmt.Errorf("injection %s: %w", id, ErrConflict)
}

// appendEvent adds an event with the number that follows.
func appendEvent(ctx context.Context, tx *sql.Tx, e *TerminalEvent) error {
	t, err := scanTerminal(tx.QueryRowContext(ctx, getTerminal, e.Terminal))
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("terminal %s: %w", e.Terminal, ErrNotFound)
	}
	if err != nil {
		return err
	}
	e.Number = t.Revision + 1
	if err := e.Validate(); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, nextEvent, e.Terminal); err != nil {
		return err
	}
	return insertEvent(ctx, tx, e)
}
