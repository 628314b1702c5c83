package confine

import "slices"

// State is how far a measure could be taken.
type State string

// The states.
const (
	On      State = "on"
	Partial State = "partial"
	Off     State = "off"
)

// Measure is one thing that confines the process.
type Measure struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Why   string `json:"why,omitempty"` // always given when the state is not On
}

// Report is what has been done so far, in order.
type Report struct {
	Kind     Kind      `json:"kind"`
	Measures []Measure `json:"measures"`
}

// Weak returns the measures that could not be taken in full.
func (r Report) Weak() []Measure {
	var weak []Measure
	for _, m := range r.Measures {
		if m.State != On {
			weak = append(weak, m)
		}
	}
	return weak
}

// Report returns what has been done so far.
func (c *Confinement) Report() Report {
	return Report{Kind: c.kind, Measures: slices.Clone(c.measures)}
}

func (c *Confinement) note(name string, state State, why string) {
	c.measures = append(c.measures, Measure{name, state, why})
}
