package store

import "context"

// Changes tells whether another process changed something.
type Changes interface {
	// Revision returns a number that rises, in the same transaction, with every change of
	// keys, aliases, tags, ceremonies, epochs, terminals, key hosts, key sets and revocation
	// lists; usage, counters, the reports of nodes, injections, terminals' keys, PIN records
	// and voids do not raise it. It may rise where nothing differs afterwards.
	Revision(ctx context.Context) (uint64, error)
}
