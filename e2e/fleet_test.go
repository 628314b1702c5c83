package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/officer"
	"keyd/store/postgrestest"
)

// fleetPolicy lets officers bring keys in, beside what production services allow.
const fleetPolicy = `version: 1
limits: {default: unlimited}
identities:
  - {id: "spiffe://dev.keyd/switch", roles: [switch]}
  - {id: "spiffe://dev.keyd/auditor", roles: [monitor]}
  - {id: "spiffe://dev.keyd/officer-1", roles: [officer]}
  - {id: "spiffe://dev.keyd/officer-2", roles: [officer]}
  - {id: "spiffe://dev.keyd/officer-3", roles: [officer]}
roles:
  switch:
    - {methods: ["PinService/*"], keys: ["*"], usages: [P0, B0]}
  monitor:
    - methods: [StatusService/GetStatus, FleetService/ListNodes]
  officer:
    - {methods: ["CeremonyService/*", "KeyService/*", "FleetService/*"], keys: ["*"], usages: ["*"]}
`

// node is a keyd of a fleet.
type node struct {
	*production
	name string
	*service
}

// fleet is three production nodes with tokens of their own, and one database.
type fleet struct {
	*testing.T
	server *postgrestest.Server
	nodes  []*node
	phones string // where the policy sends them
}

func (n *node) must(err error) { n.production.must(err) }

// newFleet starts three nodes, of which the second and third have joined the first.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	return newFleetOf(t, fleetPolicy, "a", "b", "c")
}

// newFleetOf starts nodes with names and a policy, likewise.
func newFleetOf(t *testing.T, policy string, names ...string) *fleet {
	t.Helper()
	f := &fleet{T: t, server: startPostgres(t)}
	database, err := f.server.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		p := newProduction(t)
		n := &node{production: p, name: name}
		f.nodes = append(f.nodes, n)
		password := filepath.Join(p.dir, "config", "postgres.password")
		p.write(password, postgrestest.Password+"\n", 0o600)
		if os.Geteuid() == 0 {
			p.own(password, 64900)
		}
		p.write(filepath.Join(p.dir, "config", "policy.yaml"), policy, 0o644)
		if i > 0 { // the certificates of the first do for all
			f.share(n, "dev", "config/server.crt", "config/server.key", "config/clients.crt")
		}
		p.more = fmt.Sprintf("database: {postgres: {hosts: [%q], database: %s, user: keyd, password_file: %s}}\nfleet: {node: %s, size: %d}\nrestart_pause: 100ms\nvelocity: {verify: {minute: unlimited, hour: unlimited, day: unlimited}, translate: {minute: unlimited, hour: unlimited, day: unlimited}}\n",
			f.server.Address, database, password, name, len(names))
		p.configure("payments", filepath.Join(p.dir, "token"))
		if i == 0 {
			p.initialise()
			n.service = p.serve()
			f.desk(n).carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: zoneSpec("zone")})
			continue
		}
		f.initialiseLike(n, f.nodes[0])
		n.service = p.serve()
		f.join(n)
	}
	return f
}

func zoneSpec(name string) *ceremony.KeySpec {
	return &ceremony.KeySpec{
		Name: name, Version: 1, Usage: "P0", Algorithm: "T", Length: 16, Mode: "B", Exportability: "N",
		Direction: hsm.DirectionBoth, Peers: []string{"*"}, Formats: []hsm.Format{hsm.Format0, hsm.Format3},
	}
}

// share gives a node files of the first one.
func (f *fleet) share(n *node, names ...string) {
	f.Helper()
	for _, name := range names {
		at := filepath.Join(n.production.dir, name)
		n.must(os.RemoveAll(at))
		out, err := exec.CommandContext(f.Context(), "cp", "-a", filepath.Join(f.nodes[0].production.dir, name), at).CombinedOutput()
		if err != nil {
			f.Fatalf("%v\n%s", err, out)
		}
	}
}

// initialiseLike gives the token of a node the officers of another, and the shares that they
// have from there.
func (f *fleet) initialiseLike(n, first *node) {
	f.Helper()
	p := n.production
	f.share(n, "officers")
	for _, stale := range []string{"keyd.request", "init.record", "officer-1.accept", "officer-2.accept", "officer-3.accept"} {
		n.must(os.Remove(p.papers(stale)))
	}
	request := p.papers("keyd.request")
	said := p.run(0, keydBinary, "init", "--config", p.conf, "--definition", p.papers("init.yaml"), "--request", request)
	finish := []string{"init", "--config", p.conf, "--request", request, "--record", p.papers("init.record")}
	for _, name := range officers {
		answer := p.papers(name + ".accept")
		args := []string{"officer", "accept", "--request", request, "--definition", p.papers("init.yaml"), "--officer-key", p.papers(name + ".key"),
			"--known", p.papers(name + ".known"), "--identity", row(p, said, "identity"), "--roster", row(p, said, "roster"), "--out", answer}
		if name == "officer-3" { // who has no share
			p.run(0, keydBinary, args...)
		} else {
			share := first.share(name)
			check, err := officer.CheckValue("A", share)
			n.must(err)
			f.withInput(p, hex.EncodeToString(share), append(args, "--component-fd", "3", "--component-check-value", check)...)
		}
		finish = append(finish, "--accepted", answer)
	}
	p.run(0, keydBinary, finish...)
}

