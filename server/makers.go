package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"keyd/ceremony"
	"keyd/keys"
	"keyd/terminals"
)

// makers are the authorities whose terminals are let in with the certificates of their makers:
// those that the register has for terminals.
type makers struct {
	officers *keys.Ceremonies

	mu     sync.Mutex
	cached *tls.Config
	of     *tls.Config     // what it was made of
	by     *ceremony.Epoch // likewise
	until  time.Time
}

// makersLookedAt is how long a configuration is used: an authority that becomes valid is let
// in by then.
const makersLookedAt = time.Minute

// with returns a configuration that lets in what the given one does, and whose certificates
// lead to an authority for terminals. Without any it is the given one.
func (m *makers) with(base *tls.Config) *tls.Config {
	now, epoch := time.Now(), m.officers.Epoch()
	if epoch == nil {
		return base
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == base && m.by == epoch && now.Before(m.until) {
		return m.cached
	}
	m.cached, m.of, m.by, m.until = base, base, epoch, now.Add(makersLookedAt)
	anchors, err := epoch.Anchors(ceremony.UseTerminals, now)
	if err != nil || len(anchors.Certificates) == 0 {
		return m.cached
	}
	c := base.Clone()
	c.ClientCAs = base.ClientCAs.Clone()
	for _, anchor := range anchors.Certificates {
		c.ClientCAs.AddCert(anchor)
	}
	m.cached = c
	return c
}

// device is a terminal that has connected with its own certificate, by the chain that it
// showed. Which one of the inventory it is, is looked up for each request.
type device struct {
	chain    []*x509.Certificate // leaf first
	officers *keys.Ceremonies
	by       atomic.Pointer[belief] // what it was believed by last
}

// belief is a register, with its authorities for terminals.
type belief struct {
	epoch   *ceremony.Epoch
	anchors []*x509.Certificate
}

var errNoRegister = errors.New("which authorities are believed is not known: the modules do not have the register")

// believe checks the device's chain as [trust.Anchors.Verify] does: again when officers have
// changed the register since, otherwise the times of its certificates only.
func (d *device) believe(now time.Time) error {
	epoch := d.officers.Epoch()
	if epoch == nil {
		return errNoRegister
	}
	if by := d.by.Load(); by != nil && epoch == by.epoch {
		for _, c := range d.chain {
			if now.After(c.NotAfter) {
				return fmt.Errorf("a certificate of the device's chain expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
			}
		}
		return nil
	}
	anchors, err := epoch.Anchors(ceremony.UseTerminals, now)
	if err != nil {
		return err
	}
	if err := anchors.Verify(d.chain, x509.KeyUsageDigitalSignature, nil, now); err != nil {
		return err
	}
	d.by.Store(&belief{epoch, anchors.Certificates})
	return nil
}

// publicKey returns the SHA-256 of the device's public key, by which the inventory knows it.
func (d *device) publicKey() [sha256.Size]byte {
	return sha256.Sum256(d.chain[0].RawSubjectPublicKeyInfo)
}

// standing is how a terminal stands that asks for itself.
type standing struct {
	*terminals.Terminal
	device    *device
	inventory *terminals.Inventory
}

// mayAsk refuses a terminal that is not in service, or whose certificates are revoked.
func (s *standing) mayAsk(ctx context.Context) error {
	if err := s.InService(); err != nil { // what is stolen may have its key still
		return err
	}
	return s.inventory.Unrevoked(ctx, s.device.chain, s.device.by.Load().anchors)
}
