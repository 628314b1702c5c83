package e2e

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
)

// Variables that change how long the test below goes on, and repeat what it chose.
const (
	killsVariable = "KEYD_KILLS" // how often something is killed, on each database
	seedVariable  = "KEYD_SEED"
)

// TestNothingIsAcceptedTwiceWhileProcessesAreKilled lets clients work while front, modules,
// supervisor and database are killed at random moments, on each kind of database. Every KSN is
// sent as two different requests at once, each again and again until it has an answer: exactly
// one of the two is accepted, and every answer to it is the same. Meanwhile tries for the PIN of
// a few accounts are made as fast as they go, and never more are allowed than the limit.
//
// In the end the audit log verifies, and has every KSN that was acknowledged, accepted once.
//
// KEYD_SEED repeats the choice of victims and pauses; KEYD_KILLS=1000 goes on for long.
func TestNothingIsAcceptedTwiceWhileProcessesAreKilled(t *testing.T) {
	kills, err := strconv.Atoi(orElse(os.Getenv(killsVariable), "15"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(orElse(os.Getenv(seedVariable), strconv.FormatInt(time.Now().UnixNano(), 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s=%d %s=%d", seedVariable, seed, killsVariable, kills)
	t.Run("SQLite", func(t *testing.T) { (&chaos{T: t, kills: kills, random: rand.New(rand.NewPCG(seed, 1))}).run() })
	t.Run("PostgreSQL", func(t *testing.T) {
		c := &chaos{T: t, kills: kills, random: rand.New(rand.NewPCG(seed, 2))}
		server := startPostgres(t)
		c.flags = onPostgres(t, server)
		c.database = func(pause time.Duration) error {
			if err := server.Kill(); err != nil {
				return err
			}
			time.Sleep(pause)
			return server.Launch()
		}
		c.run()
	})
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// chaos is a service whose processes are killed under load.
type chaos struct {
	*testing.T
	kills    int
	random   *rand.Rand
	flags    []string
	database func(pause time.Duration) error // kills it and brings it back; nil where it is a file of the front's

	service                             *service
	ring                                *keyring
	iso3, iso0                          *keydv1.PinKey
	pvk                                 string
	stop                                chan struct{}
	done, accepted, retries, interrupts atomic.Int64
	acknowledged                        sync.Map // KSN in upper-case hex → how often
}

const (
	chaosClients  = 32
	chaosAccounts = 4
	chaosLimit    = 100
)

func (c *chaos) run() {
	c.ring = newKeyring()
	tdesBDK := c.ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	aesBDK := c.ring.add("B0", "A", "X", "FEDCBA9876543210F1F1F1F1F1F1F1F1", once)
	c.pvk = c.ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	c.iso3, c.iso0 = zone(c.ring, keydv1.PinBlockFormat_ISO_FORMAT_3), zone(c.ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	c.stop = make(chan struct{})
	c.flags = append(c.flags, "--listen", freeAddress(c.T), "--restart-pause", "100ms", "--verify-limits", fmt.Sprintf("%d,%d,%d", chaosLimit, chaosLimit, chaosLimit))
	dir := filepath.Join(tempDir(c.T), "dev")
	c.service = startWith(c.T, dir, c.flags, c.ring.keys...)

	var all sync.WaitGroup
	for n := range chaosClients {
		bdk := tdesBDK
		if n%4 == 0 {
			bdk = aesBDK
		}
		pins, d := c.service.pins(), newTerminal(c.T, c.ring, bdk, uint32(n+1))
		all.Go(func() { c.work(n, pins, d) })
	}
	// Tries are allowed or not; one whose answer was lost may have been counted.
	var allowed [chaosAccounts]atomic.Int64
	for i := range allowed {
		pan := "543210123456" + strconv.Itoa(1000+10*i)
		for range 2 {
			a := tries{c.service, c.service.pins(), c.iso0, c.pvk}
			all.Go(func() { c.try(a, pan, &allowed[i]) })
		}
	}
	killed := map[string]int{}
	begun := time.Now()
	for n := range c.kills {
		before := c.done.Load()
		waitUntil(c.T, "work goes on", func() bool { return c.done.Load() >= before+int64(1+c.random.IntN(20)) || c.Failed() })
		if c.Failed() {
			break
		}
		killed[c.killSomething(dir)]++
		if c.kills >= 100 && n%100 == 99 {
			c.Logf("%d of %d kills, %s", n+1, c.kills, time.Since(begun).Round(time.Second))
		}
	}
	before := c.done.Load()
	waitUntil(c.T, "work goes on after the last", func() bool { return c.done.Load() > before || c.Failed() })
	close(c.stop)
	all.Wait()
	for i := range allowed {
		if n := allowed[i].Load(); n > chaosLimit {
			c.Errorf("account %d: %d tries were allowed, limit %d", i, n, chaosLimit)
		} else if n == 0 {
			c.Errorf("account %d: no try was allowed", i)
		}
	}
	c.Logf("killed: %v; %d KSNs accepted, %d retries, %d times UNAVAILABLE", killed, c.accepted.Load(), c.retries.Load(), c.interrupts.Load())
	if c.accepted.Load() < chaosClients {
		c.Errorf("only %d KSNs were accepted: the test shows little", c.accepted.Load())
	}
	c.service.stop()
	c.look(dir)
}

// settle sends a request until it has an answer that is not about availability.
func (c *chaos) settle(pins keydv1.PinServiceClient, r *keydv1.TranslatePinDataRequest) (string, error) {
	for {
		ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
		answer, err := pins.TranslatePinData(ctx, r)
		cancel()
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded:
			c.interrupts.Add(1)
			time.Sleep(20 * time.Millisecond) // as a client should: what starts anew needs the processor
			continue
		case codes.OK:
			n, _ := c.acknowledged.LoadOrStore(strings.ToUpper(hex.EncodeToString(r.Incoming.Dukpt.KeySerialNumber)), new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		}
		return string(answer.GetEncryptedPinBlock()), err
	}
}

// work is a terminal's life, and that of somebody who sends everything a second time otherwise.
func (c *chaos) work(n int, pins keydv1.PinServiceClient, d *terminal) {
	issuer := tdes(c.T, unhex(c.T, zoneTDES))
	for counter := uint32(1); ; counter++ {
		select {
		case <-c.stop:
			return
		default:
		}
		if popcount(counter) > 10 {
			continue // no counter of TDES DUKPT
		}
		var block [2]string
		var err [2]error
		var both sync.WaitGroup
		for i, out := range []*keydv1.PinKey{c.iso3, c.iso0} {
			both.Go(func() { block[i], err[i] = c.settle(pins, d.translation(counter, out)) })
		}
		both.Wait()
		winner := -1
		for i := range 2 {
			switch {
			case err[i] == nil && winner < 0:
				winner = i
			case err[i] == nil:
				c.Errorf("client %d, counter %d: two different requests were accepted", n, counter)
			case reason(err[i]) != "KSN_REPLAYED":
				c.Errorf("client %d, counter %d: %v", n, counter, err[i])
			}
		}
		if winner < 0 {
			c.Errorf("client %d, counter %d: neither request was accepted", n, counter)
			return
		}
		c.accepted.Add(1)
		if winner == 0 && !d.opens(issuer, []byte(block[0])) {
			c.Errorf("client %d, counter %d: a wrong PIN block", n, counter)
		}
		// The answer stands.
		again, failed := c.settle(pins, d.translation(counter, []*keydv1.PinKey{c.iso3, c.iso0}[winner]))
		if failed != nil || again != block[winner] {
			c.Errorf("client %d, counter %d: the answer is contradicted: %X, %v; it was %X", n, counter, again, failed, block[winner])
		}
		c.retries.Add(1)
		c.done.Add(1)
	}
}

// try tries PINs of an account.
func (c *chaos) try(a tries, pan string, allowed *atomic.Int64) {
	for {
		select {
		case <-c.stop:
			return
		default:
		}
		switch a.verify(pan, 1, "0000") {
		case "true", "false":
			allowed.Add(1)
		case "RATE_LIMITED":
			select { // used up: now and then is enough to see that it stays so
			case <-c.stop:
			case <-time.After(50 * time.Millisecond):
			}
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// killSomething kills a front, a module, every process, or the database, and says what.
func (c *chaos) killSomething(dir string) string {
	children := childrenOf(c.service.cmd.Process.Pid)
	switch choice := c.random.IntN(20); {
	case choice == 0: // as when the machine goes: the supervisor too
		_ = c.service.cmd.Process.Kill()
		for _, pid := range children {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-c.service.ended
		c.service = startWith(c.T, dir, c.flags)
		return "the machine"
	case choice < 4:
		for _, pid := range children {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return "front and modules"
	case choice < 9 && c.database != nil:
		if err := c.database(time.Duration(c.random.IntN(300)) * time.Millisecond); err != nil {
			c.Fatal(err)
		}
		return "the database"
	case len(children) == 0:
		return "nobody"
	}
	pid := children[c.random.IntN(len(children))]
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	_ = syscall.Kill(pid, syscall.SIGKILL)
	switch {
	case err != nil:
		return "somebody who had gone"
	case strings.Contains(string(command), "\x00front\x00"):
		return "the front"
	}
	return "a module"
}

// childrenOf returns the processes that a process has started.
func childrenOf(pid int) (found []int) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

// look checks the audit log: whole, and with everything that was acknowledged.
func (c *chaos) look(dir string) {
	log := filepath.Join(dir, "front", audit.DirectoryName)
	report, err := audit.VerifyDir(log, audit.Trust{})
	if err != nil {
		c.Errorf("the audit log does not verify: %v", err)
		return
	}
	r, err := audit.OpenReader(log, 1)
	if err != nil {
		c.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // read only
	answered, committed := map[string]int{}, map[string]int{}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.Fatal(err)
		}
		for _, k := range rec.Keys {
			if k.KSN == "" || rec.Decision != audit.Allowed {
				continue
			}
			answered[k.KSN]++
			if rec.Journal > 0 {
				committed[k.KSN]++
			}
		}
	}
	c.acknowledged.Range(func(ksn, n any) bool {
		if got, want := answered[ksn.(string)], int(n.(*atomic.Int64).Load()); got < want {
			c.Errorf("KSN %s: %d answers were acknowledged, the audit log has %d", ksn, want, got)
		}
		return true
	})
	for ksn, n := range committed {
		if n > 1 {
			c.Errorf("KSN %s was accepted %d times by the audit log", ksn, n)
		}
	}
	c.Logf("the audit log verifies: %d entries", report.Entries)
}

// freeAddress is an address of this machine that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nobody has connected
	return l.Addr().String()
}
