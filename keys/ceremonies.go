package keys

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
	"keyd/trust"
)

// Modules are asked for what officers have signed; [hsm.Client] is one.
type Modules interface {
	Identity(ctx context.Context) (hsm.Signed, error)
	FirstEpoch(ctx context.Context) ([]byte, error)
	Pinned(ctx context.Context) (version uint64, err error)
	SetEpoch(ctx context.Context, epoch []byte) error
	CommitEpoch(ctx context.Context, epoch []byte) (link []byte, err error)
	FollowEpoch(ctx context.Context, epoch []byte, links [][]byte) error
	BeginCeremony(ctx context.Context, r hsm.BeginCeremony) (hsm.Signed, error)
	CheckCeremony(ctx context.Context, r hsm.Ceremony) (string, error)
	CarryOut(ctx context.Context, r hsm.Ceremony) (hsm.CarriedOut, error)
	AbortCeremony(ctx context.Context, papers []byte, statement hsm.Signed) ([]byte, error)
	Reseal(ctx context.Context, k hsm.Key) ([]byte, error)
	ResealRecord(ctx context.Context, record []byte) ([]byte, error)
	CertificateRequest(ctx context.Context, k hsm.Key, subject hsm.CertificateSubject) ([]byte, error)
}

// CeremonyStore is what ceremonies keep in the database.
type CeremonyStore interface {
	store.Keys
	store.TerminalKeys
	store.PINRecords
	store.Ceremonies
	store.Epochs
	store.Nodes
	store.Changes

	// Restored is that of [store.Backups].
	Restored(ctx context.Context) (bool, error)
}

// Ceremonies keep the papers of what officers do together, and bring them to a module. They
// decide nothing: what a module refuses is not kept. It is safe for concurrent use.
//
// What a ceremony makes is kept in the database as a proposal before the token is told
// (see [store.Epochs]), so that whatever counts is there, whenever the power goes.
type Ceremonies struct {
	// Development says that keys of which the register knows nothing are known test keys.
	Development bool

	// Node is the name of this keyd among those that share the database; "" where none does.
	Node string

	// Instance tells two keyds of one name apart.
	Instance string

	store     CeremonyStore
	inventory *Inventory
	modules   Modules
	clock     func() time.Time

	mu       sync.Mutex                  // of who changes the epoch
	settled  bool                        // no proposal is left over
	waiting  atomic.Pointer[store.Epoch] // register of another token, which officers can have this one join or take over
	restored atomic.Pointer[store.Epoch] // register of a backup, which officers have to take over
	resealed atomic.Uint64               // generation under which everything is sealed
	inForce  atomic.Pointer[ceremony.Epoch]
	document string        // digest of its document, under mu
	revision atomic.Uint64 // of the database, up to which everything was taken up
}

// NewCeremonies returns the ceremonies over a store. [Ceremonies.Settle] comes before
// anything else.
func NewCeremonies(s CeremonyStore, inventory *Inventory, modules Modules) *Ceremonies {
	return &Ceremonies{store: s, inventory: inventory, modules: modules, clock: time.Now}
}

// Ceremony is a ceremony as it stands.
type Ceremony struct {
	ID               string
	Kind             ceremony.Kind
	Subject          string // NAME?version=N, or empty
	State            store.CeremonyState
	Papers           *ceremony.Proceedings // nil in lists
	CheckValue       string                // of the whole key, as a module computed it; empty while it is not known
	Missing          ceremony.Need
	OpenedAt, Expiry time.Time
	Record           *ceremony.Signed // of a completed one
	Block            string           // key block that was written
	Node             string           // of the keyd whose token opened it, which alone can carry it out

	revision uint64
	link     []byte // Join: with which the token goes over
}

// Epoch returns the epoch in force as the database has it, nil before there is one. It is not
// authenticated: a module checked it, but the front could hold another.
func (c *Ceremonies) Epoch() *ceremony.Epoch { return c.inForce.Load() }

// Waiting returns the register of another token with the same master keys that the database
// has, while this token has one of its own: its version and its digest in hex. No key can be
// used until officers have the token join those that go by it ([ceremony.Join]), or take it
// over where there are none ([ceremony.Adopt]).
func (c *Ceremonies) Waiting() (version uint64, digest string) { return named(c.waiting.Load()) }

