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

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/token"
)

// server carries out the closed set of operations for fronts.
type server struct {
	current  net.Conn       // the front's channel: there is one
	busy     []atomic.Int64 // per worker: Unix nanoseconds at which its batch began; 0: idle
	engine   *pinops.Engine
	describe func() *wire.Description
	log      *slog.Logger
	dead     func(error) // ends the process
	work     chan job
}

type job struct {
	frame wire.Frame
	out   *wire.Writer

	operation *pinops.Operation // nil where it is none
	answer    proto.Message
	err       error
}

// newServer starts as many workers as the token has sessions.
func newServer(engine *pinops.Engine, workers int, describe func() *wire.Description, log *slog.Logger, dead func(error)) *server {
	s := &server{engine: engine, describe: describe, log: log, dead: dead, work: make(chan job, 4*pinops.MaxBatch), busy: make([]atomic.Int64, workers)}
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
		s.do(jobs)
		clear(jobs)
		busy.Store(0)
	}
}

// do carries out a batch and answers.
func (s *server) do(jobs []job) {
	batch := make([]*pinops.Operation, 0, len(jobs))
	for i := range jobs {
		if jobs[i].operation != nil {
			batch = append(batch, jobs[i].operation)
		}
	}
	s.engine.Run(batch...)
	var answers *wire.Buffer
	for i := range jobs {
		j := &jobs[i]
		if answers == nil {
			answers = wire.NewBuffer()
		}
		if j.operation != nil {
			j.answer, j.err = answer(j.operation), j.operation.Err
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

// derivationWork is what an operation under AES DUKPT counts for in a batch: the token
// derives for each by itself, so that together they are no faster, and others would wait.
const derivationWork = 8

// begin is the whole interface of the boundary. It decodes a PIN operation for a batch,
// or answers something else, and returns for how many operations the job counts. There
// is no operation that returns a clear PIN, a clear PIN block or a clear key.
func (s *server) begin(j *job) (work int) {
	j.operation, j.answer, j.err = s.interpret(j.frame)
	if o := j.operation; o != nil && (o.Translate != nil && (derives(&o.Translate.Incoming) || derives(&o.Translate.Outgoing)) || o.Verify != nil && derives(&o.Verify.Incoming)) {
		return derivationWork
	}
	return 1
}

func derives(k *hsm.PINKey) bool { return k.KSN.Scheme() == dukpt.AES }

func (s *server) interpret(f wire.Frame) (*pinops.Operation, proto.Message, error) {
	switch f.Op {
	case wire.OpTranslatePIN:
		var m wire.TranslatePin
		if err := f.Decode(&m); err != nil {
			return nil, nil, malformed
		}
		request, err := translatePIN(&m)
		if err != nil {
			return nil, nil, err
		}
		return &pinops.Operation{Translate: &request}, nil, nil
	case wire.OpVerifyPIN:
		var m wire.VerifyPin
		if err := f.Decode(&m); err != nil {
			return nil, nil, malformed
		}
		request, err := verifyPIN(&m)
		if err != nil {
			return nil, nil, err
		}
		return &pinops.Operation{Verify: &request}, nil, nil
	case wire.OpResetTries:
		var m wire.ResetTries
		if err := f.Decode(&m); err != nil {
			return nil, nil, malformed
		}
		return nil, &wire.TriesReset{}, s.resetTries(&m)
	case wire.OpDescribe:
		return nil, s.describe(), nil
	}
	return nil, nil, malformed
}

// answer is the message of an operation's outcome.
func answer(op *pinops.Operation) proto.Message {
	if op.Translate != nil {
		t := op.Translated
		return &wire.TranslatedPin{Block: t.Block, CheckValue: t.CheckValue, Custody: uint32(t.Custody)}
	}
	return &wire.VerifiedPin{Verified: op.Verified.Verified, Custody: uint32(op.Verified.Custody)}
}

var malformed = fault.New(fault.RequestInvalid, "")

// The functions below check the shape of what a front sent. The front did so too, but
// it may have been taken over.

func translatePIN(m *wire.TranslatePin) (r hsm.TranslatePIN, err error) {
	if r.Incoming, err = pinKey(m.Incoming); err != nil {
		return r, err
	}
	if r.Outgoing, err = pinKey(m.Outgoing); err != nil {
		return r, err
	}
	r.PAN, r.Block, r.KSNRefused = m.Pan, m.Block, m.KsnRefused
	if len(r.Block) != r.Incoming.Format.BlockSize() {
		return r, malformed
	}
	return r, nil
}

func verifyPIN(m *wire.VerifyPin) (r hsm.VerifyPIN, err error) {
	if r.Incoming, err = pinKey(m.Incoming); err != nil {
		return r, err
	}
	if r.Verification, err = key(m.Verification); err != nil {
		return r, err
	}
	r.PAN, r.Block, r.KSNRefused = m.Pan, m.Block, m.KsnRefused
	if len(r.Block) != r.Incoming.Format.BlockSize() {
		return r, malformed
	}
	switch expected := m.Expected.(type) {
	case *wire.VerifyPin_VisaPvv:
		v := expected.VisaPvv
		if v == nil || v.KeyIndex > 9 || !digits(v.Pvv, 4, 4) {
			return r, malformed
		}
		r.VisaPVV = &hsm.VisaPVV{KeyIndex: uint8(v.KeyIndex), PVV: v.Pvv}
	case *wire.VerifyPin_Ibm3624:
		v := expected.Ibm3624
		if v == nil || !digits(v.Offset, 4, 12) {
			return r, malformed
		}
		r.IBM3624 = &hsm.IBM3624{Offset: v.Offset}
	default:
		return r, malformed
	}
	return r, nil
}

func pinKey(m *wire.PinKey) (p hsm.PINKey, err error) {
	if m == nil || m.Format > uint32(hsm.Format4) || m.WorkingType > uint32(hsm.WorkingAES256) {
		return p, malformed
	}
	if p.Key, err = key(m.Key); err != nil {
		return p, err
	}
	if len(m.Ksn) > 0 {
		if p.KSN, err = dukpt.ParseKSN(m.Ksn); err != nil {
			return p, fault.New(fault.KSNInvalid, "")
		}
	}
	p.WorkingType, p.Format = hsm.WorkingType(m.WorkingType), hsm.Format(m.Format)
	return p, nil
}

func key(m *wire.SealedKey) (hsm.Key, error) {
	if m == nil || m.Name == "" || len(m.Sealed) > hsm.MaxSealedSize {
		return hsm.Key{}, malformed
	}
	return hsm.Key{Name: m.Name, Sealed: m.Sealed}, nil
}

func digits(s string, least, most int) bool {
	if len(s) < least || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
