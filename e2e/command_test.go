package e2e

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestHelpExamples runs the examples in the help of keyd call, keyd terminal and keyd
// velocity: each must be accepted, and what verifies something must find it right.
func TestHelpExamples(t *testing.T) {
	dir := tempDir(t)
	for name, content := range map[string]string{"track.bin": "B4564320000980369^", "track.enc": strings.Repeat("\x01", 32)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(keydBinary, filepath.Join(dir, "bin", "keyd")); err != nil {
		t.Fatal(err)
	}
	s := startWith(t, filepath.Join(dir, "dev"), []string{"--verify-limits", "100,100,100"})
	commands := [][]string{{"terminal", "encrypt-pin"}, {"velocity", "permit"}, {"velocity", "reset"}, {"audit", "show"}, {"audit", "verify"}, {"audit", "tail"}, {"audit", "prove"}, {"audit", "checkpoint"}, {"audit", "export"}, {"status"}}
	list, err := s.command("", "call", "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`).FindAllStringSubmatch(list, -1) {
		commands = append(commands, []string{"call", m[1]})
	}
	if len(commands) < 16 {
		t.Errorf("%d commands", len(commands))
	}
	for _, words := range commands {
		help, err := s.command("", append(words, "--help")...)
		if err != nil {
			t.Fatal(err)
		}
		_, examples, found := strings.Cut(help, "\nExamples:\n")
		examples, _, _ = strings.Cut(examples, "\n\n")
		ran := 0
		for _, example := range strings.Split(strings.ReplaceAll(examples, "\\\n", " "), "\n") {
			if !strings.Contains(example, "./dev") {
				continue // about a service elsewhere
			}
			ran++
			c := exec.Command("bash", "-c", example)
			c.Dir = dir
			c.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", example, err, out)
			}
			if regexp.MustCompile(`verified +false`).Match(out) {
				t.Errorf("%s:\n%s", example, out)
			}
		}
		if !found || ran == 0 {
			t.Errorf("keyd %s has no example", strings.Join(words, " "))
		}
	}
}

// TestChangePinDropsNoFlag: what says how the new block is enciphered is not left out
// because its key is not named.
func TestChangePinDropsNoFlag(t *testing.T) {
	s := &service{t: t}
	for _, flag := range []string{"--new-in-ksn=FFFF9876543210E00002", "--new-in-working-key=AES_128", "--new-in-format=4"} {
		_, err := s.command("", "call", "change-pin", "--dir", tempDir(t), "--in-key", "bdk", "--in-ksn", "FFFF9876543210E00001", "--pvv", "1234", flag)
		if err == nil || !strings.Contains(err.Error(), "without --new-in-key") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestAuditShowSaysWhy: the sentence that tells an operator what a policy lacks is in the table.
func TestAuditShowSaysWhy(t *testing.T) {
	s := start(t)
	if _, err := s.command("", "status", "--dir", s.dir, "--as", "terminal-1"); err == nil {
		t.Fatal("the policy lets a terminal ask for the status")
	}
	out, err := s.command("", "audit", "show", "--dir", s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)POLICY_DENIED .*no rule of role terminal-keys covers`).MatchString(out) {
		t.Errorf("no sentence in\n%s", out)
	}
}

// TestCallsTellWhoseCertificateIsWrong: the server's, which the caller does not trust, or the
// caller's, which the server does not.
func TestCallsTellWhoseCertificateIsWrong(t *testing.T) {
	s := start(t)
	other := newAuthority(t, "another CA")
	dir := tempDir(t)
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ask := func(server, ca, cert, key string) string {
		_, err := s.command("", "status", "--server", server, "--ca", ca, "--cert", cert, "--key", key)
		if err == nil {
			return "it is answered"
		}
		return err.Error()
	}
	ca, cert, key := s.file("certs", "ca.crt"), s.file("certs", "auditor.crt"), s.file("certs", "auditor.key")
	_, port, _ := strings.Cut(s.address, ":")
	_, otherCert, otherKey := other.server(t, time.Time{})
	for name, c := range map[string]struct{ got, status, text string }{
		"an authority that is not the server's": {ask(s.address, write("other.crt", pemOf(other.certificate)), cert, key), "exit status 4", "is not the keyd that --ca vouches for"},
		"a name that is not the server's":       {ask("localhost.localdomain:"+port, ca, cert, key), "exit status 4", ""},
		"a client certificate of another":       {ask(s.address, ca, write("o.crt", otherCert), write("o.key", otherKey)), "exit status 3", "refuses the client certificate"},
		"nobody":                                {ask("127.0.0.1:1", ca, cert, key), "exit status 4", "no keyd answers"},
	} {
		if !strings.Contains(c.got, c.status) || !strings.Contains(c.got, c.text) {
			t.Errorf("%s: %s", name, c.got)
		}
	}
	// A certificate is sent even if the server asks for those of other authorities: what the
	// log says about it is of more use than that there was none.
	if !strings.Contains(s.logged(), x509.UnknownAuthorityError{}.Error()) {
		t.Error("the log does not say why the client was refused")
	}
}

// TestCertificatesOfTheManual makes certificates as docs/operations.md says, and a service
// uses them.
func TestCertificatesOfTheManual(t *testing.T) {
	manual, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(manual), "```bash\n")
	script, _, ended := strings.Cut(script, "```")
	if !found || !ended {
		t.Fatal("docs/operations.md has no script")
	}
	dir := tempDir(t)
	c := exec.Command("bash", "-euo", "pipefail", "-c", script)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := start(t)
	for name, from := range map[string]string{"config/server.crt": "server.crt", "config/server.key": "server.key", "certs/ca.crt": "clients-ca.crt"} {
		s.replace(s.file(filepath.Split(name)), file(t, filepath.Join(dir, from)))
	}
	policy := strings.ReplaceAll(string(s.read(s.file("config", "policy.yaml"))), "spiffe://dev.keyd/auditor", "spiffe://payments.example/monitoring")
	s.replace(s.file("config", "policy.yaml"), []byte(policy))
	s.reload(loaded)
	for name, want := range map[string]string{"monitor": "", "switch-1": "POLICY_DENIED"} {
		_, err := s.command("", "status", "--server", s.address, "--ca", filepath.Join(dir, "server-ca.crt"),
			"--cert", filepath.Join(dir, name+".crt"), "--key", filepath.Join(dir, name+".key"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
