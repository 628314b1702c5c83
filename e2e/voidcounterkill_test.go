package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
)

// running is a terminal at work, while the test does something else.
type running struct {
	t       *testing.T
	out     strings.Builder
	command *exec.Cmd
}

func (l *till) start(t *testing.T, typed string, args ...string) *running {
	t.Helper()
	r := &running{t: t, command: exec.Command(keydBinary, args...)}
	r.command.Stdin, r.command.Stdout, r.command.Stderr = strings.NewReader(typed), &r.out, &r.out
	return r.start()
}

// startInto starts a command at which nobody types, whose display is a file.
func (l *till) startInto(t *testing.T, display *os.File, args ...string) *running {
	t.Helper()
	r := &running{t: t, command: exec.Command(keydBinary, args...)}
	r.command.Stdout, r.command.Stderr = display, display
	return r.start()
}

func (r *running) start() *running {
	t := r.t
	t.Helper()
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.command.Process.Kill() }) // it has ended, where all went well
	return r
}

// ends insists that the terminal ends well, and returns what it has shown.
func (r *running) ends() string {
	r.t.Helper()
	if err := r.command.Wait(); err != nil {
		r.t.Fatalf("%v\n%s", err, r.out.String())
	}
	return r.out.String()
}

// killed insists that a command has killed itself.
func killed(t *testing.T, what string, err error) {
	t.Helper()
	if exitStatus(err) != -1 || err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Fatalf("%s: %v; want it killed", what, err)
	}
}

