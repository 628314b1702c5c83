package pinops

import (
	"errors"
	"unsafe"

	"keyd/dukpt/software"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// memory is the locked memory of a session.
type memory struct {
	lanes   [maxLanes]workspace
	in, out [MaxBatch * 16]byte // blocks of one token call
	tdes    software.TDESKey    // of the lane that is being worked on
	room    [RoomSize]byte      // of who has PINs opened
}

// It must fit.
const _ = uint(token.ScratchSize - unsafe.Sizeof(memory{}))

// batch is what is carried out on one session.
type batch struct {
	*Engine
	session *token.Session
	memory  *memory
	lanes   []*lane
	failed  error // the first error of the token

	opening  bool // for PIN records: every lane is inModule
	composes bool // PINs are objects of the session
}

func newBatch(e *Engine, s *token.Session, lanes []*lane) *batch {
	return &batch{Engine: e, session: s, memory: (*memory)(unsafe.Pointer(&s.Scratch()[0])), lanes: lanes}
}

// run takes the lanes through every step together. A lane that has failed takes part
// in no further step.
func (b *batch) run() {
	for i, l := range b.lanes {
		l.workspace = &b.memory.lanes[i]
		b.open(l)
	}
	defer b.release()
	b.deriveIncoming()
	b.each(way.open)
	b.each(way.choose)
	b.bind()
	b.settle()
	b.count()
	b.settle()
	b.deriveOutgoing()
	b.each(way.close)
	b.compare()
	b.settle()
	b.answer()
}

// each takes a step in every way that lanes go.
func (b *batch) each(step func(way, *batch)) {
	step(inModule{}, b)
	if b.composes {
		step(b.inside, b)
	}
}

// going returns the lanes that have not failed.
func (b *batch) going(yield func(*lane) bool) {
	for _, l := range b.lanes {
		if l.err == nil && !yield(l) {
			return
		}
	}
}

// of returns those of them that go a way.
func (b *batch) of(w way) func(yield func(*lane) bool) {
	return func(yield func(*lane) bool) {
		for l := range b.going {
			if l.way == w && !yield(l) {
				return
			}
		}
	}
}

// settle ends the changes of which one lane has ended.
func (b *batch) settle() {
	for _, l := range b.lanes {
		l.settle()
	}
}

// fail ends a lane, and remembers an error of the token for the session's sake. The
// first error stands: a refusal does not become a reason to try again.
func (b *batch) fail(l *lane, err error) {
	if l.err == nil {
		l.err = err
	}
	var failed *token.Error
	if b.failed == nil && errors.As(err, &failed) {
		b.failed = err
	}
}

// open unseals the lane's keys and checks everything that can be checked without the
// block.
func (b *batch) open(l *lane) {
	if l.phone != nil {
		b.pick(l)
		if err := l.checkPhone(); err != nil {
			b.fail(l, err)
		}
		return
	}
	named := [3]*hsm.Key{pinKey(l.in), pinKey(l.out), l.pvk}
	for i, into := range l.keys() {
		if named[i] == nil {
			continue
		}
		k, err := b.keys.Open(b.session, *named[i])
		if err != nil {
			b.fail(l, err)
			return
		}
		*into = k
	}
	b.pick(l)
	if err := l.check(); err != nil {
		b.fail(l, err)
		return
	}
	b.composes = b.composes || l.way == b.inside
}

func pinKey(k *hsm.PINKey) *hsm.Key {
	if k == nil {
		return nil
	}
	return &k.Key
}

func (l *lane) keys() [3]*sealing.Key { return [3]*sealing.Key{&l.inKey, &l.outKey, &l.pvkKey} }

// release gives back what the lanes hold. The workspaces are the session's to wipe. Where PINs were
// objects of the session everything in it goes at once.
func (b *batch) release() {
	if b.composes {
		if err := b.session.Forget(); err != nil {
			for _, l := range b.lanes {
				b.fail(l, err)
			}
		}
	}
	for _, l := range b.lanes {
		for _, c := range []*cipher{&l.incoming, &l.outgoing} {
			if c.derived && !b.composes {
				if err := b.session.Destroy(c.object); err != nil {
					b.fail(l, err)
				}
			}
			*c = cipher{}
		}
		for _, k := range l.keys() {
			k.Release()
		}
	}
}

// answer writes the answers of the lanes that came through.
func (b *batch) answer() {
	for l := range b.going {
		switch l.task {
		case translates:
			l.op.Translated = hsm.TranslatedPIN{Block: l.outBlock(), CheckValue: l.outKey.Header.CheckValue, Custody: l.custody()}
		case verifies:
			l.op.Verified = hsm.VerifiedPIN{Verified: l.verified, Custody: l.custody()}
		case generates:
			l.op.Generated = hsm.GeneratedPIN{Block: l.outBlock(), Datum: l.datum, Custody: l.custody()}
		case verifiesCurrent:
			l.op.Changed = hsm.ChangedPIN{Verified: l.verified, Custody: l.custody()}
			if l.verified {
				l.op.Changed.Datum = l.partner.datum
			}
		}
	}
}

func (l *lane) outBlock() []byte {
	return append([]byte(nil), l.block[:l.out.Format.BlockSize()]...)
}
