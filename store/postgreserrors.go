package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// classifyPostgres turns an error of the driver into one of the package's. The texts of the
// server and of the driver are dropped, since they may hold what is stored; the code is kept
// for the operator. A deadline that ran out is the store's own while ctx has not ended.
func classifyPostgres(ctx context.Context, err error) error {
	var server *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case classified(err) || errors.Is(err, ErrInsecure) || errors.Is(err, ErrNewer):
		return err
	case errors.As(err, &server):
		return fmt.Errorf("%w (SQLSTATE %s)", serverError(server), server.Code)
	}
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var operation *net.OpError
	var network net.Error
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &name), errors.As(err, &record):
		return ErrUntrusted
	case errors.As(err, &operation) && operation.Op == "remote error": // a TLS alert
		return fmt.Errorf("%w (it ended the TLS handshake)", ErrDenied)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w (no answer in time)", ErrUnreachable)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w (%s)", errLost, networkCause(err))
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return fmt.Errorf("%w (a commit was answered with a rollback)", ErrFailed)
	case strings.Contains(err.Error(), "conn closed"), strings.Contains(err.Error(), "bad connection"), strings.Contains(err.Error(), "conn busy"):
		return fmt.Errorf("%w (the connection was lost)", errLost) // also while it was made: the server ended just then
	case errors.As(err, &connect):
		return ErrDenied // the server asked for what is not given: another kind of password, no TLS
	case pgconn.SafeToRetry(err):
		return fmt.Errorf("%w (the connection was lost)", errLost)
	}
	return fmt.Errorf("%w (%T)", ErrFailed, err)
}

// networkCause says what happened to a connection, without addresses.
func networkCause(err error) string {
	var syscall *os.SyscallError
	if errors.As(err, &syscall) {
		return syscall.Err.Error()
	}
	return "the connection was lost"
}

// serverError returns the kind of what a server reports.
func serverError(e *pgconn.PgError) error {
	switch e.Code {
	case "23505": // unique_violation
		return ErrExists
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return errUndone
	case "55P03": // lock_not_available
		return ErrLocked
	case "25006": // read_only_sql_transaction: a standby
		return ErrReadOnly
	case "53100": // disk_full
		return ErrFull
	case "53300": // too_many_connections
		return fmt.Errorf("%w: it has too many connections", ErrUnreachable)
	case "57014": // query_canceled: it took too long
		return fmt.Errorf("%w: a statement took too long", ErrUnreachable)
	case "25P03": // idle_in_transaction_session_timeout
		return fmt.Errorf("%w: keyd was too slow", ErrUnreachable)
	case "3D000": // invalid_catalog_name: no such database
		return errNoDatabase
	case "42501", "3F000": // insufficient_privilege, no such schema
		return ErrDenied
	case "XX001", "XX002": // data_corrupted, index_corrupted
		return ErrCorrupt
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "57": // connection exceptions; shutdown, crash, recovery
		return errLost
	case "28": // invalid authorization
		return ErrDenied
	case "58": // system errors: of files, mostly
		return ErrFailed
	}
	return ErrFailed
}

// errNoDatabase is an [ErrDenied] whose cause is known.
var errNoDatabase error = noDatabase{}

type noDatabase struct{}

func (noDatabase) Error() string {
	return "the database does not exist on the database server: create it (docs/fleet.md says how), or correct database.postgres.database"
}

func (noDatabase) Is(target error) bool { return target == ErrDenied }

// errLost is a connection that was lost before there was an answer: another may work.
var errLost = fmt.Errorf("%w", ErrUnreachable)

// errUndone is a transaction that the server undid, and that may be tried again.
var errUndone = fmt.Errorf("%w: it undid what conflicts with another's", ErrLocked)