// Restored returns the register of the backup from which the database was restored, as
// [Ceremonies.Waiting] does, until officers have had it taken over ([ceremony.Adopt]). No key
// is used until then.
func (c *Ceremonies) Restored() (version uint64, digest string) { return named(c.restored.Load()) }

func named(e *store.Epoch) (version uint64, digest string) {
	if e == nil {
		return 0, ""
	}
	return e.Version, ceremony.Digest(e.Sealed)
}

// Ready reports whether modules can use keys: they have the register that the database has,
// officers have accepted it where it came from a backup, and the database was there lately.
func (c *Ceremonies) Ready() bool {
	return c.Epoch() != nil && c.waiting.Load() == nil && c.inventory.Fresh() == nil
}

// Authorities returns the authorities that officers have decided to believe, as the database
// has them ([Ceremonies.Epoch]).
func (c *Ceremonies) Authorities() []ceremony.Authority {
	e := c.Epoch()
	if e == nil {
		return nil
	}
	return e.Authorities
}

// Anchors returns the authorities with a use ([ceremony.UseTerminals], [ceremony.UseHosts]) that
// are valid now. A module looks for itself. A front that does not have the register yet cannot say
// whom officers believe ([fault.EpochStale]): nobody is told that a certificate is not trusted.
func (c *Ceremonies) Anchors(use string) (trust.Anchors, error) {
	e := c.Epoch()
	if e == nil {
		return trust.Anchors{}, fault.New(fault.EpochStale, "")
	}
	return e.Anchors(use, c.clock())
}

// Identity returns what the token says of itself, signed.
func (c *Ceremonies) Identity(ctx context.Context) (ceremony.Signed, error) {
	s, err := c.modules.Identity(ctx)
	return ceremony.Signed(s), err
}

