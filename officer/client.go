package officer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

// Client is an officer who talks to a module through a service. The service is a
// messenger: what it hands over counts as far as the module or an officer has signed it,
// and is refused with [ErrNotBelieved] where that does not fit. A Client is made after
// [Known.Check] only.
type Client struct {
	Module *Module

	name   string
	signer crypto.Signer

	ceremonies keydv1.CeremonyServiceClient
	keys       keydv1.KeyServiceClient
	clock      func() time.Time
}

// NewClient returns a client that reads. [Client.As] lets it sign.
func NewClient(conn grpc.ClientConnInterface, m *Module) *Client {
	return &Client{
		Module:     m,
		ceremonies: keydv1.NewCeremonyServiceClient(conn),
		keys:       keydv1.NewKeyServiceClient(conn),
		clock:      time.Now,
	}
}

// As makes the client sign as an officer of the roster, whose key this must be.
func (c *Client) As(name string, signer crypto.Signer) error {
	o := c.Module.Officers.Officer(name)
	if o == nil {
		return fmt.Errorf("the roster has no officer %q; it has %s", name, strings.Join(Names(c.Module.Officers), ", "))
	}
	if err := checkSigner(o, signer); err != nil {
		return err
	}
	c.name, c.signer = name, signer
	return nil
}

// Name returns the officer's name.
func (c *Client) Name() string { return c.name }

func checkSigner(o *ceremony.Officer, signer crypto.Signer) error {
	theirs, err := o.Verifier()
	if err != nil {
		return err
	}
	mine, ok := signer.Public().(*ecdsa.PublicKey)
	if ok && mine.Equal(theirs) {
		return nil
	}
	digest, err := ceremony.KeyFingerprint(signer.Public())
	if err != nil {
		return err
	}
	return fmt.Errorf("this is not the key of %s:\n  in the roster %s\n  this one      %s\nname the officer whose key it is, or take the right key",
		o.Name, KeyPrint(o), ceremony.FormatFingerprint(digest))
}

// Names returns the officers of a roster.
func Names(r *ceremony.Roster) []string {
	names := make([]string, len(r.Officers))
	for i, o := range r.Officers {
		names[i] = o.Name
	}
	return names
}

// Papers fetches a ceremony and checks its papers.
func (c *Client) Papers(ctx context.Context, id string) (*Papers, error) {
	if !ceremony.ValidID(id) {
		return nil, fmt.Errorf("%q is no ceremony: an identifier has %d lower-case hex digits (keyd ceremony list has them)", id, ceremony.IDSize)
	}
	m, err := c.ceremonies.GetCeremony(ctx, &keydv1.GetCeremonyRequest{CeremonyId: id})
	if err != nil {
		return nil, err
	}
	return c.check(m, id)
}

// statement returns what every statement about these papers has in common.
func (c *Client) statement(action ceremony.Action, definition string) *ceremony.Statement {
	return &ceremony.Statement{
		Action: action, Officer: c.name, Definition: definition,
		Identity: digestOf(c.Module.Identity), Roster: digestOf(c.Module.Roster), Time: c.clock().Unix(),
	}
}

func (c *Client) sign(s *ceremony.Statement) (ceremony.Signed, error) {
	if c.signer == nil {
		return ceremony.Signed{}, errors.New("this needs an officer's key: --officer-key FILE, or --card LIBRARY --card-token LABEL")
	}
	return s.Sign(c.signer)
}

// Begin has a ceremony opened. Where the service has a method for this kind of change of a
// key, it is asked by that one, so that a policy can tell them apart.
func (c *Client) Begin(ctx context.Context, d *ceremony.Definition) (*Papers, error) {
	return c.begin(ctx, d, c.method(d.Kind))
}

// BeginCeremony is [Client.Begin] by the method that takes every kind.
func (c *Client) BeginCeremony(ctx context.Context, d *ceremony.Definition) (*Papers, error) {
	return c.begin(ctx, d, c.anyKind)
}

type change func(context.Context, *keydv1.KeyChangeRequest, ...grpc.CallOption) (*keydv1.Ceremony, error)

func (c *Client) anyKind(ctx context.Context, r *keydv1.KeyChangeRequest, o ...grpc.CallOption) (*keydv1.Ceremony, error) {
	return c.ceremonies.BeginCeremony(ctx, &keydv1.BeginCeremonyRequest{Definition: r.Definition, Statement: r.Statement}, o...)
}

func (c *Client) method(kind ceremony.Kind) change {
	switch kind {
	case ceremony.Create, ceremony.Load:
		return c.keys.CreateKey
	case ceremony.Import:
		return c.keys.ImportKey
	case ceremony.Export:
		return c.keys.ExportKey
	case ceremony.Attach:
		return c.keys.AttachKey
	case ceremony.Stop:
		return c.keys.StopKeyUsage
	case ceremony.Start:
		return c.keys.StartKeyUsage
	case ceremony.Delete:
		return c.keys.DeleteKey
	case ceremony.Restore:
		return c.keys.RestoreKey
	}
	return c.anyKind
}

func (c *Client) begin(ctx context.Context, d *ceremony.Definition, method change) (*Papers, error) {
	if d.Kind == ceremony.Init {
		return nil, errors.New("a token gets its first roster at the machine: keyd init takes this definition")
	}
	encoded, err := ceremony.Encode(d)
	if err != nil {
		return nil, err
	}
	wish, err := c.sign(c.statement(ceremony.Begin, ceremony.Digest(encoded)))
	if err != nil {
		return nil, err
	}
	m, err := method(ctx, &keydv1.KeyChangeRequest{Definition: encoded, Statement: toWire(wish)})
	if err != nil {
		return nil, err
	}
	p, err := c.check(m, m.GetCeremonyId())
	if err != nil {
		return nil, err
	}
	if err := p.Compare(d); err != nil {
		return nil, err
	}
	if p.Opening.Officer != c.name {
		return nil, unbelieved("the opening that it shows was begun by %s, not by %s", p.Opening.Officer, c.name)
	}
	return p, nil
}

