package keyuse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/audit"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/ksn"
	"keyd/policies"
)

// Authorizer knows who asks.
type Authorizer interface {
	// Authorize returns nil if the caller of the request in ctx may carry out the
	// action with all of the keys, and else a refusal, usually [fault.PolicyDenied].
	// It remembers that it was asked: an answer to a request for which it was not
	// does not leave the front.
	Authorize(ctx context.Context, action string, named []policies.Key) error

	// Demand returns what the rule that allowed the request in ctx asks of the operation
	// beyond, once Authorize has returned nil. The operation insists on it.
	Demand(ctx context.Context) policies.Demand

	// Entry returns the audit entry of the request in ctx. An operation fills in what
	// the request is about: keys, PAN, custody. The rest, who asked and what became of
	// it, is the Authorizer's, who writes the entry before the answer leaves.
	Entry(ctx context.Context) *audit.Entry
}

// Keys are the keys of the front. It is safe for concurrent use.
type Keys struct {
	inventory *keys.Inventory
	serials   *ksn.Ledger
	access    Authorizer
}

// New returns the keys of an inventory, with the record of the key serial numbers that were
// used.
func New(inventory *keys.Inventory, serials *ksn.Ledger, access Authorizer) *Keys {
	return &Keys{inventory: inventory, serials: serials, access: access}
}

// Entry returns the audit entry of the request in ctx.
func (k *Keys) Entry(ctx context.Context) *audit.Entry { return k.access.Entry(ctx) }

// Authorize asks about an action that works with no key.
func (k *Keys) Authorize(ctx context.Context, action string) error {
	return k.access.Authorize(ctx, action, nil)
}

// Named is a key that a request names in a field.
type Named struct{ Field, Name string }

// Authorized resolves the keys, asks whether the caller may use them, and only then
// says what is wrong with one: a caller whom the policy denies does not learn which
// keys there are. The policy and the entry get the key's own name, whether the request has
// an alias or a version of it; where a key cannot be read, the policy decides on the name
// alone that was asked for. The keys have been recorded in the entry, in their order. What
// the policy demands goes to the module with the operation. Each version of a key counts as
// used once.
func (k *Keys) Authorized(ctx context.Context, action string, entry *audit.Entry, request ...Named) ([]keys.Key, hsm.Demands, error) {
	found := make([]keys.Key, len(request))
	asked := make([]policies.Key, len(request))
	var worst error
	for i, n := range request {
		key, err := k.inventory.Resolve(ctx, n.Name)
		if ctx.Err() != nil {
			return nil, hsm.Demands{}, ctx.Err()
		}
		asked[i].Name, asked[i].KSN = keys.NameIn(n.Name), entry.Keys[i].KSN
		if err == nil {
			h := key.Header
			asked[i].Name = key.Name
			asked[i].Usage, asked[i].Algorithm, asked[i].Mode = h.Usage, h.Algorithm, h.Mode
			asked[i].Version, asked[i].Direction = key.Version, h.Direction
			asked[i].Peers = h.Peers
			describe(&entry.Keys[i], key)
			err = key.CheckUsable(time.Now())
		}
		worst = earlier(worst, located(err, n.Field))
		found[i] = key
	}
	if err := k.access.Authorize(ctx, action, asked); err != nil {
		return nil, hsm.Demands{}, err
	}
	if worst != nil {
		return nil, hsm.Demands{}, worst
	}
	k.count(found)
	return found, hsm.Demands{TokenCustody: k.access.Demand(ctx).Custody == policies.TokenCustody}, nil
}

// count counts a use of each key, of one that is named twice once.
func (k *Keys) count(found []keys.Key) {
	for i, key := range found {
		if !slices.ContainsFunc(found[:i], func(other keys.Key) bool { return other.Version == key.Version && other.Name == key.Name }) {
			k.inventory.Used(key)
		}
	}
}

// describe adds to an audit entry what the header says. A header is not authenticated
// here: what could not be in one is left out.
func describe(e *audit.Key, k keys.Key) {
	e.Name, e.Version = k.Name, k.Version
	if Fits(k.Header.Usage, 2, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		e.Usage = k.Header.Usage
	}
	if Fits(k.Header.CheckValue, 6, "0123456789ABCDEF") {
		e.KCV = k.Header.CheckValue
	}
}

// located adds the field to a refusal; one with a cause keeps it for the log.
func located(err error, field string) error {
	var f *fault.Error
	if !errors.As(err, &f) || f.Unwrap() != nil {
		return err
	}
	return fault.New(f.Reason, field)
}

// earlier returns the refusal that comes first in the order of checks.
func earlier(a, b error) error {
	if a == nil || b != nil && fault.Of(b).Reason < fault.Of(a).Reason {
		return b
	}
	return a
}

// Answered passes on what a module answered, or nothing with its refusal. It records and
// insists that the answer says where clear values existed.
func Answered[A any](entry *audit.Entry, answer A, c hsm.Custody, err error) (A, error) {
	var none A
	switch {
	case err != nil:
		return none, err
	case c != hsm.InToken && c != hsm.InModule:
		return none, fault.Wrap(fault.Internal, fmt.Errorf("a module answered with custody %d", uint8(c)))
	}
	entry.Custody = c.String()
	return answer, nil
}

// Sealed returns a key as a module gets it.
func Sealed(k keys.Key) hsm.Key { return hsm.Key{Name: k.Name, Sealed: k.Sealed} }
