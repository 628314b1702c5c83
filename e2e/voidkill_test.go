package e2e

import (
	"context"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/officer"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

const (
	killShops  = 8  // shops that void at once
	killPerDay = 12 // voids of the merchant that has a limit
	killLimits = `  merchants:
    m-day: {currency: 156, per_day: 12, age: 43200, tries: 3, life: 600, confirm: 3600, tiers: [{up_to: 100000, methods: [[SUPERVISOR_PIN]]}]}
`
)

// Shops void payments while front, modules, supervisor and database are killed at random moments, on
// each kind of database. Each step is taken by two different requests at once, each of which is sent
// twice, and again until it has an answer. Every void has one outcome, the same request one answer, a
// void one token, a payment one live void, and a merchant no more voids than its day allows.
//
// KEYD_SEED and KEYD_KILLS are those of TestNothingIsAcceptedTwiceWhileProcessesAreKilled.
func TestVoidsWhileProcessesAreKilled(t *testing.T) {
	onBothKilled(t, func(c *chaos) { (&voidChaos{chaos: c}).run() })
}

// onBothKilled makes a service ready to be killed, on each kind of database.
func onBothKilled(t *testing.T, run func(*chaos)) {
	kills, err := strconv.Atoi(orElse(os.Getenv(killsVariable), "4"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(orElse(os.Getenv(seedVariable), strconv.FormatInt(time.Now().UnixNano(), 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s=%d %s=%d", seedVariable, seed, killsVariable, kills)
	begin := func(t *testing.T, stream uint64, flags ...string) *chaos {
		return &chaos{
			T: t, kills: kills, random: rand.New(rand.NewPCG(seed, stream)), stop: make(chan struct{}),
			flags: append(flags, "--listen", freeAddress(t), "--restart-pause", "100ms"),
		}
	}
	t.Run("SQLite", func(t *testing.T) { run(begin(t, 1)) })
	t.Run("PostgreSQL", func(t *testing.T) {
		server := startPostgres(t)
		c := begin(t, 2, onPostgres(t, server)...)
		c.database = func(pause time.Duration) error {
			if err := server.Kill(); err != nil {
				return err
			}
			time.Sleep(pause)
			return server.Launch()
		}
		run(c)
	})
}

// killAll kills something as often as is asked for, with work in between.
func (c *chaos) killAll(dir string) {
	killed := map[string]int{}
	for range c.kills {
		before := c.done.Load()
		waitUntil(c.T, "work goes on", func() bool { return c.done.Load() >= before+int64(1+c.random.IntN(10)) || c.Failed() })
		if c.Failed() {
			break
		}
		killed[c.killSomething(dir)]++
	}
	before := c.done.Load()
	waitUntil(c.T, "work goes on after the last", func() bool { return c.done.Load() > before || c.Failed() })
	close(c.stop)
	c.Logf("killed: %v; %d times UNAVAILABLE", killed, c.interrupts.Load())
}

// stopped says whether work is over.
func (c *chaos) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return c.Failed()
	}
}

// voidChaos is shops that void payments.
type voidChaos struct {
	*chaos
	pin        string
	tokens     voidtoken.Keys
	anna       func(digest [32]byte) *keydv1.PinApproval
	mu         sync.Mutex
	results    map[string]int
	outcomes   map[string]*voidOutcome // by identifier
	ofMerchant atomic.Int64
}

// voidOutcome is what clients were told of a void.
type voidOutcome struct {
	fields voidtoken.Fields
	token  string
	state  keydv1.Void_State
}

func (c *voidChaos) run() {
	c.results, c.outcomes, c.pin = map[string]int{}, map[string]*voidOutcome{}, randomPIN(c.T)
	dir := filepath.Join(tempDir(c.T), "dev")
	c.service = startWith(c.T, dir, c.flags)
	s := &counter{shop: &shop{service: c.service, papers: tempDir(c.T)}, pin: c.pin}
	policy := s.file("config", "policy.yaml")
	s.replace(policy, []byte(strings.Replace(string(s.read(policy)), "  fees:\n", killLimits+"  fees:\n", 1)))
	s.reload(loaded)
	s.must("pin", "prepare", "--dir", dir)
	s.must("void", "prepare", "--dir", dir)
	for n := range killShops {
		s.enrolled(fmt.Sprintf("shop-%d", n), c.pin)
	}
	c.tokens, c.anna = s.voidKeys(), approver(s)

	var all sync.WaitGroup
	for n := range killShops {
		client := keydv1.NewVoidServiceClient(c.service.connect(c.service.tls("switch")))
		random := rand.New(rand.NewPCG(c.random.Uint64(), uint64(n)))
		all.Go(func() {
			for i := 0; !c.stopped(); i++ {
				c.shopVoids(client, random, n, i)
				c.done.Add(1)
			}
		})
		all.Go(func() {
			for i := 0; !c.stopped(); i++ {
				c.crowd(client, n, i)
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	c.killAll(dir)
	all.Wait()
	c.checkAll()
	c.Logf("%d voids; results %v", len(c.outcomes), c.results)
	c.service.stop()
	c.look(dir)
}

// enrolled gives a supervisor of m-17 a PIN.
func (c *counter) enrolled(name, pin string) {
	c.t.Helper()
	s := &shop{service: c.service, papers: tempDir(c.t), of: []string{"--merchant", "m-17", "--name", name}}
	s.entered("set", s.of, true, s.begin("enrol", "1"), pin)
}

// approver signs voids as anna does.
func approver(s *counter) func(digest [32]byte) *keydv1.PinApproval {
	s.t.Helper()
	key, err := officer.OpenKey(s.file("approvers", "anna.key"), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	certificate, _ := pem.Decode(s.read(s.file("approvers", "anna.crt")))
	return func(digest [32]byte) *keydv1.PinApproval {
		signed, err := pinrecord.SignVoid(key, [][]byte{certificate.Bytes}, digest, time.Now().Add(time.Minute).Unix())
		if err != nil {
			s.t.Error(err)
		}
		return &keydv1.PinApproval{Document: signed.Document, Signature: signed.Signature, Certificates: signed.Certificates}
	}
}

// twice sends a request twice at once, and insists on the same answer, which it returns.
func twice[A proto.Message](c *voidChaos, what string, call func(context.Context) (A, error)) (A, string) {
	var answers [2]A
	var reasons [2]string
	var both sync.WaitGroup
	for i := range answers {
		both.Go(func() {
			a, err := settled(c.Context(), func(string) { c.interrupts.Add(1) }, call)
			answers[i], reasons[i] = a, reason(err)
		})
	}
	both.Wait()
	if reasons[0] != reasons[1] || reasons[0] == "OK" && told(answers[0]) != told(answers[1]) {
		c.Errorf("%s has two answers: %s %s, and %s %s", what, reasons[0], told(answers[0]), reasons[1], told(answers[1]))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[strings.Fields(what)[0]+" "+reasons[0]+" "+resultOf(answers[0])]++
	return answers[0], reasons[0]
}

// told is what of an answer is the same each time; where a void stands meanwhile is not.
func told(m proto.Message) string {
	switch a := m.(type) {
	case *keydv1.CreateVoidResponse:
		return fmt.Sprint(a.GetVoid().GetVoidId(), a.GetCode(), resultOf(a) == "REFUSED")
	case *keydv1.AuthorizeVoidResponse:
		return fmt.Sprint(a.GetVerified(), a.GetToken(), resultOf(a))
	}
	return resultOf(m)
}

func resultOf(m proto.Message) string {
	switch a := m.(type) {
	case *keydv1.CreateVoidResponse:
		return a.GetVoid().GetResult()
	case *keydv1.AuthorizeVoidResponse:
		return a.GetVoid().GetResult()
	case *keydv1.Void:
		return a.GetResult()
	}
	return ""
}
