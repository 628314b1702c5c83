package officer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	ossignal "os/signal"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const digits32 = "0123456789abcdefFEDCBA9876543210"

func component(label string, bytes int) func(*Terminal) (*Secret, error) {
	return func(t *Terminal) (*Secret, error) { return t.ReadComponent(label, bytes) }
}

func wantSecret(t *testing.T, s *Secret, err error, digits string) {
	t.Helper()
	must(t, err)
	defer s.Destroy()
	want, err := hex.DecodeString(digits)
	must(t, err)
	if !bytes.Equal(s.Bytes(), want) {
		t.Errorf("the component is %X, want %X", s.Bytes(), want)
	}
}

func TestComponentIsTypedInGroups(t *testing.T) {
	p := newPTY(t)
	end := dialogue(p, component("Component 1", 16))
	p.await("Component 1 (32 hex digits, then Enter):\r\n  ")
	p.typed(digits32)
	p.await("**** **** **** **** **** **** **** ****")
	p.typed("\r")
	s, err := end()
	wantSecret(t, s, err, digits32)
	if strings.ContainsAny(strings.TrimPrefix(p.seen.String(), "Component 1 (32 hex digits, then Enter)"), "0123456789") {
		t.Errorf("digits were shown: %q", p.seen.String())
	}
}

func TestWhatIsNoDigitIsPassedOver(t *testing.T) {
	p := newPTY(t)
	end := dialogue(p, component("C", 2))
	p.await(":\r\n  ")
	// A space is nothing, a letter rings; cursor and function keys, whose letters are
	// digits, and what was typed with Alt, do nothing.
	p.typed("1 2g\x1b[A\x1b[200~\x1bOC\x1bf\x1b[15;2D3\xc3\xa94\r")
	s, err := end()
	wantSecret(t, s, err, "1234")
	if got := p.await("\r\n"); got != "**\a*\a\a*" {
		t.Errorf("what was shown is %q", got)
	}
}

func TestEscapeSequencesThatAreCutOff(t *testing.T) {
	p := newPTY(t)
	end := dialogue(p, component("C", 1))
	p.await(":\r\n  ")
	p.typed("\x1b\x1b\x1b[\x1b[A1") // cut off, and begun anew
	p.await("*")
	p.typed("\x1b\x7f\x1b\x1b[\x1b")
	p.typed("[AG") // rings, so all before it was read
	p.await("\a")
	p.typed("2\r")
	s, err := end()
	wantSecret(t, s, err, "12")
}

func TestDigitsAreTakenBack(t *testing.T) {
	for _, bytes := range []int{2, 3, 16, 17, 40} {
		p := newPTY(t)
		end := dialogue(p, component("C", bytes))
		p.await(":\r\n  ")
		start := p.from
		all := strings.Repeat("AB90", bytes)[:2*bytes]
		p.typed(strings.Repeat("F", 2*bytes) + strings.Repeat("\x7f", 2*bytes-1) + "\b" + "\x7f") // one more rings
		p.await("\a")
		if got := screen("  " + p.seen.String()[start:]); strings.TrimSpace(strings.Join(got, "")) != "" {
			t.Errorf("%d bytes: all taken back, and %q remains", bytes, got)
		}
		p.typed("FFF\x15" + all[:2*bytes-1] + "3\x08")
		p.typed(all[2*bytes-1:] + "\r")
		s, err := end()
		wantSecret(t, s, err, all)
		var want []string
		for rest := 2 * bytes; rest > 0; rest -= rowDigits {
			row := strings.Repeat("**** ", 8)[:min(rest, rowDigits)+(min(rest, rowDigits)-1)/4]
			want = append(want, "  "+row)
		}
		_, err = p.slave.WriteString("END")
		must(t, err)
		p.await("\r\nEND")
		got := strings.Join(screen("  "+strings.TrimSuffix(p.seen.String()[start:], "\r\nEND")), "\n")
		if got != strings.Join(want, "\n") {
			t.Errorf("%d bytes: the terminal shows\n%s\nwant\n%s", bytes, got, strings.Join(want, "\n"))
		}
	}
}

func TestEnterNeedsAllDigits(t *testing.T) {
	p := newPTY(t)
	end := dialogue(p, component("C", 16))
	p.await(":\r\n  ")
	p.typed("0123 4567\r")
	p.await("24 digits are missing")
	p.await("\r\n  **** **** ")
	p.typed("89abcdefFEDCBA987654321\n")
	p.await("1 digit is missing")
	p.await("\r\n  **** **** **** **** **** **** **** ***")
	p.typed("0f") // one too many rings
	p.await("*\a")
	p.typed("\r")
	s, err := end()
	wantSecret(t, s, err, digits32)
}

