package e2e

import (
	"crypto/hkdf"
	"crypto/sha512"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// officers are the security officers of a production service in tests. Their certificates
// are those of the development service.
var officers = []string{"officer-1", "officer-2", "officer-3"}

// papers is where the officers of a production service keep what they have.
func (p *production) papers(name string) string { return filepath.Join(p.dir, "officers", name) }

// defineOfficers makes the officers' signing keys, and writes the definition of a roster in
// which two of the three have a share of the master keys.
func (p *production) defineOfficers() (definition string) {
	p.t.Helper()
	p.must(os.Mkdir(p.papers(""), 0o700))
	text := "kind: init\nquorum: {components: 2, approvals: 2, roster: 2}\nmasters:\n  holders: [officer-1, officer-2]\nofficers:\n"
	for _, name := range officers {
		p.run(0, keydBinary, "officer", "key", "--new", p.papers(name+".key"), "--unprotected")
		text += fmt.Sprintf("  - {name: %s, identity: %q, key: %s.key.pub}\n", name, "spiffe://dev.keyd/"+name, name)
	}
	definition = p.papers("init.yaml")
	p.write(definition, text, 0o600)
	return definition
}

// initialise gives the token its officers and master keys, as three officers and whoever is
// at the machine do. It returns what the last step printed.
func (p *production) initialise() string {
	p.t.Helper()
	definition, request := p.defineOfficers(), p.papers("keyd.request")
	said := p.run(0, keydBinary, "init", "--config", p.conf, "--definition", definition, "--request", request)
	identity, roster := row(p, said, "identity"), row(p, said, "roster")
	finish := []string{"init", "--config", p.conf, "--request", request, "--record", p.papers("init.record")}
	for _, name := range officers {
		answer := p.papers(name + ".accept")
		args := []string{"officer", "accept", "--request", request, "--definition", definition, "--officer-key", p.papers(name + ".key"),
			"--known", p.papers(name + ".known"), "--identity", identity, "--roster", roster, "--out", answer}
		if name != "officer-3" { // who has no share
			p.withPaper(p.papers(name+".share"), append(args, "--new", "--component-out-fd", "3")...)
		} else {
			p.run(0, keydBinary, args...)
		}
		finish = append(finish, "--accepted", answer)
	}
	return p.run(0, keydBinary, finish...)
}

// withPaper runs keyd with a new file as descriptor 3.
func (p *production) withPaper(path string, args ...string) {
	p.t.Helper()
	paper, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	p.must(err)
	defer paper.Close() //nolint:errcheck // the process wrote through a descriptor of its own
	cmd := exec.CommandContext(p.t.Context(), keydBinary, args...)
	cmd.Env, cmd.ExtraFiles = p.env, []*os.File{paper}
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("keyd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// row returns what stands behind a word at the beginning of a line.
func row(p *production, output, word string) string {
	p.t.Helper()
	for line := range strings.Lines(output) {
		if rest, found := strings.CutPrefix(line, word+" "); found {
			return strings.TrimSpace(rest)
		}
	}
	p.t.Fatalf("no line with %q in:\n%s", word, output)
	return ""
}

// share reads a share of the master keys from its paper: lines of digits, each with two more
// that check it.
func (p *production) share(name string) (value []byte) {
	p.t.Helper()
	for line := range strings.Lines(read(p, p.papers(name+".share"))) {
		digits := strings.ReplaceAll(strings.TrimSpace(line), " ", "")
		value = append(value, unhex(p.t, digits[:len(digits)-2])...)
	}
	return value
}

// TestMasterSecretsStayInTheToken looks for the officers' shares, for the secret that they
// make, and for the master keys that follow from it, in the memory of every process of a
// service that uses these keys.
func TestMasterSecretsStayInTheToken(t *testing.T) {
	if !asRoot(t) { // only root can read the memory of keyd's processes
		return
	}
	p := newProduction(t)
	p.initialise()
	one, two := p.share("officer-1"), p.share("officer-2")
	secret := xor(one, two)
	secrets := map[string][]byte{"a share": one, "another share": two, "the secret of the master keys": secret}
	for _, label := range []string{"keyd master 1 wrap token", "keyd master 1 wrap module", "keyd master 1 mac", "keyd master fingerprint"} {
		key, err := hkdf.Key(sha512.New, secret, nil, label, len(secret))
		p.must(err)
		secrets[label] = key
	}
	s := p.serve()
	var status *keydv1.GetStatusResponse
	for range 3 { // the modules authenticate the register with a master key when they get it
		status = s.status()
	}
	if len(status.Tokens) != 1 || status.Tokens[0].EpochLoaded != 1 {
		t.Fatalf("the register is not loaded: %v", status)
	}
	for _, process := range status.Processes {
		if hits := scan(t, int(process.Pid), secrets); len(hits) > 0 {
			t.Errorf("%s: %s", process.Role, strings.Join(hits, "; "))
		}
	}
	if hits := scan(t, s.cmd.Process.Pid, secrets); len(hits) > 0 {
		t.Errorf("supervisor: %s", strings.Join(hits, "; "))
	}
	if hits := scan(t, os.Getpid(), map[string][]byte{"a share": one}); len(hits) == 0 {
		t.Error("the scan does not find what this process has")
	}
}

// serve runs keyd serve until the test ends.
func (p *production) serve() *service {
	p.t.Helper()
	cmd := exec.Command(keydBinary, "serve", "--config", p.conf)
	var log syncBuffer
	cmd.Stderr = &log
	p.must(cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is told to end below
	}()
	p.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if p.t.Failed() {
			p.t.Log(log.String())
		}
	})
	address := ""
	waitUntil(p.t, "keyd serve is ready", func() bool {
		_, after, found := strings.Cut(log.String(), `"msg":"serving","address":"`)
		address, _, _ = strings.Cut(after, `"`)
		return found
	})
	return &service{t: p.t, dir: filepath.Join(p.dir, "dev"), address: address, cmd: cmd, ended: ended}
}
