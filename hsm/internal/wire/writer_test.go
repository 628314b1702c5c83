package wire

import (
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sink notes when it was written to, and how much.
type sink struct {
	mu   sync.Mutex
	at   []time.Time
	size []int
	fail error
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.at, s.size = append(s.at, time.Now()), append(s.size, len(p))
	return len(p), nil
}

// TestFlushesOfABusyWriterKeepTheirDistance sends frames alone, then at ten a
// millisecond, then alone again, by the test's own clock.
func TestFlushesOfABusyWriterKeepTheirDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		w := NewWriter(s, Spacing, func(error) {})
		send := func(n int, pause time.Duration) {
			t.Helper()
			for range n {
				if err := w.Send(t.Context(), &Buffer{make([]byte, 10)}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				time.Sleep(pause)
			}
		}
		began := time.Now()
		send(10, 2*time.Millisecond)
		if len(s.at) != 10 {
			t.Errorf("10 frames that came alone took %d flushes", len(s.at))
		}
		for i, at := range s.at {
			if at.Sub(began) != time.Duration(i)*2*time.Millisecond {
				t.Errorf("frame %d that came alone was flushed after %v", i, at.Sub(began))
			}
		}
		s.at, s.size = nil, nil
		send(500, 100*time.Microsecond)
		time.Sleep(time.Second)
		total := 0
		for i, n := range s.size {
			total += n
			if i > 20 && s.at[i].Sub(s.at[i-1]) < Spacing {
				t.Errorf("flushes %v apart", s.at[i].Sub(s.at[i-1]))
			}
		}
		if total != 5000 || len(s.size) > 130 {
			t.Errorf("%d bytes in %d flushes, want 5000 in about a hundred", total, len(s.size))
		}
		s.at = nil
		before := time.Now()
		send(1, 0)
		if len(s.at) != 1 || s.at[0] != before {
			t.Errorf("a frame that comes alone afterwards waits")
		}
		w.Close()
	})
}

func TestWriterEndsWithItsChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, spacing := range []time.Duration{0, Spacing} {
			broken := make(chan error, 1)
			w := NewWriter(&sink{fail: io.ErrClosedPipe}, spacing, func(err error) { broken <- err })
			if err := w.Send(t.Context(), &Buffer{[]byte{1}}); err != nil {
				t.Fatal(err)
			}
			if err := <-broken; !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("broken by %v", err)
			}
			if err := w.TrySend(&Buffer{[]byte{1}}); !errors.Is(err, ErrClosed) {
				t.Errorf("after that: %v", err)
			}
		}
	})
}
