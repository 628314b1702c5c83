package quorum

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"keyd/ceremony"
	"keyd/checkpoint"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
	"keyd/receipt"
)

// Engine carries out ceremonies. It is safe for concurrent use.
type Engine struct {
	keys        *working.Keys
	masters     *sealing.Set
	register    *register.Register
	ledger      *ledger.Ledger // whose initial keys are
	identity    token.Pair
	public      *ecdsa.PublicKey
	fingerprint string
	development bool
}

// identityLabel is the label of a module's identity, the key with which it signs.
const identityLabel = "keyd identity"

// CreateIdentity makes the token's identity, a P-384 key pair that never leaves it, unless
// it has one.
func CreateIdentity(s *token.Session) (token.Pair, error) {
	pair, err := s.FindPair(identityLabel)
	if errors.Is(err, token.ErrNoObject) {
		return s.GenerateEC(identityLabel, elliptic.P384(), token.PairSigns)
	}
	return pair, err
}

// New returns the engine of a token that has an identity.
func New(s *token.Session, keys *working.Keys, masters *sealing.Set, r *register.Register, given *ledger.Ledger, development bool) (*Engine, error) {
	pair, err := s.FindPair(identityLabel)
	if err != nil {
		return nil, fmt.Errorf("the token's identity: %w", err)
	}
	e := &Engine{keys: keys, masters: masters, register: r, ledger: given, development: development}
	if err := e.identify(pair); err != nil {
		return nil, err
	}
	return e, nil
}

// identify gives an engine its identity.
func (e *Engine) identify(pair token.Pair) (err error) {
	public, ok := pair.Public.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("the token's identity is no ECDSA key")
	}
	e.identity, e.public = pair, public
	e.fingerprint, err = ceremony.KeyFingerprint(public)
	return err
}

// Identity returns what the module says of itself, signed ([ceremony.Identity]).
func (e *Engine) Identity(s *token.Session) (ceremony.Signed, error) {
	epoch, document, err := e.register.Document()
	if err != nil {
		return ceremony.Signed{}, err
	}
	roster, err := ceremony.Encode(&epoch.Roster)
	if err != nil {
		return ceremony.Signed{}, err
	}
	m, err := e.masters.Of(s, epoch.Generation)
	if err != nil {
		return ceremony.Signed{}, err
	}
	check, err := m.CheckValue(s)
	if err != nil {
		return ceremony.Signed{}, err
	}
	der, err := publicDER(e.public)
	if err != nil {
		return ceremony.Signed{}, err
	}
	return sign(s, e.identity, ceremony.OfIdentity, &ceremony.Identity{
		Key: der, Roster: roster, Epoch: epoch.Version, Document: document, Generation: epoch.Generation, Masters: check,
		Development: e.development, Time: e.register.Now().Unix(),
	})
}

// SignCheckpoint signs a tree of an audit log with the token's identity. The caller is sure of
// the tree. Package checkpoint says why this is no signature of anything else.
func (e *Engine) SignCheckpoint(s *token.Session, origin string, t checkpoint.Tree) ([]byte, error) {
	return checkpoint.Sign(s.Signer(e.identity), origin, t)
}

// SignReceipt signs with the token's identity that a terminal has confirmed what it was given. The
// caller has verified the receipt.
func (e *Engine) SignReceipt(s *token.Session, record *receipt.Record, r *receipt.Receipt, at int64) ([]byte, error) {
	return receipt.Sign(s.Signer(e.identity), record, r, at)
}

// PublicKey returns the identity's public key as SubjectPublicKeyInfo.
func (e *Engine) PublicKey() ([]byte, error) { return publicDER(e.public) }

// sign signs a document with the token's identity.
func sign[T any](s *token.Session, identity token.Pair, purpose ceremony.Purpose, document *T) (ceremony.Signed, error) {
	encoded, err := ceremony.Encode(document)
	if err != nil {
		return ceremony.Signed{}, err
	}
	signature, err := ceremony.Sign(s.Signer(identity), purpose, encoded)
	return ceremony.Signed{Document: encoded, Signature: signature}, err
}

// Inputs are the sealed keys that a definition names, as the front has them.
type Inputs struct {
	Under, Target *hsm.Key
	Previous      *hsm.Key // the newest version of a key that gets another one
	Register      []byte   // the register of other tokens
}

