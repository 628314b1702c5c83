package terminals

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/store"
)

// DistributionStore is what is kept of the keys that terminals get.
type DistributionStore interface {
	store.Terminals
	store.KeySets
	store.Injections
}

// Keys finds keys of the inventory; [keys.Inventory] does.
type Keys interface {
	Resolve(ctx context.Context, reference string) (keys.Key, error)
}

// Modules make the keys that terminals get; [hsm.Client] does. Their errors are refusals of
// package fault.
type Modules interface {
	InjectByAgreement(ctx context.Context, r hsm.InjectByAgreement) (*hsm.Injected, error)
	InjectByToken(ctx context.Context, r hsm.InjectByToken) (*hsm.Injected, error)
	ConfirmInjection(ctx context.Context, r hsm.ConfirmInjection) (statement []byte, err error)
	MakeSessionKeys(ctx context.Context, master hsm.Key, specs []hsm.SessionKeySpec) ([]hsm.SessionKey, error)
	MakeBindingToken(ctx context.Context, r hsm.MakeBindingToken) (token []byte, err error)
}

// Distribution is how terminals get keys: which, from which host, and what is kept of it. It is
// safe for concurrent use, also by several processes on one database, and remembers nothing but
// parsed revocation lists.
//
// What the front decides here is order and bookkeeping. Whether a device is believed, whose an
// initial key is, and which keys go under which is for a module to decide.
type Distribution struct {
	inventory *Inventory
	store     DistributionStore
	keys      Keys
	modules   Modules
}

// NewDistribution returns the distribution over an inventory and its database.
func NewDistribution(v *Inventory, s DistributionStore, k Keys, m Modules) *Distribution {
	return &Distribution{inventory: v, store: s, keys: k, modules: m}
}

// Method is how a terminal gets its first keys, as the contract names it.
type Method string

// The methods.
const (
	KeyAgreement Method = "KEY_AGREEMENT"
	TwoPass      Method = "TR34_TWO_PASS"
	OnePass      Method = "TR34_ONE_PASS"
)

// token reports whether keys come by TR-34.
func (m Method) token() bool { return m == TwoPass || m == OnePass }

// service is a terminal that may get and use keys: registered, with a certificate.
type service struct {
	record store.TerminalRecord
	chain  []*x509.Certificate
}

func (s *service) device() (digest [sha256.Size]byte) {
	copy(digest[:], s.record.PublicKey)
	return digest
}

func (s *service) certificates() (ders [][]byte) {
	for _, c := range s.chain {
		ders = append(ders, c.Raw)
	}
	return ders
}

// registered returns a terminal that is in service, [fault.TerminalState] for one that is not.
func (d *Distribution) registered(ctx context.Context, id string) (store.TerminalRecord, error) {
	r, err := d.inventory.record(ctx, id)
	if err != nil {
		return r, err
	}
	if r.State != store.TerminalRegistered {
		return r, fault.New(fault.TerminalState, "it is "+word(r.State)+", and gets and confirms no keys")
	}
	return r, nil
}

// inService is registered with a certificate that is good now: it is looked at each time, since
// authorities, lists and clocks go on.
func (d *Distribution) inService(ctx context.Context, id string) (*service, error) {
	r, err := d.registered(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := withCertificate(&r)
	if err != nil {
		return nil, err
	}
	if _, err := d.inventory.verify(ctx, s.certificates(), d.inventory.now()); err != nil {
		return nil, err
	}
	return s, nil
}

// withCertificate refuses a terminal whose certificate is not known.
func withCertificate(r *store.TerminalRecord) (*service, error) {
	c, err := stored(r)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, fault.New(fault.CertificateInvalid, "the terminal was registered without one: give it one first (RenewTerminalCertificate)")
	}
	chain, err := parse(c.Chain)
	if err != nil {
		return nil, damaged(r.ID)
	}
	return &service{*r, chain}, nil
}

// keySetOf returns the newest version of a terminal's key set.
func (d *Distribution) keySetOf(ctx context.Context, r *store.TerminalRecord) (*KeySet, error) {
	if r.KeySet == "" {
		return nil, fault.New(fault.KeySetNotFound, "the terminal has no key set")
	}
	found, err := d.store.KeySet(ctx, r.KeySet)
	return keySet(ctx, found, err)
}

// refusedKeys is refused for what is kept of keys.
func refusedKeys(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, store.ErrTaken):
		return fault.New(fault.InitialKeyAllotted, "another terminal has this identifier, or this one has confirmed it already: an initial key is given to one terminal once")
	case errors.Is(err, store.ErrExhausted):
		return fault.New(fault.NumbersExhausted, "")
	case errors.Is(err, store.ErrTooMany):
		return fault.New(fault.RateLimited, fmt.Sprintf("a terminal has at most %d injections within a day that were never confirmed, %d in all, and as many events as leave room for changes of its state", mostUnconfirmed, mostInjections))
	}
	return refused(ctx, err)
}

// grouped writes an identifier so that the audit log, which leaves out long figures, keeps it.
func grouped(id string) string {
	var groups []string
	for len(id) > 8 {
		groups, id = append(groups, id[:8]), id[8:]
	}
	return strings.Join(append(groups, id), "-")
}

// afterwards is for what has to be kept although the caller is gone.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
}

const keepTimeout = 5 * time.Second
