package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
)

// BusyTimeout is how long a write waits for another process's.
const BusyTimeout = 5 * time.Second

// checkpointWait is how long a checkpoint that empties the write-ahead log waits for
// readers. Nothing is written meanwhile.
const checkpointWait = 100 * time.Millisecond

// applicationID marks a file as keyd's in SQLite's header: "kyd1".
const applicationID = 0x6b796431

// smallestPage is the smallest page of an SQLite database, in bytes.
const smallestPage = 512

//go:embed migrations/*.sql
var migrations embed.FS

// OpenSQLite opens the database at path, and creates it, with mode 0600, where there
// is none; its folder must exist. It checks the whole file, brings an older schema up
// to date and refuses a newer one with [ErrNewer].
//
// The other errors are [ErrInsecure], [ErrReadOnly], [ErrLocked], [ErrFull],
// [ErrNotDatabase], [ErrCorrupt] and [ErrFailed]. A file that is refused was not
// changed.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w: %w", path, ErrFailed, err)
	}
	s := &SQLite{path: absolute, asked: map[string]*sql.Stmt{}, written: map[string]*sql.Stmt{}}
	s.tables.engine = s
	if err := s.open(ctx); err != nil {
		return nil, s.fail(errors.Join(err, s.abandon()))
	}
	return s, nil
}

// open has a fixed order: nothing is written to a file before it is known to be
// keyd's, private, sound and not newer.
func (s *SQLite) open(ctx context.Context) error {
	unlock, err := lockFolder(ctx, filepath.Dir(s.path))
	if err != nil {
		return err
	}
	defer unlock()
	if err := prepareFile(s.path); err != nil {
		return err
	}
	if s.writer, err = pool(s.path, false, 1); err != nil {
		return err
	}
	if err := identify(ctx, s.writer); err != nil {
		return err
	}
	if err := quickCheck(ctx, s.writer); err != nil {
		return err
	}
	if err := migrate(ctx, s.writer); err != nil {
		return err
	}
	if s.readers, err = pool(s.path, true, max(4, 2*runtime.GOMAXPROCS(0))); err != nil {
		return err
	}
	if s.checkpointer, err = waitingPool(s.path, false, 1, checkpointWait); err != nil {
		return err
	}
	return s.prepareStatements(ctx)
}

// abandon closes what a failed open has opened.
func (s *SQLite) abandon() error {
	var errs []error
	for _, db := range []*sql.DB{s.checkpointer, s.readers, s.writer} { // closes the statements too
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// pool opens the file with n connections at most, which it keeps.
func pool(path string, readOnly bool, n int) (*sql.DB, error) {
	return waitingPool(path, readOnly, n, BusyTimeout)
}

// waitingPool is [pool] with connections that wait for others for so long.
func waitingPool(path string, readOnly bool, n int, wait time.Duration) (*sql.DB, error) {
	q := url.Values{
		"mode":       {"rw"}, // the file is there: SQLite would create it with a mode of its own
		"_txlock":    {"immediate"},
		"_defensive": {"1"},
		"_dqs":       {"0"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds()),
			"synchronous(FULL)", // a commit is on the disk before it is acknowledged
			"foreign_keys(ON)",
			"trusted_schema(OFF)",
			"cell_size_check(ON)",
			"secure_delete(FAST)", // a deleted row is overwritten in its page; a page that is free keeps what it had
		},
	}
	if readOnly {
		q.Set("mode", "ro")
		q.Del("_txlock")
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// lockFolder keeps two processes from creating or migrating the same database at
// once. It locks the folder, since closing any descriptor of the file would drop the
// POSIX locks that SQLite holds on it in this process.
func lockFolder(ctx context.Context, folder string) (unlock func(), err error) {
	d, err := openFolder(folder)
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	deadline := time.NewTimer(BusyTimeout)
	defer deadline.Stop()
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = d.Close() }, nil // closing unlocks; nothing was written through it
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("%w: lock %s: %w", ErrFailed, folder, err), d.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), d.Close())
		case <-deadline.C:
			return nil, errors.Join(ErrLocked, d.Close())
		case <-retry.C:
		}
	}
}

// prepareFile creates the file exclusively, or checks the one that is there.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		return errors.Join(f.Close(), syncFolder(filepath.Dir(path)))
	case errors.Is(err, unix.EROFS), errors.Is(err, fs.ErrPermission):
		return ErrReadOnly
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ErrFull
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrFailed, err)
	case !info.Mode().IsRegular():
		return ErrNotDatabase
	case info.Size() > 0 && info.Size() < smallestPage:
		return ErrNotDatabase // SQLite would take it for empty and write over it
	case info.Mode().Perm()&0o077 != 0:
		return ErrInsecure
	}
	// SQLite would quietly open what it may not write for reading only. The folder
	// takes the write-ahead log.
	if unix.Access(path, unix.R_OK|unix.W_OK) != nil || unix.Access(filepath.Dir(path), unix.W_OK|unix.X_OK) != nil {
		return ErrReadOnly
	}
	return nil
}

// syncFolder makes a new file's entry durable.
func syncFolder(folder string) error {
	d, err := openFolder(folder)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return nil
}

// openFolder never waits, as it would for the other end of a named pipe.
func openFolder(path string) (*os.File, error) {
	d, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return d, nil
}

// identify refuses another program's database and marks an empty one as keyd's.
func identify(ctx context.Context, db *sql.DB) error {
	var id, objects int64
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return classify(ctx, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&objects); err != nil {
		return classify(ctx, err)
	}
	if id == applicationID {
		return nil
	}
	if id != 0 || objects != 0 {
		return ErrNotDatabase
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return classify(ctx, err)
}

// quickCheck reads the whole file. It is paid once per start, so that a damaged page
// is found before it is served.
func quickCheck(ctx context.Context, db *sql.DB) error {
	var answer string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&answer); err != nil {
		return classify(ctx, err)
	}
	if answer != "ok" {
		return ErrCorrupt
	}
	return nil
}

// migrate brings the schema up to date, each step in a transaction of its own, and
// turns on the write-ahead log.
func migrate(ctx context.Context, db *sql.DB) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return classify(ctx, err)
	case current > target:
		return ErrNewer
	}
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return classify(ctx, err)
	}
	if !strings.EqualFold(mode, "wal") {
		return fmt.Errorf("%w: the file system has no shared memory for a write-ahead log, as network file systems have none", ErrFailed)
	}
	if _, err := p.Up(ctx); err != nil {
		return classify(ctx, err)
	}
	return nil
}
