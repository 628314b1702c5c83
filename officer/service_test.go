package officer

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/hsm"
)

// module is a token's side of ceremonies, as far as an officer's client sees it: it signs
// what it should.
type module struct {
	t      *testing.T
	key    *ecdsa.PrivateKey
	roster *ceremony.Roster
	epoch  uint64
	pair   *ecdh.PrivateKey // of the ceremonies
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	return key
}

func spki(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return der
}

func newRoster(t *testing.T, keys map[string]*ecdsa.PrivateKey) *ceremony.Roster {
	t.Helper()
	r := &ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}}
	for _, name := range []string{"alice", "bob", "carol"} {
		r.Officers = append(r.Officers, ceremony.Officer{Name: name, Identity: "spiffe://test/" + name, Key: spki(t, keys[name])})
	}
	must(t, r.Validate())
	return r
}

func newModule(t *testing.T, roster *ceremony.Roster) *module {
	t.Helper()
	pair, err := ecdh.P521().GenerateKey(rand.Reader)
	must(t, err)
	return &module{t: t, key: newKey(t), roster: roster, epoch: 1, pair: pair}
}

func signed[T any](t *testing.T, key crypto.Signer, purpose ceremony.Purpose, document *T) *keydv1.SignedDocument {
	t.Helper()
	encoded, err := ceremony.Encode(document)
	must(t, err)
	signature, err := ceremony.Sign(key, purpose, encoded)
	must(t, err)
	return &keydv1.SignedDocument{Document: encoded, Signature: signature}
}

func (m *module) print() string { return ceremony.Digest(spki(m.t, m.key)) }

func (m *module) rosterPrint() string {
	f, err := m.roster.Fingerprint()
	must(m.t, err)
	return f
}

func (m *module) identity() *keydv1.SignedDocument {
	roster, err := ceremony.Encode(m.roster)
	must(m.t, err)
	return signed(m.t, m.key, ceremony.OfIdentity, &ceremony.Identity{
		Key: spki(m.t, m.key), Roster: roster, Epoch: m.epoch, Document: m.print(), Generation: 1, Masters: "ABCDEF", Time: time.Now().Unix(),
	})
}

// opening opens a ceremony. change alters what is signed.
func (m *module) opening(definition []byte, officer string, change ...func(*ceremony.Opening)) *keydv1.SignedDocument {
	d, err := ceremony.Decode[ceremony.Definition](definition, ceremony.MaxDocument)
	must(m.t, err)
	id := make([]byte, 16)
	_, err = rand.Read(id)
	must(m.t, err)
	now := time.Now().Unix()
	o := &ceremony.Opening{
		ID: hex.EncodeToString(id), Kind: d.Kind, Definition: ceremony.Digest(definition), Identity: m.print(), Roster: m.rosterPrint(), Epoch: m.epoch,
		Need: m.roster.Quorum.Need(d, "K0", false), Key: m.pair.PublicKey().Bytes(), Opened: now, Expires: now + d.ValidFor, Officer: officer,
	}
	if d.Kind != ceremony.Load {
		o.Key = nil
	}
	for _, f := range change {
		f(o)
	}
	return signed(m.t, m.key, ceremony.OfOpening, o)
}

func (m *module) record(c *keydv1.Ceremony, outcome ceremony.Outcome) *keydv1.SignedDocument {
	roster, err := ceremony.Encode(m.roster)
	must(m.t, err)
	r := &ceremony.Record{Proceedings: ceremony.Proceedings{Opening: fromWire(c.Opening), Definition: c.Definition}, Roster: roster, Outcome: outcome, Time: time.Now().Unix()}
	for _, s := range c.Submissions {
		r.Submissions = append(r.Submissions, ceremony.Submission{Statement: fromWire(s)})
	}
	for _, a := range c.Approvals {
		r.Approvals = append(r.Approvals, fromWire(a))
	}
	return signed(m.t, m.key, ceremony.OfRecord, r)
}

// front is a service that hands papers to and fro, and lies where a test makes it.
type front struct {
	keydv1.UnimplementedCeremonyServiceServer
	keydv1.UnimplementedKeyServiceServer
	module     *module
	ceremonies map[string]*keydv1.Ceremony
	sealed     [][]byte
	sum        []byte // of the components
	calls      []string

	lie   func(*keydv1.Ceremony)         // alters an answer
	begin func(definition []byte) []byte // exchanges a definition
	who   func() *keydv1.SignedDocument  // shows another identity
	alter func(*ceremony.Opening)        // has the module sign another opening
	id    func(string) string            // asks the module about another ceremony
}

func (f *front) called(name string) { f.calls = append(f.calls, name) }

func (f *front) answer(c *keydv1.Ceremony) *keydv1.Ceremony {
	if f.lie == nil {
		return c
	}
	b := &keydv1.Ceremony{
		CeremonyId: c.CeremonyId, Kind: c.Kind, State: c.State, Opening: c.Opening, Definition: c.Definition, Submissions: slices.Clone(c.Submissions),
		Approvals: slices.Clone(c.Approvals), CheckValue: c.CheckValue, Record: c.Record, KeyBlock: c.KeyBlock,
	}
	f.lie(b)
	return b
}

func (f *front) GetModule(context.Context, *keydv1.GetModuleRequest) (*keydv1.GetModuleResponse, error) {
	if f.who != nil {
		return &keydv1.GetModuleResponse{Identity: f.who()}, nil
	}
	return &keydv1.GetModuleResponse{Identity: f.module.identity()}, nil
}

