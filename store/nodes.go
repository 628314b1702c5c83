package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Limits of nodes.
const (
	MaxNodes      = 64
	MaxNodeText   = 128  // bytes of a node's version, and of its instance
	MaxNodeDetail = 4096 // bytes
)

// Node is what a front says of itself to the others on the same database.
type Node struct {
	Name     string // 1 to MaxNode bytes of printable ASCII without spaces
	Version  string // of its software, at most MaxNodeText bytes of printable ASCII
	Epoch    uint64 // at most the largest int64; 0 for none
	Instance string // what tells two of one name apart; at most MaxNodeText bytes of printable ASCII
	Detail   string // at most MaxNodeDetail bytes of printable UTF-8

	LastSeen time.Time     // set by the store: when it reported last
	Age      time.Duration // how long ago that is by the same clock, not below 0
}

// Nodes keeps which fronts work on the database. Its methods may be called concurrently, and
// by several processes; see [Keys] about errors.
type Nodes interface {
	// ReportNode keeps what a node says of itself in the place of what it said before; the
	// time is the database's where it has a clock of its own, and otherwise the process's.
	// [ErrInvalid] outside the limits, and when there are [MaxNodes] others.
	ReportNode(ctx context.Context, n Node) error

	// Nodes returns the nodes in the byte order of their names.
	Nodes(ctx context.Context) ([]Node, error)

	// RemoveNode removes a node that will not come back, and withdraws what it has
	// proposed ([Epochs.WithdrawEpoch]), in one transaction. [ErrNotFound] when there is
	// neither; a name outside the limits has neither.
	RemoveNode(ctx context.Context, name string) error
}

// Validate returns [ErrInvalid] for a node outside the limits; see [KeyRecord.Validate].
func (n *Node) Validate() error {
	switch {
	case !validNode(n.Name):
		return fmt.Errorf("%w: a node has a name of 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxNode)
	case len(n.Version) > MaxNodeText || !printableASCII(n.Version):
		return fmt.Errorf("%w: node %s: a version has at most %d printable ASCII characters", ErrInvalid, n.Name, MaxNodeText)
	case n.Epoch > math.MaxInt64:
		return fmt.Errorf("%w: node %s: the version of the epoch is above %d", ErrInvalid, n.Name, int64(math.MaxInt64))
	case len(n.Instance) > MaxNodeText || !printableASCII(n.Instance):
		return fmt.Errorf("%w: node %s: an instance has at most %d printable ASCII characters", ErrInvalid, n.Name, MaxNodeText)
	case len(n.Detail) > MaxNodeDetail || !printable(n.Detail):
		return fmt.Errorf("%w: node %s: a detail has at most %d bytes of printable UTF-8", ErrInvalid, n.Name, MaxNodeDetail)
	}
	return nil
}

func validNode(name string) bool { return validName(name) && len(name) <= MaxNode }
