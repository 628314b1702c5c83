package server

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/ceremony"
	"keyd/policies"
	"keyd/store"
	"keyd/terminals"
)

// maker signs certificates of devices.
type maker struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// newMaker returns an authority, below another where one is given.
func newMaker(t *testing.T, by *maker, change ...func(*x509.Certificate)) *maker {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "maker " + rand.Text()[:8]}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	for _, ch := range change {
		ch(c)
	}
	return by.sign(t, c, newKey(t))
}

func (m *maker) sign(t *testing.T, c *x509.Certificate, key crypto.Signer) *maker {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber = serial
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	if m == nil {
		m = &maker{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, m.certificate, key.Public(), m.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &maker{parsed, key}
}

// device makes a device, by default with a certificate as makers give them: no SPIFFE ID and
// no extended key usage.
func (m *maker) device(t *testing.T, change ...func(*x509.Certificate)) *maker {
	t.Helper()
	return m.deviceWith(t, newKey(t), change...)
}

func (m *maker) deviceWith(t *testing.T, key crypto.Signer, change ...func(*x509.Certificate)) *maker {
	t.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "KRD " + rand.Text()[:8]}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement}
	for _, ch := range change {
		ch(c)
	}
	return m.sign(t, c, key)
}

// shows is the device's side of TLS, with its issuers.
func (m *maker) shows(f *front, issuers ...*maker) *tls.Config {
	c := f.ca.trust()
	pair := tls.Certificate{Certificate: [][]byte{m.certificate.Raw}, PrivateKey: m.key}
	for _, i := range issuers {
		pair.Certificate = append(pair.Certificate, i.certificate.Raw)
	}
	// Whatever the server says of the authorities that it knows.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return c
}

// registerOf returns a register in which officers believe makers for terminals.
func registerOf(t *testing.T, version uint64, makers ...*maker) *ceremony.Epoch {
	t.Helper()
	e := &ceremony.Epoch{Version: version, Clock: time.Now().Unix(), Generation: 1, Oldest: 1,
		Roster: ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}}}
	for _, name := range []string{"officer-1", "officer-2"} {
		der, err := x509.MarshalPKIXPublicKey(newKey(t).Public())
		if err != nil {
			t.Fatal(err)
		}
		e.Roster.Officers = append(e.Roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://test.example/" + name, Key: der})
	}
	for _, m := range makers {
		e.Trust(ceremony.Authority{Certificate: m.certificate.Raw, Uses: []string{ceremony.UseTerminals}})
	}
	return e
}

// inForce puts a register in force: the first, or the one that another node has made of it.
func (f *front) inForce(e *ceremony.Epoch) {
	f.t.Helper()
	ctx := context.Background()
	sealed, err := ceremony.Encode(e)
	if err != nil {
		f.t.Fatal(err)
	}
	sealed = append(sealed, make([]byte, ceremony.EpochMACSize)...)
	if e.Version == 1 {
		if err := f.store.AdoptEpoch(ctx, 1, sealed); err != nil {
			f.t.Fatal(err)
		}
	} else {
		if err := f.store.ProposeEpoch(ctx, "other", e.Version, sealed, store.Change{}); err != nil {
			f.t.Fatal(err)
		}
		if err := f.store.AdvanceEpoch(ctx, e.Version, sealed, nil); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := f.config.Officers.Refresh(ctx); err != nil {
		f.t.Fatal(err)
	}
	if now := f.config.Officers.Epoch(); now == nil || now.Version != e.Version {
		f.t.Fatalf("in force: %+v", now)
	}
}

// newFrontFor prepares a server that believes makers for terminals, and whose policy lets
// every terminal translate under may.zone.
func newFrontFor(t *testing.T, makers ...*maker) *front {
	t.Helper()
	f := newFront(t)
	text := strings.Replace(testPolicy, "identities:\n", "identities:\n  - {id: \"terminal:*\", roles: [switch, own]}\n", 1) + `  own:
    - methods: ["TerminalService/GetKeyHost", "TerminalService/InjectKeys", "TerminalService/ConfirmKeys", "TerminalService/SignIn"]
`
	var err error
	if f.config.Policy, err = policies.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	f.put("may.zone", "P0")
	if makers != nil {
		f.inForce(registerOf(t, 1, makers...))
	}
	return f
}

// enrol registers a device past the service.
func (f *front) enrol(id string, device *maker, issuers ...*maker) {
	f.t.Helper()
	for _, m := range append(issuers, device) {
		f.roots.list = append(f.roots.list, m.certificate) // registration is not what is tried here
	}
	f.roots.list = slices.DeleteFunc(f.roots.list, func(c *x509.Certificate) bool { return !c.IsCA })
	f.putTerminal(id, device.certificate.Raw)
}

// asks is what becomes of a request of whoever connects so: a reason, MODULE_UNAVAILABLE for
// one that was let through, Unavailable without a connection.
func asks(t *testing.T, conn grpc.ClientConnInterface) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer, err := keydv1.NewPinServiceClient(conn).TranslatePinData(ctx, translation())
	if answer != nil || err == nil {
		t.Fatalf("answered: %v", answer)
	}
	return reason(err)
}

