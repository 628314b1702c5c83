package confine

import (
	"errors"
	"fmt"
)

// Kind is which process is confined.
type Kind string

// The kinds.
const (
	Front  Kind = "front"
	Module Kind = "module"
	Unlock Kind = "unlock" // one that talks to Vault
)

// ErrOrder says that a step was called twice or before another that precedes it.
var ErrOrder = errors.New("confinement steps are called out of order")

// Confinement carries a process through the steps. It is used by one goroutine.
type Confinement struct {
	kind     Kind
	network  []uint16
	profiled bool
	done     step
	measures []Measure
}

type step int

const (
	nothing step = iota
	early
	filesystem
	syscalls
)

// New begins the confinement of this process. connect lists the TCP ports that it may
// connect to: none for a front unless it sends traces, and none for a module unless its
// token is a network HSM; Vault's for an unlock. With an empty list the process cannot make a socket at all.
func New(kind Kind, connect ...uint16) (*Confinement, error) {
	if kind != Front && kind != Module && kind != Unlock {
		return nil, fmt.Errorf("confine: %q is neither front, nor module, nor unlock", kind)
	}
	for _, port := range connect {
		if port == 0 {
			return nil, errors.New("confine: port 0 cannot be connected to")
		}
	}
	return &Confinement{kind: kind, network: connect}, nil
}

// AllowProfiling lets a front set the timers of a CPU profile: on its own threads, with
// signals to itself. It is called before the first step.
func (c *Confinement) AllowProfiling() { c.profiled = true }

// enter checks that a step is the next one.
func (c *Confinement) enter(next step) error {
	if c.done != next-1 {
		return ErrOrder
	}
	c.done = next
	return nil
}
