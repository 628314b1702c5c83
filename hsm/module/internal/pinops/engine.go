package pinops

import (
	"slices"

	"keyd/dukpt"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinobjects"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/working"
)

// MaxBatch is how many operations are carried out together at most: beyond it a token
// call costs what its blocks cost (SoftHSM: 18 µs for one block, 26 for 16, 46 for 64).
const MaxBatch = 64

// maxLanes is the number of PINs that can be on their way in a batch: a change has two,
// and the last operation that was taken into it may be one.
const maxLanes = MaxBatch + 1

// Engine carries out PIN operations with a token. It is safe for concurrent use: each
// batch has a session of its own.
type Engine struct {
	keys   *working.Keys
	tries  *tries.Tries
	inside inToken

	byModule bool // no lane goes inside
	keeps    bool // some operations stay in the token
}

// NewEngine returns an engine that uses keys and counts tries.
func NewEngine(keys *working.Keys, tries *tries.Tries) *Engine {
	e := &Engine{keys: keys, tries: tries, inside: inToken{pinobjects.New(keys.Token()), keys.Token().Steps()}}
	e.keeps = slices.ContainsFunc(e.Custodies(), func(c hsm.OperationCustody) bool { return c.Custody == hsm.InToken })
	return e
}

// ByModule returns the same engine, but for its ways: every PIN is in the module's memory. It is there to
// compare with.
func (e *Engine) ByModule() *Engine {
	fresh := *e
	fresh.byModule, fresh.keeps = true, false
	return &fresh
}

// Alone reports whether token calls are made for an operation that serve no other one in its batch, as far as can be told before
// its keys are unsealed: the token derives keys for it (AES DUKPT), or its PINs may stay in the token.
func (e *Engine) Alone(op *Operation) bool {
	var keys [2]*hsm.PINKey
	var ibm *hsm.IBM3624
	switch {
	case op.Translate != nil:
		keys = [2]*hsm.PINKey{&op.Translate.Incoming, &op.Translate.Outgoing}
	case op.Verify != nil:
		keys[0], ibm = &op.Verify.Incoming, op.Verify.IBM3624
	case op.Generate != nil:
		keys[0], ibm = &op.Generate.Outgoing, op.Generate.IBM3624
	default:
		keys, ibm = [2]*hsm.PINKey{&op.Change.Incoming, &op.Change.NewIncoming}, op.Change.IBM3624
	}
	sides, inside := 0, 0
	for _, k := range keys {
		switch {
		case k == nil:
			continue
		case k.KSN.Scheme() == dukpt.AES:
			return true
		case k.KSN == dukpt.KSN{} && k.Format != hsm.Format1:
			inside++
		}
		sides++
	}
	return e.keeps && ibm == nil && (inside == sides || op.Change != nil && inside > 0)
}

// Operation is one request to an engine and, afterwards, its outcome. Exactly one of
// Translate, Verify, Generate and Change is set.
type Operation struct {
	Translate *hsm.TranslatePIN
	Verify    *hsm.VerifyPIN
	Generate  *hsm.GeneratePIN
	Change    *hsm.ChangePIN

	Translated hsm.TranslatedPIN
	Verified   hsm.VerifiedPIN
	Generated  hsm.GeneratedPIN
	Changed    hsm.ChangedPIN
	Err        error // a refusal, or a token's error; the answer is zero then
}

// Lanes is how many of a batch's lanes the operation takes.
func (op *Operation) Lanes() int {
	if op.Change != nil {
		return 2
	}
	return 1
}

// fail ends the operation without an answer.
func (op *Operation) fail(err error) {
	op.Translated, op.Verified = hsm.TranslatedPIN{}, hsm.VerifiedPIN{}
	op.Generated, op.Changed = hsm.GeneratedPIN{}, hsm.ChangedPIN{}
	op.Err = err
}

// Run carries out operations together, of at most [MaxBatch] lanes and one: one token call
// serves all blocks that go the same way under the same key. Each ends with an answer or
// an error of its own. When the token lost the session or the objects in it, they are made
// anew and what failed by that is run once more.
func (e *Engine) Run(ops ...*Operation) {
	lanes := make([]lane, 0, maxLanes)
	for _, op := range ops {
		lanes = op.lanes(lanes)
	}
	for i := range lanes {
		lanes[i].pair(lanes)
	}
	pending := make([]*lane, 0, len(lanes))
	for i := range lanes {
		if lanes[i].settle(); lanes[i].err == nil {
			pending = append(pending, &lanes[i])
		}
	}
	for attempt := 0; len(pending) > 0; attempt++ {
		generation := e.keys.Token().Generation()
		failed := e.keys.Token().Do(func(s *token.Session) error {
			b := newBatch(e, s, pending)
			b.run()
			return b.failed
		})
		again := pending[:0:0]
		if failed != nil && attempt == 0 {
			for _, l := range pending {
				if working.Lost(l.err) {
					again = append(again, l)
				}
			}
		}
		if pending = again; len(pending) == 0 {
			break
		}
		err := e.keys.Token().Renew(generation) // the session may be the keeper
		for _, l := range pending {
			l.err = err
		}
		if err != nil {
			break
		}
	}
	for i := range lanes {
		if l := &lanes[i]; l.err != nil {
			l.op.fail(l.err)
		}
	}
}