// Begin opens a ceremony for an officer who signed that this definition be carried out.
func (e *Engine) Begin(s *token.Session, encoded []byte, wish ceremony.Signed, in Inputs) (opening ceremony.Signed, err error) {
	defer func() { err = refusal(err) }()
	epoch, err := e.register.Current()
	if err != nil {
		return opening, err
	}
	d, err := ceremony.Decode[ceremony.Definition](encoded, ceremony.MaxDocument)
	if err != nil {
		return opening, err
	}
	if err := d.Validate(); err != nil {
		return opening, err
	}
	statement, officer, err := epoch.Roster.Statement(wish)
	if err != nil {
		return opening, err
	}
	roster, err := epoch.Roster.Fingerprint()
	if err != nil {
		return opening, err
	}
	o := &ceremony.Opening{
		Kind: d.Kind, Definition: ceremony.Digest(encoded), Identity: e.fingerprint, Roster: roster, Epoch: epoch.Version, Officer: officer.Name,
	}
	if err := statement.About(ceremony.Begin, o, ""); err != nil {
		return opening, err
	}
	w, err := e.look(s, epoch, d, in)
	if err != nil {
		return opening, err
	}
	if err := w.rehearse(s); err != nil {
		return opening, err
	}
	o.Need, o.CheckValue = w.need, w.checkValue
	if o.Need.Approvals > len(epoch.Roster.Officers) || d.MasterKeys == nil && o.Need.Components > len(epoch.Roster.Officers) {
		return opening, fault.New(fault.QuorumMissing, fmt.Sprintf("it takes %d components and %d approvals, the roster has %d officers",
			o.Need.Components, o.Need.Approvals, len(epoch.Roster.Officers)))
	}
	return e.open(s, epoch, o, d.ValidFor)
}

// open completes an opening with an identifier, its time and, for components, a key pair.
func (e *Engine) open(s *token.Session, epoch *ceremony.Epoch, o *ceremony.Opening, validFor int64) (ceremony.Signed, error) {
	var id [ceremony.IDSize / 2]byte
	if _, err := rand.Read(id[:]); err != nil {
		return ceremony.Signed{}, err
	}
	now := e.register.Now().Unix()
	o.ID, o.Opened, o.Expires = hex.EncodeToString(id[:]), now, now+validFor
	if o.Need.Components > 0 {
		if err := makeRoom(s, epoch, now); err != nil {
			return ceremony.Signed{}, err
		}
		pair, err := s.GenerateEC(pairLabel(o.ID, o.Expires), elliptic.P521(), token.PairAgrees)
		if err != nil {
			return ceremony.Signed{}, err
		}
		public, ok := pair.Public.(*ecdsa.PublicKey)
		if !ok {
			return ceremony.Signed{}, errors.New("the ceremony's key is no EC key")
		}
		point, err := public.ECDH()
		if err != nil {
			return ceremony.Signed{}, err
		}
		o.Key = point.Bytes()
	}
	return sign(s, e.identity, ceremony.OfOpening, o)
}

// maxPairs bounds the ceremonies with components that are open at one time: each has a key
// pair in the token.
const maxPairs = 32

const pairPrefix = "keyd ceremony "

// pairLabel names a ceremony's key pair, and says when it is of no use any more.
func pairLabel(id string, expires int64) string {
	return pairPrefix + id + " " + strconv.FormatInt(expires, 10)
}

// makeRoom destroys the key pairs of ceremonies that are over: one that has expired, or whose
// Commit did not come to it.
func makeRoom(s *token.Session, epoch *ceremony.Epoch, now int64) error {
	left, err := destroyPairs(s, over(epoch, now))
	if err == nil && left >= maxPairs {
		err = fault.New(fault.Conflict, "too many ceremonies are open: finish or abort one")
	}
	return err
}

// over returns what tells the ceremonies that are over by an epoch.
func over(epoch *ceremony.Epoch, now int64) func(id string, expires int64) bool {
	return func(id string, expires int64) bool { return now >= expires || epoch.WasDone(id) }
}

// destroyPairs destroys the key pairs of the ceremonies that are over, and returns how many
// are left.
func destroyPairs(s *token.Session, over func(id string, expires int64) bool) (left int, err error) {
	labels, err := s.PairLabels(pairPrefix)
	if err != nil {
		return 0, err
	}
	for _, label := range labels {
		id, expiry, _ := strings.Cut(strings.TrimPrefix(label, pairPrefix), " ")
		expires, err := strconv.ParseInt(expiry, 10, 64)
		if err == nil && !over(id, expires) {
			left++
			continue
		}
		if err := s.DestroyPair(label); err != nil && !errors.Is(err, token.ErrNoObject) {
			return left, err
		}
	}
	return left, nil
}

