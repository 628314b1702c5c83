package hsm

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm/internal/wire"
)

// Papers and documents of ceremonies are those of package ceremony, encoded. Here they are
// bytes: what is in them is between officers and modules.

// Signed is a document with its signature.
type Signed struct{ Document, Signature []byte }

// KeyInputs are the sealed keys that a definition names, nil where it names none. A module
// checks each against its register.
type KeyInputs struct {
	Under    *Key // the key block protection key
	Target   *Key // the key that something happens to
	Previous *Key // the newest version of a key that gets another one

	Register []byte // the register of other tokens with the same master keys
}

// BeginCeremony asks for the opening of a ceremony.
type BeginCeremony struct {
	Definition []byte
	Statement  Signed
	Keys       KeyInputs
}

// Ceremony is a ceremony that is open.
type Ceremony struct {
	Papers []byte // ceremony.Proceedings
	Keys   KeyInputs
}

// CarriedOut is what a ceremony makes. Nothing of it counts before its epoch is committed
// ([Client.CommitEpoch]).
type CarriedOut struct {
	Epoch  []byte
	Key    *Key   // nil where none comes to be
	Block  string // a key block that was written
	Link   []byte // with which a token joins others, whose register is the epoch ([Client.FollowEpoch])
	Record Signed
}

// BeginCeremony opens a ceremony. Errors are refusals of package fault.
func (c *Client) BeginCeremony(ctx context.Context, r BeginCeremony) (opening Signed, err error) {
	request := &wire.BeginCeremony{Definition: r.Definition, Statement: r.Statement.wire(), Keys: r.Keys.wire()}
	var answer wire.CeremonyOpened
	if err := c.call(ctx, 0, wire.OpBeginCeremony, request, &answer); err != nil {
		return Signed{}, err
	}
	return signed(answer.Opening), nil
}

// CheckCeremony says whether the papers are good so far, and returns the check value of the
// whole key where the papers have all of it.
func (c *Client) CheckCeremony(ctx context.Context, r Ceremony) (checkValue string, err error) {
	var answer wire.CeremonyChecked
	err = c.call(ctx, 0, wire.OpCheckCeremony, &wire.CheckCeremony{Papers: r.Papers, Keys: r.Keys.wire()}, &answer)
	return answer.CheckValue, err
}

// CarryOutTime is how much longer than any other operation CarryOut may take: it may have a
// token look for the primes of an RSA key.
const CarryOutTime = 30 * time.Second

// CarryOut carries out a ceremony whose papers are complete.
func (c *Client) CarryOut(ctx context.Context, r Ceremony) (CarriedOut, error) {
	var answer wire.CeremonyCarriedOut
	if err := c.callPatiently(ctx, CarryOutTime, wire.OpCarryOut, &wire.CarryOutCeremony{Papers: r.Papers, Keys: r.Keys.wire()}, &answer); err != nil {
		return CarriedOut{}, err
	}
	out := CarriedOut{Epoch: answer.Epoch, Block: answer.Block, Link: answer.Link, Record: signed(answer.Record)}
	if k := answer.Key; k != nil {
		out.Key = &Key{Name: k.Name, Sealed: k.Sealed}
	}
	return out, nil
}

// AbortCeremony calls a ceremony off and returns the epoch in which it can never be carried
// out, to be committed.
func (c *Client) AbortCeremony(ctx context.Context, papers []byte, statement Signed) (epoch []byte, err error) {
	var answer wire.EpochDocument
	err = c.call(ctx, 0, wire.OpAbortCeremony, &wire.AbortCeremony{Papers: papers, Statement: statement.wire()}, &answer)
	return answer.Epoch, err
}

// Identity returns what the token says of itself, signed.
func (c *Client) Identity(ctx context.Context) (Signed, error) {
	var answer wire.IdentityDocument
	err := c.call(ctx, 0, wire.OpGetIdentity, &wire.GetIdentity{}, &answer)
	return signed(answer.Identity), err
}

// FirstEpoch returns the first epoch of a token while it is the one that is pinned, and
// nothing afterwards.
func (c *Client) FirstEpoch(ctx context.Context) ([]byte, error) {
	var answer wire.EpochDocument
	err := c.call(ctx, 0, wire.OpFirstEpoch, &wire.FirstEpoch{}, &answer)
	return answer.Epoch, err
}

