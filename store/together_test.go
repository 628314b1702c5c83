package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// counting counts transactions, the first of which waits to be let go.
type counting struct {
	engine

	begun     atomic.Int64
	committed atomic.Int64
	hold      chan struct{}
}

func (c *counting) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	if c.begun.Add(1) == 1 {
		<-c.hold
	}
	err := c.engine.transaction(ctx, do)
	if err == nil {
		c.committed.Add(1)
	}
	return err
}

// sharing is a database whose first shared change is under way, and a table of its own to change.
type sharing struct {
	*SQLite

	t     *testing.T
	count *counting
	first chan error
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	opened, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	s := &sharing{SQLite: opened, t: t, count: &counting{engine: opened, hold: make(chan struct{})}, first: make(chan error, 1)}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := opened.writer.ExecContext(t.Context(), "CREATE TABLE tried (n INTEGER PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	opened.tables.engine = s.count
	go func() { s.first <- s.add(t.Context(), 0) }()
	for s.count.begun.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	return s
}

// add keeps a number.
func (s *sharing) add(ctx context.Context, n int) error {
	return s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO tried (n) VALUES ($1)", n)
		return err
	})
}

// waits waits until so many changes wait.
func (s *sharing) waits(n int) {
	s.t.Helper()
	for {
		s.together.mu.Lock()
		waiting := len(s.together.waiting)
		s.together.mu.Unlock()
		if waiting == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// has insists on the numbers from 0 to n-1 but those left out.
func (s *sharing) has(n int, without ...int) {
	s.t.Helper()
	out := make(map[int]bool)
	for _, w := range without {
		out[w] = true
	}
	for i := range n {
		var there bool
		if err := s.writer.QueryRowContext(s.t.Context(), "SELECT EXISTS (SELECT 1 FROM tried WHERE n = $1)", i).Scan(&there); err != nil || there == out[i] {
			s.t.Errorf("%d: %t, %v", i, there, err)
		}
	}
}

// Those that come while a commit is under way share the next one.
func TestChangesShareACommit(t *testing.T) {
	s := newSharing(t)
	const many = 20
	var others sync.WaitGroup
	for i := range many {
		others.Go(func() {
			if err := s.add(t.Context(), i+1); err != nil {
				t.Errorf("%d: %v", i+1, err)
			}
		})
	}
	s.waits(many)
	s.has(1, 0) // nothing is there that is not committed
	close(s.count.hold)
	others.Wait()
	if err := <-s.first; err != nil {
		t.Error(err)
	}
	s.has(many + 1)
	if n := s.count.committed.Load(); n != 2 {
		t.Errorf("%d commits for %d changes, want 2", n, many+1)
	}
}

// One that fails, that panics, that finds nothing to do or that gives up takes nothing with it.
func TestChangesFailAlone(t *testing.T) {
	s := newSharing(t)
	own := errors.New("its own")
	left, leave := context.WithCancel(t.Context())
	errs := make([]error, 10)
	var panicked any
	var others sync.WaitGroup
	for i := range errs {
		others.Go(func() {
			ctx := t.Context()
			if i == 4 {
				ctx = left
			}
			defer func() {
				if i == 3 {
					panicked = recover()
				}
			}()
			errs[i] = s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
				if i == 6 {
					return errUnchanged
				}
				if _, err := tx.ExecContext(ctx, "INSERT INTO tried (n) VALUES ($1)", i+1); err != nil {
					return err
				}
				switch i {
				case 1:
					return fmt.Errorf("%w: %w", ErrConflict, own)
				case 2:
					_, err := tx.ExecContext(ctx, "INSERT INTO tried (n) VALUES ($1)", i+1) // again
					return err
				case 3:
					panic("in a change")
				}
				return nil
			})
		})
	}
	s.waits(len(errs))
	leave()
	s.waits(len(errs) - 1)
	close(s.count.hold)
	others.Wait()
	if err := <-s.first; err != nil {
		t.Error(err)
	}
	for i, err := range errs {
		switch want := map[int]error{1: own, 2: ErrExists, 4: context.Canceled}[i]; {
		case want == nil && err != nil, want != nil && !errors.Is(err, want):
			t.Errorf("%d: %v, want %v", i, err, want)
		}
	}
	if panicked != "in a change" {
		t.Errorf("its caller has seen the panic %v", panicked)
	}
	s.has(11, 2, 3, 4, 5, 7)
}

// What is wrong with the database is told to all, once.
func TestChangesOfADatabaseThatFails(t *testing.T) {
	s := newSharing(t)
	const many = 5
	var others sync.WaitGroup
	for i := range many {
		others.Go(func() {
			err := s.share(t.Context(), func(context.Context, *sql.Tx) error { return ErrUnreachable })
			if !errors.Is(err, ErrUnreachable) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	s.waits(many)
	close(s.count.hold)
	others.Wait()
	if err := <-s.first; err != nil {
		t.Error(err)
	}
	if n := s.count.begun.Load(); n != 2 {
		t.Errorf("%d transactions, want 2", n)
	}
}

// A transaction ends when nobody waits for it any more.
func TestChangesForNobody(t *testing.T) {
	s := newSharing(t)
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{}, 2)
	var others sync.WaitGroup
	for i := range 2 {
		others.Go(func() {
			err := s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
				begun <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	s.waits(2)
	close(s.count.hold)
	<-begun
	cancel()
	others.Wait()
	if err := <-s.first; err != nil {
		t.Error(err)
	}
	if err := s.add(t.Context(), 1); err != nil {
		t.Error(err)
	}
	s.has(2)
}
