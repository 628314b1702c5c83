package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
)

// playRenew does as the file says that its last argument names: it ends with a status, or
// hangs, or says what it was given.
func playRenew(args []string) {
	text := strings.TrimSpace(string(must(os.ReadFile(args[slices.Index(args, "--do")+1]))))
	fmt.Fprintln(os.Stderr, "renew: "+text, os.Environ())
	for _, f := range must(openFiles()) {
		fmt.Fprintln(os.Stderr, "renew has", f)
	}
	if text == "hang" {
		select {}
	}
	os.Exit(must(strconv.Atoi(text)))
}

// TestRenew: what a renew command has replaced is brought to the front, and nothing else is;
// what fails changes nothing; and a command that hangs keeps nobody from stopping.
func TestRenew(t *testing.T) {
	dir := t.TempDir()
	policy, key, do := filepath.Join(dir, "policy"), filepath.Join(dir, "key"), filepath.Join(dir, "do")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".next", path); err != nil {
			t.Fatal(err)
		}
	}
	write(policy, "one")
	write(key, "k")
	write(do, "0")
	login, err := os.CreateTemp(dir, "login")
	if err != nil {
		t.Fatal(err)
	}
	defer login.Close()
	hup := make(chan os.Signal, 1)
	config := doubles(1)
	config.Files = []Reloadable{{Name: "policy", Path: policy}, {Name: "key", Path: key, Renewed: true}}
	config.Reload = hup
	config.Renew = &Command{Args: []string{"internal", "renew", "--do", do}, Files: []Inherited{{Flag: "--login-fd", File: login}}}
	config.RenewEvery = 50 * time.Millisecond
	s := startService(t, config, standard)
	front := s.pid("pid")
	is := func(want string) func(string) bool { return func(a string) bool { return a == want } }
	said := func(text string, n int) func() bool {
		return func() bool { return strings.Count(s.output.String(), text) >= n }
	}
	eventually(t, "it runs again and again", said("renew: 0 []", 3)) // an empty environment
	s.mustAsk("reloaded", is(""))                                    // nothing was replaced, and nothing is brought

	write(policy, "two") // half a thought of an operator's: not to be taken up
	write(key, "l")
	write(do, strconv.Itoa(child.ExitRenewed))
	s.mustAsk("reloaded", is("key=l"))
	write(key, "m")
	write(do, strconv.Itoa(child.ExitRenewedInPart))
	s.mustAsk("reloaded", is("key=m"))
	eventually(t, "it goes on although a part failed", said("renew: 11 []", 2))

	// The front does not take it: it is brought again, without anything having been renewed.
	write(key, "bad")
	s.mustAsk("reloaded", is("key=bad"))
	write(do, "0")
	eventually(t, "nothing is renewed any more", said("renew: 0 []", 6))
	write(key, "n")
	s.mustAsk("reloaded", is("key=n"))

	write(do, "1")
	before := strings.Count(s.output.String(), "renew: 1 []")
	eventually(t, "what failed is tried again", said("renew: 1 []", before+3))
	hup <- unix.SIGHUP
	s.mustAsk("reloaded", is("policy=two key=n"))
	if got := s.pid("pid"); got != front {
		t.Error("the front was started again")
	}
	write(do, "hang")
	eventually(t, "it hangs", said("renew: hang", 1))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestRenewNeedsAnInterval(t *testing.T) {
	config := doubles(1)
	config.Renew = &Command{Args: []string{"internal", "renew"}}
	if err := Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), "interval") {
		t.Errorf("Run: %v", err)
	}
}
