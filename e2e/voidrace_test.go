package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// attemptsVariable is how many try to authorise a void at once. KEYD_ATTEMPTS=10000 is what is
// promised, and takes a few minutes.
const attemptsVariable = "KEYD_ATTEMPTS"

const (
	raceStreams  = 900 // requests at once on a connection
	raceTwins    = 4   // how often each request of some is sent
	raceDeadline = 2 * time.Minute
	raceHold     = 300 * time.Millisecond
)

// Thousands ask at once to authorise one void, with right PINs: it is authorised once, and one
// token is ever seen.
func TestOneVoidIsAuthorizedOnce(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { raced(t, newCounter(t)) })
	t.Run("two hosts on PostgreSQL", func(t *testing.T) {
		_, counters := newCounters(t)
		raced(t, counters...)
	})
}

func raced(t *testing.T, fronts ...*counter) {
	attempts, err := strconv.Atoi(orElse(os.Getenv(attemptsVariable), "1000"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("supervisors", func(t *testing.T) { race(t, fronts, "pay-1", attempts, supervisorsOnly) })
	t.Run("cardholders", func(t *testing.T) { race(t, fronts, "pay-2", attempts, cardholdersOnly) })
	t.Run("both", func(t *testing.T) { race(t, fronts, "pay-3", attempts, nil) })
}

func supervisorsOnly(int) bool { return true }
func cardholdersOnly(int) bool { return false }

// race has all attempts ready, each under a key serial number of its own, and lets them go together.
func race(t *testing.T, fronts []*counter, reference string, attempts int, bySupervisor func(i int) bool) {
	const amount = 12300
	const cardholdersPIN = "4711"
	if bySupervisor == nil {
		bySupervisor = func(i int) bool { return i%2 == 0 }
	}
	id, code := fronts[0].created(reference, amount)
	fronts[len(fronts)-1].asked(new(keydv1.Void), code, "scan", "--merchant", "m-17") // at another host
	digest, pvv := digestFor(t, fieldsOf(id, reference, amount)), pvvOf(t, pvkVisa, testPAN, 1, cardholdersPIN)
	subject := supervisorOf("dora")
	requests := make([]*keydv1.AuthorizeVoidRequest, attempts)
	for i := range requests {
		if i%10 < raceTwins && i%10 > 0 { // a part is the same request again
			requests[i] = requests[i-1]
			continue
		}
		device, counter := uint32(i/1000+1), uint32(i%1000+1) // as many terminals as there are thousands
		var e *keydv1.VoidPinEntry
		if bySupervisor(i / 10) {
			e = whose(subject, padOf(t, subject, fronts[0].pin, device).bound(counter, digest))
		} else {
			d := newTerminal(t, sampled, "bdk-aes", device)
			d.pin, d.pan = cardholdersPIN, testPAN
			e = d.bound(counter, digest)
			e.Whose = &keydv1.VoidPinEntry_Cardholder{Cardholder: &keydv1.CardholderPin{VerificationKeyId: "pvk-visa", PrimaryAccountNumber: testPAN, Expected: visa(1, pvv)}}
		}
		requests[i] = authorization(id, fmt.Sprintf("race-%d", i), amount, e)
	}
	clients := make([]keydv1.VoidServiceClient, attempts/raceStreams+len(fronts))
	for i := range clients {
		c := fronts[i%len(fronts)]
		clients[i] = keydv1.NewVoidServiceClient(c.connect(c.tls("switch")))
		if _, err := clients[i].GetVoid(c.ctx(), &keydv1.GetVoidRequest{VoidId: id}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	tokens, results, failures := map[string]int{}, map[string]int{}, map[string]int{}
	answers := map[string]*keydv1.AuthorizeVoidResponse{} // of each request
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), raceDeadline)
	defer cancel()
	together := make(chan struct{})
	begun := time.Now()
	for i, r := range requests {
		all.Go(func() {
			<-together
			a, err := settled(ctx, func(reason string) {
				mu.Lock()
				defer mu.Unlock()
				failures[reason]++
			}, func(ctx context.Context) (*keydv1.AuthorizeVoidResponse, error) {
				return clients[i%len(clients)].AuthorizeVoid(ctx, r)
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("request %s: %v", r.RequestId, err)
				return
			}
			results[a.Void.Result]++
			if a.Verified != (a.Token != "") || a.Verified != (a.Void.Result == "AUTHORIZED") {
				t.Errorf("request %s: verified %t, with a token %t, %s", r.RequestId, a.Verified, a.Token != "", a.Void.Result)
			}
			if a.Token != "" {
				tokens[a.Token]++
			}
			if other, ok := answers[r.RequestId]; ok && (other.Token != a.Token || other.Verified != a.Verified || other.Void.Result != a.Void.Result) {
				t.Errorf("request %s has two answers: %s and %s", r.RequestId, other.Void.Result, a.Void.Result)
			}
			answers[r.RequestId] = a
		})
	}
	// Modules answer nothing for a moment, less than a heartbeat waits, so that many come to them
	// before the first is done.
	var modules []*keydv1.Process
	for _, c := range fronts {
		modules = append(modules, processes(c.status(), "module")...)
	}
	signal(modules, syscall.SIGSTOP)
	close(together)
	time.Sleep(raceHold)
	signal(modules, syscall.SIGCONT)
	all.Wait()
	t.Logf("%d attempts in %s: %v; sent again after %v; the token was seen %v times", attempts, time.Since(begun).Round(time.Millisecond), results, failures, sum(tokens))
	if len(tokens) != 1 {
		t.Fatalf("%d tokens have left", len(tokens))
	}
	for _, c := range fronts {
		v, err := keydv1.NewVoidServiceClient(c.connect(c.tls("switch"))).GetVoid(c.ctx(), &keydv1.GetVoidRequest{VoidId: id})
		if err != nil || v.State != keydv1.Void_AUTHORIZED || len(v.Authorizations) != 1 {
			t.Errorf("afterwards: %v, %v", v, err)
		}
	}
	for token := range tokens {
		want := voidtoken.Expected{Fields: fieldsOf(id, reference, amount), Methods: [][]voidtoken.Method{{voidtoken.SupervisorPIN}, {voidtoken.CardholderPIN}}}
		if _, err := voidtoken.Verify(token, fronts[0].voidKeys(), want, time.Now()); err != nil {
			t.Errorf("the token: %v", err)
		}
	}
	for _, r := range requests[:20] { // once more, whatever the answer was
		a, err := clients[0].AuthorizeVoid(t.Context(), r)
		if was := answers[r.RequestId]; err != nil || a.Token != was.GetToken() || a.Verified != was.GetVerified() {
			t.Errorf("request %s, once more: %v, %v", r.RequestId, a.GetVoid().GetResult(), err)
		}
	}
}

func signal(list []*keydv1.Process, s syscall.Signal) {
	for _, p := range list {
		if p.Pid > 0 { // as of [kill]
			_ = syscall.Kill(int(p.Pid), s)
		}
	}
}

func sum(m map[string]int) (total int) {
	for n := range maps.Values(m) {
		total += n
	}
	return total
}

// settled makes a call until it has an answer that is not about availability.
func settled[A any](ctx context.Context, failed func(reason string), call func(context.Context) (A, error)) (A, error) {
	for {
		one, cancel := context.WithTimeout(ctx, 30*time.Second)
		a, err := call(one)
		cancel()
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
			if ctx.Err() != nil {
				return a, err
			}
			failed(reason(err))
			time.Sleep(20 * time.Millisecond) // as a client should
			continue
		}
		return a, err
	}
}
