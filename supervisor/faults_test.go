package supervisor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
)

// What ends everything, which child is named, and how often a PIN may have been tried.
func TestFaultsThatEndEverything(t *testing.T) {
	quick := standard
	quick.tick, quick.firstPause, quick.longest, quick.starting = 20*time.Millisecond, time.Millisecond, 2*time.Millisecond, 15
	for name, test := range map[string]struct {
		change func(*Config)
		child  string // or how its name begins: modules take turns, and any may be the first that has failed too often
		says   string
		tries  int
	}{
		"unlock fails":      {change: func(c *Config) { c.Unlock.Args = append(c.Unlock.Args, "fail") }, child: "unlock", says: "exit status 78"},
		"provision fails":   {change: func(c *Config) { c.Provision = &Command{Args: []string{"internal", "provision", "fail"}} }, child: "provision", says: "exit status 9"},
		"wrong PIN":         {change: func(c *Config) { c.Module.Args = append(c.Module.Args, "wrong-pin") }, child: "module 0", says: "not tried again", tries: 1},
		"modules crash":     {change: func(c *Config) { c.Module.Args = append(c.Module.Args, "crash") }, child: "module ", says: "5 starts in a row"},
		"modules not ready": {change: func(c *Config) { c.Module.Args = append(c.Module.Args, "never-ready") }, child: "module ", says: "5 starts in a row"},
		"module is rude":    {change: func(c *Config) { c.Module.Args = append(c.Module.Args, "rude") }, child: "module ", says: "5 starts in a row"},
		"front is missing":  {change: func(c *Config) { c.Front.Args = []string{"internal", "nobody"} }, child: "front", says: "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			config := doubles(4)
			test.change(&config)
			s := startService(t, config, quick)
			err := s.wait()
			var end *EndError
			if !errors.As(err, &end) || !strings.HasPrefix(end.Child, test.child) || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("Run: %v", err)
			}
			if tries := strings.Count(s.output.String(), "PIN tried"); tries != test.tries {
				t.Errorf("the PIN was tried %d times", tries)
			}
		})
	}
}

// A module that finds a permanent fault is never started again, but only the last one
// ends everything.
func TestPermanentFaultLater(t *testing.T) {
	s := startService(t, doubles(2), standard)
	for i := range 2 {
		s.mustAsk(fmt.Sprintf("module %d x", i), func(a string) bool { return a == fmt.Sprintf("%d:x", i) })
	}
	if answer, err := s.ask("module 1 permanent"); err == nil && answer != "unavailable" {
		t.Errorf("answer %q", answer)
	}
	eventually(t, "end of the module", func() bool { return s.state().Children[2].Phase == child.PhaseEnded })
	if c := s.state().Children[2]; c.Restarts != 0 || c.PID != 0 || c.LastExit != "exit status 78" {
		t.Errorf("state %+v", c)
	}

	// The other one is still replaced, and serves.
	old := s.pid("module 0 pid")
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "replacement", func() bool {
		answer, err := s.ask("module 0 pid")
		return err == nil && answer != "unavailable" && answer != fmt.Sprintf("0:%d", old)
	})
	if c := s.state().Children[2]; c.Phase != child.PhaseEnded || c.Restarts != 0 {
		t.Errorf("state %+v", c)
	}

	if answer, err := s.ask("module 0 permanent"); err == nil && answer != "unavailable" {
		t.Errorf("answer %q", answer)
	}
	var end *EndError
	if err := s.wait(); !errors.As(err, &end) || end.Child != "module 0" {
		t.Fatalf("Run: %v", err)
	}
}

// Once the service has been ready, no number of failed starts ends it, and no status of
// a front does.
func TestFaultsThatEndNothing(t *testing.T) {
	quick := standard
	quick.firstPause, quick.longest = time.Millisecond, 2*time.Millisecond
	for name, test := range map[string]struct {
		command func(*Config) *Command
		status  int
		end     string
	}{
		"front, permanent": {command: func(c *Config) *Command { return &c.Front }, status: ExitPermanent, end: "permanent"},
		"front, crash":     {command: func(c *Config) *Command { return &c.Front }, status: 3, end: "shutdown"},
		"module, crash":    {command: func(c *Config) *Command { return &c.Module }, status: 3, end: "module 0 kill"},
	} {
		t.Run(name, func(t *testing.T) {
			marker := t.TempDir() + "/end"
			config := doubles(1)
			command := test.command(&config)
			command.Args = append(command.Args, "end-while", marker, strconv.Itoa(test.status))
			s := startService(t, config, quick)
			s.mustAsk("module 0 x", func(a string) bool { return a == "0:x" })
			if err := os.WriteFile(marker, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if answer, err := s.ask(test.end); err == nil && answer != "unavailable" {
				t.Errorf("answer %q", answer)
			}
			eventually(t, "failed starts", func() bool {
				info, err := os.Stat(marker)
				return err == nil && info.Size() > int64(2*quick.neverReady)
			})
			if err := os.Remove(marker); err != nil {
				t.Fatal(err)
			}
			s.mustAsk("module 0 y", func(a string) bool { return a == "0:y" })
			if err := s.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A front that has no module to ask cannot become ready. It is not killed for that: it
// answers clients, which would otherwise find nobody.
func TestAFrontWaitsForModules(t *testing.T) {
	quick := standard
	quick.tick, quick.starting, quick.firstPause, quick.longest = 20*time.Millisecond, 20, 50*time.Millisecond, 50*time.Millisecond
	marker := t.TempDir() + "/end"
	config := doubles(2)
	config.Front.Args = append(config.Front.Args, "needs-module")
	config.Module.Args = append(config.Module.Args, "end-while", marker, "3")
	s := startService(t, config, quick)
	s.mustAsk("module 0 x", func(a string) bool { return a == "0:x" })
	s.mustAsk("module 1 x", func(a string) bool { return a == "1:x" })
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	end := func(command string) {
		if answer, err := s.ask(command); err == nil && answer != "unavailable" {
			t.Errorf("answer %q", answer)
		}
	}
	end("module 0 kill")
	end("module 1 kill")
	eventually(t, "no module is ready", func() bool {
		return !slices.ContainsFunc(s.state().Children, func(c child.ChildState) bool {
			return c.Role == child.RoleModule && c.Phase == child.PhaseReady
		})
	})
	end("kill")
	front := s.pid("pid")
	time.Sleep(3 * time.Duration(quick.starting) * quick.tick)
	if again := s.pid("pid"); again != front {
		t.Error("the front was replaced while there was no module")
	}
	if err := os.Remove(marker); err != nil {
		t.Fatal(err)
	}
	s.mustAsk("module 0 y", func(a string) bool { return a == "0:y" })
	for _, c := range s.state().Children {
		if c.Role == child.RoleFront && (c.Restarts != 1 || c.PID != front) {
			t.Errorf("state %+v", c)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}
