package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/receipt"
)

// prove looks at what keyd has of each terminal: one injection, which is confirmed, with a
// statement of the token's identity that verifies and names the terminal's own public key; and
// that no initial key was given twice.
func (e *enrolling) prove() error {
	identity, err := e.identity()
	if err != nil {
		return err
	}
	auditor, err := e.server.dial("auditor")
	if err != nil {
		return err
	}
	e.server.conns = append(e.server.conns, auditor)
	c := keydv1.NewTerminalServiceClient(auditor)
	var mu sync.Mutex
	given := make(map[initialKey]string) // to whom
	return e.each("looked at", e.all, false, func(ctx context.Context, t *enrolled) error {
		list, err := c.ListInjections(ctx, &keydv1.ListInjectionsRequest{TerminalId: t.id})
		if err != nil {
			return err
		}
		if n := len(list.GetInjections()); n != 1 {
			return fmt.Errorf("%d injections, want one", n)
		}
		i, err := c.GetInjection(ctx, &keydv1.GetInjectionRequest{TerminalId: t.id, InjectionId: list.Injections[0].GetInjectionId()})
		if err != nil {
			return err
		}
		record, err := proven(i, t, identity)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		e.out.Proven++
		return e.out.count(given, record)
	})
}

// initialKey is what an initial key is derived by.
type initialKey struct{ bdk, id string }

// count adds the initial keys of a record to those that were given, each of which has its
// terminal.
func (e *enrolment) count(given map[initialKey]string, r *receipt.Record) error {
	for _, k := range r.Keys {
		if k.ID == "" {
			continue
		}
		key := initialKey{k.BDK, k.ID}
		if other, ok := given[key]; ok {
			return fmt.Errorf("initial key %s of %s was given to terminal %s and to %s", k.ID, k.BDK, other, r.Terminal)
		}
		given[key] = r.Terminal
		e.Keys++
	}
	return nil
}

// proven verifies the statement of an injection.
func proven(i *keydv1.Injection, t *enrolled, identity *ecdsa.PublicKey) (*receipt.Record, error) {
	if i.GetState() != keydv1.Injection_CONFIRMED {
		return nil, fmt.Errorf("injection %s is %s, and not confirmed", i.GetInjectionId(), i.GetState())
	}
	said, err := receipt.Open(i.GetStatement())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(t.key)
	if err != nil {
		return nil, err
	}
	device := sha256.Sum256(der)
	r := &said.Record
	switch {
	case !said.Identity.Equal(identity):
		return nil, errors.New("the statement is of another identity than the token's")
	case r.Injection != i.GetInjectionId() || r.Terminal != t.id || r.Device != hex.EncodeToString(device[:]):
		return nil, fmt.Errorf("the statement is of injection %s of terminal %s", r.Injection, r.Terminal)
	case len(r.Keys) != 4:
		return nil, fmt.Errorf("the statement is of %d keys, and not of a master key, a receipt key and two initial keys", len(r.Keys))
	}
	return r, nil
}

// identity returns the public key of the token's identity, as the service says it.
func (e *enrolling) identity() (*ecdsa.PublicKey, error) {
	m, err := keydv1.NewCeremonyServiceClient(e.officer).GetModule(e.ctx, &keydv1.GetModuleRequest{})
	if err != nil {
		return nil, err
	}
	_, key, _, err := ceremony.ParseIdentity(ceremony.Signed{Document: m.GetIdentity().GetDocument(), Signature: m.GetIdentity().GetSignature()})
	return key, err
}
