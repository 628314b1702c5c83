package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyagreement"
	"keyd/simulator"
)

// killed runs a terminal up to a step, where it is killed as a loss of power does it.
func (f *giver) killed(t *testing.T, id, method, step string, more ...string) {
	t.Helper()
	out, err := f.command("", f.simulate(id, "keys", append([]string{"--method", method, "--stop-at", step}, more...)...)...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("it was not killed at %s: %v\n%s", step, err, out)
	}
}

// unique fails if a number was ever given to two terminals.
func (f *giver) unique(t *testing.T, ids ...string) {
	t.Helper()
	whose, confirmed := map[string]string{}, 0
	for _, id := range ids {
		for _, i := range f.injections(t, id) {
			if i.State == keydv1.Injection_CONFIRMED {
				confirmed++
			}
			for _, k := range i.Keys {
				number := fmt.Sprintf("%X", k.KeySerialNumber)
				if len(k.KeySerialNumber) == 0 {
					continue
				}
				if other := whose[number]; other != "" && other != id {
					t.Errorf("%s was given to %s and %s", number, other, id)
				}
				whose[number] = id
			}
		}
	}
	if confirmed != len(ids) {
		t.Errorf("%d injections are confirmed, of %d terminals", confirmed, len(ids))
	}
}

// TestTerminalGoesOnFromAnywhere: a terminal that is killed at each step, twice, and whose service
// was killed too, gets its keys in the end and makes a payment. By TR-34 it gets the very keys
// that it asked for.
func TestTerminalGoesOnFromAnywhere(t *testing.T) {
	f := prepared(t)
	var ids []string
	for _, method := range []string{"key-agreement", "tr34-two-pass", "tr34-one-pass"} {
		for _, step := range simulator.Steps {
			id := fmt.Sprintf("%s-%s", method, step)
			ids = append(ids, id)
			f.terminal(t, id, "RSA-3072", "dev-aes")
			f.bind(t, id, method)
			for range 2 {
				if step != simulator.AfterStore {
					f.killed(t, id, method, string(step))
				}
			}
			if step == simulator.AfterStore {
				f.killed(t, id, method, string(step))
				x, err := f.command(samplePIN+"\n", "terminal", "simulate", "pin", "--state", f.state(id), "--pan", samplePAN, "--format", "4")
				if err == nil || !strings.Contains(err.Error(), "no confirmed keys") {
					t.Errorf("%s: keys that are not confirmed are used: %v\n%s", id, err, x)
				}
			}
			f.keys(t, id, method)
			if x := f.transact(t, id, samplePIN, "4"); !*x.PIN || !*x.MAC {
				t.Errorf("%s: %+v", id, x)
			}
			want := 1
			if method == "key-agreement" && step == simulator.AfterAnswer {
				want = 3 // the answers to the first two requests are lost, and with them their numbers
			}
			if all := f.injections(t, id); len(all) != want {
				t.Errorf("%s: %d injections, want %d", id, len(all), want)
			}
		}
	}
	f.unique(t, ids...)
}

// TestOnePassAnew: a terminal that took the time stamp of the pending answer, and has no keys of
// it, gets others, by itself and when it is told to.
func TestOnePassAnew(t *testing.T) {
	f := prepared(t)
	const method = "tr34-one-pass"
	f.terminal(t, "t-1", "RSA-3072", "dev-aes")
	f.bind(t, "t-1", method)
	f.killed(t, "t-1", method, string(simulator.AfterStore))
	lost := f.injections(t, "t-1")[0]
	if lost.State != keydv1.Injection_PENDING {
		t.Fatalf("%v", lost)
	}
	i := f.keys(t, "t-1", method, "--fresh") // the keys that are there are not confirmed, and the request is the same
	if i.InjectionId == lost.InjectionId {
		t.Error("the keys that it lost are confirmed")
	}
	f.killed(t, "t-1", method, string(simulator.AfterAnswer))
	pending := f.injections(t, "t-1")[0]
	told := f.keys(t, "t-1", method, "--anew")
	if told.InjectionId == pending.InjectionId || pending.State != keydv1.Injection_PENDING {
		t.Errorf("%v, then %v", pending, told)
	}
	if x := f.transact(t, "t-1", samplePIN, "4"); !*x.PIN || !*x.MAC {
		t.Errorf("%+v", x)
	}
	// Four, or five where a token was of the second of the one before.
	all := f.injections(t, "t-1")
	if len(all) < 4 || len(all) > 5 || all[0].InjectionId != told.InjectionId || all[0].State != keydv1.Injection_CONFIRMED {
		t.Errorf("%d injections, the newest %v", len(all), all[0])
	}
	for _, i := range all[1:] {
		if i.State != keydv1.Injection_SUPERSEDED {
			t.Errorf("%s is %v", i.InjectionId, i.State)
		}
	}
	// A message of another method is used up.
	f.killed(t, "t-1", "tr34-two-pass", string(simulator.AfterAnswer))
	two := f.keys(t, "t-1", "tr34-two-pass", "--anew")
	if after := f.injections(t, "t-1"); len(after) != len(all)+2 || after[0].InjectionId != two.InjectionId || after[1].State != keydv1.Injection_SUPERSEDED {
		t.Errorf("%d injections, and there were %d; the newest %v", len(after), len(all), after[0])
	}
	f.unique(t, "t-1")
}

