package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// Several keyds on one database, the nodes of a fleet, go by one register. Each has a token
// that pins it, or they share one. What the officers do at one node makes the next epoch there;
// the others find it in the database, together with the links by which their tokens follow
// (docs/fleet.md).

// gone is after how long without a sign a node no longer counts as one that goes by the
// register.
const gone = time.Minute

// Refresh takes up what other nodes have changed since it was called last, if anything: their
// tokens' register, keys, aliases. It returns after the database has answered, so that a node
// knows how fresh its view is. The errors are those of [Ceremonies.Settle].
func (c *Ceremonies) Refresh(ctx context.Context) error {
	at := c.clock()
	revision, err := c.store.Revision(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	if revision == c.revision.Load() {
		c.inventory.Refreshed(at)
		return nil
	}
	c.inventory.ForgetAll()
	c.mu.Lock()
	defer c.mu.Unlock()
	current, err := c.store.CurrentEpoch(ctx)
	switch {
	case errors.Is(err, store.ErrNotFound): // nobody has settled yet
	case err != nil:
		return unavailable(ctx, err)
	default:
		document := c.document
		if w := c.waiting.Load(); w != nil {
			document = ceremony.Digest(w.Sealed) // what can be joined may have gone on
		}
		if c.inForce.Load() == nil || document != ceremony.Digest(current.Sealed) {
			c.settled = false
		}
	}
	if err := c.settle(ctx); err != nil {
		return err // and soon no key is used: others may have stopped one
	}
	c.revision.Store(revision)
	c.inventory.Refreshed(at)
	return nil
}

// follow has the token follow those of other nodes to the database's epoch. It reports whether
// the token has it now; not where its own epoch is of another line.
func (c *Ceremonies) follow(ctx context.Context, current store.Epoch) (bool, error) {
	pinned, err := c.modules.Pinned(ctx)
	if err != nil {
		return false, err
	}
	links, err := c.links(ctx, pinned)
	if err != nil {
		return false, err
	}
	switch err := c.modules.FollowEpoch(ctx, current.Sealed, links); {
	case err == nil:
		return true, nil
	case fault.Of(err).Reason != fault.EpochStale && fault.Of(err).Reason != fault.EpochInvalid:
		return false, err
	}
	// The officers may have had it join, and the power went before it did.
	join, from, err := c.joined(ctx)
	if err != nil || join == nil {
		return false, err
	}
	if links, err = c.links(ctx, from); err != nil {
		return false, err
	}
	return c.modules.FollowEpoch(ctx, current.Sealed, append([][]byte{join}, links...)) == nil, nil
}

// maxLinks is how many epochs a token can be behind: so many links go to a module at once.
const maxLinks = 4000

// links returns the links to the epochs after a version, in their order.
func (c *Ceremonies) links(ctx context.Context, after uint64) (links [][]byte, err error) {
	for len(links) < maxLinks {
		page, err := c.store.EpochLinks(ctx, after, store.MaxList)
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		for _, l := range page {
			links, after = append(links, l.Link), l.Version
		}
		if len(page) < store.MaxList {
			break
		}
	}
	return links, nil
}

// joined returns the link with which officers had this node's token join last, and the version
// of the epoch that it leads to; nil if they have not.
func (c *Ceremonies) joined(ctx context.Context) (link []byte, version uint64, err error) {
	list, _, err := c.List(ctx, store.CeremonyCompleted, time.Time{}, "", store.MaxCeremonyList)
	if err != nil {
		return nil, 0, err
	}
	for _, cer := range list {
		if cer.Kind != ceremony.Join || cer.Node != c.Node || len(cer.link) == 0 {
			continue
		}
		record, err := ceremony.Decode[ceremony.Record](cer.Record.Document, store.MaxCeremonyRecord)
		if err != nil {
			return nil, 0, fault.Wrap(fault.StoreUnavailable, errors.New("ceremony "+cer.ID+": its record is damaged"))
		}
		return cer.link, record.Outcome.Epoch, nil
	}
	return nil, 0, nil
}

// join has the token go over to the register that the database has. What the officers have
// decided is durable before the token is told, so that it can be told after a loss of power.
func (c *Ceremonies) join(ctx context.Context, cer *Ceremony, request hsm.Ceremony) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, err := c.modules.CarryOut(ctx, request)
	if err != nil {
		return err
	}
	record := ceremony.Signed(out.Record)
	cer.State, cer.Record, cer.link = store.CeremonyCompleted, &record, out.Link
	row, err := cer.record()
	if err != nil {
		return err
	}
	if err := c.store.UpdateCeremony(ctx, row); err != nil {
		return refused(ctx, err, "another officer's paper came at the same moment: send it again", "", "the papers are too large")
	}
	ctx = context.WithoutCancel(ctx)
	c.settled = false
	if err := c.modules.FollowEpoch(ctx, out.Epoch, [][]byte{out.Link}); err != nil {
		return err
	}
	return c.settle(ctx)
}

// Nodes returns the keyds that share the database, by name; none where nobody does.
func (c *Ceremonies) Nodes(ctx context.Context) ([]store.Node, error) {
	if c.Node == "" {
		return nil, nil
	}
	nodes, err := c.store.Nodes(ctx)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	return nodes, nil
}

// errName is the error of a name that two keyds have.
var errName = errors.New("another keyd has this node's name and is at work: give each a fleet.node of its own (one whose machine was replaced takes the name a minute later)")

// CheckName refuses a node's name that another keyd has, who was there less than a minute ago.
// Two of one name would carry out each other's ceremonies.
func (c *Ceremonies) CheckName(ctx context.Context) error {
	nodes, err := c.store.Nodes(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	for _, n := range nodes {
		if n.Name == c.Node && n.Instance != c.Instance && n.Age < gone {
			return fmt.Errorf("fleet.node %s: %w", c.Node, errName)
		}
	}
	return nil
}

// Report tells the other nodes that this one is there, with which software, and why it uses
// no key, if so. It refuses as [Ceremonies.CheckName] does.
func (c *Ceremonies) Report(ctx context.Context, version, why string) error {
	if err := c.CheckName(ctx); err != nil {
		return err
	}
	n := store.Node{Name: c.Node, Version: version, Instance: c.Instance, Detail: why}
	if e := c.Epoch(); e != nil {
		n.Epoch = e.Version
	}
	return c.store.ReportNode(ctx, n)
}

// ForgetNode forgets a node that has not shown itself for a minute, and withdraws what it had
// proposed, so that ceremonies go on at other nodes. What the token of this node has pinned, since
// the two share it, takes effect instead.
func (c *Ceremonies) ForgetNode(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(nodes, func(n store.Node) bool { return n.Name == name })
	switch {
	case i < 0:
		return fault.New(fault.RequestInvalid, "the fleet has no node of that name")
	case nodes[i].Age < gone:
		return fault.New(fault.RequestInvalid, "the node was there less than a minute ago: stop it first")
	}
	c.settled = false
	if err := c.settle(ctx); err != nil {
		return err // this token may have what is proposed, and nobody else its document
	}
	if err := c.store.RemoveNode(ctx, name); err != nil {
		return unavailable(ctx, err)
	}
	return nil
}

// others returns the names of the other nodes that have shown themselves lately.
func (c *Ceremonies) others(ctx context.Context) (names []string, err error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if n.Name != c.Node && n.Age < gone {
			names = append(names, n.Name)
		}
	}
	return names, nil
}

func orNone(node string) string {
	if node == "" {
		return "(no node)"
	}
	return node
}
