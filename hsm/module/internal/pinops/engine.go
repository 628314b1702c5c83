package pinops

import (
	"errors"
	"time"
	"unsafe"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
)

// MaxBatch is how many operations are carried out together at most: beyond it a token
// call costs what its blocks cost (SoftHSM: 18 µs for one block, 26 for 16, 46 for 64).
const MaxBatch = 64

// Engine carries out PIN operations with a token. It is safe for concurrent use: each
// batch has a session of its own.
type Engine struct {
	token   *token.Token
	keys    *sealing.Cache
	derived *token.Kept[derivation, struct{}]
	tries   *velocity.Table
	now     func() time.Time
}

// NewEngine returns an engine that keeps at most derived AES DUKPT keys in the token.
// Tries are limited by the table, if there is one. now is the clock by which keys are
// valid.
func NewEngine(t *token.Token, keys *sealing.Cache, derived int, tries *velocity.Table, now func() time.Time) *Engine {
	return &Engine{token: t, keys: keys, derived: token.NewKept[derivation, struct{}](t, derived), tries: tries, now: now}
}

// Derived returns the number of derived keys that are kept.
func (e *Engine) Derived() int { return e.derived.Len() }

// Operation is one request to an engine and, afterwards, its outcome. Exactly one of
// Translate and Verify is set.
type Operation struct {
	Translate *hsm.TranslatePIN
	Verify    *hsm.VerifyPIN

	Translated hsm.TranslatedPIN
	Verified   hsm.VerifiedPIN
	Err        error // a refusal, or a token's error; the answer is zero then
}

// lane is an operation on its way. What is clear of it lies in its workspace.
type lane struct {
	*workspace
	op   *Operation
	err  error // why it goes no further
	pan  pinblock.PAN
	keys [2]sealing.Key // incoming; outgoing or verification

	incoming, outgoing cipher
	rule               pinverify.IBM3624 // IBM 3624 verifications only
	counted            bool              // by Limits: once, even if the token has to be asked again
}

// workspace is what is clear during one operation. It lies in the session's locked
// memory, which is wiped when the batch ends.
type workspace struct {
	block   [16]byte // as it came or as it goes
	middle  [16]byte // format 4: between the two layers
	plain   [16]byte // clear block, or PIN field of format 4
	pin     [pinblock.PINSize]byte
	random  [pinblock.RandomSize]byte
	ik      [16]byte // TDES DUKPT initial key
	working [16]byte // TDES DUKPT working key
	verify  verifyWorkspace
}

// memory is the locked memory of a session.
type memory struct {
	lanes   [MaxBatch]workspace
	in, out [MaxBatch * 16]byte // blocks of one token call
	tdes    software.TDESKey    // of the lane that is being worked on
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
}

// Run carries out operations together, at most [MaxBatch]: one token call serves all
// blocks that go the same way under the same key. Each ends with an answer or an error
// of its own. When the token lost the session or the objects in it, they are made anew
// and what failed by that is run once more.
func (e *Engine) Run(ops ...*Operation) {
	lanes := make([]lane, len(ops))
	pending := make([]*lane, 0, len(ops))
	for i, op := range ops {
		lanes[i].op = op
		if lanes[i].shape(); lanes[i].err == nil {
			pending = append(pending, &lanes[i])
		}
	}
	for attempt := 0; len(pending) > 0; attempt++ {
		generation := e.token.Generation()
		failed := e.token.Do(func(s *token.Session) error {
			b := &batch{Engine: e, session: s, memory: (*memory)(unsafe.Pointer(&s.Scratch()[0])), lanes: pending}
			b.run()
			return b.failed
		})
		again := pending[:0:0]
		if failed != nil && attempt == 0 {
			for _, l := range pending {
				if lost(l.err) {
					again = append(again, l)
				}
			}
		}
		if pending = again; len(pending) == 0 {
			break
		}
		err := e.token.Renew(generation) // the session may be the keeper
		for _, l := range pending {
			l.err = err
		}
		if err != nil {
			break
		}
	}
	for i := range lanes {
		if l := &lanes[i]; l.err != nil {
			l.op.Translated, l.op.Verified, l.op.Err = hsm.TranslatedPIN{}, hsm.VerifiedPIN{}, l.err
		}
	}
}

