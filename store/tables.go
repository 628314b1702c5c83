package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// engine is what a database does in its own way. What is alike in all of them is written
// once, in [tables], in SQL that all of them understand.
type engine interface {
	// transaction carries out do in one transaction that is alone in writing to what
	// tables keeps. An error of do is classified, unless it is already; after it nothing
	// has changed, but that after [ErrUnreachable] and the end of ctx a commit may have been
	// carried out. After [errUnchanged] nothing has changed either, and it is no error. do
	// may be called again when the database undid what it did.
	transaction(ctx context.Context, do func(*sql.Tx) error) error

	// unhurried is transaction for what takes as long as its caller does; do is called once.
	unhurried(ctx context.Context, do func(*sql.Tx) error) error

	// snapshot carries out do in a transaction that reads what one moment left.
	snapshot(ctx context.Context, do func(*sql.Tx) error) error

	// query reads past transactions. done is called when the rows are closed.
	query(ctx context.Context, query string, args ...any) (rows *sql.Rows, done func(), err error)

	// prepared returns a statement for transactions that is prepared already, nil where there is none.
	prepared(query string) *sql.Stmt

	// now returns the time by which nodes are seen, in microseconds from 1970.
	now(ctx context.Context, tx *sql.Tx) (int64, error)

	classify(ctx context.Context, err error) error

	// fail names the database. Whatever fails after Close fails because of it.
	fail(err error) error
}

// tables keeps what both databases keep in the same way.
type tables struct {
	engine   engine
	together together
}

// errUnchanged ends a transaction that found nothing to do.
var errUnchanged = errors.New("store: nothing has changed")

// raiseRevision and the other statements about marks are of the one row that there is.
const (
	raiseRevision = `UPDATE marks SET revision = revision + 1`

	getRevision = `SELECT revision FROM marks`
)

// change is a transaction that changes what [Changes.Revision] counts.
func (s *tables) change(ctx context.Context, do func(*sql.Tx) error) error {
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		return raise(ctx, tx)
	})
}

// raise raises the revision within a transaction.
func raise(ctx context.Context, tx *sql.Tx) error {
	result, err := tx.ExecContext(ctx, raiseRevision)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, ErrCorrupt)
	}
	return nil
}

// Revision implements [Changes].
func (s *tables) Revision(ctx context.Context) (uint64, error) {
	revision, err := one(ctx, s, scanNumber, getRevision)
	if errors.Is(err, ErrNotFound) {
		err = s.fail(ErrCorrupt)
	}
	return revision, err
}

func (s *tables) fail(err error) error { return s.engine.fail(err) }

// end classifies what ended a transaction, and names the database.
func end(ctx context.Context, e engine, err error) error {
	if !classified(err) {
		err = e.classify(ctx, err)
	}
	return e.fail(err)
}

// exists reports whether a query has an answer.
func exists(ctx context.Context, tx *sql.Tx, query string, args ...any) (found bool, err error) {
	err = tx.QueryRowContext(ctx, "SELECT EXISTS ("+query+")", args...).Scan(&found)
	return found, err
}

// row asks for one row within a transaction.
func (s *tables) row(ctx context.Context, tx *sql.Tx, query string, args ...any) *sql.Row {
	if statement := s.engine.prepared(query); statement != nil {
		return tx.StmtContext(ctx, statement).QueryRowContext(ctx, args...)
	}
	return tx.QueryRowContext(ctx, query, args...)
}

// exec changes something within a transaction.
func (s *tables) exec(ctx context.Context, tx *sql.Tx, query string, args ...any) (sql.Result, error) {
	if statement := s.engine.prepared(query); statement != nil {
		return tx.StmtContext(ctx, statement).ExecContext(ctx, args...)
	}
	return tx.ExecContext(ctx, query, args...)
}

// scanner is one row.
type scanner interface{ Scan(...any) error }

// columns reads a row of n columns as they come; see scan.
func columns(row scanner, n int) ([]any, error) {
	values, places := make([]any, n), make([]any, n)
	for i := range values {
		places[i] = &values[i]
	}
	if err := row.Scan(places...); err != nil {
		return nil, err
	}
	return values, nil
}

// each calls do for what a query answers, row by row. An error of do is returned as it is.
func each[T any](ctx context.Context, s *tables, scan func(scanner) (T, error), do func(T) error, query string, args ...any) error {
	rows, done, err := s.engine.query(ctx, query, args...)
	if err != nil {
		return s.fail(s.classifyRead(ctx, err))
	}
	defer done()
	var stopped error
	err = eachRow(rows, scan, func(one T) error {
		stopped = do(one)
		return stopped
	})
	switch {
	case stopped != nil:
		return stopped
	case err != nil:
		return s.fail(s.classifyRead(ctx, err))
	}
	return nil
}

// eachRow reads rows and closes them.
func eachRow[T any](rows *sql.Rows, scan func(scanner) (T, error), do func(T) error) (err error) {
	defer func() {
		if e := rows.Close(); err == nil {
			err = e
		}
	}()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return err
		}
		if err := do(one); err != nil {
			return err
		}
	}
	return rows.Err()
}

// collect returns what a query answers.
func collect[T any](ctx context.Context, s *tables, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	var found []T
	err := each(ctx, s, scan, func(one T) error { found = append(found, one); return nil }, query, args...)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// one returns the only row of an answer, and [ErrNotFound] where there is none.
func one[T any](ctx context.Context, s *tables, scan func(scanner) (T, error), query string, args ...any) (found T, err error) {
	there := false
	err = each(ctx, s, scan, func(one T) error { found, there = one, true; return nil }, query, args...)
	switch {
	case err != nil:
		var none T
		return none, err
	case !there:
		return found, s.fail(ErrNotFound)
	}
	return found, nil
}

// classifyRead classifies what a row that is missing or outside the limits made of a reading.
func (s *tables) classifyRead(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrClosed):
		return err
	}
	return s.engine.classify(ctx, err)
}

// none is the answer to who asks for what nothing has the name of: a database need not be
// able to hold such a name.
func (s *tables) none(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return s.fail(err)
	}
	return s.fail(ErrNotFound)
}

// reachable returns a text of printable ASCII, or such a text and DEL, after which the same
// names come as after the given one, whatever it holds. No name is equal to it but the given
// one itself.
func reachable(name string) string {
	for i := range len(name) {
		switch {
		case name[i] <= ' ':
			return name[:i] + " "
		case name[i] > '~':
			return name[:i] + "\x7f"
		}
	}
	return name
}

// scanNumber takes the column as it comes; see scan.
func scanNumber(row scanner) (uint64, error) {
	column, err := columns(row, 1)
	if err != nil {
		return 0, err
	}
	n, ok := column[0].(int64)
	if !ok || n < 0 {
		return 0, ErrCorrupt
	}
	return uint64(n), nil
}

// validLimit returns [ErrInvalid] for a list that nobody can ask for.
func validLimit(limit, most int) error {
	if limit < 1 || limit > most {
		return fmt.Errorf("%w: a list has 1 to %d records", ErrInvalid, most)
	}
	return nil
}
