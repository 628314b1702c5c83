package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// onNSS gives a production another token, a fresh one of NSS softokn, and returns the
// library's path.
func (p *production) onNSS() string {
	p.t.Helper()
	found, err := filepath.Glob("/usr/lib/*/libsoftokn3.so")
	if err != nil || len(found) == 0 {
		p.t.Fatal("libsoftokn3.so is missing: apt-get install libnss3")
	}
	folder := filepath.Join(p.dir, "nss")
	p.must(os.Mkdir(folder, 0o700))
	makeToken := exec.Command("go", "run", "keyd/hsm/module/internal/token/tokentest/maketoken", found[0], nssParameters(folder, "payments"), "payments")
	makeToken.Stdin = strings.NewReader("12345678")
	if out, err := makeToken.CombinedOutput(); err != nil {
		p.t.Fatalf("make the token: %v\n%s", err, out)
	}
	p.useNSS(found[0], folder, "payments")
	return found[0]
}

func nssParameters(folder, label string) string {
	return fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='' flags=noModDB dbTokenDescription='%s'", folder, label)
}

// useNSS rewrites the configuration's token.
func (p *production) useNSS(library, folder, label string) {
	p.t.Helper()
	p.configure(label, folder)
	conf := read(p, p.conf)
	conf = regexp.MustCompile(`(?m)^  library: .*$`).ReplaceAllLiteralString(conf, "  library: "+library+"\n  parameters: \""+nssParameters(folder, label)+"\"")
	conf = regexp.MustCompile(`(?m)^  environment:\n.*\n`).ReplaceAllString(conf, "")
	p.write(p.conf, conf, 0o600)
}

// TestServeOnNSS takes a token of NSS softokn through keyd init to a service that answers,
// and the wrong turns that are NSS's own.
func TestServeOnNSS(t *testing.T) {
	p := newProduction(t)
	library := p.onNSS()
	p.expect(p.run(0, keydBinary, "config", "check", p.conf), "good")
	p.expect(p.run(78, keydBinary, "serve", "--config", p.conf), "keyd init")
	p.expect(p.initialise(), "generation 1, check value ")
	s := p.serve()
	status := s.status()
	if status.Development || len(status.Tokens) != 1 || status.Tokens[0].Label != "payments" || !strings.Contains(status.Tokens[0].Model, "NSS") {
		t.Errorf("status: %v", status)
	}
	if token := status.Tokens[0]; token.EpochLoaded != 1 || token.EpochPinned != 1 {
		t.Errorf("the register: %d is loaded, %d is pinned", token.EpochLoaded, token.EpochPinned)
	}
	s.stop()

	p.write(filepath.Join(p.dir, "pin"), "11111111\n", 0o600)
	out := p.run(78, keydBinary, "serve", "--config", p.conf)
	if n := strings.Count(out, "CKR_PIN_INCORRECT"); n != 1 {
		t.Errorf("the wrong PIN was tried %d times\n%s", n, out)
	}

	// The token of a development service is refused, though its mark is no data object.
	dev := startNSS(t)
	dev.stop()
	p.write(filepath.Join(p.dir, "pin"), read(p, filepath.Join(dev.dir, "pin")), 0o600)
	if os.Geteuid() == 0 {
		p.own(filepath.Join(dev.dir, "token"), 64901)
	}
	p.useNSS(library, filepath.Join(dev.dir, "token", "nss"), "keyd development")
	p.expect(p.run(78, keydBinary, "serve", "--config", p.conf), "development mark")
}
