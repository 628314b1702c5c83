package keys

import (
	"context"
	"time"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/store"
)

// LifeState is where a version of a key is in its life.
type LifeState int

// The states, as the contract numbers them (keyd.v1 Key.State).
const (
	StateEnabled       LifeState = 1
	StateSuperseded    LifeState = 2 // a later version took its place; used until then
	StateStopped       LifeState = 3
	StateDeletePending LifeState = 4
	StateDeleted       LifeState = 5
	StateNotValid      LifeState = 6 // by the validity in its header
)

// Details is all that the front knows of a version of a key.
type Details struct {
	Key
	Life     LifeState
	Until    time.Time // superseded or deleted then; zero: neither
	Officers []string  // who entered its components
	Test     bool      // a known key of a development service
	Aliases  []string
	Tags     map[string]string
	Count    uint64 // of uses
	LastUsed time.Time
}

// life says where a version of a key is in its life. The module decides by its own copy of
// the register; this is what people are shown.
func (c *Ceremonies) life(k Key) Details {
	d := Details{Key: k, Life: StateEnabled}
	now := c.clock()
	var entry *ceremony.Entry
	if e := c.Epoch(); e != nil {
		entry = e.Find(k.Name, k.Version)
	}
	if entry != nil {
		if digest, err := ceremony.HeaderDigest(k.Header); err != nil || digest != entry.Header {
			entry = nil
		}
	}
	if entry == nil {
		d.Test = c.Development
	} else {
		d.Officers = entry.Officers
		if entry.Until != 0 {
			d.Until = time.Unix(entry.Until, 0).UTC()
		}
	}
	switch {
	case entry == nil && !c.Development:
		d.Life = StateNotValid // no module uses it
	case entry != nil && entry.State == ceremony.Deleting && !now.Before(d.Until):
		d.Life = StateDeleted
	case entry != nil && entry.State == ceremony.Deleting:
		d.Life = StateDeletePending
	case entry != nil && entry.State == ceremony.Stopped, k.State != store.Enabled:
		d.Life = StateStopped
	case entry != nil && entry.Until != 0:
		d.Life = StateSuperseded
	case !k.Header.ValidAt(now):
		d.Life = StateNotValid
	}
	return d
}

// Details returns what is known of the version of a key that a reference names
// ([ValidReference]). Errors are those of [Inventory.Resolve].
func (c *Ceremonies) Details(ctx context.Context, reference string) (Details, error) {
	k, err := c.inventory.Resolve(ctx, reference)
	if err != nil {
		return Details{}, err
	}
	return c.complete(ctx, c.life(k))
}

// complete adds what is kept by name.
func (c *Ceremonies) complete(ctx context.Context, d Details) (Details, error) {
	var err error
	if d.Aliases, err = c.inventory.AliasesOf(ctx, d.Name); err != nil {
		return Details{}, err
	}
	if d.Tags, err = c.inventory.Tags(ctx, d.Name); err != nil {
		return Details{}, err
	}
	used, err := c.inventory.Usage(ctx, d.Name)
	if err != nil {
		return Details{}, err
	}
	for _, u := range used {
		if u.Version == d.Version {
			d.Count, d.LastUsed = u.Count, u.LastUsed
		}
	}
	return d, nil
}

// Find returns the current versions of the keys that fit, whose names come after the given
// one, at most limit; next is the name with which to go on, empty after the last. life 0 and
// usage "" fit every key.
func (c *Ceremonies) Find(ctx context.Context, f store.Filter, life LifeState, usage, after string, limit int) (found []Details, next string, err error) {
	for {
		page, err := c.inventory.Search(ctx, f, after, limit)
		if err != nil {
			return nil, "", err
		}
		for _, k := range page {
			d := c.life(k)
			if life != 0 && d.Life != life || usage != "" && k.Header.Usage != usage {
				continue
			}
			if d, err = c.complete(ctx, d); err != nil {
				return nil, "", err
			}
			if found = append(found, d); len(found) == limit {
				return found, k.Name, nil
			}
		}
		if len(page) < limit {
			return found, "", nil
		}
		after = page[len(page)-1].Name
	}
}

// Versions returns every version of a key, the oldest first.
func (c *Ceremonies) Versions(ctx context.Context, name string) ([]Details, error) {
	k, err := c.inventory.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	versions, err := c.inventory.Versions(ctx, k.Name)
	if err != nil {
		return nil, err
	}
	var list []Details
	for _, v := range versions {
		d, err := c.complete(ctx, c.life(v))
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// CertificateRequest returns a PKCS #10 request for a key pair, in DER.
func (c *Ceremonies) CertificateRequest(ctx context.Context, reference string, subject hsm.CertificateSubject) ([]byte, error) {
	k, err := c.inventory.Resolve(ctx, reference)
	if err != nil {
		return nil, err
	}
	return c.modules.CertificateRequest(ctx, hsm.Key{Name: k.Name, Sealed: k.Sealed}, subject)
}
