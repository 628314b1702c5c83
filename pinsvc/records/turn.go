package records

import (
	"context"
	"slices"
	"sync"

	"keyd/pinrecord"
)

// turns lets one request at a time try a subject's PIN in this process. Right PINs that come together,
// more than there are tries, would else be answered like wrong ones. Nothing depends on it but that:
// tries are counted in the database.
type turns struct {
	mu sync.Mutex
	of map[string]*turn // by the digest of the subject
}

// turn is of one subject, as long as somebody has it or waits for it.
type turn struct {
	free chan struct{} // holds one value while nobody has it
	want int           // who has it, and who waits
}

// take waits for a subject's turn, and returns what ends it. Its error is ctx's.
func (t *turns) take(ctx context.Context, digest string) (end func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = make(map[string]*turn)
	}
	mine := t.of[digest]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		t.of[digest] = mine
	}
	mine.want++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.want--; mine.want == 0 {
			delete(t.of, digest)
		}
	}
	select {
	case <-mine.free:
		return func() { mine.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// Turn waits until no other request of this front tries the PINs of subjects, and returns what ends
// the turn. Whoever calls [Service.Attempt] has one. Unknown subjects have turns as well. Its error
// is ctx's.
func (s *Service) Turn(ctx context.Context, subjects ...*pinrecord.Subject) (end func(), err error) {
	var digests []string
	for _, subject := range subjects {
		digests = append(digests, string(digestOf(subject)))
	}
	slices.Sort(digests) // in one order, so that two never wait for each other
	var ends []func()
	end = func() {
		for _, e := range slices.Backward(ends) {
			e()
		}
	}
	for _, digest := range slices.Compact(digests) {
		e, err := s.turns.take(ctx, digest)
		if err != nil {
			end()
			return nil, err
		}
		ends = append(ends, e)
	}
	return end, nil
}
