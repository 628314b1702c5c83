package terminals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/store"
)

// KeySet is a version of a key set: which keys a terminal gets, and how. The names of its fields
// are in databases.
type KeySet struct {
	Name    string    `json:"-"` // see [ValidOwner]
	Version uint32    `json:"-"` // from 1
	Created time.Time `json:"-"`

	Methods       []Method `json:"methods"`
	AgreementHost string   `json:"agreement_host,omitempty"`
	TokenHost     string   `json:"token_host,omitempty"`
	Profile       string   `json:"profile,omitempty"` // of TR-34

	Master  MasterSpec    `json:"master"`
	Initial []InitialSpec `json:"initial,omitempty"` // at most MaxInitial
	Session []SessionSpec `json:"session,omitempty"` // at most MaxSession
}

// MasterSpec is what a terminal's master key is.
type MasterSpec struct {
	Algorithm string `json:"algorithm"` // T or A
	Length    uint32 `json:"length"`    // bytes
	Bare      bool   `json:"bare,omitempty"`
}

// InitialSpec is a DUKPT initial key, of a number that is allotted or of the terminal's own.
type InitialSpec struct {
	Name   string `json:"name"`
	Key    string `json:"key"` // reference to the base derivation key
	Prefix []byte `json:"prefix"`
	First  uint32 `json:"first,omitempty"`
	Last   uint32 `json:"last,omitempty"`
	Own    bool   `json:"own,omitempty"`
}

// SessionSpec is a key that a sign-in hands out.
type SessionSpec struct {
	Name      string `json:"name"`
	Usage     string `json:"usage"`
	Algorithm string `json:"algorithm"`
	Length    uint32 `json:"length"` // bytes
	Hours     uint32 `json:"hours"`
}

// Limits of key sets.
const (
	MaxInitial = 6
	MaxSession = 8
	MaxHours   = 168

	defaultHours = 24
	tdesNumbers  = 1 << 19 // of devices under one prefix
)

// SetKeySet adds the next version of a key set, and returns it. The very same content adds none.
// Its refusals are [fault.RequestInvalid], [fault.KeySetNotFound] for a host that is not there,
// those of [Keys.Resolve], [fault.KeyUsageMismatch], and [fault.Conflict] when somebody else set
// it meanwhile.
func (d *Distribution) SetKeySet(ctx context.Context, k KeySet) (*KeySet, error) {
	k.Session = slices.Clone(k.Session)
	for i := range k.Session {
		if k.Session[i].Hours == 0 {
			k.Session[i].Hours = defaultHours
		}
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	if err := d.checkReferences(ctx, &k); err != nil {
		return nil, err
	}
	content, err := ceremony.Encode(&k)
	if err != nil || len(content) > store.MaxKeySet {
		return nil, fault.New(fault.RequestInvalid, "key_set is too large")
	}
	newest, err := d.store.KeySet(ctx, k.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return nil, refused(ctx, err)
	case bytes.Equal(newest.Content, content):
		return keySet(ctx, newest, nil)
	}
	r := store.KeySet{Name: k.Name, Version: newest.Version + 1, Content: content, CreatedAt: d.inventory.now()}
	switch err := d.store.AddKeySet(ctx, r); {
	case errors.Is(err, store.ErrConflict):
		return nil, fault.New(fault.Conflict, "somebody else set this key set at the same moment: look at it again")
	case errors.Is(err, store.ErrInvalid):
		return nil, fault.New(fault.RequestInvalid, fmt.Sprintf("there are at most %d key sets", store.MaxKeySets))
	case err != nil:
		return nil, refused(ctx, err)
	}
	return keySet(ctx, r, nil)
}

// checkReferences looks for the hosts and keys that a key set names.
func (d *Distribution) checkReferences(ctx context.Context, k *KeySet) error {
	for _, name := range []string{k.AgreementHost, k.TokenHost} {
		if name == "" {
			continue
		}
		h, err := d.Host(ctx, name)
		if err != nil {
			return err
		}
		if rsa := h.Credential != nil; rsa != (name == k.TokenHost) || k.AgreementHost == k.TokenHost {
			return fault.New(fault.KeyUsageMismatch, "the host of key agreement has an EC key pair, that of TR-34 an RSA key pair")
		}
	}
	for i := range k.Initial {
		s := &k.Initial[i]
		b, err := d.keys.Resolve(ctx, s.Key)
		if err != nil {
			return err
		}
		prefix := map[string]int{"T": 5, "A": 4}[b.Header.Algorithm]
		switch {
		case b.Header.Usage != "B0" || prefix == 0:
			return fault.New(fault.KeyUsageMismatch, "the key of an initial key is a base derivation key (B0)")
		case len(s.Prefix) != prefix:
			return fault.New(fault.RequestInvalid, fmt.Sprintf("key_set.initial_keys: the prefix has %d bytes under this base derivation key", prefix))
		}
	}
	return nil
}

// KeySets returns the newest version of every key set, by name.
func (d *Distribution) KeySets(ctx context.Context) ([]*KeySet, error) {
	records, err := d.store.KeySets(ctx)
	if err != nil {
		return nil, refused(ctx, err)
	}
	list := make([]*KeySet, len(records))
	for i := range records {
		if list[i], err = keySet(ctx, records[i], nil); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Assign says which key set a terminal gets keys by; "" is none. It changes nothing of the keys
// that the terminal has.
func (d *Distribution) Assign(ctx context.Context, actor, terminalID, name string) (*Terminal, error) {
	r, err := d.inventory.record(ctx, terminalID)
	if err != nil {
		return nil, err
	}
	if r.State.Final() {
		return nil, fault.New(fault.TerminalState, "it is "+word(r.State)+", and gets no keys any more")
	}
	detail := "none"
	if name != "" {
		if !ValidOwner(name) {
			return nil, fault.New(fault.RequestInvalid, "key_set is the name of a key set")
		}
		found, err := d.store.KeySet(ctx, name)
		if _, err := keySet(ctx, found, err); err != nil {
			return nil, err
		}
		detail = name
	}
	if r.KeySet == name {
		return terminal(&r)
	}
	r.KeySet = name
	return d.inventory.keep(ctx, r, store.TerminalEvent{Kind: EventKeySet, Actor: actor, Detail: "key set " + detail})
}

// keySet makes a key set of what is kept.
func keySet(ctx context.Context, r store.KeySet, err error) (*KeySet, error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.KeySetNotFound, "there is no key set of that name")
	case err != nil:
		return nil, refused(ctx, err)
	}
	k, err := ceremony.Decode[KeySet](r.Content, store.MaxKeySet)
	if err == nil {
		k.Name, k.Version, k.Created = r.Name, r.Version, r.CreatedAt
		err = k.check()
	}
	if err != nil {
		return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("key set %s: %w", r.Name, store.ErrCorrupt))
	}
	return k, nil
}
