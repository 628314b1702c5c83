package ceremony

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
)

// Proceedings are the papers of a ceremony: what was signed, by whom. Whoever keeps them
// can withhold them and nothing else.
type Proceedings struct {
	Opening     Signed       `json:"opening"`
	Definition  []byte       `json:"definition"` // encoded
	Submissions []Submission `json:"submissions,omitempty"`
	Approvals   []Signed     `json:"approvals,omitempty"`
}

// Submission is a component as an officer sent it. In a record the sealed component is
// left out, which is destroyed with the ceremony's key.
type Submission struct {
	Statement Signed `json:"statement"`
	Sealed    []byte `json:"sealed,omitempty"`
}

// Errors of proceedings. Together with those of documents, statements and openings they
// are all that [Proceedings.Check] returns.
var (
	ErrRepeated      = errors.New("the same officer twice")
	ErrExpired       = errors.New("the ceremony has expired")
	ErrRosterChanged = errors.New("the roster has changed since the ceremony began: begin another")
	ErrComplete      = errors.New("there are more components or approvals than the ceremony has")
)

// Checked are proceedings in which every signature and every reference is good.
type Checked struct {
	Opening     *Opening
	Digest      string // of the opening
	Definition  *Definition
	Submissions []*Statement // in the order in which they came
	Approvals   []*Statement
}

// Check checks every paper: the module's opening, the definition, and that each statement
// is by an officer of the roster, about this ceremony, and each officer's first of its
// kind. Whether they are enough is [Checked.Missing]. at is the time in Unix seconds.
func (p *Proceedings) Check(identity *ecdsa.PublicKey, roster *Roster, at int64) (*Checked, error) {
	c := new(Checked)
	var err error
	if c.Opening, c.Digest, err = ParseOpening(identity, p.Opening); err != nil {
		return nil, err
	}
	fingerprint, err := roster.Fingerprint()
	if err != nil {
		return nil, err
	}
	if c.Definition, err = Decode[Definition](p.Definition, MaxDocument); err != nil {
		return nil, err
	}
	if err := c.Definition.Validate(); err != nil {
		return nil, err
	}
	switch {
	case Digest(p.Definition) != c.Opening.Definition || c.Definition.Kind != c.Opening.Kind:
		return nil, ErrOpening
	case at >= c.Opening.Expires:
		return nil, ErrExpired
	}
	if len(p.Submissions) > 2*MaxComponents || len(p.Approvals) > MaxOfficers {
		return nil, ErrComplete
	}
	for _, s := range p.Submissions {
		if err := c.submission(roster, s); err != nil {
			return nil, err
		}
	}
	for _, a := range p.Approvals {
		if err := c.approval(roster, a); err != nil {
			return nil, err
		}
	}
	if c.Opening.Roster != fingerprint { // last: that an officer has left is the better answer
		return nil, ErrRosterChanged
	}
	return c, nil
}

// submission adds the statement of a component.
func (c *Checked) submission(roster *Roster, s Submission) error {
	statement, _, err := roster.Statement(s.Statement)
	if err != nil {
		return err
	}
	if err := statement.About(Submit, c.Opening, c.Digest); err != nil {
		return err
	}
	if s.Sealed != nil && (len(s.Sealed) > MaxSealedComponent || Digest(s.Sealed) != statement.Component) {
		return ErrSealed
	}
	if !validDigest(statement.Component) || len(statement.CheckValue) != 6 || !upperHex(statement.CheckValue) || statement.Components != nil {
		return ErrDocument
	}
	places := c.Places()
	if statement.Index < 1 || statement.Index > places {
		return ErrComplete
	}
	m := c.Definition.MasterKeys
	if m != nil && m.Holder(statement.Index) != statement.Officer {
		return fmt.Errorf("%w: another place", ErrMismatch)
	}
	for _, other := range c.Submissions {
		// An officer may have a share of the present master keys and one of the next.
		if other.Officer == statement.Officer && m == nil || other.Index == statement.Index {
			return ErrRepeated
		}
	}
	c.Submissions = append(c.Submissions, statement)
	return nil
}

// Places returns how many components there can be.
func (c *Checked) Places() int {
	if m := c.Definition.MasterKeys; m != nil {
		return len(m.Holders) + len(m.Previous)
	}
	return c.Opening.Need.Components
}

// approval adds the statement of an approval: one over exactly these components.
func (c *Checked) approval(roster *Roster, a Signed) error {
	statement, _, err := roster.Statement(a)
	if err != nil {
		return err
	}
	if err := statement.About(Approve, c.Opening, c.Digest); err != nil {
		return err
	}
	if statement.Index != 0 || statement.Component != "" {
		return ErrDocument
	}
	for _, other := range c.Approvals {
		if other.Officer == statement.Officer {
			return ErrRepeated
		}
	}
	c.Approvals = append(c.Approvals, statement)
	return nil
}

// Missing returns how many more components and approvals it takes.
func (c *Checked) Missing() Need {
	return Need{
		Components: max(c.Opening.Need.Components-len(c.Submissions), 0),
		Approvals:  max(c.Opening.Need.Approvals-len(c.Approvals), 0),
	}
}

// ComponentDigests returns what an approval has to name: the digests of the components in
// the order of their index.
func (c *Checked) ComponentDigests() []string {
	sorted := slices.Clone(c.Submissions)
	slices.SortFunc(sorted, func(a, b *Statement) int { return a.Index - b.Index })
	var digests []string
	for _, s := range sorted {
		digests = append(digests, s.Component)
	}
	return digests
}

// CheckApprovals checks that every approval is of these components, and of this check value
// of the whole key. The error wraps [ErrMismatch].
//
// When a token gets its first roster, every officer accepts it at the machine in one piece
// with a share, so that nobody can name the shares of the others.
func (c *Checked) CheckApprovals(checkValue string) error {
	digests := c.ComponentDigests()
	if c.Definition.Kind == Init {
		digests, checkValue = nil, ""
	}
	for _, a := range c.Approvals {
		if !slices.Equal(a.Components, digests) {
			return fmt.Errorf("%w: other components", ErrMismatch)
		}
		if a.CheckValue != checkValue {
			return fmt.Errorf("%w: another check value", ErrMismatch)
		}
	}
	return nil
}

// Officers returns who takes part: who began it, entered a component or approved.
func (c *Checked) Officers() []string {
	names := []string{c.Opening.Officer}
	for _, list := range [][]*Statement{c.Submissions, c.Approvals} {
		for _, s := range list {
			names = append(names, s.Officer)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
