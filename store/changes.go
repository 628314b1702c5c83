package store

import "context"

// Changes tells whether another process changed something.
type Changes interface {
	// Revision returns a number that rises, in the same transaction, with every change of
	// keys, aliases, tags, ceremonies, epochs and terminals; usage, counters and the reports of nodes
	// do not raise it. It may rise where nothing differs afterwards.
	Revision(ctx context.Context) (uint64, error)
}