// Check says whether the papers are good so far, and returns the check value of the whole
// key where there is one: once all components are there, or the key block is known.
func (e *Engine) Check(s *token.Session, p *ceremony.Proceedings, in Inputs) (checkValue string, err error) {
	defer func() { err = refusal(err) }()
	w, err := e.resume(s, p, in)
	if err != nil {
		return "", err
	}
	if err := w.value(s); err != nil {
		return "", err
	}
	defer w.wipe()
	if err := w.checked.CheckApprovals(w.checkValue); err != nil {
		return "", err
	}
	return w.checkValue, nil
}

// resume checks papers that may be incomplete against the epoch.
func (e *Engine) resume(s *token.Session, p *ceremony.Proceedings, in Inputs) (*work, error) {
	if p == nil {
		return nil, ceremony.ErrDocument
	}
	epoch, err := e.register.Current()
	if err != nil {
		return nil, err
	}
	checked, err := p.Check(e.public, &epoch.Roster, e.register.Now().Unix())
	if err != nil {
		return nil, err
	}
	if epoch.WasDone(checked.Opening.ID) {
		return nil, fault.New(fault.CeremonyClosed, "")
	}
	w, err := e.look(s, epoch, checked.Definition, in)
	if err != nil {
		return nil, err
	}
	// The rules may have become stricter since the ceremony was opened.
	if w.need.Components > checked.Opening.Need.Components || w.need.Approvals > checked.Opening.Need.Approvals {
		return nil, fault.New(fault.QuorumMissing, "the key that this is about has changed since the ceremony began: begin another")
	}
	w.papers, w.checked = p, checked
	return w, nil
}

// CarriedOut is what a ceremony makes. Nothing of it counts before the epoch is committed.
type CarriedOut struct {
	Epoch  []byte          // sealed
	Key    *hsm.Key        // Load, Create, Import, Attach
	Block  string          // Export
	Link   []byte          // Join: with it the token follows the register, which is the epoch
	Record ceremony.Signed // [ceremony.Record]
}

// CarryOut does what the officers have decided.
func (e *Engine) CarryOut(s *token.Session, p *ceremony.Proceedings, in Inputs) (out *CarriedOut, err error) {
	defer func() { err = refusal(err) }()
	w, err := e.resume(s, p, in)
	if err != nil {
		return nil, err
	}
	if m := w.checked.Missing(); m != (ceremony.Need{}) {
		return nil, fault.New(fault.QuorumMissing, fmt.Sprintf("%d components and %d approvals are missing", m.Components, m.Approvals))
	}
	if err := w.value(s); err != nil {
		return nil, err
	}
	defer w.wipe()
	if err := w.checked.CheckApprovals(w.checkValue); err != nil {
		return nil, err
	}
	out = new(CarriedOut)
	if w.def.Kind == ceremony.Join {
		if err := w.join(s, out); err != nil {
			return nil, err
		}
		return out, nil
	}
	next := w.epoch.Clone()
	if err := w.carryOut(s, next, out); err != nil {
		return nil, err
	}
	if err := e.propose(s, w, next, out); err != nil {
		return nil, err
	}
	return out, nil
}

// propose ends what CarryOut and Abort have in common: the ceremony is done, the epoch is
// proposed, and the record says so.
func (e *Engine) propose(s *token.Session, w *work, next *ceremony.Epoch, out *CarriedOut) (err error) {
	now := e.register.Now().Unix()
	finish(next, w.checked.Opening, now)
	next.By = e.fingerprint
	if out.Epoch, err = e.register.Propose(s, w.epoch, next, room(w.def.Kind)); err != nil {
		return err
	}
	w.outcome.Epoch, w.outcome.Document = next.Version, ceremony.Digest(out.Epoch)
	return w.sign(s, now, out)
}

// sign makes the record of what was carried out.
func (w *work) sign(s *token.Session, now int64, out *CarriedOut) error {
	roster, err := ceremony.Encode(&w.epoch.Roster)
	if err != nil {
		return err
	}
	record := ceremony.Record{Proceedings: *w.papers, Roster: roster, Outcome: w.outcome, Time: now}
	record.Submissions = nil
	for _, c := range w.papers.Submissions {
		record.Submissions = append(record.Submissions, ceremony.Submission{Statement: c.Statement})
	}
	out.Record, err = sign(s, w.engine.identity, ceremony.OfRecord, &record)
	return err
}