// TestServiceIsKilledWhileTerminalsGetKeys: fronts and modules are killed while terminals ask by
// every method. Each terminal gets there, no number is given twice, and every statement is there.
func TestServiceIsKilledWhileTerminalsGetKeys(t *testing.T) {
	f := prepared(t)
	const each = 3
	var ids []string
	methods := map[string]string{}
	for n, method := range []string{"key-agreement", "tr34-two-pass", "tr34-one-pass"} {
		for i := range each {
			id := fmt.Sprintf("t-%d-%d", n, i)
			ids, methods[id] = append(ids, id), method
			algorithm := "RSA-3072"
			if method == "key-agreement" {
				algorithm = "P-256"
			}
			f.terminal(t, id, algorithm, "dev-aes")
			f.bind(t, id, method)
		}
	}
	const kills = 6
	var killed atomic.Int64
	var killer, terminals sync.WaitGroup
	killer.Go(func() {
		status := keydv1.NewStatusServiceClient(f.connect(f.tls("auditor")))
		for round := 0; killed.Load() < kills && t.Context().Err() == nil; round++ {
			time.Sleep(300 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			said, err := status.GetStatus(ctx, &keydv1.GetStatusRequest{})
			cancel()
			if err != nil {
				continue // it is on its way back
			}
			if found := processes(said, []string{"module", "front"}[round%2]); len(found) > 0 {
				kill(found[round/2%len(found)])
				killed.Add(1)
			}
		}
	})
	for _, id := range ids {
		terminals.Go(func() {
			// New keys again and again, until enough was killed, and then once more.
			for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
				enough := killed.Load() >= kills
				out, err := f.command("", f.simulate(id, "keys", "--method", methods[id])...)
				switch status := exitStatus(err); {
				case err == nil && enough:
					return
				case err != nil && status != 4:
					t.Errorf("%s: status %d, %v\n%s", id, status, err, out)
					return
				}
			}
			t.Errorf("%s did not get there within three minutes", id)
		})
	}
	terminals.Wait()
	killer.Wait()
	waitUntil(t, "the service serves again", func() bool {
		_, err := f.command("", "terminal", "list", "--dir", f.dir)
		return err == nil
	})
	f.unique(t, ids...)
	for _, id := range ids {
		if x := f.transact(t, id, samplePIN, "4"); !*x.PIN || !*x.MAC {
			t.Errorf("%s: %+v", id, x)
		}
		for _, i := range f.injections(t, id) {
			if i.State == keydv1.Injection_CONFIRMED {
				f.proven(t, id, i.InjectionId, f.identity(t))
			}
		}
	}
	f.verifyLog()
}

// TestLostAnswer: the very same request gets the very same answer, the very same receipt is taken
// again, and a request that is over is refused.
func TestLostAnswer(t *testing.T) {
	f := prepared(t)
	f.terminal(t, "t-1", "RSA-3072", "dev-aes")
	d := simulator.OpenDevice(f.state("t-1"))
	own, err := d.TLSCertificate()
	if err != nil {
		t.Fatal(err)
	}
	c := f.tlsWithout()
	c.GetClientCertificate = always(&own)
	client := keydv1.NewTerminalServiceClient(f.connect(c))
	if _, err := d.FetchHost(f.ctx(), client, keydv1.InjectionMethod_TR34_TWO_PASS); err != nil {
		t.Fatal(err)
	}
	for _, method := range []keydv1.InjectionMethod{keydv1.InjectionMethod_KEY_AGREEMENT, keydv1.InjectionMethod_TR34_TWO_PASS, keydv1.InjectionMethod_TR34_ONE_PASS} {
		r, err := d.Ask(method, simulator.AskOptions{Curve: curveOf(method)})
		if err != nil {
			t.Fatal(err)
		}
		var first *keydv1.InjectKeysResponse
		for n := range 3 {
			answer, err := client.InjectKeys(f.ctx(), r.Message())
			if err != nil {
				t.Fatalf("%v: %v", method, err)
			}
			if n == 0 {
				first = answer
			} else if !bytes.Equal(answer.Answer, first.Answer) || !slices.Equal(answer.KeyBlocks, first.KeyBlocks) || answer.InjectionId != first.InjectionId || !proto.Equal(answer, first) {
				t.Errorf("%v: another answer to the same request", method)
			}
		}
		if err := r.Take(first); err != nil {
			t.Fatal(err)
		}
		receipt, err := d.Receipt()
		if err != nil {
			t.Fatal(err)
		}
		wrong := proto.CloneOf(receipt)
		wrong.Mac[0] ^= 1
		if _, err := client.ConfirmKeys(f.ctx(), wrong); reason(err) != "RECEIPT_INVALID" {
			t.Errorf("%v: a wrong MAC: %v", method, err)
		}
		for range 2 {
			if i, err := client.ConfirmKeys(f.ctx(), receipt); err != nil || i.State != keydv1.Injection_CONFIRMED {
				t.Fatalf("%v: %v, %v", method, i, err)
			}
		}
		if err := d.Confirmed(receipt.InjectionId); err != nil {
			t.Fatal(err)
		}
		if method != keydv1.InjectionMethod_TR34_ONE_PASS { // whose requests are all the same
			if _, err := client.InjectKeys(f.ctx(), r.Message()); reason(err) != "REQUEST_REPLAYED" {
				t.Errorf("%v: a request that is over: %v", method, err)
			}
		}
	}
}

func curveOf(method keydv1.InjectionMethod) keyagreement.Curve {
	if method == keydv1.InjectionMethod_KEY_AGREEMENT {
		return keyagreement.P256
	}
	return 0
}
