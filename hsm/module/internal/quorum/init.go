package quorum

import (
	"errors"
	"fmt"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyvalue"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// A token gets its first roster in two steps at the machine, between which every officer has
// accepted it, and the holders have sealed their shares of the master keys. There is nothing
// yet that could tell who an officer is: that is for the officers to see, who compare the
// fingerprints of identity and roster with each other, and pin them.

// ErrHasRoster is returned for a token that was set up already.
var ErrHasRoster = errors.New("the token has a roster: officers change it by a ceremony (kind: change)")

// fresh returns the engine of a token that has no roster yet.
func fresh(s *token.Session, clock func() time.Time) (*Engine, error) {
	if _, _, err := register.ReadPin(s); !errors.Is(err, register.ErrNoPin) {
		if err == nil {
			err = ErrHasRoster
		}
		return nil, err
	}
	pair, err := CreateIdentity(s)
	if err != nil {
		return nil, err
	}
	page, err := register.OpenPage(-1)
	if err != nil {
		return nil, err
	}
	masters := sealing.NewSet()
	e := &Engine{masters: masters, register: register.New(page, masters, false, clock, nil)} // which pins the first epoch and commits none
	if err := e.identify(pair); err != nil {
		return nil, err
	}
	return e, nil
}

// Propose opens the ceremony in which a token gets its first roster and master keys.
func Propose(s *token.Session, encoded []byte, clock func() time.Time) (opening ceremony.Signed, err error) {
	d, err := initDefinition(encoded)
	if err != nil {
		return opening, err
	}
	e, err := fresh(s, clock)
	if err != nil {
		return opening, err
	}
	roster, err := d.Roster.Fingerprint()
	if err != nil {
		return opening, err
	}
	// Of openings that were not finished none counts any more.
	if _, err := destroyPairs(s, func(string, int64) bool { return true }); err != nil {
		return opening, err
	}
	need := d.Roster.Quorum.Need(d, "", false)
	need.Approvals = len(d.Roster.Officers) // everybody accepts the roster
	return e.open(s, new(ceremony.Epoch), &ceremony.Opening{
		Kind: ceremony.Init, Definition: ceremony.Digest(encoded), Identity: e.fingerprint, Roster: roster, Need: need,
	}, d.ValidFor)
}

func initDefinition(encoded []byte) (*ceremony.Definition, error) {
	d, err := ceremony.Decode[ceremony.Definition](encoded, ceremony.MaxDocument)
	if err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if d.Kind != ceremony.Init {
		return nil, fmt.Errorf("%w: keyd init takes a definition of kind init", ceremony.ErrDefinition)
	}
	return d, nil
}

// Finish makes the master keys and pins the first epoch. Where a loss of power interrupts
// it, it can be called again with the same papers.
func Finish(s *token.Session, p *ceremony.Proceedings, clock func() time.Time) (record ceremony.Signed, err error) {
	if p == nil {
		return record, ceremony.ErrDocument
	}
	d, err := initDefinition(p.Definition)
	if err != nil {
		return record, err
	}
	e, err := fresh(s, clock)
	if err != nil {
		return record, err
	}
	checked, err := p.Check(e.public, d.Roster, clock().Unix())
	if err != nil {
		return record, err
	}
	if m := checked.Missing(); m != (ceremony.Need{}) {
		return record, fault.New(fault.QuorumMissing, fmt.Sprintf("%d shares and %d acceptances are missing", m.Components, m.Approvals))
	}
	if err := checked.CheckApprovals(""); err != nil {
		return record, err
	}
	m, check, err := e.makeMasters(s, d, p, checked)
	if err != nil {
		return record, err
	}
	epoch := &ceremony.Epoch{
		Version: 1, Token: e.fingerprint, Clock: clock().Unix(),
		Generation: d.MasterKeys.FirstGeneration(), Oldest: d.MasterKeys.FirstGeneration(), Roster: *d.Roster,
	}
	roster, err := ceremony.Encode(d.Roster)
	if err != nil {
		return record, err
	}
	papers := *p
	papers.Submissions = nil
	for _, c := range p.Submissions {
		papers.Submissions = append(papers.Submissions, ceremony.Submission{Statement: c.Statement})
	}
	record, err = sign(s, e.identity, ceremony.OfRecord, &ceremony.Record{
		Proceedings: papers, Roster: roster, Outcome: ceremony.Outcome{Epoch: 1, Masters: check}, Time: clock().Unix(),
	})
	if err != nil {
		return record, err
	}
	if _, err := register.Create(s, m, epoch); err != nil {
		return ceremony.Signed{}, err
	}
	// The token has its roster. A pair that stays destroys no record: the next Begin removes it.
	_, _ = destroyPairs(s, func(string, int64) bool { return true })
	return record, nil
}

// makeMasters makes the master keys of the shares, and returns them with their check value.
func (e *Engine) makeMasters(s *token.Session, d *ceremony.Definition, p *ceremony.Proceedings, checked *ceremony.Checked) (*sealing.Masters, string, error) {
	w := &work{engine: e, epoch: new(ceremony.Epoch), def: d, papers: p, checked: checked, header: hsm.Header{Algorithm: "A", Length: ceremony.MasterShareSize}}
	generation := d.MasterKeys.FirstGeneration()
	var err error
	if w.region, err = locked.New(regionSize); err != nil {
		return nil, "", err
	}
	defer w.wipe()
	if err := w.combine(s); err != nil {
		return nil, "", err
	}
	if w.key == nil { // the opening asked for fewer shares than there are holders
		return nil, "", fault.New(fault.QuorumMissing, "every holder brings a share")
	}
	if why := keyvalue.Weakness("A", w.key); why != "" {
		return nil, "", fault.New(fault.KeyValueRefused, why)
	}
	// What an interrupted call has left could be of other shares.
	if err := sealing.DestroyMasters(s, generation, true); err != nil {
		return nil, "", err
	}
	if err := sealing.ImportMasters(s, generation, w.key); err != nil {
		return nil, "", err
	}
	m, err := sealing.FindMasters(s, generation)
	if err != nil {
		return nil, "", err
	}
	check, err := m.CheckValue(s)
	if err != nil {
		return nil, "", err
	}
	if d.CheckValue != "" && d.CheckValue != check {
		return nil, "", errors.Join(
			fault.New(fault.CheckValueMismatch, "the shares give master keys with the check value "+check+", the definition says "+d.CheckValue),
			sealing.DestroyMasters(s, generation, true))
	}
	return m, check, nil
}

// Refuse makes a refusal of an error of [Propose] and [Finish] that papers cause.
func Refuse(err error) error { return refusal(err) }

// Found makes a development token's roster, without anybody's acceptance: everything in such
// a token is known.
func Found(s *token.Session, roster *ceremony.Roster, clock func() time.Time) error {
	if err := roster.Validate(); err != nil {
		return err
	}
	var e Engine
	identity, err := CreateIdentity(s)
	if err == nil {
		err = e.identify(identity)
	}
	if err != nil {
		return err
	}
	if _, _, err := register.ReadPin(s); !errors.Is(err, register.ErrNoPin) {
		return err
	}
	m, err := sealing.FindMasters(s, sealing.FirstGeneration)
	if err != nil {
		return err
	}
	_, err = register.Create(s, m, &ceremony.Epoch{
		Version: 1, Token: e.fingerprint, Clock: clock().Unix(), Generation: sealing.FirstGeneration, Oldest: sealing.FirstGeneration, Roster: *roster,
	})
	return err
}
