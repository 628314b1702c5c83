package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/simulator"
)

func always(c *tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
}

// TestWhoGetsNoKeys: each is refused with its reason.
func TestWhoGetsNoKeys(t *testing.T) {
	f := prepared(t)
	for _, id := range []string{"suspended", "unassigned", "revoked", "retired", "one", "two"} {
		f.terminal(t, id, "P-256", "dev-aes")
	}
	operator := func(args ...string) {
		t.Helper()
		f.must(t, append(append([]string{"terminal"}, args...), "--dir", f.dir)...)
	}

	// With a session key in use, too.
	f.keys(t, "suspended", "key-agreement")
	f.must(t, f.simulate("suspended", "sign-in")...)
	operator("suspend", "suspended", "--reason", "lost")
	f.refused(t, "TERMINAL_STATE", f.simulate("suspended", "keys")...)
	f.refused(t, "TERMINAL_STATE", f.simulate("suspended", "sign-in")...)
	out, err := f.command(samplePIN+"\n", f.simulate("suspended", "transaction", "--pan", samplePAN, "--format", "4", "--verify-as", "switch", "--session")...)
	if exitStatus(err) != 3 || !strings.Contains(err.Error(), "KEY_DISABLED") {
		t.Errorf("session keys of a suspended terminal: %v\n%s", err, out)
	}
	operator("resume", "suspended")
	if x := f.transact(t, "suspended", samplePIN, "4", "--session"); !*x.PIN {
		t.Error("its keys are not used after it was resumed")
	}

	operator("keyset", "assign", "unassigned", "--none")
	if out, err := f.command("", f.simulate("unassigned", "keys")...); exitStatus(err) != 3 {
		t.Errorf("without a key set: %v\n%s", err, out)
	}
	operator("retire", "retired", "--reason", "scrapped")
	if out, err := f.command("", f.simulate("retired", "keys")...); exitStatus(err) != 3 {
		t.Errorf("a retired one: %v\n%s", err, out)
	}

	// A carrier passes the request of one on as that of the other.
	f.swapped(t, "one", "two")

	// A terminal asks for itself alone.
	f.posing(t, "one", "two")

	// The maker revokes a certificate.
	maker, err := simulator.OpenAuthority(filepath.Join(f.dir, "maker"))
	if err != nil {
		t.Fatal(err)
	}
	i, err := simulator.OpenDevice(f.state("revoked")).Info()
	if err != nil {
		t.Fatal(err)
	}
	list, err := maker.List(i.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "maker.crl")
	if err := os.WriteFile(file, list, 0o644); err != nil {
		t.Fatal(err)
	}
	f.keys(t, "one", "key-agreement")
	operator("revocation", "set", file)
	if said := f.must(t, "terminal", "revocation", "list", "--dir", f.dir); !strings.Contains(said, "maker of terminals") {
		t.Error(said)
	}
	f.refused(t, "CERTIFICATE_REVOKED", f.simulate("revoked", "keys", "--as", "terminal-1")...)
	f.keys(t, "two", "key-agreement")

	// A stranger's authority, and one whom officers believe no more.
	f.must(t, "terminal", "simulate", "new", "stranger", "--state", f.state("stranger"), "--maker", filepath.Join(t.TempDir(), "maker"),
		"--hosts-ca", filepath.Join(f.dir, "hosts", "ca.crt"), "--certificate-out", filepath.Join(f.states, "stranger.pem"))
	f.refused(t, "CERTIFICATE_UNTRUSTED", "terminal", "register", "stranger", "--owner", "m", "--model", "x", "--serial", "1", "--certificate", filepath.Join(f.states, "stranger.pem"), "--dir", f.dir)
	f.must(t, "authority", "distrust", ceremony.FormatFingerprint(ceremony.Digest(maker.Certificate.Raw)), "--reason", "INC-1", "--yes", "--dir", f.dir, "--as", "officer-3")
	f.refused(t, "CERTIFICATE_UNTRUSTED", f.simulate("two", "keys", "--as", "terminal-1")...)
	f.verifyLog()
}

