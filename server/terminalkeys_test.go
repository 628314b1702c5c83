package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/hsm"
	"keyd/store"
	"keyd/terminals"
	"keyd/tr34"
)

// withHost gives the front a base derivation key and a key host with an EC key pair.
func (f *front) withHost() (*front, *keydv1.KeyHost) {
	f.t.Helper()
	ec := f.hostOf(newKey(f.t).Public())
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.t.Fatal(err)
	}
	f.rsaHost = f.hostOf(key.Public())
	for _, h := range []*hsm.Header{
		{Name: "may.host", Version: 1, Generation: 1, Usage: "S0", Algorithm: "E", Length: 32, Mode: "S", Exportability: "N", Custody: hsm.CustodyToken, Object: "host", Public: ec.RawSubjectPublicKeyInfo},
		{Name: "may.rsa", Version: 1, Generation: 1, Usage: "S0", Algorithm: "R", Length: 256, Mode: "S", Exportability: "N", Custody: hsm.CustodyToken, Object: "rsa", Public: f.rsaHost.RawSubjectPublicKeyInfo},
		{Name: "may.bdk", Version: 1, Generation: 1, Usage: "B0", Algorithm: "A", Length: 16, Mode: "X", Exportability: "N", CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken},
		{Name: "other.bdk", Version: 1, Generation: 1, Usage: "B0", Algorithm: "A", Length: 16, Mode: "X", Exportability: "N", CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken},
	} {
		var wrapped [][]byte
		if h.Object == "" {
			wrapped = [][]byte{make([]byte, 24)}
		}
		body, err := hsm.SealedBody(h, wrapped)
		if err != nil {
			f.t.Fatal(err)
		}
		if err := f.store.Put(f.t.Context(), store.KeyRecord{Name: h.Name, Version: 1, State: store.Enabled, Sealed: append(body, make([]byte, hsm.MACSize)...), CreatedAt: time.Now()}); err != nil {
			f.t.Fatal(err)
		}
	}
	return f, &keydv1.KeyHost{Name: "host", KeyId: "may.host", Certificates: [][]byte{ec.Raw}}
}