// withInput runs keyd with a text as descriptor 3.
func (f *fleet) withInput(p *production, text string, args ...string) {
	f.Helper()
	r, w, err := os.Pipe()
	p.must(err)
	_, err = io.WriteString(w, text)
	p.must(errors.Join(err, w.Close()))
	defer r.Close() //nolint:errcheck // the process read it
	cmd := exec.CommandContext(f.Context(), keydBinary, args...)
	cmd.Env, cmd.ExtraFiles = p.env, []*os.File{r}
	if out, err := cmd.CombinedOutput(); err != nil {
		f.Fatalf("keyd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// components begins to load a key, of which two officers enter a component each.
func (d *desk) components(spec *ceremony.KeySpec, value []byte) *keydv1.Ceremony {
	d.t.Helper()
	one := bytes.Repeat([]byte{0x5A}, len(value))
	opened := d.mustBegin(&ceremony.Definition{Kind: ceremony.Load, Components: 2, Key: spec, Overlap: overlapOf(spec)})
	for i, component := range [][]byte{one, xor(one, value)} {
		check, err := officer.CheckValue(spec.Algorithm, component)
		if err == nil {
			opened, err = d.submit(officers[i], opened, i+1, component, check, false)
		}
		if err != nil {
			d.t.Fatal(err)
		}
	}
	return opened
}

// overlapOf is for how long the version before a key's is still used: an hour, if there is one.
func overlapOf(spec *ceremony.KeySpec) int64 {
	if spec.Version == 1 {
		return 0
	}
	return 3600
}

// finish has two officers approve what was begun.
func (d *desk) finish(opened *keydv1.Ceremony) {
	d.t.Helper()
	for _, name := range officers[1:] {
		var err error
		if opened, err = d.approve(name, opened); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (f *fleet) desk(n *node) *desk {
	f.Helper()
	return newDeskOf(f.T, n.service, n.papers(""))
}

// join has the officers of a node have its token join the others.
func (f *fleet) join(n *node) {
	f.Helper()
	problems := n.status().Problems
	if len(problems) == 0 || !strings.Contains(problems[0].Text, "which officers can have this one join") {
		f.Fatalf("node %s does not say what to do: %v", n.name, problems)
	}
	d := f.desk(n)
	m, err := d.ceremonies["officer-1"].GetModule(n.ctx(), &keydv1.GetModuleRequest{})
	if err != nil {
		f.Fatal(err)
	}
	d.carryOut(&ceremony.Definition{Kind: ceremony.Join, Register: m.WaitingRegister})
}

// kill ends a node at once, as a loss of its machine does.
func (n *node) kill() {
	pids := []int{n.service.cmd.Process.Pid}
	for _, p := range n.status().Processes {
		pids = append(pids, int(p.Pid))
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// again starts a node that was killed.
func (n *node) again() { n.service = n.production.serve() }

// TestThreeNodesAreOneKeyd: keys that officers bring in at one node are used at all, what is
// stopped at one is stopped everywhere, no KSN is accepted twice wherever it is sent, and when a
// node dies the others go on with its terminals.
func TestThreeNodesAreOneKeyd(t *testing.T) {
	f := newFleet(t)
	a, b, c := f.nodes[0], f.nodes[1], f.nodes[2]
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "E09B073B4007541FAB76B04370451031", once)
	spec := &ceremony.KeySpec{
		Name: bdk, Version: 1, Usage: "B0", Algorithm: "T", Length: 16, Mode: "X", Exportability: "N", Direction: hsm.DirectionIncoming,
		Peers: []string{"*"}, Formats: []hsm.Format{hsm.Format0}, KSNCheck: "monotonic",
	}
	d := f.desk(b) // a key that comes in at the second
	opened := d.components(spec, unhex(t, ring.find(bdk).Value))
	// At another node nobody can go on with it.
	if _, err := f.desk(a).approve("officer-1", opened); reason(err) != "CONFLICT" && reason(err) != "SIGNATURE_INVALID" && reason(err) != "STATEMENT_MISMATCH" {
		t.Errorf("a ceremony of another node: %v", err)
	}
	d.finish(opened)

	zone := func(name string) *keydv1.PinKey {
		return &keydv1.PinKey{KeyId: name, Format: keydv1.PinBlockFormat_ISO_FORMAT_3}
	}
	var at places
	for i, n := range f.nodes {
		at.set(i, n.pins())
	}
	settled := newTerminal(t, ring, bdk, 999)
	for i, n := range f.nodes {
		waitUntil(t, "node "+n.name+" has the key", func() bool {
			_, err := at.get(i).TranslatePinData(n.ctx(), settled.translation(uint32(i+1), zone("zone")))
			return err == nil
		})
	}

	// One answer to each KSN, whichever nodes it is sent to.
	var accepted, unavailable atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for n := range 12 {
		terminal := newTerminal(t, ring, bdk, uint32(n+1))
		random := rand.New(rand.NewPCG(1, uint64(n)))
		clients.Go(func() {
			for counter := uint32(1); ; counter++ {
				select {
				case <-stop:
					return
				default:
				}
				if counter&(counter-1) != 0 && popcount(counter) > 10 {
					continue
				}
				same := terminal.translation(counter, zone("zone"))
				first, second := random.IntN(3), random.IntN(3)
				var answers [2][]byte
				var both sync.WaitGroup
				for i, where := range []int{first, second} {
					both.Go(func() {
						for try := 0; ; try++ {
							ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
							answer, err := at.get((where+try)%3).TranslatePinData(ctx, same)
							cancel()
							switch {
							case err == nil:
								answers[i] = answer.EncryptedPinBlock
								return
							case status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded:
								unavailable.Add(1)
								time.Sleep(10 * time.Millisecond)
								continue
							}
							t.Errorf("terminal %d, counter %d at node %d: %v", n, counter, (where+try)%3, err)
							return
						}
					})
				}
				both.Wait()
				if !bytes.Equal(answers[0], answers[1]) {
					t.Errorf("terminal %d, counter %d: nodes %d and %d give two answers: %X, %X", n, counter, first, second, answers[0], answers[1])
				}
				if t.Failed() {
					return
				}
				accepted.Add(1)
			}
		})
	}
	work := func(what string, more int64) {
		t.Helper()
		from := accepted.Load()
		waitUntil(t, what, func() bool { return accepted.Load() >= from+more || t.Failed() })
	}
	work("three nodes work", 200)
	c.kill()
	work("two nodes go on", 200)

	// Officers go on too, and the third catches up.
	desks := map[*node]*desk{a: f.desk(a), b: f.desk(b)}
	desks[a].carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: zoneSpec("later")})
	desks[b].carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: zoneSpec("stopped")})
	waitUntil(t, "the first node has what the second made", func() bool {
		_, err := at.get(0).TranslatePinData(a.ctx(), settled.translation(16, zone("stopped")))
		return err == nil
	})
	stopped := desks[a].mustBegin(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "stopped", Version: 1}})
	_, err := desks[a].approve("officer-3", stopped)
	a.must(err)
	waitUntil(t, "what one officer stops at one node is stopped at the other", func() bool {
		_, err := at.get(1).TranslatePinData(b.ctx(), settled.translation(17, zone("stopped")))
		return reason(err) == "KEY_DISABLED"
	})
	c.again()
	at.set(2, c.pins())
	work("three nodes work again", 200)
	close(stop)
	clients.Wait()
	waitUntil(t, "the third node has what was made while it was away", func() bool {
		_, err := at.get(2).TranslatePinData(c.ctx(), settled.translation(18, zone("later")))
		return err == nil
	})
	if _, err := at.get(2).TranslatePinData(c.ctx(), settled.translation(20, zone("stopped"))); reason(err) != "KEY_DISABLED" {
		t.Errorf("the third node, of a key that was stopped while it was away: %v", err)
	}
	t.Logf("%d KSNs accepted, %d times UNAVAILABLE", accepted.Load(), unavailable.Load())

	// The command line sees them all.
	said, err := a.command("", "fleet", "list", "--dir", a.service.dir, "--server", a.address, "--as", "auditor")
	if err != nil || strings.Count(said, "version ") != 3 || !strings.Contains(said, "a (this one)") {
		t.Errorf("%v\n%s", err, said)
	}
	// A node that is there is not forgotten.
	if _, err := a.command("", "fleet", "forget", "b", "--dir", a.service.dir, "--server", a.address, "--as", "officer-1"); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("a node that is there: %v", err)
	}
}

