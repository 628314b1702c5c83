package softhsm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyd/hsm/module/internal/softhsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

const label, pin = "keyd-login", "12345678"

// The test binary is also the process that uses a token and may be killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "login" {
		if err := play(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play logs in to the token below a directory. "broken" is what a kill in the middle of
// the login leaves: SoftHSM empties the token's file and can write nothing to it.
func play(how, directory string) error {
	login, err := softhsm.Begin([]string{directory})
	if err != nil {
		return err
	}
	defer login.End()
	library, err := token.Load(tokentest.SoftHSMPath, "")
	if err != nil {
		return err
	}
	if how == "init" {
		return library.InitToken(label, pin)
	}
	slot, info, err := library.FindToken(label)
	if err != nil {
		return err
	}
	if how == "broken" {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{}); err != nil {
			return err
		}
	}
	_, err = library.Open(slot, info, []byte(pin), 1)
	return errors.Join(err, report(login))
}

func report(l *softhsm.Login) error {
	if len(l.Mended()) == 0 {
		return nil
	}
	_, err := fmt.Println("mended")
	return err
}

// store is SoftHSM's folder, with one token that has been used once.
type store struct {
	*testing.T
	directory string
}

func newStore(t *testing.T) store {
	t.Helper()
	s := store{t, t.TempDir()}
	conf := filepath.Join(s.directory, "softhsm2.conf")
	tokens := filepath.Join(s.directory, "tokens")
	if err := errors.Join(os.Mkdir(tokens, 0o700),
		os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	for _, how := range []string{"init", "whole"} {
		if out, err := s.play(how); err != nil || out != "" {
			t.Fatalf("%s: %v, %q", how, err, out)
		}
	}
	return s
}

func (s store) play(how string) (string, error) {
	s.Helper()
	out, err := exec.Command(os.Args[0], "login", how, s.directory).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	return string(out), err
}

func (s store) tokenFile() string {
	s.Helper()
	files, err := filepath.Glob(filepath.Join(s.directory, "tokens", "*", "token.object"))
	if err != nil || len(files) != 1 {
		s.Fatal(files, err)
	}
	return files[0]
}

func (s store) size() int64 {
	s.Helper()
	info, err := os.Stat(s.tokenFile())
	if err != nil {
		s.Fatal(err)
	}
	return info.Size()
}

// TestATokenSurvivesAKillDuringLogin lets a login end where SoftHSM has emptied the
// token's file.
func TestATokenSurvivesAKillDuringLogin(t *testing.T) {
	s := newStore(t)
	for range 2 {
		_, err := s.play("broken") // whether it then ends by a signal or not is all the same
		if n := s.size(); n != 0 {
			t.Fatalf("the token's file has %d bytes: the login was not broken off (%v)", n, err)
		}
		if out, err := s.play("whole"); err != nil || out != "mended\n" {
			t.Fatalf("the next login: %v, %q", err, out)
		}
		if out, err := s.play("whole"); err != nil || out != "" {
			t.Fatalf("the login after it: %v, %q", err, out)
		}
	}
}

// TestTheCopyFollowsTheToken changes the token's file as a change of the PIN does.
func TestTheCopyFollowsTheToken(t *testing.T) {
	s := newStore(t)
	changed, err := os.ReadFile(s.tokenFile())
	if err != nil {
		t.Fatal(err)
	}
	changed[len(changed)-1] ^= 1
	if err := os.WriteFile(s.tokenFile(), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	begin(t, s.directory).End()
	if err := os.Truncate(s.tokenFile(), 0); err != nil {
		t.Fatal(err)
	}
	begin(t, s.directory).End()
	if again, err := os.ReadFile(s.tokenFile()); err != nil || string(again) != string(changed) {
		t.Errorf("mended to %X, %v; it was %X", again, err, changed)
	}
}

func begin(t *testing.T, directories ...string) *softhsm.Login {
	t.Helper()
	l, err := softhsm.Begin(directories)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOneLoginAtATime(t *testing.T) {
	s := newStore(t)
	first := begin(t, s.directory)
	second := make(chan error, 1)
	go func() {
		l, err := softhsm.Begin([]string{filepath.Join(s.directory, "tokens"), s.directory})
		if err == nil {
			l.End()
		}
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("a second login began beside the first: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	first.End()
	first.End()
	select {
	case err := <-second:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second login waits although the first has ended")
	}
}

// TestDirectoriesOfOtherTokens have nothing to keep whole.
func TestDirectoriesOfOtherTokens(t *testing.T) {
	l := begin(t, t.TempDir(), "/does/not/exist")
	defer l.End()
	if len(l.Mended()) != 0 {
		t.Error(l.Mended())
	}
}
