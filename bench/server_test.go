package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell starts a script in place of a service.
func shell(t *testing.T, script string) (*server, error) {
	t.Helper()
	s := &server{name: "the script", log: filepath.Join(t.TempDir(), "log")}
	return s, s.start(t.Context(), 10*time.Second, "sh", "-c", script)
}

func TestServersThatDoNotStart(t *testing.T) {
	for script, want := range map[string]string{
		"echo it broke >&2; exit 3":                   "it broke",
		"echo ready 0.0.0.0:443; exec sleep 60":       "did not start",
		"printf 'ready 127'; exit 0":                  "did not start",
		"echo hello; echo after hello >&2; sleep 0.1": "did not start",
	} {
		if _, err := shell(t, script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	s := &server{name: "nothing", log: filepath.Join(t.TempDir(), "log")}
	if err := s.start(t.Context(), time.Minute, filepath.Join(t.TempDir(), "keyd")); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a binary that is not there: %v", err)
	}
}

func TestServersAreStopped(t *testing.T) {
	s, err := shell(t, "trap 'exit 0' TERM; echo ready 127.0.0.1:1; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if s.address != "127.0.0.1:1" {
		t.Errorf("address %q", s.address)
	}
	if err := s.stop(); err != nil {
		t.Errorf("a server that ends when asked: %v", err)
	}

	s, err = shell(t, "trap 'echo trouble >&2; exit 4' TERM; echo ready 127.0.0.1:1; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "trouble") {
		t.Errorf("a server that ends with an error: %v", err)
	}

	s, err = shell(t, "echo ready 127.0.0.1:1; echo crashed >&2; exit 1")
	if err != nil {
		t.Fatal(err)
	}
	<-s.ended
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "crashed") {
		t.Errorf("a server that has ended by itself: %v", err)
	}
}
