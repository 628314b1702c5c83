package register

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// Register is the epoch that a module goes by. It is safe for concurrent use.
type Register struct {
	page        *Page
	masters     *sealing.Set
	clock       func() time.Time
	store       Store
	development bool
	loaded      atomic.Pointer[loaded]
	offered     atomic.Pointer[loaded] // a proposal, which counts when it is pinned
}

// loaded is an epoch that was checked against the pin. It never changes.
type loaded struct {
	*ceremony.Epoch
	digest [sha256.Size]byte // of the document with its code
	index  map[ceremony.KeyRef]*ceremony.Entry
}

// purpose tells the code of an epoch from other codes.
const purpose = "epoch"

// Store is where the token keeps its objects.
type Store interface {
	// Keep runs what writes to the token, and returns when that is on the disk.
	Keep(write func() error) error

	// Sync has what others have written on the disk.
	Sync() error
}

// New returns a register that has no epoch yet. With development, keys of which the epoch
// knows nothing may be used: known test keys.
func New(page *Page, masters *sealing.Set, development bool, clock func() time.Time, store Store) *Register {
	return &Register{page: page, masters: masters, development: development, clock: clock, store: store}
}

// Create makes the first epoch of a token and pins it; the document stays in the pin until
// a front has it. Nothing else may be pinned. Whether it is on the token's disk is the
// caller's matter.
func Create(s *token.Session, m *sealing.Masters, e *ceremony.Epoch) ([]byte, error) {
	if _, _, err := ReadPin(s); !errors.Is(err, ErrNoPin) {
		if err == nil {
			err = errors.New("the token has a roster already")
		}
		return nil, err
	}
	sealed, err := seal(s, m, e, ceremony.MaxEpoch)
	if err != nil {
		return nil, err
	}
	if len(sealed) > token.MaxData/2 {
		return nil, errors.New("the first epoch is too large for the token")
	}
	_, _, err = (&Pin{Version: e.Version, Generation: e.Generation, Digest: sha256.Sum256(sealed), First: sealed}).write(s)
	return sealed, err
}

// First returns the document of a token's first epoch while it is the one that is pinned.
func First(s *token.Session) ([]byte, error) {
	pin, _, err := ReadPin(s)
	if err != nil {
		return nil, err
	}
	return pin.First, nil
}

func seal(s *token.Session, m *sealing.Masters, e *ceremony.Epoch, most int) ([]byte, error) {
	encoded, err := ceremony.Encode(e)
	if err != nil {
		return nil, err
	}
	if len(encoded)+ceremony.EpochMACSize > most {
		return nil, fault.New(fault.DefinitionInvalid, "the token's register is full: ceremonies that were begun leave it when they expire, deleted keys when master keys are replaced and the old ones retired")
	}
	var mac [ceremony.EpochMACSize]byte
	if err := m.Authenticate(s, mac[:], purpose, encoded); err != nil {
		return nil, err
	}
	return append(encoded, mac[:]...), nil
}