// Begin opens a ceremony for an officer with that SPIFFE ID.
func (c *Ceremonies) Begin(ctx context.Context, identity string, definition []byte, wish ceremony.Signed) (*Ceremony, error) {
	d, err := ceremony.Decode[ceremony.Definition](definition, ceremony.MaxDocument)
	if err != nil {
		return nil, fault.New(fault.DefinitionInvalid, "it is not in the one encoding of a definition")
	}
	if err := c.own(identity, wish); err != nil {
		return nil, err
	}
	if d.Kind == ceremony.Retire {
		if err := c.readyToRetire(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.fits(ctx, d.Kind); err != nil {
		return nil, err
	}
	in, err := c.inputs(ctx, d)
	if err != nil {
		return nil, err
	}
	opening, err := c.modules.BeginCeremony(ctx, hsm.BeginCeremony{Definition: definition, Statement: hsm.Signed(wish), Keys: in})
	if err != nil {
		return nil, err
	}
	o, err := ceremony.Decode[ceremony.Opening](opening.Document, ceremony.MaxDocument)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	cer := &Ceremony{
		ID: o.ID, Kind: d.Kind, Subject: d.Subject().String(), State: store.CeremonyOpen, CheckValue: o.CheckValue, Missing: o.Need,
		Papers: &ceremony.Proceedings{Opening: ceremony.Signed(opening), Definition: definition}, Node: c.Node,
		OpenedAt: time.Unix(o.Opened, 0).UTC(), Expiry: time.Unix(o.Expires, 0).UTC(),
	}
	record, err := cer.record()
	if err != nil {
		return nil, err
	}
	if err := c.store.AddCeremony(ctx, record); err != nil {
		return nil, unavailable(ctx, err)
	}
	return cer, nil
}

// fits refuses what cannot be begun while the database has another token's register, and a
// takeover of a register that other nodes go by.
func (c *Ceremonies) fits(ctx context.Context, kind ceremony.Kind) error {
	switch {
	case kind != ceremony.Adopt && c.restored.Load() != nil:
		return fault.New(fault.Conflict, "the database was restored from a backup: have its register taken over first (kind adopt); keyd officer roster shows its digest")
	case c.restored.Load() != nil: // whoever else worked on the database that is gone starts anew
	case kind == ceremony.Join:
	case kind == ceremony.Adopt && c.waiting.Load() != nil:
		others, err := c.others(ctx)
		if err != nil {
			return err
		}
		if len(others) > 0 {
			return fault.New(fault.Conflict, "other keyds go by this register and would be cut off ("+strings.Join(others, ", ")+"): join them (kind join), or forget those that are gone (keyd fleet forget)")
		}
	case kind != ceremony.Adopt && c.waiting.Load() != nil:
		return fault.New(fault.Conflict, "the database has the register of another token: have this one join it first (kind join), or take it over where that token is lost (kind adopt); keyd officer roster shows its digest")
	}
	return nil
}

// own refuses a statement of an officer whose certificate is another's: every officer works
// with a certificate of their own.
func (c *Ceremonies) own(identity string, signed ceremony.Signed) error {
	s, err := ceremony.Decode[ceremony.Statement](signed.Document, ceremony.MaxDocument)
	if err != nil {
		return fault.New(fault.RequestInvalid, "statement is not in the one encoding of a statement")
	}
	e := c.Epoch()
	if e == nil {
		return fault.New(fault.EpochStale, "")
	}
	o := e.Roster.Officer(s.Officer)
	if o == nil {
		return fault.New(fault.OfficerUnknown, "")
	}
	if o.Identity != identity {
		return fault.New(fault.OfficerUnknown, "the certificate is not this officer's")
	}
	return nil
}

// inputs finds the sealed keys that a definition names. One that is not there is left out:
// the module says so.
func (c *Ceremonies) inputs(ctx context.Context, d *ceremony.Definition) (in hsm.KeyInputs, err error) {
	if d.Key != nil && d.Key.Version > 1 {
		if in.Previous, err = c.sealed(ctx, &ceremony.KeyRef{Name: d.Key.Name, Version: d.Key.Version - 1}); err != nil {
			return in, err
		}
	}
	if d.Kind == ceremony.Adopt || d.Kind == ceremony.Join {
		if w := c.waiting.Load(); w != nil {
			in.Register = w.Sealed
		} else if w := c.restored.Load(); w != nil {
			in.Register = w.Sealed
		}
	}
	if in.Under, err = c.sealed(ctx, d.Under); err != nil {
		return in, err
	}
	in.Target, err = c.sealed(ctx, d.Target)
	return in, err
}

func (c *Ceremonies) sealed(ctx context.Context, ref *ceremony.KeyRef) (*hsm.Key, error) {
	if ref == nil {
		return nil, nil
	}
	r, err := c.store.Version(ctx, ref.Name, ref.Version)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, unavailable(ctx, err)
	}
	return &hsm.Key{Name: r.Name, Sealed: r.Sealed}, nil
}

// Submit adds an officer's component, which the module opens and checks.
func (c *Ceremonies) Submit(ctx context.Context, identity, id string, s ceremony.Submission) (*Ceremony, error) {
	return c.update(ctx, identity, id, s.Statement, func(cer *Ceremony) error {
		cer.Papers.Submissions = append(cer.Papers.Submissions, s)
		return c.check(ctx, cer)
	})
}

// Approve adds an officer's approval, and carries the ceremony out if it was the last one
// that was missing. Where that fails the approval is not kept, and can be given again.
func (c *Ceremonies) Approve(ctx context.Context, identity, id string, approval ceremony.Signed) (*Ceremony, error) {
	return c.update(ctx, identity, id, approval, func(cer *Ceremony) error {
		cer.Papers.Approvals = append(cer.Papers.Approvals, approval)
		if err := c.check(ctx, cer); err != nil {
			return err
		}
		if cer.Missing == (ceremony.Need{}) {
			return c.carryOut(ctx, cer)
		}
		return nil
	})
}

// update reads an open ceremony, has it changed, and keeps it unless somebody else has
// changed it meanwhile or it was carried out.
func (c *Ceremonies) update(ctx context.Context, identity, id string, signed ceremony.Signed, change func(*Ceremony) error) (*Ceremony, error) {
	if err := c.own(identity, signed); err != nil {
		return nil, err
	}
	cer, err := c.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	switch cer.State {
	case store.CeremonyOpen:
	case store.CeremonyExpired:
		return nil, fault.New(fault.CeremonyExpired, "")
	default:
		return nil, fault.New(fault.CeremonyClosed, "")
	}
	if cer.Node != c.Node {
		return nil, fault.New(fault.Conflict, "the ceremony was opened by the token of keyd "+orNone(cer.Node)+": send the papers there (--server)")
	}
	if cer.Kind != ceremony.Adopt && c.restored.Load() != nil {
		return nil, fault.New(fault.Conflict, "the database was restored from a backup: have its register taken over first (kind adopt)")
	}
	if err := change(cer); err != nil {
		return nil, err
	}
	if cer.State != store.CeremonyOpen {
		return cer, nil // kept with the epoch
	}
	record, err := cer.record()
	if err != nil {
		return nil, err
	}
	err = c.store.UpdateCeremony(ctx, record)
	return cer, refused(ctx, err, "another officer's paper came at the same moment: send it again", "", "the papers are too large")
}

// check has a module look at the papers.
func (c *Ceremonies) check(ctx context.Context, cer *Ceremony) error {
	request, err := c.request(ctx, cer)
	if err != nil {
		return err
	}
	if cer.CheckValue, err = c.modules.CheckCeremony(ctx, request); err != nil {
		return err
	}
	return cer.count()
}

func (c *Ceremonies) request(ctx context.Context, cer *Ceremony) (hsm.Ceremony, error) {
	papers, err := ceremony.Encode(cer.Papers)
	if err != nil {
		return hsm.Ceremony{}, fault.Wrap(fault.Internal, err)
	}
	d, err := ceremony.Decode[ceremony.Definition](cer.Papers.Definition, ceremony.MaxDocument)
	if err != nil {
		return hsm.Ceremony{}, fault.Wrap(fault.Internal, err)
	}
	in, err := c.inputs(ctx, d)
	return hsm.Ceremony{Papers: papers, Keys: in}, err
}

// Abort calls a ceremony off. The module makes sure that it is never carried out.
func (c *Ceremonies) Abort(ctx context.Context, identity, id string, signed ceremony.Signed) (*Ceremony, error) {
	return c.update(ctx, identity, id, signed, func(cer *Ceremony) error {
		papers, err := ceremony.Encode(cer.Papers)
		if err != nil {
			return fault.Wrap(fault.Internal, err)
		}
		if c.restored.Load() != nil { // one officer alone would accept the backup by it
			return fault.New(fault.Conflict, "the database was restored from a backup: until its register is taken over no ceremony is called off; it expires, and another can be begun")
		}
		if c.waiting.Load() != nil {
			// The token's own register is not the database's, and its next version would be in
			// the way. Joining papers have an end.
			return c.putAside(ctx, cer, papers, signed)
		}
		return c.change(ctx, func(*ceremony.Epoch) ([]byte, *store.Change, error) {
			sealed, err := c.modules.AbortCeremony(ctx, papers, hsm.Signed(signed))
			if err != nil {
				return nil, nil, err
			}
			cer.State = store.CeremonyAborted
			return c.changeOf(cer, sealed)
		})
	})
}

// putAside calls a ceremony off in the database alone, if the module takes the officer's word.
func (c *Ceremonies) putAside(ctx context.Context, cer *Ceremony, papers []byte, signed ceremony.Signed) error {
	if _, err := c.modules.AbortCeremony(ctx, papers, hsm.Signed(signed)); err != nil {
		return err
	}
	cer.State = store.CeremonyAborted
	record, err := cer.record()
	if err != nil {
		return err
	}
	err = c.store.UpdateCeremony(ctx, record)
	return refused(ctx, err, "another officer's paper came at the same moment: send it again", "", "the papers are too large")
}

// Get returns a ceremony with its papers. Errors: [fault.CeremonyNotFound],
// [fault.StoreUnavailable].
func (c *Ceremonies) Get(ctx context.Context, id string) (*Ceremony, error) {
	if !ceremony.ValidID(id) {
		return nil, fault.New(fault.CeremonyNotFound, "")
	}
	r, err := c.store.Ceremony(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.CeremonyNotFound, "")
	}
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	return c.parse(r)
}

