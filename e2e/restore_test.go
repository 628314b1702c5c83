package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
	"keyd/store/postgrestest"
)

// machine is a production service whose machine can be lost, and its officers' papers stay.
type machine struct {
	*production

	s      *service
	backup string
	log    string // a copy of the audit log's directory
	tokens int
}

const machinePolicy = `version: 1
identities:
  - {id: "spiffe://dev.keyd/switch", roles: [switch]}
  - {id: "spiffe://dev.keyd/auditor", roles: [monitor, backup]}
  - {id: "spiffe://dev.keyd/officer-1", roles: [officer]}
  - {id: "spiffe://dev.keyd/officer-2", roles: [officer]}
  - {id: "spiffe://dev.keyd/officer-3", roles: [officer]}
roles:
  switch:
    - {methods: ["PinService/*", "DataService/*"], keys: ["*"], usages: ["*"]}
  monitor:
    - methods: [StatusService/GetStatus]
  backup:
    - methods: [BackupService/CreateBackup]
  officer:
    - {methods: ["CeremonyService/*", "KeyService/*"], keys: ["*"], usages: ["*"]}
    - methods: [VelocityService/ResetTranslations]
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	return newMachineWith(t, machinePolicy)
}

func newMachineWith(t *testing.T, policy string) *machine {
	t.Helper()
	m := &machine{production: newProduction(t), tokens: 1}
	m.write(filepath.Join(m.dir, "config", "policy.yaml"), policy, 0o644)
	m.initialise()
	m.start()
	return m
}

func (m *machine) start() { m.s = m.serve() }

// clear loses what the front keeps, and makes an empty directory of it.
func (m *machine) clear() {
	m.t.Helper()
	state := filepath.Join(m.dir, "front")
	if _, err := os.Stat(filepath.Join(state, "audit")); err == nil {
		m.log = filepath.Join(m.dir, fmt.Sprintf("audit-%d", time.Now().UnixNano()))
		m.must(os.CopyFS(m.log, os.DirFS(filepath.Join(state, "audit"))))
	}
	m.must(os.RemoveAll(state))
	m.must(os.Mkdir(state, 0o700))
	m.configure("payments", filepath.Join(m.dir, "token"))
}

// lose is the end of the machine: what follows is an empty one, with a second token that is
// given the same shares.
func (m *machine) lose() {
	m.t.Helper()
	m.clear()
	tokens := filepath.Join(m.dir, "token")
	conf := read(m.production, filepath.Join(tokens, "softhsm2.conf"))
	m.must(os.RemoveAll(tokens))
	m.must(os.Mkdir(tokens, 0o700))
	if err := os.Remove(filepath.Join(m.dir, "front.velocity")); err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	m.write(filepath.Join(tokens, "softhsm2.conf"), conf, 0o600)
	m.run(0, "softhsm2-util", "--init-token", "--free", "--label", "payments", "--so-pin", "87654321", "--pin", "12345678")
	m.configure("payments", tokens)
	m.tokens++
	suffix := fmt.Sprint(m.tokens)
	request := m.papers("request" + suffix)
	said := m.run(0, keydBinary, "init", "--config", m.conf, "--definition", m.papers("init.yaml"), "--request", request)
	finish := []string{"init", "--config", m.conf, "--request", request, "--record", m.papers("record" + suffix)}
	for _, name := range officers {
		answer := m.papers(name + ".accept" + suffix)
		args := []string{"officer", "accept", "--request", request, "--definition", m.papers("init.yaml"), "--officer-key", m.papers(name + ".key"),
			"--known", m.papers(name + ".known" + suffix), "--identity", row(m.production, said, "identity"), "--roster", row(m.production, said, "roster"), "--out", answer}
		if name == "officer-3" {
			m.run(0, keydBinary, args...)
		} else {
			share := m.papers(name + ".hex")
			m.write(share, hex.EncodeToString(m.share(name)), 0o600)
			paper, err := os.Open(share)
			m.must(err)
			check, err := officer.CheckValue("A", m.share(name))
			m.must(err)
			cmd := exec.CommandContext(m.t.Context(), keydBinary, append(args, "--component-fd", "3", "--component-check-value", check)...)
			cmd.Env, cmd.ExtraFiles = m.env, []*os.File{paper}
			if out, err := cmd.CombinedOutput(); err != nil {
				m.t.Fatalf("%v\n%s", err, out)
			}
			m.must(paper.Close())
		}
		finish = append(finish, "--accepted", answer)
	}
	m.run(0, keydBinary, finish...)
}

// seat is an officer of this machine.
func (m *machine) seat(n int) *seat {
	m.t.Helper()
	name := fmt.Sprintf("officer-%d", n)
	signer, err := officer.OpenKey(m.papers(name+".key"), nil)
	m.must(err)
	d := &seat{t: m.t, name: name, signer: signer, service: keydv1.NewCeremonyServiceClient(m.s.connect(m.s.tls(name)))}
	d.look()
	return d
}

// through has officers carry a definition out.
func (m *machine) through(text string, components ...string) *keydv1.Ceremony {
	m.t.Helper()
	one, two := m.seat(1), m.seat(2)
	c := one.begin(written(m.t, text))
	for i, component := range components {
		var err error
		c, err = m.seat(i+1).submit(c, i+1, component)
		m.must(err)
	}
	c, err := one.approve(c)
	m.must(err)
	if c.State == keydv1.Ceremony_OPEN {
		c, err = two.approve(c)
		m.must(err)
	}
	if c.State != keydv1.Ceremony_COMPLETED {
		m.t.Fatalf("after all papers the ceremony is %s", c.State)
	}
	return c
}

func (m *machine) encrypt(key string) string {
	_, err := m.s.data().EncryptData(m.s.ctx(), &keydv1.EncryptDataRequest{Key: &keydv1.DataKey{KeyId: key, Mode: keydv1.DataKey_CBC}, Plaintext: make([]byte, 16)})
	return reason(err)
}

func (m *machine) translate(r *keydv1.TranslatePinDataRequest) string {
	_, err := m.s.pins().TranslatePinData(m.s.ctx(), r)
	return reason(err)
}

func (m *machine) expectAll(what string, got map[string]string, want map[string]string) {
	m.t.Helper()
	for name, w := range want {
		if got[name] != w {
			m.t.Errorf("%s: %s: %s, want %s", what, name, got[name], w)
		}
	}
}

// client is the flags by which a command finds this service.
func (m *machine) client(as string) []string {
	certs := filepath.Join(m.dir, "dev", "certs")
	return []string{"--server", m.s.address, "--ca", filepath.Join(certs, "ca.crt"), "--cert", filepath.Join(certs, as+".crt"), "--key", filepath.Join(certs, as+".key")}
}

// adopt has officers take the register over that was restored.
func (m *machine) adopt(more string) {
	m.t.Helper()
	said, err := m.seat(1).service.GetModule(m.t.Context(), &keydv1.GetModuleRequest{})
	m.must(err)
	if !said.Restored || said.WaitingRegister == "" {
		m.t.Fatalf("nothing was restored: %v", said)
	}
	m.through("kind: adopt\nregister: " + said.WaitingRegister + "\n" + more)
}

// say runs keyd with a line on its standard input.
func (m *machine) say(line string, args ...string) {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), keydBinary, args...)
	cmd.Env, cmd.Stdin = m.env, strings.NewReader(line+"\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("keyd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// nothingIsUsed checks a service whose database was restored, before officers accept it.
func (m *machine) nothingIsUsed(what string, terminal *keydv1.TranslatePinDataRequest) {
	m.t.Helper()
	m.expectAll(what, map[string]string{"data": m.encrypt("kept"), "terminal": m.translate(terminal)}, map[string]string{"data": "EPOCH_STALE", "terminal": "EPOCH_STALE"})
	problems := ""
	for _, p := range m.s.status().Problems {
		problems += p.Text + "\n"
	}
	m.expect(problems, "restored from a backup")
	one := m.seat(1)
	if _, err := one.wish(written(m.t, "kind: create\nkey: {name: new, usage: D0, algorithm: A, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\n")); reason(err) != "CONFLICT" {
		m.t.Errorf("%s: another ceremony: %v", what, err)
	}
	said := m.run(0, keydBinary, append([]string{"officer", "trust", "--known", m.papers(fmt.Sprintf("show.known%d", time.Now().UnixNano())), "--identity", one.fingerprint(), "--roster", one.roster}, m.client("officer-1")...)...)
	m.expect(said, "restored")
}

// TestRestore takes a production service with three officers through the loss of its database,
// and of its machine.
func TestRestore(t *testing.T) {
	m := newMachine(t)
	vectors := publishedComponents(t)
	m.through("kind: load\nkey: {name: bdk, usage: B0, algorithm: T, length: 16, mode_of_use: X, peers: ['*'], formats: [0]}\ncomponents: 2\n", vectors["comp-005"].Components...)
	m.through("kind: load\nkey: {name: zone-a, usage: P0, algorithm: T, length: 16, mode_of_use: B, direction: both, peers: ['*'], formats: [0]}\ncomponents: 3\n", vectors["comp-004"].Components...)
	fromZone := &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{KeyId: "zone-a", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}, Outgoing: &keydv1.PinKey{KeyId: "zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: encrypt(tdes(t, unhex(t, vectors["comp-004"].Key)), iso0(t, "0", "1234", "F", "4012345678909")),
	}
	const key = "kind: create\nkey: {name: %s, usage: D0, algorithm: A, length: 16, mode_of_use: B, direction: both, data_modes: [CBC]}\n"
	for _, name := range []string{"kept", "stopped", "deleted", "later"} {
		m.through(fmt.Sprintf(key, name))
	}
	m.through("kind: create\nkey: {name: zone, usage: P0, algorithm: T, length: 16, mode_of_use: B, direction: both, peers: ['*'], formats: [0]}\n")
	m.through("kind: stop\ntarget: stopped\n")
	m.through("kind: delete\ntarget: deleted\nwait: 72h\n")
	keyService := keydv1.NewKeyServiceClient(m.s.connect(m.s.tls("officer-1")))
	_, err := keyService.CreateAlias(m.s.ctx(), &keydv1.CreateAliasRequest{AliasName: "alias", KeyId: "kept"})
	m.must(err)
	_, err = keyService.TagResource(m.s.ctx(), &keydv1.TagResourceRequest{KeyId: "kept", Tags: map[string]string{"owner": "cards"}})
	m.must(err)

	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210")
	terminals := make([]*terminal, 6)
	for i := range terminals {
		terminals[i] = newTerminal(t, ring, bdk, uint32(i+1))
		terminals[i].bdk = "bdk"
	}
	out := &keydv1.PinKey{KeyId: "zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	// Terminals are busy while the backup is made.
	counters := make([]uint32, len(terminals))
	stop := make(chan struct{})
	var busy, begun sync.WaitGroup
	for i := range terminals[:5] {
		terminals[i].pan = fmt.Sprintf("40123456789%02d0", i)
		begun.Add(1)
		busy.Go(func() {
			for n := uint32(1); n < 25; n++ { // the account's limit is 30 a minute
				if got := m.translate(terminals[i].translation(n, out)); got != "OK" {
					t.Errorf("terminal %d, transaction %d: %s", i, n, got)
				}
				if counters[i] = n; n == 1 {
					begun.Done()
				}
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	begun.Wait()
	m.backup = filepath.Join(m.dir, "keyd.backup")
	said := m.run(0, keydBinary, append([]string{"backup", "--out", m.backup}, m.client("auditor")...)...)
	m.expect(said, "register")
	m.expect(m.run(3, keydBinary, append([]string{"backup", "--out", m.backup + ".2"}, m.client("switch")...)...), "POLICY_DENIED")
	if left, err := filepath.Glob(m.backup + "?*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	close(stop)
	busy.Wait()
	if info, err := os.Stat(m.backup); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	m.run(1, keydBinary, append([]string{"backup", "--out", m.backup}, m.client("auditor")...)...) // never over another
	identity := m.seat(1).fingerprint()
	m.run(0, keydBinary, "backup", "verify", m.backup, "--identity", identity)
	m.run(7, keydBinary, "backup", "verify", m.backup, "--identity", ceremony.Digest(nil))
	var shown struct {
		Register uint64
		Document string
		Counts   struct{ Keys, Aliases, Tags uint64 }
	}
	m.must(json.Unmarshal([]byte(m.run(0, keydBinary, "backup", "show", m.backup, "-o", "json")), &shown))
	if shown.Counts.Keys != 7 || shown.Counts.Aliases != 1 || shown.Counts.Tags != 1 || shown.Register != 10 {
		t.Errorf("%+v", shown)
	}
	if said := m.run(0, keydBinary, "backup", "show", m.backup, "--policy"); said != machinePolicy {
		t.Errorf("the policy in the backup:\n%s", said)
	}

	// What happens after the backup: a terminal's transaction, and a new one's.
	restore := func(status int, more ...string) string {
		t.Helper()
		return m.run(status, keydBinary, append([]string{"restore", "--config", m.conf, "--backup", m.backup}, more...)...)
	}
	m.expect(restore(78), "stop keyd first")
	last := terminals[0].translation(counters[0]+1, out)
	fresh := terminals[5].translation(1, out)
	m.expectAll("after the backup", map[string]string{"last": m.translate(last), "fresh": m.translate(fresh)}, map[string]string{"last": "OK", "fresh": "OK"})
	m.s.stop()
	m.expect(restore(78), "is not empty")

	// The database is lost, the token is not.
	m.clear()
	survived := m.log
	damaged := []byte(read(m.production, m.backup))
	damaged[len(damaged)/2] ^= 1
	m.write(m.backup+".damaged", string(damaged), 0o600)
	m.expect(m.run(78, keydBinary, "restore", "--config", m.conf, "--backup", m.backup+".damaged"), "no good backup")
	if _, err := os.Stat(filepath.Join(m.dir, "front", "keyd.db")); !os.IsNotExist(err) {
		t.Errorf("a damaged backup was written: %v", err)
	}
	m.expect(restore(0, "--counters", "margin", "--margin", "30"), "has this register")
	m.expect(restore(78, "--counters", "margin", "--margin", "30"), "is not empty")
	m.start()
	m.nothingIsUsed("the same token", last)
	m.adopt("")
	m.expectAll("the same token", map[string]string{
		"kept": m.encrypt("kept"), "alias": m.encrypt("alias"), "stopped": m.encrypt("stopped"), "deleted": m.encrypt("deleted"),
		"last": m.translate(last), "within the margin": m.translate(terminals[1].translation(counters[1]+1, out)), "beyond": m.translate(terminals[1].translation(60, out)),
	}, map[string]string{"kept": "OK", "alias": "OK", "stopped": "KEY_DISABLED", "deleted": "KEY_DISABLED", "last": "KSN_REPLAYED", "within the margin": "KSN_REPLAYED", "beyond": "OK"})
	// It starts again, though its journal began anew.
	m.s.stop()
	m.start()
	if got := m.translate(terminals[1].translation(61, out)); got != "OK" {
		t.Errorf("after another start: %s", got)
	}
	m.s.stop()
	// The register has gone on: the same backup is an old one now.
	m.clear()
	m.expect(restore(78), "takes no older register")

	// The machine is lost.
	m.lose()
	said = restore(0)
	m.expect(said, "takes the register over")
	m.expect(said, "used up")
	m.start()
	m.nothingIsUsed("another token", last)
	one := m.seat(1)
	if _, err := one.wish(written(t, "kind: adopt\nregister: "+shown.Document+"\nstopped: [\"none?version=1\"]\n")); reason(err) != "KEY_NOT_FOUND" {
		t.Errorf("a key that the register does not have is stopped: %v", err)
	}
	m.adopt("stopped: [\"later?version=1\"]\n")
	m.expectAll("another token", map[string]string{
		"kept": m.encrypt("kept"), "alias": m.encrypt("alias"), "stopped": m.encrypt("stopped"), "deleted": m.encrypt("deleted"), "stopped since": m.encrypt("later"),
		"last": m.translate(last), "next": m.translate(terminals[0].translation(counters[0]+2, out)), "an account": m.translate(fromZone),
	}, map[string]string{
		"kept": "OK", "alias": "OK", "stopped": "KEY_DISABLED", "deleted": "KEY_DISABLED", "stopped since": "KEY_DISABLED",
		"last": "KSN_REPLAYED", "next": "KSN_REPLAYED", "an account": "RATE_LIMITED",
	})
	// Two people give one account its tries back.
	const pan = "4012345678909"
	if until := m.s.status().Tokens[0].Velocity.PresumedUntil.AsTime(); time.Until(until) < 20*time.Hour || time.Until(until) > 28*time.Hour {
		t.Errorf("tries are presumed used up until %v", until)
	}
	m.say(pan, "velocity", "permit", "--config", m.conf, "--translations")
	m.say(pan, append([]string{"velocity", "reset", "--translations"}, m.client("officer-1")...)...)
	if got := m.translate(fromZone); got != "OK" {
		t.Errorf("after its tries were given back: %s", got)
	}
	said = m.run(0, keydBinary, "audit", "show", "--last", "100", "--file", filepath.Join(m.dir, "front", "audit"))
	m.expect(said, "counters of key serial numbers exhausted, tries used up")
	m.s.stop()

	// Once more, with the audit log that survived.
	m.lose()
	segment := filepath.Join(survived, "audit-0000000000000001.log")
	whole := read(m.production, segment)
	m.write(survived+".cut", strings.Join(strings.SplitAfter(whole, "\n")[:10], ""), 0o600)
	m.write(survived+".altered", strings.Replace(whole, "zone", "zonf", 1), 0o600)
	m.expect(restore(78, "--counters", "logged", "--audit-log", survived+".cut"), "ends before the backup")
	m.expect(restore(78, "--counters", "logged", "--audit-log", survived+".altered"), "altered")
	m.write(segment, whole+`{"v":2,"seq":`, 0o600)
	said = restore(0, "--counters", "logged", "--audit-log", survived, "--tries", "anew")
	m.expect(said, "begin anew")
	m.start()
	m.adopt("")
	m.expectAll("with the audit log", map[string]string{
		"last": m.translate(last), "fresh": m.translate(fresh), "next": m.translate(terminals[0].translation(counters[0]+2, out)), "the new one's next": m.translate(terminals[5].translation(2, out)),
	}, map[string]string{"last": "KSN_REPLAYED", "fresh": "KSN_REPLAYED", "next": "OK", "the new one's next": "OK"})
	tags, err := keydv1.NewKeyServiceClient(m.s.connect(m.s.tls("officer-1"))).ListTagsForResource(m.s.ctx(), &keydv1.ListTagsForResourceRequest{KeyId: "kept"})
	if err != nil || len(tags.Tags) != 1 || tags.Tags["owner"] != "cards" {
		t.Errorf("tags: %v, %v", tags, err)
	}
}

// TestRestoreOntoPostgres takes a node that lost its database to another one on the server.
func TestRestoreOntoPostgres(t *testing.T) {
	server := startPostgres(t)
	m := &machine{production: newProduction(t)}
	password := filepath.Join(m.dir, "config", "postgres.password")
	m.write(password, postgrestest.Password+"\n", 0o600)
	if os.Geteuid() == 0 {
		m.own(password, 64900)
	}
	m.write(filepath.Join(m.dir, "config", "policy.yaml"), machinePolicy, 0o644)
	onNew := func() (database string) {
		t.Helper()
		database, err := server.Create(t.Context())
		m.must(err)
		m.more = fmt.Sprintf("database: {postgres: {hosts: [%q], database: %s, user: keyd, password_file: %s}}\nfleet: {node: a, size: 2}\n", server.Address, database, password)
		m.configure("payments", filepath.Join(m.dir, "token"))
		return database
	}
	lost := onNew()
	m.initialise()
	m.start()
	m.through("kind: load\nkey: {name: bdk, usage: B0, algorithm: T, length: 16, mode_of_use: X, peers: ['*'], formats: [0]}\ncomponents: 2\n", publishedComponents(t)["comp-005"].Components...)
	m.through("kind: create\nkey: {name: zone, usage: P0, algorithm: T, length: 16, mode_of_use: B, direction: both, peers: ['*'], formats: [0]}\n")
	ring := newKeyring()
	d := newTerminal(t, ring, ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210"), 1)
	d.bdk = "bdk"
	use := func(what string, counter uint32, want string) {
		t.Helper()
		if got := m.translate(d.translation(counter, &keydv1.PinKey{KeyId: "zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0})); got != want {
			t.Errorf("%s: counter %d: %s, want %s", what, counter, got, want)
		}
	}
	for n := uint32(1); n <= 5; n++ {
		use("at first", n, "OK")
	}
	backup := filepath.Join(m.dir, "keyd.backup")
	m.run(0, keydBinary, append([]string{"backup", "--out", backup}, m.client("auditor")...)...)
	use("after the backup", 6, "OK")
	restore := func(status int) string {
		t.Helper()
		return m.run(status, keydBinary, "restore", "--config", m.conf, "--backup", backup, "--counters", "logged", "--audit-log", filepath.Join(m.dir, "front", "audit"))
	}
	m.expect(restore(78), "stop keyd first")
	m.s.stop()
	m.expect(restore(78), "the database "+lost+" is not empty") // this node has stopped: its audit log is free
	m.must(server.Execute(t.Context(), lost, "UPDATE keyd.nodes SET name = 'b', last_seen = (extract(epoch FROM now()) * 1000000)::bigint"))
	m.expect(restore(78), "node b was at work on the database less than a minute ago")

	onNew()
	m.expect(restore(0), "has this register")
	m.expect(restore(78), "is not empty")
	m.start()
	use("before officers accept it", 7, "EPOCH_STALE")
	m.adopt("")
	use("restored", 6, "KSN_REPLAYED")
	use("restored", 7, "OK")
	// The journal began anew, and the audit log did not.
	m.s.stop()
	m.start()
	use("after another start", 7, "OK") // the stored answer, to the same request
	use("after another start", 6, "KSN_REPLAYED")
	use("after another start", 8, "OK")
}
