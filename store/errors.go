package store

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// What can go wrong. The text tells the operator what to do; callers compare with
// errors.Is.
var (
	// ErrNotFound: there is no such record.
	ErrNotFound = errors.New("no such record")
	// ErrExists: a record with the same name and version is kept already, or a name is
	// taken: a key and an alias never have the same one.
	ErrExists = errors.New("such a record exists already; replace it on purpose or give it the next version")
	// ErrConflict: what is stored is not what the caller had seen, or is not to be
	// changed now.
	ErrConflict = errors.New("something else is stored than was expected; read it again before changing it")
	// ErrTaken: an identifier is another's, or was used.
	ErrTaken = errors.New("the identifier is taken; use another one")
	// ErrExhausted: a range of numbers is used up.
	ErrExhausted = errors.New("no number is left in the range; give it another one")
	// ErrTooMany: something was tried too often within a time.
	ErrTooMany = errors.New("there were too many within a day; try again later")
	// ErrTrimmed: rows of the journal are gone that were not read.
	ErrTrimmed = errors.New("the journal was folded further than it was read; read the whole of it again")
	// ErrRolledBack: the database has forgotten what it had acknowledged.
	ErrRolledBack = errors.New("the database was set back to an earlier state, and has forgotten what it had acknowledged; " +
		"find out why, and start keyd again when the database is the one to go on with")
	// ErrInvalid: the caller's arguments are outside the limits.
	ErrInvalid = errors.New("invalid argument")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked: another process kept the database locked for too long.
	ErrLocked = errors.New("the database is locked by another process; let its backup or maintenance finish, or end it, and try again")
	// ErrReadOnly: the file, its folder or its file system cannot be written, or the server
	// is a standby.
	ErrReadOnly = errors.New("the database cannot be written; for a file, let keyd's user write it and its folder, and check that the file system " +
		"is not mounted read-only; for a server, check that one of the hosts is the primary and takes writes")
	// ErrFull: there is no space left.
	ErrFull = errors.New("no space is left for the database; free some, nothing needs repair")
	// ErrInsecure: other users may read or write the file, or that of the password or key.
	ErrInsecure = errors.New("other users have access to the database, or to what opens it; make the file private with chmod 600 after checking who wrote to it")
	// ErrNotDatabase: the file, or the schema, is something else.
	ErrNotDatabase = errors.New("this is not a keyd database; check the path, or the name of the database; nothing in it was changed")
	// ErrCorrupt: the database is damaged, or holds what keyd never writes.
	ErrCorrupt = errors.New("the database is damaged; keep it for inspection and restore a backup")
	// ErrNewer: a newer keyd wrote the database.
	ErrNewer = errors.New("the database was written by a newer keyd; run that version, or restore a backup from before the upgrade")
	// ErrUnreachable: the server does not answer. A write may have happened.
	ErrUnreachable = errors.New("the database server cannot be reached or does not answer in time; check that it runs, its address and the network; " +
		"keyd works again when it answers")
	// ErrDenied: the server does not let keyd in, or not do something.
	ErrDenied = errors.New("the database server refuses keyd; check the user, its password or certificate (scram-sha-256, no other password), " +
		"its rights on the database and its schema keyd, and pg_hba.conf")
	// ErrUntrusted: the server is not the one that it should be.
	ErrUntrusted = errors.New("the database server could not prove who it is; check that its certificate is valid, names its address, and is of the CA file")
	// ErrUnsuitable: the server would not keep what it acknowledges, or not as it was given.
	ErrUnsuitable = errors.New("the database server is not suitable")
	// ErrFailed: any other failure of the database.
	ErrFailed = errors.New("the database failed; see whether the disk is full (df), then the code, and the system's log for errors of the disk")
)

// classified reports whether an error is one of the package's already.
func classified(err error) bool {
	for _, own := range []error{
		ErrNotFound, ErrExists, ErrConflict, ErrTaken, ErrExhausted, ErrTooMany, ErrTrimmed, ErrRolledBack, ErrInvalid, ErrClosed, ErrLocked, ErrReadOnly, ErrFull, ErrNotDatabase, ErrCorrupt,
		ErrUnreachable, ErrDenied, ErrUntrusted, ErrUnsuitable, ErrFailed,
	} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// classify turns an error of the driver into one of the package's. The driver's own
// text is dropped, its code is kept for the operator.
func classify(ctx context.Context, err error) error {
	var e *sqlite.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &e):
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	switch e.Code() {
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		return ErrExists
	}
	kind := ErrFailed
	switch e.Code() & 0xff { // the low byte of an extended code is the primary one
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		kind = ErrLocked
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		kind = ErrReadOnly
	case sqlite3.SQLITE_FULL:
		kind = ErrFull
	case sqlite3.SQLITE_NOTADB:
		kind = ErrNotDatabase
	case sqlite3.SQLITE_CORRUPT:
		kind = ErrCorrupt
	}
	return fmt.Errorf("%w (SQLite code %d)", kind, e.Code())
}