// swapped sends a terminal's request under another's name, and with another's certificate in it.
func (f *giver) swapped(t *testing.T, from, as string) {
	t.Helper()
	client := keydv1.NewTerminalServiceClient(f.connect(f.tls("terminal-1")))
	r, err := simulator.OpenDevice(f.state(from)).Ask(keydv1.InjectionMethod_KEY_AGREEMENT, simulator.AskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other := proto.CloneOf(r.Message())
	other.TerminalId = as
	if _, err := client.InjectKeys(f.ctx(), other); err == nil || reason(err) == "INTERNAL" {
		t.Errorf("a request of another terminal: %v", err)
	} else {
		t.Logf("a request of another terminal: %s", reason(err))
	}
	altered := proto.CloneOf(r.Message())
	altered.GetKeyAgreement()[len(altered.GetKeyAgreement())-1] ^= 1
	if _, err := client.InjectKeys(f.ctx(), altered); err == nil || reason(err) == "INTERNAL" {
		t.Errorf("an altered request: %v", err)
	}
}

// posing has a terminal ask for another with its own certificate.
func (f *giver) posing(t *testing.T, is, as string) {
	t.Helper()
	own, err := simulator.OpenDevice(f.state(is)).TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	c := f.tlsWithout()
	c.GetClientCertificate = always(&own)
	client := keydv1.NewTerminalServiceClient(f.connect(c))
	if _, err := client.GetKeyHost(f.ctx(), &keydv1.GetKeyHostRequest{TerminalId: as, Method: keydv1.InjectionMethod_KEY_AGREEMENT}); err == nil {
		t.Error("a terminal asks for another")
	} else {
		t.Logf("a terminal asks for another: %s", reason(err))
	}
	if _, err := client.GetTerminal(f.ctx(), &keydv1.GetTerminalRequest{TerminalId: is}); err == nil {
		t.Error("a terminal asks what operators ask")
	}
}

// TestWhichKeysNobodyGets: keys under weaker ones, numbers of others, requests that were used, and
// more than is reasonable; each has its reason, and the audit log has it.
func TestWhichKeysNobodyGets(t *testing.T) {
	f := prepared(t)
	write := func(name, text string) (file string) {
		t.Helper()
		file = filepath.Join(t.TempDir(), name+".yaml")
		head := "name: " + name + "\nmethods: [key-agreement, tr34-two-pass]\nkey_agreement_host: kdh-ec\ntr34_host: kdh-rsa\n"
		if err := os.WriteFile(file, []byte(head+text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	set := func(name, text string) {
		t.Helper()
		f.must(t, "terminal", "keyset", "set", write(name, text), "--dir", f.dir)
	}
	set("strong", "master_key: {algorithm: A, length: 32}\n")
	weak := write("weak", "master_key: {algorithm: T, length: 16}\ninitial_keys:\n  - {name: pin, bdk: bdk-aes, prefix: \"D0000002\", first: 1, last: 9}\n")
	set("one", "master_key: {algorithm: A, length: 16}\ninitial_keys:\n  - {name: pin, bdk: bdk-aes, prefix: \"D0000003\", first: 7, last: 7}\n")
	set("own", "master_key: {algorithm: A, length: 16}\ninitial_keys:\n  - {name: pin, bdk: bdk-aes, prefix: \"D0000004\", own: true}\n")

	// A file of terminals says which keys each gets, and a dry run finds what is not there.
	list := filepath.Join(t.TempDir(), "terminals.csv")
	if err := os.WriteFile(list, []byte("id,owner,model,serial,key_set\nlisted-1,m-1,P,1,own\nlisted-2,m-1,P,2,\nlisted-3,m-1,P,3,nowhere\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{{"--dry-run"}, nil} {
		out, err := f.command("", append([]string{"terminal", "import", list, "--dir", f.dir}, more...)...)
		if exitStatus(err) != 1 || !strings.Contains(out, "no key set") || !strings.Contains(out, "1 failed") {
			t.Errorf("%q: %v\n%s", more, err, out)
		}
	}
	if out := f.must(t, "terminal", "show", "listed-1", "--dir", f.dir); !strings.Contains(out, "own") {
		t.Errorf("%s", out)
	}

	f.terminal(t, "strong-ec", "P-256", "strong")
	f.refused(t, "EXPORT_FORBIDDEN", f.simulate("strong-ec", "keys")...)
	f.terminal(t, "strong-rsa", "RSA-3072", "strong")
	f.bind(t, "strong-rsa", "tr34-two-pass")
	f.refused(t, "EXPORT_FORBIDDEN", f.simulate("strong-rsa", "keys", "--method", "tr34-two-pass")...)
	f.terminal(t, "short-rsa", "RSA-2048", "dev-aes")
	f.bind(t, "short-rsa", "tr34-two-pass")
	f.refused(t, "EXPORT_FORBIDDEN", f.simulate("short-rsa", "keys", "--method", "tr34-two-pass")...)
	f.refused(t, "REQUEST_INVALID", "terminal", "keyset", "set", weak, "--dir", f.dir)

	for _, id := range []string{"one-1", "one-2"} {
		f.terminal(t, id, "P-256", "one")
	}
	if i := f.keys(t, "one-1", "key-agreement"); fmt.Sprintf("%X", i.Keys[2].KeySerialNumber) != "D000000300000007" {
		t.Errorf("%v", i.Keys)
	}
	f.refused(t, "NUMBERS_EXHAUSTED", f.simulate("one-2", "keys")...)

	for _, id := range []string{"own-1", "own-2"} {
		f.terminal(t, id, "RSA-3072", "own")
		f.bind(t, id, "tr34-two-pass")
	}
	f.refused(t, "REQUEST_INVALID", f.simulate("own-1", "keys", "--own", "D000000500000001")...)
	f.refused(t, "REQUEST_INVALID", f.simulate("own-1", "keys")...)
	f.killed(t, "own-1", "tr34-two-pass", "before-send", "--own", "D000000400000001")
	// The same random number with another number of the terminal's own is another request.
	d := simulator.OpenDevice(f.state("own-1"))
	r, err := d.Ask(keydv1.InjectionMethod_TR34_TWO_PASS, simulator.AskOptions{Own: [][]byte{{0xD0, 0, 0, 4, 0, 0, 0, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	client := keydv1.NewTerminalServiceClient(f.connect(f.tls("terminal-1")))
	if _, err := client.InjectKeys(f.ctx(), r.Message()); err != nil {
		t.Fatal(err)
	}
	replayed := proto.CloneOf(r.Message())
	replayed.InitialKeyIds[0][7] = 2
	if _, err := client.InjectKeys(f.ctx(), replayed); reason(err) != "REQUEST_REPLAYED" {
		t.Errorf("a random number is used for two requests: %v", err)
	}
	f.keys(t, "own-1", "tr34-two-pass", "--own", "D000000400000001")
	f.refused(t, "INITIAL_KEY_ALLOTTED", f.simulate("own-2", "keys", "--own", "D000000400000001")...)
	f.refused(t, "INITIAL_KEY_ALLOTTED", f.simulate("own-1", "keys", "--own", "D000000400000001", "--fresh")...)
	f.keys(t, "own-2", "key-agreement", "--own", "D000000400000003")

	f.terminal(t, "greedy", "P-256", "dev-aes")
	for range 10 {
		f.killed(t, "greedy", "key-agreement", "after-answer")
	}
	f.refused(t, "RATE_LIMITED", f.simulate("greedy", "keys")...)

	log := f.must(t, "audit", "show", "--dir", f.dir, "--last", "200")
	for _, why := range []string{"EXPORT_FORBIDDEN", "NUMBERS_EXHAUSTED", "REQUEST_REPLAYED", "INITIAL_KEY_ALLOTTED", "RATE_LIMITED"} {
		if !strings.Contains(log, why) {
			t.Errorf("the audit log has no %s", why)
		}
	}
	f.verifyLog()
}

// TestCloversDevice: the sample hierarchy that Clover has published is believed, its sample device
// registered, and given keys by TR-34.
func TestCloversDevice(t *testing.T) {
	f := prepared(t)
	sample := func(name string) string { return filepath.Join("..", "tr34", "testdata", "clover", name) }
	var begun keydv1.Ceremony
	if err := protojson.Unmarshal([]byte(f.must(t, "authority", "trust", sample("root.cert.pem"), "--use", "terminals", "--yes", "-o", "json", "--dir", f.dir, "--as", "officer-1")), &begun); err != nil {
		t.Fatal(err)
	}
	f.must(t, "ceremony", "approve", begun.CeremonyId, "--yes", "--dir", f.dir, "--as", "officer-2")

	chain := filepath.Join(t.TempDir(), "chain.pem")
	var text []byte
	for _, name := range []string{"krd_1.cert.pem", "krd_ca.cert.pem"} {
		text = append(text, readAll(t, sample(name))...)
	}
	if err := os.WriteFile(chain, text, 0o644); err != nil {
		t.Fatal(err)
	}
	f.must(t, "terminal", "register", "clover-1", "--owner", "m", "--model", "sample", "--serial", "1", "--certificate", chain, "--dir", f.dir)
	f.must(t, "terminal", "keyset", "assign", "clover-1", "dev-tdes", "--dir", f.dir)
	// Their host's certificate is not a device's.
	f.refused(t, "CERTIFICATE_ROLE", "terminal", "register", "clover-2", "--owner", "m", "--model", "sample", "--serial", "2", "--certificate", sample("kdh_1.cert.pem"), "--dir", f.dir)

	d, err := simulator.NewDevice(f.state("clover-1"), "clover-1", "annex-b", privateRSA(t, sample("krd_1.key.pem")))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.BelieveHosts([][]byte{der(t, filepath.Join(f.dir, "hosts", "ca.crt"))}); err != nil {
		t.Fatal(err)
	}
	f.must(t, "terminal", "simulate", "certify", "--state", f.state("clover-1"), "--certificate", chain)
	for _, method := range []string{"tr34-two-pass", "tr34-one-pass"} {
		f.bind(t, "clover-1", method)
		f.keys(t, "clover-1", method)
		if x := f.transact(t, "clover-1", samplePIN, "0"); !*x.PIN || !*x.MAC {
			t.Errorf("%s: %+v", method, x)
		}
	}
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func der(t *testing.T, path string) []byte {
	t.Helper()
	block, _ := pem.Decode(readAll(t, path))
	if block == nil {
		t.Fatalf("%s is not PEM", path)
	}
	return block.Bytes
}

func privateRSA(t *testing.T, path string) *rsa.PrivateKey {
	t.Helper()
	key, err := x509.ParsePKCS1PrivateKey(der(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestUnboundAndRebound: a terminal leaves its host, and goes to another, and its keys are over on
// both sides.
func TestUnboundAndRebound(t *testing.T) {
	f := prepared(t)
	f.terminal(t, "t-1", "RSA-3072", "dev-aes")
	f.bind(t, "t-1", "tr34-two-pass")
	f.keys(t, "t-1", "tr34-two-pass")
	f.must(t, f.simulate("t-1", "sign-in")...)

	authority, err := simulator.OpenAuthority(filepath.Join(f.dir, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, list := otherHost(t, authority)
	f.must(t, "terminal", "simulate", "rebind", "--state", f.state("t-1"), "--dir", f.dir, "--certificate", certificate, "--revocation-list", list, "--reason", "sold")
	if said := f.must(t, "terminal", "simulate", "show", "--state", f.state("t-1")); !strings.Contains(said, "KDH of somebody else") {
		t.Errorf("it is bound to another host:\n%s", said)
	}
	if all := f.injections(t, "t-1"); len(all) != 1 || all[0].State != keydv1.Injection_ENDED {
		t.Errorf("%v", all)
	}
	if out, err := f.command("", f.simulate("t-1", "keys", "--method", "tr34-two-pass")...); err == nil {
		t.Errorf("it takes keys of the host of before:\n%s", out)
	}

	// By halves, with files between terminal and operator.
	f.terminal(t, "t-2", "RSA-2048", "dev-tdes")
	f.bind(t, "t-2", "tr34-one-pass")
	f.keys(t, "t-2", "tr34-one-pass")
	dir := t.TempDir()
	request, token := filepath.Join(dir, "rt"), filepath.Join(dir, "ubt")
	f.must(t, "terminal", "simulate", "unbind", "--state", f.state("t-2"), "--request", request)
	f.must(t, "terminal", "unbind", "t-2", "--random-token", request, "--out", token, "--reason", "sold", "--dir", f.dir)
	f.must(t, "terminal", "simulate", "unbind", "--state", f.state("t-2"), "--token", token)
	if out, err := f.command("", "terminal", "simulate", "unbind", "--state", f.state("t-2"), "--token", token); err == nil {
		t.Errorf("the token counts twice:\n%s", out)
	}
	if said := f.must(t, "terminal", "history", "t-2", "--dir", f.dir); !strings.Contains(said, "unbound") {
		t.Error(said)
	}
	// It can come back.
	f.bind(t, "t-2", "tr34-two-pass")
	f.keys(t, "t-2", "tr34-two-pass")
}

// otherHost is the certificate of somebody else's host, by the same authority, and its list.
func otherHost(t *testing.T, authority *simulator.Authority) (certificate, list string) {
	t.Helper()
	key, err := simulator.GenerateKey("RSA-2048")
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "KDH of somebody else"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := authority.Host(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	if err != nil {
		t.Fatal(err)
	}
	revocations, err := authority.List()
	if err != nil {
		t.Fatal(err)
	}
	list = filepath.Join(t.TempDir(), "hosts.crl")
	if err := os.WriteFile(list, revocations, 0o644); err != nil {
		t.Fatal(err)
	}
	return pemFile(t, made), list
}

// TestLegacyForm: where key set and policy allow it, session keys come as bare cryptograms.
func TestLegacyForm(t *testing.T) {
	f := prepared(t)
	file := filepath.Join(t.TempDir(), "legacy.yaml")
	if err := os.WriteFile(file, []byte(`name: legacy
methods: [key-agreement]
key_agreement_host: kdh-ec
master_key: {algorithm: T, length: 16, bare: true}
session_keys:
  - {name: pin, usage: P0, algorithm: T, length: 16}
  - {name: mac, usage: M3, algorithm: T, length: 16}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	f.must(t, "terminal", "keyset", "set", file, "--dir", f.dir)
	f.terminal(t, "t-1", "P-256", "legacy")
	if i := f.keys(t, "t-1", "key-agreement"); i.Keys[0].Usage != "K0" {
		t.Errorf("%v", i.Keys)
	}
	if said := f.must(t, f.simulate("t-1", "sign-in")...); !strings.Contains(said, "outside PCI PIN 18-3") {
		t.Error(said)
	}
	if x := f.transact(t, "t-1", samplePIN, "0", "--session"); !*x.PIN || !*x.MAC {
		t.Error(fmt.Sprint(x))
	}
}