// Place is where a list of ceremonies goes on.
type Place struct {
	OpenedAt time.Time
	ID       string
}

// List returns ceremonies in a state, "" for all, the newest first, and where to go on, nil
// after the last. before and beforeID are where the list goes on.
func (c *Ceremonies) List(ctx context.Context, state store.CeremonyState, before time.Time, beforeID string, limit int) (list []*Ceremony, next *Place, err error) {
	stored := state
	if state == store.CeremonyExpired {
		stored = store.CeremonyOpen // they expire without anybody's doing
	}
	for {
		records, err := c.store.Ceremonies(ctx, stored, before, beforeID, limit)
		if err != nil {
			return nil, nil, refused(ctx, err, "", "", "page_size and page_token are those of a list")
		}
		for _, r := range records {
			cer, err := c.parse(r)
			if err != nil {
				return nil, nil, err
			}
			if state != "" && cer.State != state {
				continue
			}
			if list = append(list, cer); len(list) == limit {
				return list, &Place{cer.OpenedAt, cer.ID}, nil
			}
		}
		if len(records) < limit {
			return list, nil, nil
		}
		before, beforeID = records[len(records)-1].OpenedAt, records[len(records)-1].ID
	}
}

// parse reads a row of the store, and says whether its time is over.
func (c *Ceremonies) parse(r store.CeremonyRecord) (*Ceremony, error) {
	kept, err := ceremony.Decode[keptPapers](r.Papers, store.MaxPapers)
	if err != nil {
		return nil, fault.Wrap(fault.StoreUnavailable, errors.New("ceremony "+r.ID+": its papers are damaged"))
	}
	cer := &Ceremony{
		ID: r.ID, Kind: ceremony.Kind(r.Kind), Subject: r.Subject, State: r.State, Papers: &kept.Proceedings, CheckValue: kept.CheckValue,
		OpenedAt: r.OpenedAt, Expiry: r.ExpiresAt, Node: r.Node, revision: r.Revision,
	}
	if len(r.Record) > 0 {
		result, err := ceremony.Decode[keptResult](r.Record, store.MaxCeremonyRecord)
		if err != nil {
			return nil, fault.Wrap(fault.StoreUnavailable, errors.New("ceremony "+r.ID+": its record is damaged"))
		}
		cer.Record, cer.Block, cer.link = &result.Record, result.Block, result.Link
	}
	if cer.State == store.CeremonyOpen && !c.clock().Before(cer.Expiry) {
		cer.State = store.CeremonyExpired
	}
	return cer, cer.count()
}

