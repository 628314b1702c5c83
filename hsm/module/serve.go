package module

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
)

// server carries out the closed set of operations for fronts.
type server struct {
	current  net.Conn       // the front's channel: there is one
	busy     []atomic.Int64 // per worker: Unix nanoseconds at which its batch began; 0: idle
	engines  engines
	describe func() *wire.Description
	log      *slog.Logger
	dead     func(error) // ends the process

	store softhsm.Store
	work  chan job
}

type job struct {
	frame wire.Frame
	out   *wire.Writer

	operation
	answer proto.Message
	err    error
}

// newServer starts as many workers as the token has sessions.
func newServer(engines engines, workers int, describe func() *wire.Description, log *slog.Logger, dead func(error)) *server {
	s := &server{engines: engines, describe: describe, log: log, dead: dead, work: make(chan job, 4*pinops.MaxBatch), busy: make([]atomic.Int64, workers)}
	for i := range workers {
		go s.worker(&s.busy[i])
	}
	return s
}

// stuck reports whether a job has been with a worker for longer than limit.
func (s *server) stuck(limit time.Duration) bool {
	now := time.Now().UnixNano()
	for i := range s.busy {
		if since := s.busy[i].Load(); since != 0 && now-since > int64(limit) {
			return true
		}
	}
	return false
}

// attach serves the front behind a new channel in place of the one before: a front
// that has been replaced must not be served on. Channels are attached by one goroutine,
// in the order in which they come, so that the newest stays.
func (s *server) attach(conn net.Conn) {
	if s.current != nil {
		_ = s.current.Close() // nobody is left to tell
	}
	s.current = conn
	go s.serve(conn)
}

// serve reads requests from a front until the channel ends. What is no frame ends it.
func (s *server) serve(conn net.Conn) {
	out := wire.NewWriter(conn, 0, func(error) { _ = conn.Close() })
	defer func() { _ = conn.Close() }()
	defer out.Close()
	in := bufio.NewReaderSize(conn, 64<<10)
	for {
		frame, err := wire.Read(in)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.log.Error("front sent what is no frame; its channel is closed", "error", err)
			}
			return
		}
		select {
		case s.work <- job{frame: frame, out: out}:
		case <-out.Done():
			return
		}
	}
}

// worker carries out what is queued together, up to a full batch.
func (s *server) worker(busy *atomic.Int64) {
	jobs := make([]job, 0, pinops.MaxBatch)
	for first := range s.work {
		busy.Store(time.Now().UnixNano())
		jobs = append(jobs[:0], first)
		runtime.Gosched() // to let the reader queue what has come with it
		for work := s.begin(&jobs[0]); work < pinops.MaxBatch; {
			select {
			case j := <-s.work:
				jobs = append(jobs, j)
				work += s.begin(&jobs[len(jobs)-1])
				continue
			default:
			}
			break
		}
		for i := range jobs {
			if jobs[i].frame.Op == wire.OpCarryOut {
				busy.Add(int64(hsm.CarryOutTime)) // it may take so much longer
				break
			}
		}
		s.do(jobs)
		clear(jobs)
		busy.Store(0)
	}
}

// do carries out a batch and answers: PIN operations together, then the others one after
// the other.
func (s *server) do(jobs []job) {
	batch := make([]*pinops.Operation, 0, len(jobs))
	for i := range jobs {
		if jobs[i].pin != nil {
			batch = append(batch, jobs[i].pin)
		}
	}
	s.engines.pins.Run(batch...)
	var answers *wire.Buffer
	for i := range jobs {
		j := &jobs[i]
		if answers == nil {
			answers = wire.NewBuffer()
		}
		switch {
		case j.pin != nil:
			j.answer, j.err = pinAnswer(j.pin), j.pin.Err
		case j.other != nil:
			j.answer, j.err = j.other()
		}
		kind := wire.OpAnswer
		if j.err != nil {
			kind, j.answer = wire.OpFailure, s.failure(j.err)
		}
		if err := answers.Append(j.frame.ID, kind, j.answer); err != nil {
			s.log.Error("answer cannot be encoded", "error", err)
		}
		// Answers to one front go out together.
		if i+1 == len(jobs) || jobs[i+1].out != j.out {
			s.send(j.out, answers)
			answers = nil
		}
	}
}

// send never waits for a front: one that does not read loses its channel.
func (s *server) send(out *wire.Writer, frames *wire.Buffer) {
	if errors.Is(out.TrySend(frames), wire.ErrFull) {
		s.log.Error("the front does not read its answers; its channel is closed")
		out.Break()
	}
}

// failure turns an error into what the front may know of it.
func (s *server) failure(err error) *wire.Failure {
	var refusal *fault.Error
	if errors.As(err, &refusal) {
		return &wire.Failure{Reason: uint32(refusal.Reason), Detail: refusal.Detail()}
	}
	var failed *token.Error
	if !errors.As(err, &failed) {
		s.log.Error("operation failed", "error", err)
		return &wire.Failure{Reason: uint32(fault.Internal)}
	}
	s.log.Error("token call failed", "error", err)
	switch failed.Class() {
	case token.Busy:
		return &wire.Failure{Reason: uint32(fault.ModuleUnavailable)}
	case token.TokenDead, token.LoginFailed, token.SessionDead, token.HandleStale:
		// Sessions and handles were made anew once already (pinops): what is still
		// stale then, the master keys for one, only another process can mend.
		s.dead(err)
		return &wire.Failure{Reason: uint32(fault.ModuleUnavailable)}
	}
	return &wire.Failure{Reason: uint32(fault.Internal)}
}