// The switch is killed between the reversal and its word to keyd, the terminal before it sends and
// after the answer, and keyd's front: each goes on where it was, and each payment is reversed once.
func TestVoidsWhileEverybodyIsKilled(t *testing.T) {
	l := newTill(t)
	l.terminal("t-1", "m-17", "dev-aes")
	const amount = 12300
	for _, p := range []string{"switch", "before", "after", "front"} {
		l.paid(p, amount, nil)
	}
	void := func(reference string, more ...string) []string {
		return l.args("t-1", append([]string{"--payment", reference, "--supervisor", "dora", "--yes"}, more...)...)
	}

	l.serve("-stop-at", "reversed")
	terminal := l.start(t, l.pin+"\n", void("switch")...)
	if err := l.process.Wait(); err == nil || l.process.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the switch: %v", err)
	}
	if n, told := l.reversals("switch"); n != 1 || told {
		t.Fatalf("reversed %d times, keyd was told: %t", n, told)
	}
	l.serve()
	l.shows(terminal.ends(), "sent.", "no answer: asking again", "7 wait: VOIDED")
	waitUntil(t, "keyd is told", func() bool { _, told := l.reversals("switch"); return told })
	l.once("switch")

	_, err := l.command(l.pin+"\n", void("before", "--stop-at", "before-send")...)
	killed(t, "before it sends", err)
	l.never("before")
	out, err := l.command("", void("after")...) // whatever it is asked for: first what is not finished
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.shows(out, "2 choose void: a void is not finished", "sent.", "VOIDED", "payment  ***ore")
	l.once("before")
	l.never("after")

	_, err = l.command(l.pin+"\n", void("after", "--stop-at", "after-answer")...)
	killed(t, "after the answer", err)
	l.once("after")
	if out, err = l.command("", void("after")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.shows(out, "2 choose void: a void is not finished", "VOIDED", "8 go on")
	l.once("after")
	_, err = l.command(l.pin+"\n", void("after")...)
	refusedBy(t, "once more", err, "ALREADY_VOIDED")

	_, err = l.command(l.pin+"\n", void("front", "--stop-at", "before-send")...)
	killed(t, "before it sends", err)
	victim := processes(l.status(), "front")[0]
	if err := syscall.Kill(int(victim.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if out, err = l.command("", void("front")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.shows(out, "VOIDED")
	l.once("front")
}

// Without a switch the terminal talks to keyd, and somebody else is the switch: what carries out the
// token, which is the same after a kill, and says so.
func TestVoidsWithoutASwitch(t *testing.T) {
	l := newTill(t)
	l.terminal("t-1", "m-17", "dev-tdes")
	const amount = 12300
	id, code := l.createdAt("t-1", "pay-1", amount)
	args := append([]string{"terminal", "simulate", "void", "--state", l.path("t-1"), "--supervisor", "dora", "--yes", "--token-out", l.path("token"), "--dir", l.dir}, facts(amount)...)

	wrong := append([]string{}, args...)
	wrong[len(wrong)-1] = "12301"
	_, err := l.command(code+"\n"+l.pin+"\n", wrong...)
	refusedBy(t, "another amount", err, "than was named")
	_, err = l.command(l.pin+"\n", append(args, "--stop-at", "after-answer")...)
	killed(t, "after the answer", err)
	if _, err := os.Stat(l.path("token")); err == nil {
		t.Fatal("the token is there, though the terminal was killed before it had it")
	}
	terminal := l.start(t, "", args...)
	waitUntil(t, "the token", func() bool { _, err := os.Stat(l.path("token")); return err == nil })
	token, err := os.ReadFile(l.path("token"))
	if err != nil {
		t.Fatal(err)
	}
	verify := append([]string{"void", "verify", "--keys", filepath.Join(l.dir, "voids", "void-tokens.pem"), "--void", id, "--terminal", "t-1", "--reference", "pay-1", "--methods", "SUPERVISOR_PIN"}, facts(amount)...)
	if out, err := l.command(string(token), verify...); err != nil || !strings.Contains(out, "SUPERVISOR_PIN by dora") {
		t.Errorf("the token: %s, %v", out, err)
	}
	l.must("void", "confirm", id, "--dir", l.dir)
	l.shows(terminal.ends(), "a void is not finished", "wait for \"Voided\"", "VOIDED", "8 go on")

	// The switch says no.
	id, code = l.createdAt("t-1", "pay-2", amount)
	terminal = l.start(t, code+"\n"+l.pin+"\n", args...)
	v := new(keydv1.Void)
	waitUntil(t, "authorised", func() bool { l.asked(v, "", "show", id); return v.State == keydv1.Void_AUTHORIZED })
	l.must("void", "confirm", id, "--not-reversed", "--dir", l.dir)
	if err := terminal.command.Wait(); exitStatus(err) != 3 {
		t.Errorf("not reversed: %v", err)
	}
	l.shows(terminal.out.String(), "DECLINED by the switch", "use another means of payment")

	// Nobody in the shop has a PIN: a supervisor elsewhere approves.
	id, code = l.createdAt("t-1", "pay-3", amount)
	nobody := append([]string{"terminal", "simulate", "void", "--state", l.path("t-1"), "--dir", l.dir}, facts(amount)...)
	terminal = l.start(t, code+"\n", nobody...)
	waitUntil(t, "scanned", func() bool { l.asked(v, "", "show", id); return v.State == keydv1.Void_SCANNED })
	a := new(keydv1.AuthorizeVoidResponse)
	l.asked(a, "", l.approval(id, "approve", "anna", amount)...)
	l.asked(v, "", "confirm", id)
	l.shows(terminal.ends(), "a supervisor elsewhere can approve it", "VOIDED", "authorised  REMOTE_APPROVAL anna")
}

// A code that has expired begins nothing, and the terminal says what to do.
func TestACodeThatHasExpiredAtTheCounter(t *testing.T) {
	c := &counter{shop: &shop{service: start(t)}}
	c.must("void", "prepare", "--dir", c.dir)
	c.stop()
	policy := filepath.Join(c.dir, "config", "policy.yaml")
	text := string(readAll(t, policy))
	short := strings.Replace(text, "code_life: 120", "code_life: 1", 1)
	if short == text {
		t.Fatal("the policy says nothing of codes")
	}
	if err := os.WriteFile(policy, []byte(short), 0o644); err != nil {
		t.Fatal(err)
	}
	c.service = startIn(t, c.dir)
	state := filepath.Join(t.TempDir(), "t-1")
	c.must("terminal", "simulate", "new", "t-1", "--state", state, "--maker", filepath.Join(t.TempDir(), "maker"))
	a := new(keydv1.CreateVoidResponse)
	c.asked(a, "", append([]string{"create", "--terminal", "t-1", "--reference", "pay-1"}, facts(12300)...)...)
	time.Sleep(time.Until(a.CodeExpiresAt.AsTime().Add(time.Second)))
	out, err := c.command(a.Code+"\n", append([]string{"terminal", "simulate", "void", "--state", state, "--supervisor", "dora", "--dir", c.dir}, facts(12300)...)...)
	refusedBy(t, "an expired code", err, "VOID_CODE_REFUSED")
	refusedBy(t, "an expired code", err, "expired")
	if exitStatus(err) != 3 || !strings.Contains(out, "begin again: have a new code shown") || strings.Contains(out, "4 amount") {
		t.Errorf("status %d\n%s", exitStatus(err), out)
	}
}