func (f *front) BeginCeremony(_ context.Context, r *keydv1.BeginCeremonyRequest) (*keydv1.Ceremony, error) {
	f.called("begin")
	definition := r.Definition
	if f.begin != nil {
		definition = f.begin(definition)
	}
	s, _, err := f.module.roster.Statement(fromWire(r.Statement))
	if err != nil || s.Action != ceremony.Begin || s.Definition != ceremony.Digest(r.Definition) {
		return nil, status.Error(codes.InvalidArgument, "statement")
	}
	change := func(*ceremony.Opening) {}
	if f.alter != nil {
		change = f.alter
	}
	c := &keydv1.Ceremony{State: keydv1.Ceremony_OPEN, Definition: definition, Opening: f.module.opening(definition, s.Officer, change)}
	o, err := ceremony.Decode[ceremony.Opening](c.Opening.Document, ceremony.MaxDocument)
	if err != nil {
		return nil, err
	}
	c.CeremonyId, c.Kind = o.ID, string(o.Kind)
	f.ceremonies[o.ID] = c
	return f.answer(c), nil
}

func (f *front) SubmitComponent(_ context.Context, r *keydv1.SubmitComponentRequest) (*keydv1.Ceremony, error) {
	f.called("submit")
	c := f.ceremonies[r.CeremonyId]
	s, _, err := f.module.roster.Statement(fromWire(r.Statement))
	if err != nil {
		return nil, err
	}
	component, err := ceremony.OpenComponent(f.module.pair, ceremony.Digest(c.Opening.Document), s.Officer, s.Index, r.SealedComponent)
	if err != nil {
		return nil, err
	}
	if f.sum == nil {
		f.sum = make([]byte, len(component))
	}
	for i, b := range component {
		f.sum[i] ^= b
	}
	f.sealed = append(f.sealed, r.SealedComponent)
	c.Submissions = append(c.Submissions, r.Statement)
	if len(c.Submissions) == 2 {
		if c.CheckValue, err = CheckValue("T", f.sum); err != nil {
			return nil, err
		}
	}
	return f.answer(c), nil
}

func (f *front) ApproveCeremony(_ context.Context, r *keydv1.ApproveCeremonyRequest) (*keydv1.Ceremony, error) {
	f.called("approve")
	c := f.ceremonies[r.CeremonyId]
	c.Approvals = append(c.Approvals, r.Statement)
	if len(c.Approvals) == 2 {
		c.State = keydv1.Ceremony_COMPLETED
		c.Record = f.module.record(c, ceremony.Outcome{Epoch: 2, CheckValue: c.CheckValue})
	}
	return f.answer(c), nil
}

func (f *front) AbortCeremony(_ context.Context, r *keydv1.AbortCeremonyRequest) (*keydv1.Ceremony, error) {
	f.called("abort")
	c := f.ceremonies[r.CeremonyId]
	c.State = keydv1.Ceremony_ABORTED
	return f.answer(c), nil
}

func (f *front) GetCeremony(_ context.Context, r *keydv1.GetCeremonyRequest) (*keydv1.Ceremony, error) {
	id := r.CeremonyId
	if f.id != nil {
		id = f.id(id)
	}
	if c := f.ceremonies[id]; c != nil {
		return f.answer(c), nil
	}
	return nil, status.Error(codes.NotFound, "no ceremony")
}

// fixture is a service in this process, its module, and the officers' keys.
type fixture struct {
	*front
	t    *testing.T
	conn *grpc.ClientConn
	keys map[string]*ecdsa.PrivateKey
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	keys := map[string]*ecdsa.PrivateKey{"alice": newKey(t), "bob": newKey(t), "carol": newKey(t)}
	f := &fixture{t: t, keys: keys, front: &front{module: newModule(t, newRoster(t, keys)), ceremonies: map[string]*keydv1.Ceremony{}}}
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	keydv1.RegisterCeremonyServiceServer(server, f.front)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	var err error
	f.conn, err = grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	must(t, err)
	t.Cleanup(func() { f.conn.Close(); server.Stop(); <-done })
	return f
}

// as returns an officer's client.
func (f *fixture) as(name string) *Client {
	f.t.Helper()
	m, err := FetchModule(f.t.Context(), f.conn)
	must(f.t, err)
	c := NewClient(f.conn, m)
	must(f.t, c.As(name, f.keys[name]))
	return c
}

// loading is a definition for a key from two components.
func loading() *ceremony.Definition {
	return &ceremony.Definition{
		Kind: ceremony.Load, Components: 2, ValidFor: 3600,
		Key: &ceremony.KeySpec{Name: "zmk", Version: 1, Usage: "K0", Algorithm: "T", Length: 16, Mode: "D", Exportability: "N"},
	}
}

// creating is a definition without components.
func creating() *ceremony.Definition {
	return &ceremony.Definition{
		Kind: ceremony.Create, ValidFor: 3600,
		Key: &ceremony.KeySpec{Name: "zone", Version: 1, Usage: "P0", Algorithm: "A", Length: 16, Mode: "E", Exportability: "N", Direction: "outgoing", Formats: []hsm.Format{hsm.Format4}},
	}
}

func random16(t *testing.T) *Secret {
	t.Helper()
	s, err := Random(16)
	must(t, err)
	t.Cleanup(s.Destroy)
	return s
}

// open begins a ceremony as alice.
func (f *fixture) open(d *ceremony.Definition) *Papers {
	f.t.Helper()
	p, err := f.as("alice").BeginCeremony(f.t.Context(), d)
	must(f.t, err)
	return p
}

// entered is a ceremony with both components, by alice and bob.
func (f *fixture) entered() *Papers {
	f.t.Helper()
	p := f.open(loading())
	for i, name := range []string{"alice", "bob"} {
		var err error
		p, err = f.as(name).Submit(f.t.Context(), p, loading(), i+1, random16(f.t))
		must(f.t, err)
	}
	return p
}
