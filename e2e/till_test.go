package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// till is a counter with simulated terminals and a switch that reverses payments.
type till struct {
	*counter
	states   string // directory of the terminals' files, the payments, the journal and the switch itself
	listen   string // where the switch is
	payments []map[string]any
	shops    map[string]string

	process *exec.Cmd
}

func newTill(t *testing.T) *till {
	t.Helper()
	return newTillOf(t, newCounter(t))
}

func newTillOf(t *testing.T, c *counter) *till {
	t.Helper()
	l := &till{counter: c, states: t.TempDir(), listen: "127.0.0.1:0", shops: map[string]string{}}
	if out, err := exec.Command("go", "build", "-o", l.path("switch-void"), "keyd/examples/switch-void").CombinedOutput(); err != nil {
		t.Fatalf("build the switch: %v\n%s", err, out)
	}
	l.must("terminal", "simulate", "prepare", "--dir", l.dir)
	return l
}

func (l *till) path(name string) string { return filepath.Join(l.states, name) }

// terminal makes a simulated terminal of a merchant, which gets its keys.
func (l *till) terminal(id, merchant, keySet string) {
	l.t.Helper()
	l.must("terminal", "simulate", "new", id, "--state", l.path(id), "--owner", merchant, "--key-set", keySet, "--dir", l.dir)
	l.must("terminal", "simulate", "keys", "--state", l.path(id), "--dir", l.dir, "--timeout", "20s")
	l.shops[id] = merchant
}

// paid adds a payment to what the switch will know.
func (l *till) paid(reference string, amount int64, card map[string]any) {
	p := map[string]any{"reference": reference, "merchant": "m-17", "amount": amount, "currency": 156, "paid_at": time.Now().UTC()}
	if card != nil {
		p["card"] = card
	}
	l.payments = append(l.payments, p)
}

// serve starts the switch, on the port where it was before.
func (l *till) serve(flags ...string) {
	l.t.Helper()
	text, err := json.Marshal(map[string]any{"terminals": l.shops, "payments": l.payments})
	if err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(l.path("payments"), text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	c := exec.Command(l.path("switch-void"), append([]string{"-dir", l.dir, "-listen", l.listen, "-payments", l.path("payments"), "-journal", l.path("journal")}, flags...)...)
	c.Stderr = l
	out, err := c.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.process = c
	l.t.Cleanup(func() { _ = c.Process.Kill() }) // it has ended, where all went well
	line, _ := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		l.t.Fatalf("the switch did not become ready: %q\n%s", line, l.logged())
	}
	l.listen = address
}

// args are a void at a terminal, by way of the switch.
func (l *till) args(id string, more ...string) []string {
	return append([]string{"terminal", "simulate", "void", "--state", l.path(id), "--switch", l.listen, "--dir", l.dir}, more...)
}

// voids has a payment voided that is found on the terminal, with what is typed there.
func (l *till) voids(id, reference, typed string, more ...string) (display string, err error) {
	l.t.Helper()
	return l.command(typed, l.args(id, append([]string{"--payment", reference, "--supervisor", "dora"}, more...)...)...)
}

// shows insists on what a display shows, in that order.
func (l *till) shows(display string, want ...string) {
	l.t.Helper()
	rest := display
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			l.t.Errorf("%q is not on the display, or not there:\n%s", w, display)
			return
		}
		rest = after
	}
}

// reversals is how often the journal says that a payment was reversed.
func (l *till) reversals(reference string) (n int, told bool) {
	l.t.Helper()
	text, err := os.ReadFile(l.path("journal"))
	if err != nil {
		l.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e struct {
			Reference      string
			Reversed, Done bool
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			l.t.Fatalf("%v: %s", err, line)
		}
		if e.Reference == reference && e.Reversed && !e.Done {
			n++
		}
		told = told || e.Reference == reference && e.Done
	}
	return n, told
}

// once insists that a payment was reversed once, and that keyd knows.
func (l *till) once(reference string) {
	l.t.Helper()
	if n, told := l.reversals(reference); n != 1 || !told {
		l.t.Errorf("%s was reversed %d times, and keyd was told: %t", reference, n, told)
	}
	list := l.must("void", "list", "--merchant", "m-17", "--state", "confirmed", "--dir", l.dir)
	if strings.Count(list, reference+" ") != 1 {
		l.t.Errorf("keyd has not one confirmed void of %s:\n%s", reference, list)
	}
}

// never insists that a payment was not reversed.
func (l *till) never(reference string) {
	l.t.Helper()
	if n, _ := l.reversals(reference); n != 0 {
		l.t.Errorf("%s was reversed %d times", reference, n)
	}
}

// createdAt is a void of a terminal, as somebody else at the acquirer's has it made.
func (l *till) createdAt(id, reference string, amount int64) (void, code string) {
	l.t.Helper()
	out := l.must(append([]string{"void", "create", "--terminal", id, "--reference", reference, "--dir", l.dir}, facts(amount)...)...)
	for line := range strings.Lines(out) {
		switch f := strings.Fields(line); {
		case len(f) == 2 && f[0] == "void":
			void = f[1]
		case len(f) == 2 && f[0] == "code":
			code = f[1]
		}
	}
	if void == "" || code == "" {
		l.t.Fatalf("no void:\n%s", out)
	}
	return void, code
}

// forget has a terminal end a void that is over elsewhere.
func (l *till) forget(id string) {
	l.t.Helper()
	out, err := l.command("", l.args(id)...)
	if err == nil {
		l.t.Errorf("a void that is over was carried out:\n%s", out)
	}
}