// places are clients of three nodes, which move when a node starts again.
type places [3]atomic.Value

func (p *places) set(i int, c keydv1.PinServiceClient) { p[i].Store(c) }

func (p *places) get(i int) keydv1.PinServiceClient { return p[i].Load().(keydv1.PinServiceClient) }

func popcount(n uint32) (ones int) {
	for ; n != 0; n &= n - 1 {
		ones++
	}
	return ones
}

// TestANodeWithoutItsDatabaseStops: it cannot know what was stopped elsewhere.
func TestANodeWithoutItsDatabaseStops(t *testing.T) {
	server := startPostgres(t)
	ring := newKeyring()
	in, out := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_3)
	s := startWith(t, filepath.Join(tempDir(t), "dev"), onPostgres(t, server), ring.keys...)
	pins := s.pins()
	block := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", "4012345678909"))
	translate := func() string {
		_, err := pins.TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: block})
		return reason(err)
	}
	if got := translate(); got != "OK" {
		t.Fatal(got)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := translate(); got != "OK" { // it needs nothing of the database
		t.Errorf("at once: %s", got)
	}
	waitUntil(t, "the node uses no key any more", func() bool { return translate() == "STORE_UNAVAILABLE" })
	if err := server.Launch(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the node uses keys again", func() bool { return translate() == "OK" })
}
