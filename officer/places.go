package officer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyd/ceremony"
)

// What an officer can do with papers. The module has the last word; here it is said before
// anybody types a component or signs.

// entered returns the statement of the component at an index, nil if there is none.
func (p *Papers) entered(index int) *ceremony.Statement {
	for _, s := range p.Submissions {
		if s.Index == index {
			return s
		}
	}
	return nil
}

// Place returns the index at which an officer's component goes if the officer names none:
// the first that is free, of master keys the officer's own.
func (p *Papers) Place(officer string) (int, error) {
	m, mine := p.Definition.MasterKeys, 0
	for index := 1; index <= p.Places(); index++ {
		if m != nil && m.Holder(index) != officer {
			continue
		}
		mine++
		if p.entered(index) == nil {
			return index, nil
		}
	}
	if m != nil && mine == 0 {
		return 0, p.noHolder(officer)
	}
	if m != nil {
		return 0, fmt.Errorf("%s has entered every share that is expected of %s", officer, officer)
	}
	return 0, p.noPlace()
}

func (p *Papers) noHolder(officer string) error {
	m := p.Definition.MasterKeys
	return fmt.Errorf("%s holds no such share of these master keys; the definition names %s", officer, strings.Join(slices.Concat(m.Holders, m.Previous), ", "))
}

// PlaceName says what the component at an index is.
func PlaceName(d *ceremony.Definition, index int) string {
	m := d.MasterKeys
	switch {
	case m == nil && d.Key == nil:
		return fmt.Sprintf("component %d", index)
	case m == nil:
		return fmt.Sprintf("component %d of %s?version=%d", index, printable(d.Key.Name), d.Key.Version)
	case d.Kind == ceremony.Init:
		return fmt.Sprintf("share %d of the master keys", index)
	case index > len(m.Holders):
		return fmt.Sprintf("share %d of the PRESENT master keys", index-len(m.Holders))
	}
	return fmt.Sprintf("share %d of the NEXT master keys", index)
}

// MayMake reports whether the component at an index can be a new one: those of the present
// master keys are on paper already.
func (p *Papers) MayMake(index int) error {
	if m := p.Definition.MasterKeys; m != nil && index > len(m.Holders) {
		return fmt.Errorf("%s is on paper already: type it, without --new", PlaceName(p.Definition, index))
	}
	return nil
}

func (p *Papers) noPlace() error {
	if p.Opening.Need.Components == 0 {
		return fmt.Errorf("a ceremony of kind %s takes no components: keyd ceremony approve %s is what it needs", p.Definition.Kind, p.Opening.ID)
	}
	return fmt.Errorf("all %d components are there: keyd ceremony approve %s is what it needs", p.Opening.Need.Components, p.Opening.ID)
}

// MayEnter reports whether an officer can enter a component at an index.
func (p *Papers) MayEnter(officer string, index int, now time.Time) error {
	if err := p.acts(now); err != nil {
		return err
	}
	places := p.Places()
	if places == 0 {
		return p.noPlace()
	}
	if index < 1 || index > places {
		return fmt.Errorf("the components have the numbers 1 to %d", places)
	}
	m := p.Definition.MasterKeys
	if m != nil && m.Holder(index) != officer {
		return p.noHolder(officer)
	}
	for _, s := range p.Submissions {
		if m == nil && s.Officer == officer {
			return fmt.Errorf("%s has entered component %d: nobody enters two; if it was wrong, abort the ceremony and begin another", officer, s.Index)
		}
	}
	if s := p.entered(index); s != nil {
		return fmt.Errorf("component %d is there already, by %s", index, s.Officer)
	}
	return nil
}

// Component says what a component of the ceremony looks like.
func (p *Papers) Component() (algorithm string, bytes int) { return componentOf(p.Definition) }

func componentOf(d *ceremony.Definition) (algorithm string, bytes int) {
	if d.MasterKeys != nil {
		return "A", ceremony.MasterShareSize
	}
	return d.Key.Algorithm, int(d.Key.Length)
}

// MayApprove reports whether an officer can approve the ceremony now.
func (p *Papers) MayApprove(officer string, now time.Time) error {
	if err := p.acts(now); err != nil {
		return err
	}
	if n := p.Missing().Components; n > 0 {
		return fmt.Errorf("%s: an approval names them all, so approve when they are there", count(n, "component is missing", "components are missing"))
	}
	for _, a := range p.Approvals {
		if a.Officer == officer {
			return fmt.Errorf("%s has approved it already; %s", officer, count(p.Missing().Approvals, "more officer is needed", "more officers are needed"))
		}
	}
	if p.CheckValue == "" && p.HasCheckValue() {
		return errors.New("the service shows no check value of the whole key, without which nobody can approve: try again later, and tell the operator if it stays so")
	}
	return nil
}

// Expect compares the check value of the whole key with the one that the officer expects.
func (p *Papers) Expect(checkValue string) error {
	checkValue = NormalCheckValue(checkValue)
	switch {
	case checkValue == p.CheckValue:
		return nil
	case p.CheckValue == "":
		return fmt.Errorf("a ceremony of kind %s has no check value to approve", p.Definition.Kind)
	case checkValue == "":
		return errors.New("say which check value the whole key must have, from the letter that came with it")
	}
	return fmt.Errorf("the whole key has the check value %s, and you expect %s: it is another key. Approve nothing; keyd ceremony abort %s ends it",
		p.CheckValue, checkValue, p.Opening.ID)
}

// NormalCheckValue writes a check value as documents do.
func NormalCheckValue(text string) string {
	return strings.ToUpper(strings.Join(strings.Fields(text), ""))
}