// lost reports whether an error says that sessions or objects have to be made anew.
func lost(err error) bool {
	if err == nil {
		return false
	}
	switch token.ClassOf(err) {
	case token.HandleStale, token.SessionDead:
		return true
	}
	return false
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
	b.decipher()
	b.decode()
	b.count()
	b.deriveOutgoing()
	b.encode()
	b.encipher()
	b.compare()
}

// going returns the lanes that have not failed.
func (b *batch) going(yield func(*lane) bool) {
	for _, l := range b.lanes {
		if l.err == nil && !yield(l) {
			return
		}
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
	var named [2]hsm.Key
	if t := l.op.Translate; t != nil {
		named = [2]hsm.Key{t.Incoming.Key, t.Outgoing.Key}
	} else {
		named = [2]hsm.Key{l.op.Verify.Incoming.Key, l.op.Verify.Verification}
	}
	for i, name := range named {
		k, err := b.unseal(name)
		if err != nil {
			b.fail(l, err)
			return
		}
		l.keys[i] = k
	}
	if err := l.check(); err != nil {
		b.fail(l, err)
	}
}

// unseal opens a key and checks that it is valid now.
func (b *batch) unseal(key hsm.Key) (sealing.Key, error) {
	k, err := b.keys.Open(b.session, key.Name, key.Sealed)
	if err != nil {
		return k, err
	}
	if !k.Header.ValidAt(b.now()) {
		k.Release()
		return k, fault.New(fault.KeyDisabled, "")
	}
	return k, nil
}

// release gives back what the lanes hold. The workspaces are the session's to wipe.
func (b *batch) release() {
	for _, l := range b.lanes {
		for _, c := range []*cipher{&l.incoming, &l.outgoing} {
			if c.derived {
				if err := b.session.Destroy(c.object); err != nil {
					b.fail(l, err)
				}
			}
			*c = cipher{}
		}
		for i := range l.keys {
			l.keys[i].Release()
		}
	}
}

// input is the lane's incoming key, format and block.
func (l *lane) input() (*hsm.PINKey, []byte) {
	if t := l.op.Translate; t != nil {
		return &t.Incoming, t.Block
	}
	return &l.op.Verify.Incoming, l.op.Verify.Block
}

// shape parses the PAN that the formats are bound to. Format 1 is bound to none.
func (l *lane) shape() {
	text, needed := "", true
	if t := l.op.Translate; t != nil {
		text, needed = t.PAN, t.Incoming.Format != hsm.Format1 || t.Outgoing.Format != hsm.Format1
	} else {
		text = l.op.Verify.PAN
	}
	if text == "" && !needed {
		return
	}
	var err error
	if l.pan, err = pinblock.ParsePAN(text); err != nil {
		l.err = fault.New(fault.RequestInvalid, "primary_account_number: 1 to 19 digits")
	}
}

// check applies the rules, in their order.
func (l *lane) check() error {
	in := l.keys[0].Header
	var checks []error
	if t := l.op.Translate; t != nil {
		out := l.keys[1].Header
		checks = []error{
			checkKSN(in, &t.Incoming),
			checkKSN(out, &t.Outgoing),
			checkPINKey(in, &t.Incoming, deciphers),
			checkPINKey(out, &t.Outgoing, enciphers),
			checkTranslation(t.Incoming.Format, t.Outgoing.Format),
			checkPeers(in, out),
		}
	} else {
		v := l.op.Verify
		checks = []error{
			checkKSN(in, &v.Incoming),
			checkPINKey(in, &v.Incoming, deciphers),
			checkPVK(l.keys[1].Header, v),
			checkVerification(v.Incoming.Format),
		}
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	if l.op.Translate != nil && l.op.Translate.KSNRefused || l.op.Verify != nil && l.op.Verify.KSNRefused {
		return fault.New(fault.KSNReplayed, "")
	}
	if l.op.Verify != nil {
		return l.prepareRule()
	}
	return nil
}

// isDUKPT reports whether a key is a BDK of a scheme.
func isDUKPT(k *sealing.Key, scheme dukpt.Scheme) bool {
	return k.Header.Usage == "B0" && (k.Header.Algorithm == "T") == (scheme == dukpt.TDES)
}
