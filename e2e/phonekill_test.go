package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// insist sends the same question until it is answered, as the page does: what is refused for a while, or
// has no answer, is sent again. It returns the answer and the refusal, one of which is empty.
func (h *handset) insist(path string, question any) (answer, refusal string) {
	h.t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		h.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(250 * time.Millisecond) {
		status, got, err := h.once(path, body)
		var refused struct {
			Error string
			Retry bool
		}
		switch {
		case err == nil && status == http.StatusOK:
			return string(got), ""
		case err == nil && json.Unmarshal(got, &refused) != nil:
			return "", fmt.Sprintf("status %d: %s", status, got)
		case err == nil && !refused.Retry:
			return "", refused.Error
		case time.Now().After(end):
			return "", fmt.Sprintf("no answer: %v %s", err, got)
		}
	}
}

// runsAgain waits until victims were replaced, and everything is ready.
func (h *handset) runsAgain(before *keydv1.GetStatusResponse, victims []string) {
	h.t.Helper()
	status := keydv1.NewStatusServiceClient(h.connect(h.tls("auditor")))
	waitUntil(h.t, "everything runs again", func() bool {
		now, err := status.GetStatus(h.ctx(), &keydv1.GetStatusRequest{})
		if err != nil || len(now.Tokens) != len(before.Tokens) {
			return false
		}
		for _, p := range now.Processes {
			replaced := !slices.Contains(victims, p.Role) || !slices.ContainsFunc(before.Processes, func(b *keydv1.Process) bool { return b.Pid == p.Pid })
			if p.State != "ready" || !replaced {
				return false
			}
		}
		return true
	})
}

// insisted sends the same question twice at once while victims are killed, and then once more, and insists
// on one answer, which it returns.
func (h *handset) insisted(what, path string, question any, victims ...string) string {
	h.t.Helper()
	pause := time.Duration(rand.IntN(12)) * time.Millisecond
	killed := make(chan struct{})
	running := h.status()
	go func() {
		defer close(killed)
		time.Sleep(pause)
		for _, v := range victims {
			signal(processes(running, v), syscall.SIGKILL)
		}
	}()
	answers, refusals := rivals(func(int) (string, string) { return h.insist(path, question) })
	<-killed
	h.runsAgain(running, victims)
	last, refusal := h.insist(path, question)
	if answers != [2]string{last, last} || refusals != [2]string{} || refusal != "" {
		h.t.Fatalf("%s, %v killed after %s: %q %q, and then %q %q", what, victims, pause, answers, refusals, last, refusal)
	}
	return last
}

// The front, the modules, and both are killed while supervisors approve on their phones, which send the
// same again: each void has one outcome and one token, and a PIN that was right has its tries.
func TestProcessesAreKilledWhileAPhoneApproves(t *testing.T) {
	h := newHandset(t)
	link, code := h.linked("enrol", "1", "passkey")
	question, user := h.newPasskey(link, code)
	var set struct{ Verified bool }
	if got := h.insisted("a passkey", "/api/enrolment/passkey", question, "front", "module"); json.Unmarshal([]byte(got), &set) != nil || !set.Verified {
		t.Fatalf("the passkey: %s", got)
	}
	for i, victims := range [][]string{{"front"}, {"module"}, {"front", "module"}} {
		for _, method := range []voidtoken.Method{voidtoken.PhonePIN, voidtoken.PhonePasskey} {
			reference := fmt.Sprintf("pay-%d-%s", i, method)
			id, qr, v := h.voidOnPhone(reference, 12_300)
			path, question := "/api/void/pin", h.byPIN(qr, "dora", h.pin, v)
			if method == voidtoken.PhonePasskey {
				path, question = "/api/void/passkey", h.byPasskey(qr, user, v)
			}
			var outcome outcomeOnPhone
			got := h.insisted(reference, path, question, victims...)
			if err := json.Unmarshal([]byte(got), &outcome); err != nil || !outcome.Verified || outcome.State != "AUTHORIZED" || outcome.TriesLeft != 3 {
				t.Fatalf("%s: %s, %v", reference, got, err)
			}
			first, second := new(keydv1.AuthorizeVoidResponse), new(keydv1.AuthorizeVoidResponse)
			h.asked(first, "", "token", id)
			h.asked(second, "", "token", id)
			if first.Token == "" || first.Token != second.Token {
				t.Errorf("%s has two tokens, or none", reference)
			}
			h.tokenOf(id, reference, 12_300, method)
			h.entered("verify", dora, true, h.pin)
		}
	}
}

// The same while PINs are set behind links: one is set, by one code, and the one before is dead.
func TestProcessesAreKilledWhileAPINIsSetOnAPhone(t *testing.T) {
	h := newHandset(t)
	for i, victims := range [][]string{{"front"}, {"module"}, {"front", "module"}} {
		link, code := h.linked("reset", fmt.Sprint(i+2), "supervisor")
		e, s := h.enrolment(link)
		next := randomPIN(t)
		var set struct{ Verified bool }
		got := h.insisted("a PIN", "/api/enrolment/pin", h.newPIN(link, e, s, code, next), victims...)
		if err := json.Unmarshal([]byte(got), &set); err != nil || !set.Verified {
			t.Fatalf("%d: %s, %v", i, got, err)
		}
		h.entered("verify", dora, false, h.pin)
		h.entered("verify", dora, true, next)
		h.pin = next
	}
}