// SetEpoch brings every module the epoch that is pinned, and each that is attached later. An
// error is that of a module which refused it.
func (c *Client) SetEpoch(ctx context.Context, epoch []byte) error {
	c.mu.Lock()
	c.epoch = epoch
	channels := c.channels
	c.mu.Unlock()
	var worst error
	for _, ch := range channels {
		if err := c.loadEpoch(ctx, ch, epoch, false); err != nil {
			worst = err
		}
	}
	return worst
}

// CommitEpoch pins a proposed epoch. Every module knows it before one pins it, so that no
// operation meets one that does not. When it returns nil the epoch counts, for modules that
// are attached later too. With the link, tokens that have the epoch before follow
// ([Client.FollowEpoch]).
func (c *Client) CommitEpoch(ctx context.Context, epoch []byte) (link []byte, err error) {
	var answer wire.EpochCommitted
	err = c.pin(ctx, epoch, wire.OpCommitEpoch, &wire.CommitEpoch{Epoch: epoch}, &answer)
	return answer.Link, err
}

// FollowEpoch pins an epoch that other tokens with the same master keys have pinned, as
// [Client.CommitEpoch] does. The links lead to it from the epoch that is pinned here.
func (c *Client) FollowEpoch(ctx context.Context, epoch []byte, links [][]byte) error {
	return c.pin(ctx, epoch, wire.OpFollowEpoch, &wire.FollowEpoch{Epoch: epoch, Links: links}, &wire.EpochFollowed{})
}

func (c *Client) pin(ctx context.Context, epoch []byte, op wire.Op, request, answer proto.Message) error {
	c.mu.RLock()
	channels := c.channels
	c.mu.RUnlock()
	if len(channels) == 0 {
		return fault.New(fault.ModuleUnavailable, "")
	}
	for _, ch := range channels {
		if err := c.loadEpoch(ctx, ch, epoch, true); err != nil && fault.Of(err).Reason == fault.EpochInvalid {
			return err // anything else is this module's own trouble
		}
	}
	if err := c.call(ctx, 0, op, request, answer); err != nil {
		return err
	}
	c.mu.Lock()
	c.epoch = epoch
	now := c.channels
	c.mu.Unlock()
	for _, ch := range now {
		if !slices.Contains(channels, ch) { // attached meanwhile, with the epoch before
			c.bringEpoch(ch)
		}
	}
	return nil
}

// Reseal seals a key anew under the present master keys. Nothing else about it changes, and a
// key that they seal already stays as it is.
func (c *Client) Reseal(ctx context.Context, k Key) (sealed []byte, err error) {
	var answer wire.Resealed
	err = c.call(ctx, 0, wire.OpReseal, &wire.Reseal{Key: k.wire()}, &answer)
	return answer.Sealed, err
}

func (c *Client) loadEpoch(ctx context.Context, ch *channel, epoch []byte, proposal bool) error {
	return c.callOn(ctx, ch, wire.OpLoadEpoch, &wire.LoadEpoch{Epoch: epoch, Proposal: proposal}, &wire.EpochLoaded{})
}

func (s Signed) wire() *wire.Signed {
	return &wire.Signed{Document: s.Document, Signature: s.Signature}
}

func signed(m *wire.Signed) Signed {
	return Signed{Document: m.GetDocument(), Signature: m.GetSignature()}
}

func (k KeyInputs) wire() *wire.KeyInputs {
	given := func(key *Key) *wire.SealedKey {
		if key == nil {
			return nil
		}
		return key.wire()
	}
	return &wire.KeyInputs{Under: given(k.Under), Target: given(k.Target), Previous: given(k.Previous), Register: k.Register}
}

// CertificateSubject is whom a certificate is for. Empty parts are left out.
type CertificateSubject struct {
	CommonName                                                    string // needed
	Organization, OrganizationalUnit, Country, Province, Locality string
	DNSNames                                                      []string
}

// CertificateRequest returns a PKCS #10 request (RFC 2986) for a key pair that may sign, in
// DER.
func (c *Client) CertificateRequest(ctx context.Context, k Key, subject CertificateSubject) ([]byte, error) {
	request := &wire.CertificateRequest{
		Key: k.wire(), CommonName: subject.CommonName, Organization: subject.Organization, OrganizationalUnit: subject.OrganizationalUnit,
		Country: subject.Country, Province: subject.Province, Locality: subject.Locality, DnsNames: subject.DNSNames,
	}
	var answer wire.CertificateRequested
	err := c.call(ctx, 0, wire.OpCertificate, request, &answer)
	return answer.Request, err
}