func TestInterruptedByKey(t *testing.T) {
	for name, keys := range map[string]string{"Ctrl-C": "01\x03", "Ctrl-\\": "\x1c", "Ctrl-D": "\x04", "Ctrl-C in a sequence": "\x1b\x03", "and another": "\x1b[\x03"} {
		t.Run(name, func(t *testing.T) {
			p := newPTY(t)
			end := dialogue(p, component("C", 16))
			p.await(":\r\n  ")
			p.typed(keys)
			if s, err := end(); !errors.Is(err, ErrInterrupted) || s != nil {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
}

func TestInterruptedBySignal(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			asked := make(chan os.Signal, 1) // whoever started the tests may have it ignored, as nohup does
			ossignal.Notify(asked, signal)
			defer ossignal.Stop(asked)
			p := newPTY(t)
			end := dialogue(p, component("C", 16))
			p.await(":\r\n  ")
			must(t, unix.Kill(os.Getpid(), signal))
			if s, err := end(); !errors.Is(err, ErrInterrupted) || s != nil {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
}

func TestRestoredAfterPanic(t *testing.T) {
	p := newPTY(t)
	end := dialogue(p, func(t *Terminal) (_ any, err error) {
		defer func() { err = recover().(error) }()
		_ = t.raw("", func(*keyboard) error { panic(errors.New("a bug")) })
		return nil, nil
	})
	if _, err := end(); err == nil || err.Error() != "a bug" {
		t.Error(err)
	}
}

// What was pasted before the question stood there answers nothing, and what comes after
// the answer does not reach the shell.
func TestTypedTooEarlyOrTooMuch(t *testing.T) {
	p := newPTY(t)
	p.typed("yes\n")
	p.await("yes\r\n") // echoed: it lies in the terminal's queue
	end := dialogue(p, func(t *Terminal) (any, error) { return nil, t.Confirm("Sure?", "yes") })
	p.await("Sure? ")
	p.typed("no\r0123456789\r")
	if _, err := end(); !errors.Is(err, ErrNotConfirmed) {
		t.Errorf("%v", err)
	}
	waiting, err := unix.IoctlGetInt(int(p.slave.Fd()), unix.TIOCINQ)
	if must(t, err); waiting != 0 {
		t.Errorf("%d bytes were left for the shell", waiting)
	}
}

func TestTerminalGone(t *testing.T) {
	p := newPTY(t)
	done := make(chan error, 1)
	go func() {
		_, err := p.terminal().ReadComponent("C", 16)
		done <- err
	}()
	p.await(":\r\n  ")
	p.master.Close()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	_, err = w.WriteString("yes\n" + digits32 + "\n")
	must(t, err)
	term := NewTerminal(r, w)
	_, component := term.ReadComponent("C", 16)
	_, written := term.ReadWritten("C", 16)
	_, passphrase := term.Passphrase("P", false)
	s, err := NewSecret(1)
	must(t, err)
	defer s.Destroy()
	for _, err := range []error{component, written, passphrase, term.Confirm("Sure?", "yes"), term.Show("C", s)} {
		if !errors.Is(err, ErrNoTerminal) {
			t.Error(err)
		}
	}
	must(t, term.Close())
	if _, err := w.Write(nil); err != nil {
		t.Error("Close closed what it had not opened")
	}
}

func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		want, keys string
		err        error
	}{
		{"yes", "yes\r", nil},
		{"yes", "YES\r", nil},
		{"yes", " no\x7f\x7fyesx\x7f \n", nil},
		{"1F2A77", "1f2a 77\r", nil},
		{"yes", "y\r", ErrNotConfirmed},
		{"yes", "yess\r", ErrNotConfirmed},
		{"1F2A77", "yes\r", ErrNotConfirmed},
		{"", "x\r", ErrNotConfirmed},
		{"yes", "\rye\x15yes\r", nil}, // Enter alone says how to give up
		{"yes", "ye\x03", ErrInterrupted},
		{"yes", "\x04", ErrInterrupted},
	} {
		p := newPTY(t)
		end := dialogue(p, func(t *Terminal) (any, error) { return nil, t.Confirm("Line 1\n\x1b[31mSure?", c.want) })
		if c.want != "" {
			p.await("Line 1\r\n\uFFFD[31mSure? ") // whoever wrote the question moves no cursor
			p.typed(c.keys)
		}
		if _, err := end(); !errors.Is(err, c.err) {
			t.Errorf("%q for %q: %v, want %v", c.keys, c.want, err, c.err)
		}
	}
}

func TestPassphrase(t *testing.T) {
	p := newPTY(t)
	ask := func(twice bool) func() ([]byte, error) {
		return dialogue(p, func(t *Terminal) ([]byte, error) { return t.Passphrase("Passphrase", twice) })
	}
	end := ask(false)
	p.await("Passphrase: ")
	p.typed("\r")
	p.await("Nothing was typed")
	p.await("Passphrase: ")
	p.typed("correct hörse\xc3\xb6\x7f\x7fe\t\r")
	if got, err := end(); err != nil || string(got) != "correct hörse" {
		t.Errorf("%q, %v", got, err)
	}
	if shown := p.seen.String(); strings.Contains(shown, "c") && strings.Contains(shown, "correct") {
		t.Errorf("the passphrase was shown: %q", shown)
	}

	end = ask(true)
	p.await("Passphrase: ")
	p.typed("one\r")
	p.await("Passphrase, again: ")
	p.typed("two\r")
	p.await("The two differ")
	p.await("Passphrase: ")
	p.typed("three\r")
	p.await("again: ")
	p.typed("three\r")
	if got, err := end(); err != nil || string(got) != "three" {
		t.Errorf("%q, %v", got, err)
	}

	end = ask(true)
	p.await("Passphrase: ")
	p.typed("one\r")
	p.await("again: ")
	p.typed("one\x03")
	if got, err := end(); !errors.Is(err, ErrInterrupted) || got != nil {
		t.Errorf("%q, %v", got, err)
	}

	end = ask(false)
	p.await("Passphrase: ")
	p.typed(strings.Repeat("x", 400))
	p.typed(strings.Repeat("x", 113)) // one too many
	p.await("\a")
	p.typed("\r")
	if got, err := end(); err != nil || len(got) != 512 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestShowLeavesNothing(t *testing.T) {
	p := newPTY(t)
	c, err := NewSecret(12)
	must(t, err)
	defer c.Destroy()
	text, err := Groups(c)
	must(t, err)
	defer text.Destroy()
	end := dialogue(p, func(t *Terminal) (any, error) { return nil, t.Show("Component 1", text) })
	p.await("\x1b[?1049h")
	p.await("Component 1\r\n\r\n  0000 0000 0000 0000  ")
	p.await("\r\n  0000 0000  ")
	p.await("press Enter.")
	p.typed("x\r")
	_, err = end()
	must(t, err)
	p.await("\x1b[2J\x1b[H\x1b[?1049l")

	end = dialogue(p, func(t *Terminal) (any, error) { return nil, t.Show("Component 1", text) })
	p.await("press Enter.")
	must(t, unix.Kill(os.Getpid(), unix.SIGTERM))
	if _, err := end(); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	p.await("\x1b[?1049l")
}

func TestReadWritten(t *testing.T) {
	for _, size := range []int{8, 16, 20, 24} {
		c, err := Random(size)
		must(t, err)
		defer c.Destroy()
		text, err := Groups(c)
		must(t, err)
		defer text.Destroy()
		paper := strings.Split(strings.TrimSuffix(string(text.Bytes()), "\n"), "\n")
		p := newPTY(t)
		end := dialogue(p, func(t *Terminal) (*Secret, error) { return t.ReadWritten("C", size) })
		for i, line := range paper {
			p.await(", line ")
			p.await(":\r\n  ")
			if i == len(paper)-1 { // first with a digit that is wrong
				wrong := []byte(line)
				wrong[0] = "123456789ABCDEF0"[strings.IndexByte("0123456789ABCDEF", wrong[0])]
				p.typed(string(wrong) + "\r")
				p.await("does not fit its check")
				p.await(":\r\n  ")
			}
			p.typed(line + "\r")
		}
		got, err := end()
		must(t, err)
		if !bytes.Equal(got.Bytes(), c.Bytes()) {
			t.Errorf("%d bytes: read %X, want %X", size, got.Bytes(), c.Bytes())
		}
		got.Destroy()
	}
}

// The program's own terminal is asked even where its standard input is something else.
func TestControllingTerminal(t *testing.T) {
	p := newPTY(t)
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), askVariable+"=1")
	cmd.Stdin, cmd.Stdout = strings.NewReader("not the passphrase\n"), &out
	cmd.ExtraFiles = []*os.File{p.slave}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	must(t, cmd.Start())
	p.await("Passphrase: ")
	p.typed("secret\r")
	must(t, cmd.Wait())
	if out.String() != "result: <nil>\n" || strings.Contains(p.seen.String(), "secret") {
		t.Errorf("%q, %q", out.String(), p.seen.String())
	}
}

// Without a controlling terminal, standard input is asked if it is one.
func TestStandardInput(t *testing.T) {
	p := newPTY(t)
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), askVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.slave, &out, p.slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	must(t, cmd.Start())
	p.await("Passphrase: ")
	p.typed("secret\r")
	must(t, cmd.Wait())
	if out.String() != "result: <nil>\n" {
		t.Errorf("%q", out.String())
	}

	out.Reset()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), askVariable+"=1")
	cmd.Stdin, cmd.Stdout = strings.NewReader("secret\n"), &out
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	must(t, cmd.Run())
	if !strings.Contains(out.String(), ErrNoTerminal.Error()) {
		t.Errorf("%q", out.String())
	}
}