// hostOf returns the certificate of a key distribution host with a key.
func (f *front) hostOf(key crypto.PublicKey) *x509.Certificate {
	f.t.Helper()
	c := clientTemplate()
	c.Subject, c.ExtKeyUsage = pkix.Name{CommonName: "KDH 1"}, nil
	der, err := x509.CreateCertificate(rand.Reader, c, f.ca.certificate, key, f.ca.key)
	if err != nil {
		f.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return made
}

// putShop registers a terminal that gets the keys of a key set by TR-34, with one number for
// one terminal.
func (f *front) putShop(id string) {
	f.t.Helper()
	f.trust().withHost()
	f.putTerminal(id, f.device())
	d, ctx := f.config.Distribution, f.t.Context()
	_, host := d.SetHost(ctx, terminals.KeyHost{Name: "host", Key: "may.rsa", Certificates: [][]byte{f.rsaHost.Raw}})
	_, set := d.SetKeySet(ctx, terminals.KeySet{
		Name: "shop", Methods: []terminals.Method{terminals.TwoPass}, TokenHost: "host", Master: terminals.MasterSpec{Algorithm: "A", Length: 16},
		Initial: []terminals.InitialSpec{{Name: "pin", Key: "may.bdk", Prefix: []byte{1, 2, 3, 4}}}, Session: []terminals.SessionSpec{{Name: "pin", Usage: "P0", Algorithm: "A", Length: 16}},
	})
	_, assigned := d.Assign(ctx, "test", id, "shop")
	if err := errors.Join(host, set, assigned); err != nil {
		f.t.Fatal(err)
	}
}

// putInjection begins an injection of a terminal past the service, by another request with a
// random number.
func (f *front) putInjection(id string, random []byte, wanted store.Wanted) {
	f.t.Helper()
	nonce, request := sha256.Sum256(append([]byte("TR-34 random number\x00"), random...)), sha256.Sum256(nil)
	r, err := f.store.Terminal(f.t.Context(), id)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.store.BeginInjection(f.t.Context(), store.Begin{
		Injection: store.Injection{
			ID: openCeremony, Terminal: id, Method: "TR34_TWO_PASS", KeySet: "shop", KeySetVersion: 1, Request: request[:], Nonce: nonce[:], Created: time.Now(), ConfirmBy: time.Now().Add(time.Hour),
		},
		PublicKey: r.PublicKey, Wanted: []store.Wanted{wanted}, Most: 1, MostAll: 1,
	}); err != nil {
		f.t.Fatal(err)
	}
}

// twoPass asks for keys with a random number (TR-34).
func (f *front) twoPass(id string, random []byte) (any, error) {
	f.t.Helper()
	token, err := tr34.RandomToken(random)
	if err != nil {
		f.t.Fatal(err)
	}
	c := keydv1.NewTerminalServiceClient(f.as("officer-1"))
	return nilAnswer(c.InjectKeys(f.t.Context(), &keydv1.InjectKeysRequest{TerminalId: id, Request: &keydv1.InjectKeysRequest_Tr34RandomToken{Tr34RandomToken: token}}))
}

func shopSet() *keydv1.KeySet {
	return &keydv1.KeySet{
		Name: "shop", Methods: []keydv1.InjectionMethod{keydv1.InjectionMethod_KEY_AGREEMENT}, KeyAgreementHost: "host", MasterKey: &keydv1.KeySet_MasterKey{Algorithm: "A", Length: 16},
		InitialKeys: []*keydv1.KeySet_InitialKey{{Name: "pin", KeyId: "may.bdk", Prefix: []byte{1, 2, 3, 4}, Last: 99}},
		SessionKeys: []*keydv1.KeySet_SessionKeySpec{{Name: "pin", Usage: "P0", Algorithm: "A", Length: 16}},
	}
}

// TestKeySetsOverTheWire: hosts, key sets and what terminals ask for, each decided once and in
// the audit log once.
func TestKeySetsOverTheWire(t *testing.T) {
	f, h := newFront(t).trust().withHost()
	f.putTerminal("t-1", f.device())
	f.start()
	c, ctx := keydv1.NewTerminalServiceClient(f.as("officer-1")), t.Context()
	entries := 0
	recorded := func(method, detail string) {
		t.Helper()
		entries++
		if r := f.lastRecord(entries); r.Method != "TerminalService/"+method || !strings.HasPrefix(r.Detail, detail) {
			t.Errorf("recorded: %+v, want %q", r, detail)
		}
	}
	got, err := c.SetKeyHost(ctx, &keydv1.SetKeyHostRequest{KeyHost: h})
	if err != nil || got.ChangedAt == nil || got.CredentialToken != nil {
		t.Fatal(got, err)
	}
	recorded("SetKeyHost", "key host host")
	if l, err := c.ListKeyHosts(ctx, &keydv1.ListKeyHostsRequest{}); err != nil || len(l.KeyHosts) != 1 || !proto.Equal(l.KeyHosts[0], got) {
		t.Errorf("%v, %v", l, err)
	}
	recorded("ListKeyHosts", "")
	set, err := c.SetKeySet(ctx, &keydv1.SetKeySetRequest{KeySet: shopSet()})
	if err != nil || set.Version != 1 || set.SessionKeys[0].Hours != 24 {
		t.Fatal(set, err)
	}
	recorded("SetKeySet", "key set shop version 1")
	denied := shopSet()
	denied.InitialKeys[0].KeyId = "other.bdk"
	if _, err := c.SetKeySet(ctx, &keydv1.SetKeySetRequest{KeySet: denied}); reason(err) != "POLICY_DENIED" {
		t.Errorf("a key of others: %v", err)
	}
	recorded("SetKeySet", "key set shop")
	if _, err := c.SetKeySet(ctx, &keydv1.SetKeySetRequest{}); reason(err) == "OK" {
		t.Error("an empty key set was taken")
	}
	entries++
	if l, err := c.ListKeySets(ctx, &keydv1.ListKeySetsRequest{}); err != nil || len(l.KeySets) != 1 || !proto.Equal(l.KeySets[0], set) {
		t.Errorf("%v, %v", l, err)
	}
	recorded("ListKeySets", "")
	if terminal, err := c.AssignKeySet(ctx, &keydv1.AssignKeySetRequest{TerminalId: "t-1", KeySet: "shop"}); err != nil || terminal.KeySet != "shop" {
		t.Error(terminal, err)
	}
	recorded("AssignKeySet", "terminal t-1: key set shop")
	if found, err := c.GetKeyHost(ctx, &keydv1.GetKeyHostRequest{TerminalId: "t-1", Method: keydv1.InjectionMethod_KEY_AGREEMENT}); err != nil || found.Name != "host" {
		t.Error(found, err)
	}
	recorded("GetKeyHost", "terminal t-1: key host host")
	for what, r := range map[string]*keydv1.InjectKeysRequest{
		"no terminal": {Request: &keydv1.InjectKeysRequest_Tr34OnePass{Tr34OnePass: true}}, "no request": {TerminalId: "t-1"},
		"false":            {TerminalId: "t-1", Request: &keydv1.InjectKeysRequest_Tr34OnePass{}},
		"another method":   {TerminalId: "t-1", Request: &keydv1.InjectKeysRequest_Tr34OnePass{Tr34OnePass: true}},
		"anew, of nothing": {TerminalId: "t-1", Anew: true},
		"no message":       {TerminalId: "t-1", Request: &keydv1.InjectKeysRequest_KeyAgreement{KeyAgreement: []byte{0x30, 0}}},
	} {
		_, err := c.InjectKeys(ctx, r)
		if reason(err) != "REQUEST_INVALID" {
			t.Errorf("%s: %v", what, err)
		}
		entries++
		f.lastRecord(entries)
	}
	for _, try := range []struct {
		method, want string
		do           func() error
	}{
		{"ConfirmKeys", "REQUEST_INVALID", func() error { _, err := c.ConfirmKeys(ctx, &keydv1.ConfirmKeysRequest{TerminalId: "t-1"}); return err }},
		{"ConfirmKeys", "INJECTION_NOT_FOUND", func() error {
			_, err := c.ConfirmKeys(ctx, &keydv1.ConfirmKeysRequest{TerminalId: "t-1", InjectionId: strings.Repeat("0", 32), KeyCheckValues: []string{"000000", "000000"}, Mac: make([]byte, 16)})
			return err
		}},
		{"SignIn", "INJECTION_STATE", func() error { _, err := c.SignIn(ctx, &keydv1.SignInRequest{TerminalId: "t-1"}); return err }},
		{"UnbindTerminal", "KEY_SET_NOT_FOUND", func() error {
			_, err := c.UnbindTerminal(ctx, &keydv1.UnbindTerminalRequest{TerminalId: "t-1", RandomToken: []byte{1}})
			return err
		}},
		{"RebindTerminal", "REQUEST_INVALID", func() error {
			_, err := c.RebindTerminal(ctx, &keydv1.RebindTerminalRequest{TerminalId: "t-1", RandomToken: []byte{1}})
			return err
		}},
		{"GetInjection", "INJECTION_NOT_FOUND", func() error {
			_, err := c.GetInjection(ctx, &keydv1.GetInjectionRequest{TerminalId: "t-1", InjectionId: strings.Repeat("0", 32)})
			return err
		}},
		{"GetInjection", "REQUEST_INVALID", func() error {
			_, err := c.GetInjection(ctx, &keydv1.GetInjectionRequest{TerminalId: "t-1"})
			return err
		}},
		{"ListInjections", "OK", func() error {
			_, err := c.ListInjections(ctx, &keydv1.ListInjectionsRequest{TerminalId: "t-1"})
			return err
		}},
		{"ListInjections", "TERMINAL_NOT_FOUND", func() error {
			_, err := c.ListInjections(ctx, &keydv1.ListInjectionsRequest{TerminalId: "t-2"})
			return err
		}},
	} {
		if err := try.do(); reason(err) != try.want {
			t.Errorf("%s: %v, want %s", try.method, err, try.want)
		}
		recorded(try.method, "terminal t-")
	}
	other := keydv1.NewTerminalServiceClient(f.as("switch"))
	for what, do := range map[string]func() error{
		"InjectKeys": func() error {
			_, err := other.InjectKeys(ctx, &keydv1.InjectKeysRequest{TerminalId: "t-1", Request: &keydv1.InjectKeysRequest_Tr34OnePass{Tr34OnePass: true}})
			return err
		},
		"SignIn":     func() error { _, err := other.SignIn(ctx, &keydv1.SignInRequest{TerminalId: "t-1"}); return err },
		"SetKeyHost": func() error { _, err := other.SetKeyHost(ctx, &keydv1.SetKeyHostRequest{KeyHost: h}); return err },
	} {
		if err := do(); reason(err) != "POLICY_DENIED" {
			t.Errorf("%s by a switch: %v", what, err)
		}
		entries++
	}
}

// crl makes a revocation list of the authority of the test, with so many entries.
func (f *front) crl(number int64, entries int) []byte {
	f.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for n := range entries {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(int64(1000 + n)), RevocationTime: time.Now()})
	}
	signer := *f.ca.certificate
	signer.KeyUsage |= x509.KeyUsageCRLSign
	der, err := x509.CreateRevocationList(rand.Reader, l, &signer, f.ca.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}

