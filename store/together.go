package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// together has changes share commits: those that come while one is under way have the next one, all
// of them. What a commit costs, an fdatasync or a trip to the server's disk, is then the same for one
// and for many, and nobody waits who is alone.
//
// Each change is as durable, and as much alone, as in a transaction of its own: it sees what those
// before it have changed, and is acknowledged when the commit is. One that fails takes nothing with
// it: everything is undone, and each is carried out by itself.
type together struct {
	mu      sync.Mutex
	waiting []*member
	running bool
}

// member is a change on its way.
type member struct {
	ctx      context.Context
	do       func(context.Context, *sql.Tx) error
	err      error
	panicked any // what do has panicked with, for its caller
	done     chan struct{}
}

// mostTogether bounds how much one failure undoes, and how long the others wait.
const mostTogether = 64

// errPanicked stands for a panic until its caller has it.
var errPanicked = fmt.Errorf("%w: a change has panicked", ErrFailed)

// share carries out do as [engine.transaction] does, perhaps in one transaction with others. do uses
// the context that it is given, and returns [errUnchanged] only while it has written nothing. It may
// be called several times.
func (s *tables) share(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	if ctx.Err() != nil {
		return s.fail(ctx.Err())
	}
	m := &member{ctx: ctx, do: do, done: make(chan struct{})}
	g := &s.together
	g.mu.Lock()
	g.waiting = append(g.waiting, m)
	if !g.running {
		g.running = true
		go s.carryOut()
	}
	g.mu.Unlock()
	select {
	case <-m.done:
	case <-ctx.Done():
		if g.leave(m) {
			return s.fail(ctx.Err())
		}
		<-m.done // it has begun, and ends soon: each transaction has a limit of its own
	}
	if m.panicked != nil {
		panic(m.panicked)
	}
	return m.err
}

// leave takes a member back that has not begun.
func (g *together) leave(m *member) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, other := range g.waiting {
		if other == m {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// next takes those who wait, and reports whether there are any.
func (g *together) next() (all []*member, more bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), mostTogether)
	all, g.waiting = g.waiting[:n:n], g.waiting[n:]
	if n == 0 {
		g.waiting, g.running = nil, false
	}
	return all, n > 0
}

// carryOut works until nobody waits.
func (s *tables) carryOut() {
	for {
		all, more := s.together.next()
		if !more {
			return
		}
		if len(all) == 1 || !s.asOne(all) {
			for _, m := range all {
				s.alone(m)
			}
		}
		for _, m := range all {
			close(m.done)
		}
	}
}

// alone carries out one change in a transaction of its own.
func (s *tables) alone(m *member) {
	m.err = s.engine.transaction(m.ctx, func(tx *sql.Tx) error { return m.try(m.ctx, tx) })
}

// asOne carries out all in one transaction. It reports false where one of them failed and nothing was
// changed. The transaction is broken off when nobody waits for it any more.
func (s *tables) asOne(all []*member) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(all)))
	for _, m := range all {
		stop := context.AfterFunc(m.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
		defer stop()
	}
	failed := false
	err := s.engine.transaction(ctx, func(tx *sql.Tx) error {
		changed := false
		for _, m := range all {
			switch err := m.try(ctx, tx); {
			case err == nil:
				changed = true
			case !errors.Is(err, errUnchanged):
				failed = true
				return err
			}
		}
		if !changed {
			return errUnchanged
		}
		return nil
	})
	if failed && own(err) {
		return false
	}
	for _, m := range all {
		m.err = err
	}
	return true
}

// try calls do.
func (m *member) try(ctx context.Context, tx *sql.Tx) (err error) {
	m.panicked = nil
	defer func() {
		if m.panicked = recover(); m.panicked != nil {
			err = errPanicked
		}
	}()
	return m.do(ctx, tx)
}

// own reports whether an error is about one change alone, and not about the database.
func own(err error) bool {
	for _, kind := range []error{ErrNotFound, ErrExists, ErrConflict, ErrTaken, ErrInvalid, ErrCorrupt, errPanicked} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