// reserve is the room in the register, in bytes, that is kept twice over for what must always
// be possible: one officer alone can fill the rest.
const reserve = 64 << 10

// room returns how large an epoch a kind of ceremony may make; with none, what calls one off.
func room(k ceremony.Kind) int {
	switch k {
	case ceremony.Change, ceremony.Start, ceremony.Delete, ceremony.Restore, ceremony.Masters, ceremony.Retire, ceremony.Adopt:
		return ceremony.MaxEpoch // several officers want it, and it brings no key
	case ceremony.Stop, ceremony.Distrust:
		return ceremony.MaxEpoch - reserve
	}
	return ceremony.MaxEpoch - 2*reserve
}

// finish notes in an epoch that a ceremony is done, and forgets those that nobody could carry
// out again, since they have expired.
func finish(next *ceremony.Epoch, o *ceremony.Opening, now int64) {
	next.Done = slices.DeleteFunc(next.Done, func(d ceremony.Done) bool { return now >= d.Expires })
	next.Done = append(next.Done, ceremony.Done{ID: o.ID, Expires: o.Expires})
}

// Abort calls a ceremony off for good. Any officer of the roster may. One that has expired
// needs no calling off.
func (e *Engine) Abort(s *token.Session, p *ceremony.Proceedings, signed ceremony.Signed) (epoch []byte, err error) {
	defer func() { err = refusal(err) }()
	if p == nil {
		return nil, ceremony.ErrDocument
	}
	current, err := e.register.Current()
	if err != nil {
		return nil, err
	}
	o, digest, err := ceremony.ParseOpening(e.public, p.Opening)
	if err != nil {
		return nil, err
	}
	statement, _, err := current.Roster.Statement(signed)
	if err != nil {
		return nil, err
	}
	// The roster may have changed meanwhile; who is in it now may call off what was begun before.
	o.Roster = statement.Roster
	if err := statement.About(ceremony.Abort, o, digest); err != nil {
		return nil, err
	}
	now := e.register.Now().Unix()
	switch {
	case current.WasDone(o.ID):
		return nil, fault.New(fault.CeremonyClosed, "")
	case now >= o.Expires:
		return nil, ceremony.ErrExpired
	}
	next := current.Clone()
	finish(next, o, now)
	next.By = e.fingerprint
	return e.register.Propose(s, current, next, room(""))
}

// Commit pins a proposed epoch, and destroys what nobody needs any more: key pairs of
// ceremonies that are over and of deleted keys, and master keys that were retired. It returns
// the link with which other tokens follow (see [register.Register.Follow]). A proposal of
// another token's module is refused: its officers may have called it off there.
func (e *Engine) Commit(s *token.Session, sealed []byte) (link []byte, err error) {
	defer func() { err = refusal(err) }()
	epoch, err := e.register.Authentic(s, sealed)
	switch {
	case err != nil:
		return nil, err
	case epoch.By != e.fingerprint:
		return nil, fault.New(fault.EpochStale, "the module of another token proposed this: it follows when that one has pinned it")
	}
	if link, err = e.register.Commit(s, sealed, afterPin(s)); err != nil {
		return nil, err
	}
	return link, e.destroyUnneeded(s)
}

// Follow pins an epoch that modules of other tokens with the same master keys have pinned, and
// destroys what [Engine.Commit] does. The links are those of the versions from the one that is
// pinned here to that one.
func (e *Engine) Follow(s *token.Session, sealed []byte, links [][]byte) (err error) {
	defer func() { err = refusal(err) }()
	if err := e.register.Follow(s, sealed, links, afterPin(s)); err != nil {
		return err
	}
	return e.destroyUnneeded(s)
}

// afterPin is what has to happen before another module pins.
func afterPin(s *token.Session) func(*ceremony.Epoch) error {
	return func(epoch *ceremony.Epoch) error {
		if epoch.Oldest != epoch.Generation {
			return nil
		}
		// What a change of master keys has left that was carried out and can be committed no
		// more. Not later: another change may have been carried out then.
		return sealing.DestroyResealing(s, epoch.Generation)
	}
}

func (e *Engine) destroyUnneeded(s *token.Session) error {
	epoch, err := e.register.Current()
	if err != nil {
		return nil // another one is pinned already, and its Commit does this
	}
	if _, err = destroyPairs(s, over(epoch, e.register.Now().Unix())); err != nil {
		return err
	}
	if err := destroyDeleted(s, epoch, e.register.Now().Unix()); err != nil {
		return err
	}
	return destroyOld(s, epoch.Oldest)
}