// TestRevocationListsOverTheWire: a list comes in parts, as one request with one decision and one
// audit entry, whatever its caller does.
func TestRevocationListsOverTheWire(t *testing.T) {
	f := newFront(t).trust().start()
	der := f.crl(1, 3000) // some hundred KiB
	entries := 0
	send := func(who string, ctx context.Context, parts ...*keydv1.SetRevocationListRequest) (*keydv1.RevocationList, error) {
		stream, err := keydv1.NewTerminalServiceClient(f.as(who)).SetRevocationList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if stream.Send(p) != nil {
				break // the answer says why
			}
		}
		entries++
		return stream.CloseAndRecv()
	}
	parts := func(der []byte, size int) (list []*keydv1.SetRevocationListRequest) {
		for len(der) > 0 {
			n := min(size, len(der))
			list, der = append(list, &keydv1.SetRevocationListRequest{Data: der[:n]}), der[n:]
		}
		return list
	}
	l, err := send("officer-1", t.Context(), parts(der, 30000)...)
	if err != nil || l.Entries != 3000 || l.Number != "1" || l.StoredAt == nil {
		t.Fatal(l, err)
	}
	if r := f.lastRecord(entries); r.Method != "TerminalService/SetRevocationList" || r.Decision != audit.Allowed || r.Detail != "revocation list of CN=test CA with 3000 entries" {
		t.Errorf("recorded: %+v", r)
	}
	second := parts(f.crl(2, 1), 30000)
	again := append(parts(f.crl(2, 1), 100), &keydv1.SetRevocationListRequest{Data: []byte{1}, Issuers: [][]byte{{1}}})
	for what, c := range map[string]struct {
		who   string
		parts []*keydv1.SetRevocationListRequest
		want  string
	}{
		"nothing":          {"officer-1", nil, "REQUEST_INVALID"},
		"an empty part":    {"officer-1", append(second, &keydv1.SetRevocationListRequest{}), "REQUEST_INVALID"},
		"a large part":     {"officer-1", parts(bytes.Repeat([]byte{1}, 33<<10), 33<<10), "REQUEST_INVALID"},
		"too much":         {"officer-1", parts(make([]byte, 8<<20+1), 32<<10), "REQUEST_INVALID"},
		"issuers too late": {"officer-1", again, "REQUEST_INVALID"},
		"no list":          {"officer-1", parts([]byte("none"), 4), "CERTIFICATE_INVALID"},
		"cut short":        {"officer-1", parts(der[:len(der)-1], 30000), "CERTIFICATE_INVALID"},
		"an older one":     {"officer-1", parts(f.crl(1, 0), 30000), "CONFLICT"},
		"a switch":         {"switch", second, "POLICY_DENIED"},
		"nobody":           {"nobody", second, "POLICY_DENIED"},
	} {
		if _, err := send(c.who, t.Context(), c.parts...); reason(err) != c.want {
			t.Errorf("%s: %v, want %s", what, err, c.want)
		}
		if r := f.lastRecord(entries); r.Method != "TerminalService/SetRevocationList" || r.Reason != c.want {
			t.Errorf("%s was recorded as %+v", what, r)
		}
	}
	// gRPC refuses by itself what is longer than any message; that is in the audit log too.
	if _, err := send("officer-1", t.Context(), parts(make([]byte, 100<<10), 100<<10)...); reason(err) != "ResourceExhausted" {
		t.Errorf("a message too long: %v", err)
	}
	for limit := time.Now().Add(time.Minute); len(f.records()) < entries && time.Now().Before(limit); { // the answer did not wait for it
		time.Sleep(time.Millisecond)
	}
	if r := f.lastRecord(entries); r.Decision != audit.Failed {
		t.Errorf("recorded: %+v", r)
	}
	// Whoever falls silent is given up in the time of a request, by the server's own clock.
	stream, err := keydv1.NewTerminalServiceClient(f.as("officer-1")).SetRevocationList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(second[0]); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(keydv1.RevocationList)); reason(err) != "DeadlineExceeded" {
		t.Errorf("silence: %v", err)
	}
	entries++
	if r := f.lastRecord(entries); r.Decision != audit.Failed || r.Reason != ReasonDeadline {
		t.Errorf("recorded: %+v", r)
	}
	if l, err := keydv1.NewTerminalServiceClient(f.as("officer-1")).ListRevocationLists(t.Context(), &keydv1.ListRevocationListsRequest{}); err != nil || len(l.RevocationLists) != 1 || l.RevocationLists[0].Number != "1" {
		t.Errorf("%v, %v", l, err)
	}
}