// Submit seals a component to the ceremony's key and hands it in. own is the officer's own
// copy of the definition, which says what the component is used for. The officer has seen
// the component's check value before.
func (c *Client) Submit(ctx context.Context, p *Papers, own *ceremony.Definition, index int, component *Secret) (*Papers, error) {
	if err := p.Compare(own); err != nil {
		return nil, err
	}
	if err := p.MayEnter(c.name, index, c.clock()); err != nil {
		return nil, err
	}
	sealed, statement, err := seal(p.Checked, c.statement(ceremony.Submit, p.Opening.Definition), index, component)
	if err != nil {
		return nil, err
	}
	signed, err := c.sign(statement)
	if err != nil {
		return nil, err
	}
	m, err := c.ceremonies.SubmitComponent(ctx, &keydv1.SubmitComponentRequest{CeremonyId: p.Opening.ID, Statement: toWire(signed), SealedComponent: sealed})
	if err != nil {
		return nil, err
	}
	after, err := c.follows(m, p)
	if err != nil {
		return nil, err
	}
	return after, contains(m.GetSubmissions(), signed, "component")
}

// seal seals a component, and completes the statement about it.
func seal(p *ceremony.Checked, s *ceremony.Statement, index int, component *Secret) ([]byte, *ceremony.Statement, error) {
	algorithm, _ := componentOf(p.Definition)
	check, err := CheckValue(algorithm, component.Bytes())
	if err != nil {
		return nil, nil, err
	}
	sealed, err := ceremony.SealComponent(p.Opening, p.Digest, s.Officer, index, component.Bytes())
	if err != nil {
		return nil, nil, err
	}
	s.Opening, s.Index, s.Component, s.CheckValue = p.Digest, index, ceremony.Digest(sealed), check
	return sealed, s, nil
}

// Approve approves a ceremony over exactly these papers. checkValue is what the officer
// expects of the whole key, from elsewhere; it is empty where there is none.
func (c *Client) Approve(ctx context.Context, p *Papers, checkValue string) (*Papers, error) {
	if err := p.MayApprove(c.name, c.clock()); err != nil {
		return nil, err
	}
	if err := p.Expect(checkValue); err != nil {
		return nil, err
	}
	s := c.statement(ceremony.Approve, p.Opening.Definition)
	s.Opening, s.CheckValue, s.Components = p.Digest, p.CheckValue, p.ComponentDigests()
	signed, err := c.sign(s)
	if err != nil {
		return nil, err
	}
	m, err := c.ceremonies.ApproveCeremony(ctx, &keydv1.ApproveCeremonyRequest{CeremonyId: p.Opening.ID, Statement: toWire(signed)})
	if err != nil {
		return nil, err
	}
	after, err := c.follows(m, p)
	if err != nil {
		return nil, err
	}
	return after, contains(m.GetApprovals(), signed, "approval")
}

// Abort calls a ceremony off for good.
func (c *Client) Abort(ctx context.Context, p *Papers) (*Papers, error) {
	s := c.statement(ceremony.Abort, p.Opening.Definition)
	s.Opening = p.Digest
	signed, err := c.sign(s)
	if err != nil {
		return nil, err
	}
	m, err := c.ceremonies.AbortCeremony(ctx, &keydv1.AbortCeremonyRequest{CeremonyId: p.Opening.ID, Statement: toWire(signed)})
	if err != nil {
		return nil, err
	}
	return c.follows(m, p)
}

// List returns the ceremonies in a state, the newest first, as the service has them:
// nothing of it is signed.
func (c *Client) List(ctx context.Context, state keydv1.Ceremony_State) (*keydv1.ListCeremoniesResponse, error) {
	all := new(keydv1.ListCeremoniesResponse)
	for token := ""; ; {
		page, err := c.ceremonies.ListCeremonies(ctx, &keydv1.ListCeremoniesRequest{State: state, PageSize: 1000, PageToken: token})
		if err != nil {
			return nil, err
		}
		all.Ceremonies = append(all.Ceremonies, page.Ceremonies...)
		if token = page.NextPageToken; token == "" {
			return all, nil
		}
	}
}

// follows checks an answer: the same ceremony, a step further.
func (c *Client) follows(m *keydv1.Ceremony, before *Papers) (*Papers, error) {
	after, err := c.check(m, before.Opening.ID)
	if err != nil {
		return nil, err
	}
	if after.Digest != before.Digest {
		return nil, unbelieved("it answers with another opening of the ceremony than before")
	}
	return after, nil
}

// contains checks that a service has kept what it was given.
func contains(kept []*keydv1.SignedDocument, signed ceremony.Signed, what string) error {
	if slices.ContainsFunc(kept, func(k *keydv1.SignedDocument) bool { return bytes.Equal(k.GetDocument(), signed.Document) }) {
		return nil
	}
	return fmt.Errorf("the service answers without your %s: it may not have kept it; look with keyd ceremony show", what)
}

// OpeningOf fetches a ceremony and checks its opening and its definition only: enough to
// call it off.
func (c *Client) OpeningOf(ctx context.Context, id string) (*Papers, error) {
	m, err := c.ceremonies.GetCeremony(ctx, &keydv1.GetCeremonyRequest{CeremonyId: id})
	if err != nil {
		return nil, err
	}
	opening, digest, err := c.parseOpening(m, id)
	if err != nil {
		return nil, err
	}
	return openingOnly(m, opening, digest, "not checked: who signed what does not matter for calling it off")
}
