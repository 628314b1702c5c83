package keys

import (
	"context"
	"errors"

	"keyd/ceremony"
	"keyd/store"
)

// Purge removes the sealed keys whose deletion nobody has called off in time, and returns
// which. Their entries stay in the register, so that no copy of one is ever used again.
func (c *Ceremonies) Purge(ctx context.Context) ([]store.KeyVersion, error) {
	e := c.Epoch()
	if e == nil || !c.Ready() {
		return nil, nil
	}
	now := c.clock().Unix()
	var gone []store.KeyVersion
	for _, entry := range e.Keys {
		if entry.State != ceremony.Deleting || now < entry.Until {
			continue
		}
		_, err := c.store.Version(ctx, entry.Name, entry.Version)
		if errors.Is(err, store.ErrNotFound) {
			continue // before
		}
		if err != nil {
			return nil, unavailable(ctx, err)
		}
		gone = append(gone, store.KeyVersion{Name: entry.Name, Version: entry.Version})
	}
	if len(gone) == 0 {
		return nil, nil
	}
	// A node that does not know the newest register could delete what officers have restored.
	err := c.store.PurgeDeleted(ctx, e.Version, gone...)
	if errors.Is(err, store.ErrConflict) {
		return nil, nil
	}
	for _, v := range gone {
		c.inventory.Forget(v.Name)
	}
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	return gone, nil
}