const (
	through = "MODULE_UNAVAILABLE"
	refused = "Unavailable"
	unknown = "IDENTITY_UNKNOWN"
)

// TestTerminalsConnect tries every kind of certificate that a maker can sign. Who asks is the
// terminal that has the device's public key, or nobody.
func TestTerminalsConnect(t *testing.T) {
	root := newMaker(t, nil)
	below := newMaker(t, root)
	bare := newMaker(t, newMaker(t, nil)) // an issuer that is believed, and not who is above it
	gone := newMaker(t, root)
	host := newMaker(t, root, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"KDH"} })
	foreign, hosts := newMaker(t, nil), newMaker(t, nil)
	namesake := newMaker(t, nil, func(c *x509.Certificate) { c.Subject = root.certificate.Subject })
	now := time.Now()

	f := newFrontFor(t)
	e := registerOf(t, 1, root, bare, gone)
	e.Distrust((&ceremony.Authority{Certificate: gone.certificate.Raw}).Fingerprint())
	e.Trust(ceremony.Authority{Certificate: hosts.certificate.Raw, Uses: []string{ceremony.UseHosts}})
	f.inForce(e)
	f.start()

	usage := func(u x509.KeyUsage) func(*x509.Certificate) { return func(c *x509.Certificate) { c.KeyUsage = u } }
	purpose := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	long := []*maker{root}
	for range 8 {
		long = append(long, newMaker(t, long[len(long)-1]))
	}
	slices.Reverse(long)
	huge := []*maker{below}
	for range 150 {
		huge = append(huge, below)
	}
	entries := 0
	for i, c := range []struct {
		name    string
		device  *maker
		issuers []*maker
		want    string
	}{
		{"below a root", root.device(t), nil, through},
		{"with the root", root.device(t), []*maker{root}, through},
		{"below an issuer", below.device(t), []*maker{below}, through},
		{"with all issuers", below.device(t), []*maker{below, root}, through},
		{"below an anchor that is no root", bare.device(t), nil, through},
		{"with that anchor", bare.device(t), []*maker{bare}, through},
		{"RSA", root.deviceWith(t, rsaKey, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)), nil, through},
		{"without a key usage", root.device(t, usage(0)), nil, through},
		{"for clients", root.device(t, purpose(x509.ExtKeyUsageClientAuth)), nil, through},
		{"for anything", root.device(t, purpose(x509.ExtKeyUsageAny)), nil, through},
		// What the maker writes of an identity is not who it is.
		{"a switch's SPIFFE ID", root.device(t, withID("spiffe://test.example/switch")), nil, through},
		{"another terminal's name", root.device(t, func(c *x509.Certificate) { c.Subject.CommonName = "terminal:t-0" }), nil, through},

		{"for servers", root.device(t, purpose(x509.ExtKeyUsageServerAuth)), nil, refused},
		{"for servers as well", root.device(t, purpose(x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)), nil, refused},
		{"a host's name", root.device(t, func(c *x509.Certificate) { c.Subject.CommonName = "KDH 17" }), nil, refused},
		{"below a host's issuer", host.device(t), []*maker{host}, refused},
		{"that signs nothing", root.device(t, usage(x509.KeyUsageKeyAgreement)), nil, refused},
		{"expired", root.device(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), nil, refused},
		{"not valid yet", root.device(t, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), nil, refused},
		{"an authority's", root.device(t, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), nil, refused},
		{"one that signs lists", root.device(t, usage(x509.KeyUsageDigitalSignature|x509.KeyUsageCRLSign)), nil, refused},
		{"the anchor's", bare, nil, refused},
		{"without its issuer", below.device(t), nil, refused},
		{"of a foreign maker", foreign.device(t), nil, refused},
		{"of a foreign maker with a switch's SPIFFE ID", foreign.device(t, withID("spiffe://test.example/switch"), purpose(x509.ExtKeyUsageClientAuth)), []*maker{foreign}, refused},
		{"of one with the maker's name", namesake.device(t), nil, refused},
		{"below a distrusted issuer", gone.device(t), []*maker{gone}, refused},
		{"below a hosts' authority", hosts.device(t), nil, refused},
		{"too many issuers", long[0].device(t), long, refused},
		{"far too many", below.device(t), huge, refused},
	} {
		id := "t-" + string(rune('A'+i/10)) + string(rune('0'+i%10))
		if c.want == through {
			if got := asks(t, f.connect(c.device.shows(f, c.issuers...))); got != unknown {
				t.Errorf("%s, before it is registered: %s", c.name, got)
			}
			entries++
			if r := f.lastRecord(entries); r.Decision != audit.Denied || r.Identity != "" || !strings.Contains(r.Detail, "register it") {
				t.Errorf("%s, before it is registered: %+v", c.name, r)
			}
			f.enrol(id, c.device, slices.Concat(c.issuers, []*maker{root, bare})...)
		}
		if got := asks(t, f.connect(c.device.shows(f, c.issuers...))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.want == through {
			entries++
			if r := f.lastRecord(entries); r.Identity != "terminal:"+id || r.Reason != through || r.Rule != "switch[0]" {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
	}
	if n := len(f.records()); n != entries {
		t.Errorf("%d entries, want %d", n, entries)
	}
	if out := f.log.String(); !strings.Contains(out, "no terminal is let in with them") || !strings.Contains(out, "KDH") {
		t.Error("the operator does not learn why a device was not let in")
	}
	// Clients are let in as before.
	if got := asks(t, f.as("switch")); got != through {
		t.Errorf("a switch: %s", got)
	}
	if got := asks(t, f.as("auditor")); got != "POLICY_DENIED" {
		t.Errorf("an auditor: %s", got)
	}
}

// TestTerminalsGetNothingElse: nothing but its keys and data, whatever the policy says.
func TestTerminalsGetNothingElse(t *testing.T) {
	root := newMaker(t, nil)
	f := newFrontFor(t, root)
	device := root.device(t, withID("spiffe://test.example/officer-1"))
	f.enrol("t-1", device, root)
	conn := f.start().connect(device.shows(f))
	for what, err := range map[string]error{
		"status":   second(keydv1.NewStatusServiceClient(conn).GetStatus(t.Context(), &keydv1.GetStatusRequest{})),
		"itself":   second(keydv1.NewTerminalServiceClient(conn).GetTerminal(t.Context(), &keydv1.GetTerminalRequest{TerminalId: "t-1"})),
		"resuming": second(keydv1.NewTerminalServiceClient(conn).ResumeTerminal(t.Context(), &keydv1.ChangeTerminalRequest{TerminalId: "t-1"})),
		"keys":     second(keydv1.NewKeyServiceClient(conn).ListKeys(t.Context(), &keydv1.ListKeysRequest{})),
		"audit":    second(keydv1.NewAuditServiceClient(conn).GetCheckpoint(t.Context(), &keydv1.GetCheckpointRequest{})),
		"approval": second(keydv1.NewCeremonyServiceClient(conn).ListCeremonies(t.Context(), &keydv1.ListCeremoniesRequest{})),
	} {
		if reason(err) != "POLICY_DENIED" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second(_ any, err error) error { return err }

// TestTerminalOutOfService: what was stolen has its key still, and gets nothing with it.
func TestTerminalOutOfService(t *testing.T) {
	root := newMaker(t, nil)
	f := newFrontFor(t, root)
	device, ctx := root.device(t), t.Context()
	f.enrol("t-1", device, root)
	conn := f.start().connect(device.shows(f))
	step := func(what, want string) {
		t.Helper()
		if got := asks(t, conn); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	do := func(change func(context.Context, string, string, string) (*terminals.Terminal, error)) {
		t.Helper()
		if _, err := change(ctx, "test", "t-1", "tried"); err != nil {
			t.Fatal(err)
		}
	}
	step("registered", through)
	do(f.config.Terminals.Suspend)
	step("suspended", "TERMINAL_STATE")
	if r := f.lastRecord(2); r.Decision != audit.Failed || r.Identity != "terminal:t-1" {
		t.Errorf("%+v", r)
	}
	do(f.config.Terminals.Resume)
	step("resumed", through)
	do(f.config.Terminals.Retire)
	step("retired", "TERMINAL_STATE")
	if _, err := keydv1.NewStatusServiceClient(conn).GetStatus(ctx, &keydv1.GetStatusRequest{}); reason(err) != "POLICY_DENIED" {
		t.Errorf("denied before its state matters: %v", err)
	}
}

// TestStolenTerminalFillsNoLog: what is out of service leaves as many entries as one that is denied.
func TestStolenTerminalFillsNoLog(t *testing.T) {
	root := newMaker(t, nil)
	f := newFrontFor(t, root)
	text := strings.Replace(string(f.config.Policy.Text()), "identities:\n", "limits: {denials: {per_second: 1, burst: 3}}\nidentities:\n", 1)
	var err error
	if f.config.Policy, err = policies.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	device := root.device(t)
	f.enrol("t-1", device, root)
	if _, err := f.config.Terminals.Suspend(t.Context(), "test", "t-1", "stolen"); err != nil {
		t.Fatal(err)
	}
	conn := f.start().connect(device.shows(f))
	refusals := map[string]int{}
	for range 20 {
		refusals[asks(t, conn)]++
	}
	if n := refusals["TERMINAL_STATE"]; n < 3 || n > 6 || n+refusals["RATE_LIMITED"] != 20 {
		t.Errorf("%v", refusals)
	}
	if n := len(f.records()); n != refusals["TERMINAL_STATE"] {
		t.Errorf("%d entries, want %d", n, refusals["TERMINAL_STATE"])
	}
}

// TestRevokedTerminal: a list revokes on open connections too, and for everything.
func TestRevokedTerminal(t *testing.T) {
	root := newMaker(t, nil)
	below := newMaker(t, root)
	f := newFrontFor(t, root)
	devices := []*maker{root.device(t), root.device(t), below.device(t)}
	issuers := [][]*maker{nil, nil, {below}}
	f.start()
	var open []*grpc.ClientConn
	for i, d := range devices {
		f.enrol("t-"+string(rune('1'+i)), d, root, below)
		open = append(open, f.connect(d.shows(f, issuers[i]...)))
		if got := asks(t, open[i]); got != through {
			t.Errorf("before: %s", got)
		}
	}
	given := terminals.NewDistribution(f.config.Terminals, f.store, f.config.Keys, f.config.Modules)
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, c := range []*x509.Certificate{devices[0].certificate, below.certificate} {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, root.certificate, root.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := given.SetList(t.Context(), der, nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"CERTIFICATE_REVOKED", through, "CERTIFICATE_REVOKED"} {
		for _, conn := range []*grpc.ClientConn{open[i], f.connect(devices[i].shows(f, issuers[i]...))} {
			if got := asks(t, conn); got != want {
				t.Errorf("terminal %d: %s, want %s", i+1, got, want)
			}
		}
	}
	if r := f.lastRecord(9); r.Identity != "terminal:t-3" || r.Decision != audit.Failed {
		t.Errorf("%+v", r)
	}
}

// TestOfficersEndBelief: connections that are open get nothing from then on.
func TestOfficersEndBelief(t *testing.T) {
	kept, ended, later := newMaker(t, nil), newMaker(t, nil), newMaker(t, nil)
	f := newFrontFor(t)
	if got := func() string { d := kept.device(t); return asks(t, f.start().connect(d.shows(f))) }(); got != refused {
		t.Errorf("without a register: %s", got)
	}
	first := registerOf(t, 1, kept, ended)
	f.inForce(first)
	devices := map[*maker]*maker{kept: kept.device(t), ended: ended.device(t), later: later.device(t)}
	open := map[*maker]*grpc.ClientConn{}
	for m, d := range devices {
		f.enrol("t-"+d.certificate.SerialNumber.Text(36)[:6], d, m)
		open[m] = f.connect(d.shows(f))
	}
	for m, want := range map[*maker]string{kept: through, ended: through, later: refused} {
		if got := asks(t, open[m]); got != want {
			t.Errorf("at first: %s, want %s", got, want)
		}
	}
	next := registerOf(t, 2, kept, ended, later)
	next.Distrust((&ceremony.Authority{Certificate: ended.certificate.Raw}).Fingerprint())
	f.inForce(next)
	if got := asks(t, open[kept]); got != through {
		t.Errorf("one that is still believed: %s", got)
	}
	if got := asks(t, open[ended]); got != unknown {
		t.Errorf("one that is open, of a maker who is believed no more: %s", got)
	}
	for m, want := range map[*maker]string{kept: through, ended: refused, later: through} {
		if got := asks(t, f.connect(devices[m].shows(f))); got != want {
			t.Errorf("a new connection: %s, want %s", got, want)
		}
	}
	// None is believed any more.
	f.inForce(registerOf(t, 3))
	if got := asks(t, open[kept]); got != unknown {
		t.Errorf("one that is open: %s", got)
	}
	if got := asks(t, f.connect(devices[kept].shows(f))); got != refused {
		t.Errorf("a new connection: %s", got)
	}
	if got := asks(t, f.as("switch")); got != through {
		t.Errorf("a switch: %s", got)
	}
}

// A client authority's certificates are those of clients, also where officers believe it for
// terminals: whoever configures it so has its terminals need SPIFFE IDs.
func TestMakerThatIsClientAuthority(t *testing.T) {
	f := newFrontFor(t)
	ca := &maker{f.ca.certificate, f.ca.key}
	f.inForce(registerOf(t, 1, ca))
	device := ca.device(t)
	f.enrol("t-1", device, ca)
	f.start()
	if got := asks(t, f.connect(device.shows(f))); got != unknown {
		t.Errorf("a device: %s", got)
	}
	if r := f.lastRecord(1); r.Identity != "" || !strings.Contains(r.Detail, "SPIFFE") {
		t.Errorf("%+v", r)
	}
	if got := asks(t, f.as("switch")); got != through {
		t.Errorf("a switch: %s", got)
	}
}

// Terminals do not depend on client authorities, and a client whose authority goes is not let
// in as a terminal of its maker.
func TestTerminalsAfterReload(t *testing.T) {
	root := newMaker(t, nil)
	f := newFrontFor(t, root)
	device := root.device(t)
	f.enrol("t-1", device, root)
	f.start()
	open, client := f.connect(device.shows(f)), f.as("switch")
	if asks(t, open) != through || asks(t, client) != through {
		t.Fatal("not let in at first")
	}
	identity, err := LoadTLS(newAuthority(t).serverFiles(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	identity.Config.Certificates = f.config.TLS.Certificates
	if closed, err := f.server.SetTLS(identity.Config); err != nil || closed != 1 {
		t.Errorf("%d closed, %v", closed, err)
	}
	if got := asks(t, open); got != through {
		t.Errorf("an open connection: %s", got)
	}
	if got := asks(t, f.connect(device.shows(f))); got != through {
		t.Errorf("a new one: %s", got)
	}
	if got := asks(t, client); got != refused {
		t.Errorf("a client: %s", got)
	}
}

// A connection does not outlive the certificates that let it in.
func TestDeviceCertificateExpiresDuringConnection(t *testing.T) {
	root := newMaker(t, nil)
	issuer := newMaker(t, root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) })
	f := newFrontFor(t, root)
	for _, c := range []struct{ chain []*x509.Certificate }{
		{[]*x509.Certificate{root.device(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) }).certificate}},
		{[]*x509.Certificate{issuer.device(t).certificate, issuer.certificate}},
	} {
		d := &device{chain: c.chain, officers: f.config.Officers}
		if err := d.believe(time.Now()); err != nil {
			t.Fatal(err)
		}
		if d.believe(time.Now().Add(30*time.Second)) != nil || d.believe(time.Now().Add(2*time.Minute)) == nil {
			t.Error("it is believed at another time than its certificates are valid")
		}
	}
}

// TestFloodOfTerminals: however many there are, clients get in.
func TestFloodOfTerminals(t *testing.T) {
	f := newFrontFor(t, newMaker(t, nil))
	s := newConnections(f.config.TLS, f.config.Officers)
	enter := func(d *device) (*connection, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		c := &connection{Conn: ours, device: d, all: s}
		return c, s.enter(c)
	}
	others := 0
	another := func() *device {
		others++
		return &device{chain: []*x509.Certificate{{RawSubjectPublicKeyInfo: fmt.Append(nil, others)}}}
	}
	// One device does not take what is there for all.
	greedy := another()
	var of []*connection
	for range MaxDeviceConnections {
		c, err := enter(greedy)
		if err != nil {
			t.Fatal(err)
		}
		of = append(of, c)
	}
	if _, err := enter(&device{chain: greedy.chain}); !errors.Is(err, errGreedy) {
		t.Errorf("one more of the same device: %v", err)
	}
	for range 2 {
		_ = of[0].Close()
	}
	if _, err := enter(greedy); err != nil {
		t.Errorf("after one of its own has gone: %v", err)
	}
	if _, err := enter(greedy); !errors.Is(err, errGreedy) {
		t.Errorf("after one of its own has gone twice: %v", err)
	}
	var first *connection
	for range MaxTerminalConnections - MaxDeviceConnections {
		c, err := enter(another())
		if err != nil {
			t.Fatal(err)
		}
		first = c
	}
	if _, err := enter(another()); !errors.Is(err, errCrowded) {
		t.Errorf("one more terminal: %v", err)
	}
	if _, err := enter(nil); err != nil {
		t.Errorf("a client: %v", err)
	}
	for range 2 {
		_ = first.Close()
	}
	if _, err := enter(another()); err != nil {
		t.Errorf("after one has gone: %v", err)
	}
	if _, err := enter(another()); !errors.Is(err, errCrowded) {
		t.Errorf("after one has gone twice: %v", err)
	}
	if n := s.count(); n != MaxTerminalConnections+1 || MaxTerminalConnections >= MaxConnections {
		t.Errorf("%d connections", n)
	}
	for c := range maps.Clone(s.open) {
		_ = c.Close()
	}
	if len(s.devices) != 0 || s.terminals != 0 || s.count() != 0 {
		t.Errorf("%d devices, %d terminals, %d connections after all have gone", len(s.devices), s.terminals, s.count())
	}
}