// keptPapers is a ceremony's papers as the database has them.
type keptPapers struct {
	ceremony.Proceedings
	CheckValue string `json:"check_value,omitempty"`
}

// keptResult is what a ceremony has made, beside the key and the epoch.
type keptResult struct {
	Record ceremony.Signed `json:"record"`
	Block  string          `json:"block,omitempty"`
	Link   []byte          `json:"link,omitempty"`
}

func (cer *Ceremony) record() (store.CeremonyRecord, error) {
	papers, err := ceremony.Encode(&keptPapers{*cer.Papers, cer.CheckValue})
	if err != nil {
		return store.CeremonyRecord{}, fault.Wrap(fault.Internal, err)
	}
	r := store.CeremonyRecord{
		ID: cer.ID, Kind: string(cer.Kind), Subject: cer.Subject, State: cer.State, Revision: cer.revision,
		Papers: papers, OpenedAt: cer.OpenedAt, ExpiresAt: cer.Expiry, Node: cer.Node,
	}
	if cer.Record != nil {
		if r.Record, err = ceremony.Encode(&keptResult{*cer.Record, cer.Block, cer.link}); err != nil {
			return r, fault.Wrap(fault.Internal, err)
		}
	}
	return r, nil
}

// count says how many papers are missing.
func (cer *Ceremony) count() error {
	o, err := ceremony.Decode[ceremony.Opening](cer.Papers.Opening.Document, ceremony.MaxDocument)
	if err != nil {
		return fault.Wrap(fault.StoreUnavailable, errors.New("ceremony "+cer.ID+": its opening is damaged"))
	}
	cer.Missing = ceremony.Need{
		Components: max(o.Need.Components-len(cer.Papers.Submissions), 0),
		Approvals:  max(o.Need.Approvals-len(cer.Papers.Approvals), 0),
	}
	return nil
}

// Officers returns who has signed something in a ceremony, for the audit log.
func (cer *Ceremony) Officers() []string {
	var names []string
	add := func(signed ceremony.Signed) {
		if s, err := ceremony.Decode[ceremony.Statement](signed.Document, ceremony.MaxDocument); err == nil {
			names = append(names, s.Officer)
		}
	}
	for _, s := range cer.Papers.Submissions {
		add(s.Statement)
	}
	for _, a := range cer.Papers.Approvals {
		add(a)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