// open checks that a document is an epoch which modules of this token made.
func (r *Register) open(s *token.Session, sealed []byte) (*ceremony.Epoch, error) {
	e, err := ceremony.ParseEpoch(sealed)
	if err != nil {
		return nil, fault.New(fault.EpochInvalid, "")
	}
	var mac [ceremony.EpochMACSize]byte
	at := len(sealed) - ceremony.EpochMACSize
	err = r.masters.Authenticate(s, e.Generation, mac[:], purpose, sealed[:at])
	if errors.Is(err, sealing.ErrNoMasters) {
		return nil, lacksMasters(e.Generation)
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(mac[:], sealed[at:]) != 1 {
		return nil, fault.New(fault.EpochInvalid, "")
	}
	return e, nil
}

// Authentic checks that a document is an epoch which modules with these master keys made,
// whether of this token or of another. The refusal is [fault.EpochInvalid].
func (r *Register) Authentic(s *token.Session, sealed []byte) (*ceremony.Epoch, error) {
	return r.open(s, sealed)
}

// Load takes in the epoch that is pinned. Any other is refused: one that is older or was
// never pinned is a [fault.EpochStale], what is none a [fault.EpochInvalid].
func (r *Register) Load(s *token.Session, sealed []byte) error {
	e, err := r.open(s, sealed)
	if err != nil {
		return err
	}
	pin, err := r.look(s)
	if err != nil {
		return err
	}
	l := newLoaded(e, sealed)
	if e.Version != pin.Version || l.digest != pin.Digest {
		return fault.New(fault.EpochStale, fmt.Sprintf("epoch %d is pinned, this is epoch %d", pin.Version, e.Version))
	}
	r.loaded.Store(l)
	return nil
}

// Offer takes in a proposal, so that it counts here from the moment at which some module
// pins it: no operation meets a module that does not know the epoch yet.
func (r *Register) Offer(s *token.Session, sealed []byte) error {
	e, err := r.open(s, sealed)
	if err != nil {
		return err
	}
	r.offered.Store(newLoaded(e, sealed))
	return nil
}

func newLoaded(e *ceremony.Epoch, sealed []byte) *loaded {
	l := &loaded{Epoch: e, digest: sha256.Sum256(sealed), index: make(map[ceremony.KeyRef]*ceremony.Entry, len(e.Keys))}
	for i := range e.Keys {
		n := &e.Keys[i]
		l.index[ceremony.KeyRef{Name: n.Name, Version: n.Version}] = n
	}
	return l
}

// look reads the pin and tells the other modules of the host.
func (r *Register) look(s *token.Session) (pin *Pin, err error) {
	unlock, err := r.page.lock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	pin, _, err = r.pin(s)
	return pin, err
}

// pin reads the pin and tells the other modules of the host. A token that has lost what it
// had is an error. The caller has the page's lock.
func (r *Register) pin(s *token.Session) (pin *Pin, older []token.Object, err error) {
	if pin, older, err = ReadPin(s); err != nil {
		return nil, nil, err
	}
	version, digest := r.page.pinned()
	if version > pin.Version || version == pin.Version && digest != pin.Digest {
		return nil, nil, fmt.Errorf("the token has lost its pin of epoch %d and has that of epoch %d: its store was replaced or is damaged", version, pin.Version)
	}
	if pin.Version > version {
		// By a module that may have died before its pin was on the disk, or before this start.
		if err := r.store.Sync(); err != nil {
			return nil, nil, err
		}
	}
	r.page.raise(pin.Version, pin.Digest)
	return pin, older, nil
}

// current returns the loaded epoch if it is the one that is pinned.
func (r *Register) current() (*loaded, error) {
	version, digest := r.page.pinned()
	if l := r.loaded.Load(); l != nil && l.Version == version && l.digest == digest {
		return l, nil
	}
	if l := r.offered.Load(); l != nil && l.Version == version && l.digest == digest {
		r.loaded.Store(l)
		return l, nil
	}
	return nil, fault.New(fault.EpochStale, "the module waits for the epoch that is pinned")
}

// Current returns the epoch, which the caller must not change.
func (r *Register) Current() (*ceremony.Epoch, error) {
	l, err := r.current()
	if err != nil {
		return nil, err
	}
	return l.Epoch, nil
}

// Document returns the epoch and the digest of its document, in hex.
func (r *Register) Document() (*ceremony.Epoch, string, error) {
	l, err := r.current()
	if err != nil {
		return nil, "", err
	}
	return l.Epoch, hex.EncodeToString(l.digest[:]), nil
}

// Loaded returns the version that is loaded, 0 for none, and the one that is pinned as far
// as this module knows.
func (r *Register) Loaded() (loaded, pinned uint64) {
	_, _ = r.current() // which takes in a proposal that was pinned meanwhile
	if l := r.loaded.Load(); l != nil {
		loaded = l.Version
	}
	pinned, _ = r.page.pinned()
	return loaded, pinned
}

// Refresh looks at the token's pin, which a module of another host may have set.
func (r *Register) Refresh(s *token.Session) error {
	_, err := r.look(s)
	return err
}

// Propose makes the epoch that follows e out of next, which was made by [ceremony.Epoch.Clone]
// and changed; its version is higher than both. Nothing counts before [Register.Commit]. It
// has at most the given number of bytes.
func (r *Register) Propose(s *token.Session, e, next *ceremony.Epoch, most int) ([]byte, error) {
	l, err := r.current()
	if err != nil {
		return nil, err
	}
	if l.Epoch != e {
		return nil, fault.New(fault.EpochStale, "another ceremony was carried out meanwhile")
	}
	next.Version, next.Previous, next.Clock = max(e.Version, next.Version)+1, hex.EncodeToString(l.digest[:]), r.Now().Unix()
	m, err := r.masters.Of(s, next.Generation)
	if err != nil {
		return nil, err
	}
	return seal(s, m, next, most)
}

// Exclusively runs f while no module of the host pins, if e is the epoch that is pinned. The
// refusal is [fault.EpochStale].
func (r *Register) Exclusively(s *token.Session, e *ceremony.Epoch, f func() error) (err error) {
	unlock, err := r.page.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, _, err := r.pin(s); err != nil {
		return err
	}
	if l, err := r.current(); err != nil {
		return err
	} else if l.Epoch != e {
		return fault.New(fault.EpochStale, "another ceremony was carried out meanwhile")
	}
	return f()
}

// Commit pins a proposal, unless it is older than any ceremony may take. Of two that follow
// the same epoch the first one wins; the second is a [fault.EpochStale]. One that is pinned
// already is good. With one that was not, pinned runs while no other module pins, once
// the proposal counts. It returns the link with which other tokens follow.
func (r *Register) Commit(s *token.Session, sealed []byte, pinned func(*ceremony.Epoch) error) (link []byte, err error) {
	e, err := r.pinNext(s, sealed, pinned, func(e *ceremony.Epoch, _ [sha256.Size]byte, pin *Pin) error {
		switch {
		case r.Now().Unix() > e.Clock+ceremony.MaxValidFor:
			// Officers' decisions have their time. Whoever kept this one back has waited too long.
			return fault.New(fault.EpochStale, "this proposal is too old")
		case e.Version <= pin.Version || e.Previous != hex.EncodeToString(pin.Digest[:]):
			return fault.New(fault.EpochStale, fmt.Sprintf("epoch %d is pinned, this one follows another", pin.Version))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r.linkOf(s, e, sealed)
}

// pinNext pins an epoch in place of the one that is pinned, where follows agrees.
func (r *Register) pinNext(s *token.Session, sealed []byte, pinned func(*ceremony.Epoch) error, follows func(e *ceremony.Epoch, digest [sha256.Size]byte, pin *Pin) error) (e *ceremony.Epoch, err error) {
	unlock, err := r.page.lock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	e, err = r.open(s, sealed) // by the master keys as they are now, with the lock
	if err != nil {
		return nil, err
	}
	pin, older, err := r.pin(s)
	if err != nil {
		return nil, err
	}
	digest, fresh := sha256.Sum256(sealed), false
	if pin.Version != e.Version || subtle.ConstantTimeCompare(digest[:], pin.Digest[:]) != 1 {
		if err := follows(e, digest, pin); err != nil {
			return nil, err
		}
		p := &Pin{Version: e.Version, Generation: e.Generation, Digest: digest}
		var written token.Object
		if err := r.store.Keep(func() (err error) { written, older, err = p.write(s); return err }); err != nil {
			if written != 0 {
				_ = s.DestroyData(written) // else this process sees what no other does
			}
			return nil, err
		}
		r.page.raise(e.Version, digest)
		fresh = true
	}
	r.loaded.Store(newLoaded(e, sealed))
	if fresh {
		if err := pinned(e); err != nil {
			return nil, err
		}
	}
	for _, o := range older {
		if err := s.DestroyData(o); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Now returns the time, which is never before the epoch began.
func (r *Register) Now() time.Time {
	now := r.clock()
	if l := r.loaded.Load(); l != nil && now.Unix() < l.Clock {
		return time.Unix(l.Clock, 0)
	}
	return now
}

// Admit decides whether an unsealed key may be used: its header must be the one that the
// register has for this version, and the version not stopped, deleted or superseded. In
// development a key of which the register knows nothing may be used.
//
// A key that a module has made for a terminal is good by its seal, as long as the master keys of
// its generation are not retired. Its name says so, and no other key has such a name.
//
// The refusals are
// [fault.KeyDisabled], [fault.KeySealInvalid] and [fault.EpochStale].
func (r *Register) Admit(h *hsm.Header, digest string) error {
	l, err := r.current()
	if err != nil {
		return err
	}
	if (h.Device != "") != strings.HasPrefix(h.Name, hsm.TerminalPrefix) {
		return fault.New(fault.KeySealInvalid, "")
	}
	entry := l.index[ceremony.KeyRef{Name: h.Name, Version: h.Version}]
	switch {
	case h.Generation < l.Oldest:
		return fault.New(fault.KeySealInvalid, "")
	case h.Device != "":
		return nil
	case entry == nil && r.development, entry != nil && entry.Header != digest && r.development:
		return nil // known test keys are taken as they are
	case entry == nil || entry.Header != digest:
		return fault.New(fault.KeySealInvalid, "")
	case !entry.Usable(r.Now().Unix()):
		return fault.New(fault.KeyDisabled, "")
	}
	return nil
}
