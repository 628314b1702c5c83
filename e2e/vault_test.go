package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/vault/vaulttest"
)

const vaultPIN = "12345678" // the token's, as newProduction has it

// vaulted is a production whose PIN and certificates are Vault's.
type vaulted struct {
	*production
	vault   *vaulttest.Server
	secrets []string // that nothing may show
}

func newVaulted(t *testing.T) *vaulted {
	t.Helper()
	v := &vaulted{production: newProduction(t), vault: vaulttest.Start(t)}
	v.vault.PutPIN(vaultPIN)
	v.initialise()
	v.must(os.Remove(filepath.Join(v.dir, "pin"))) // from now on Vault alone has it
	for _, d := range []string{"tls", "monitor", "vault"} {
		v.must(os.Mkdir(filepath.Join(v.dir, d), 0o755))
	}
	conf := filepath.Join(v.dir, "config")
	pki, err := os.ReadFile(v.vault.PKI)
	v.must(err)
	v.write(filepath.Join(conf, "clients.crt"), read(v.production, filepath.Join(conf, "clients.crt"))+string(pki), 0o644)
	v.write(filepath.Join(conf, "policy.yaml"), strings.Replace(read(v.production, filepath.Join(conf, "policy.yaml")),
		"identities:\n", "identities:\n  - id: spiffe://test.keyd/monitor\n    roles: [monitor]\n", 1), 0o644)
	text := read(v.production, v.conf)
	for old, new := range map[string]string{
		"pin_file: " + filepath.Join(v.dir, "pin"): "pin_vault: {path: keyd/token}",
		conf + "/server.crt":                       filepath.Join(v.dir, "tls", "current", "certificate.pem"),
		conf + "/server.key":                       filepath.Join(v.dir, "tls", "current", "key.pem"),
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in the configuration", old)
		}
		text = strings.Replace(text, old, new, 1)
	}
	v.write(v.conf, text+fmt.Sprintf(`admin: {listen: 127.0.0.1:0}
vault:
  address: %s
  ca: %s
  approle: {role: %s, role_id: %s, secret_id_file: %s, wrapped: true}
  start_timeout: 15s
  interval: 1s
  certificates:
    - {directory: %s, role: %s, common_name: localhost, dns_sans: [localhost], ip_sans: [127.0.0.1], ttl: 15s, authority: %s}
    - {directory: %s, role: %s, uri_sans: ["spiffe://test.keyd/monitor"], ttl: 30s, authority: %s}
`, v.vault.Address, v.vault.CA, vaulttest.Role, v.vault.RoleID, v.secretID(),
		filepath.Join(v.dir, "tls"), vaulttest.ServerRole, v.vault.PKI,
		filepath.Join(v.dir, "monitor"), vaulttest.ClientRole, v.vault.PKI), 0o600)
	return v
}

func (v *vaulted) secretID() string { return filepath.Join(v.dir, "vault", "secret-id") }

func (v *vaulted) deliver() {
	v.t.Helper()
	token, answer := v.vault.Wrapped("5m")
	v.secrets = append(v.secrets, token)
	v.write(v.secretID(), answer, 0o600)
}

// serve runs keyd serve until the test ends, and waits until it serves.
func (v *vaulted) serve() *service {
	v.t.Helper()
	command := []string{keydBinary, "serve", "--config", v.conf}
	if os.Geteuid() == 0 { // with the capabilities that the unit for systemd leaves it, and no others
		bounding := "-all"
		for _, c := range strings.Fields(unit(v.t, "CapabilityBoundingSet")) {
			bounding += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
		}
		command = append([]string{"setpriv", "--bounding-set", bounding, "--no-new-privs"}, command...)
	}
	s := &service{t: v.t, dir: filepath.Join(v.dir, "dev"), cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	s.cmd.Stderr = s
	s.cmd.Env = append(v.env, "VAULT_TOKEN=hvs.environment", "VAULT_ADDR=https://127.0.0.1:1")
	v.must(s.cmd.Start())
	go func() { s.err = s.cmd.Wait(); close(s.ended) }()
	v.t.Cleanup(s.stop)
	v.t.Cleanup(func() {
		if v.t.Failed() {
			log := s.logged()
			v.t.Logf("the end of keyd's log:\n%s", log[max(0, len(log)-8<<10):])
		}
	})
	waitUntil(v.t, "keyd serve is ready", func() bool {
		_, after, found := strings.Cut(s.logged(), `"msg":"serving","address":"`)
		s.address, _, _ = strings.Cut(after, `"`)
		return found
	})
	return s
}

// auditor is a client that trusts the PKI.
func (v *vaulted) auditor(s *service) *tls.Config {
	v.t.Helper()
	pem, err := os.ReadFile(v.vault.PKI)
	v.must(err)
	c := s.tls("auditor")
	c.RootCAs = x509.NewCertPool()
	c.RootCAs.AppendCertsFromPEM(pem)
	return c
}

// watch looks at the command lines and environments of all processes of a service, as often
// as it can, until stop is called.
func (v *vaulted) watch(s *service) (stop func()) {
	quit := make(chan struct{})
	var group sync.WaitGroup
	seen := map[string]int{}
	secrets := append([]string{vaultPIN}, v.secrets...)
	group.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond):
			}
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.cmd.Process.Pid, s.cmd.Process.Pid))
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.cmd.Process.Pid))
			for _, t := range tasks {
				more, _ := os.ReadFile(t)
				children = append(append(children, ' '), more...)
			}
			for _, pid := range strings.Fields(string(children)) {
				line, err := os.ReadFile("/proc/" + pid + "/cmdline")
				environment, _ := os.ReadFile("/proc/" + pid + "/environ")
				if err != nil {
					continue
				}
				// Before it executes keyd, a child shows what the supervisor was started with.
				words := strings.Split(string(line), "\x00")
				if len(words) < 3 || words[1] != "internal" {
					continue
				}
				seen[words[2]]++
				for _, secret := range append(secrets, "VAULT_") {
					if strings.Contains(string(line), secret) || strings.Contains(string(environment), secret) {
						v.t.Errorf("the %s process shows a secret, or what the environment says of Vault", words[2])
					}
				}
			}
		}
	})
	return func() {
		close(quit)
		group.Wait()
		for _, process := range []string{"front", "module", "renew"} {
			if seen[process] == 0 {
				v.t.Errorf("no %s was looked at: %v", process, seen)
			}
		}
	}
}

// TestVault: PIN and certificates from a real Vault, in keyd serve on a production token.
func TestVault(t *testing.T) {
	v := newVaulted(t)
	v.expect(v.run(1, keydBinary, "config", "check", v.conf), "a start needs a wrapped secret-id that has not been used")
	v.deliver()
	v.expect(v.run(0, keydBinary, "config", "check", v.conf), "good")
	// What runs beside the service needs the PIN too, and a secret-id of its own.
	again := []string{"init", "--config", v.conf, "--definition", v.papers("init.yaml"), "--request", v.papers("again.request")}
	v.expect(v.run(78, keydBinary, again...), "the token has a roster")
	v.expect(v.run(78, keydBinary, "serve", "--config", v.conf), "keyd used the last one up")
	v.deliver()
	v.vault.UnwrapAs(v.secrets[len(v.secrets)-1])
	v.expect(v.run(78, keydBinary, "serve", "--config", v.conf), "SECURITY: the wrapped secret-id was unwrapped by somebody else")

	v.deliver()
	s := v.serve()
	stop := v.watch(s)
	auditor := v.auditor(s)
	held := s.connect(auditor)
	ask := func() *keydv1.GetStatusResponse {
		t.Helper()
		answer, err := keydv1.NewStatusServiceClient(held).GetStatus(s.ctx(), &keydv1.GetStatusRequest{})
		v.must(err) // the same connection all the time
		return answer
	}
	first := ask()
	if got := first.Vault; got == nil || got.Problem != "" || len(got.Certificates) != 2 || !got.Certificates[0].Server || got.Certificates[0].Serial != first.Tls.Serial || got.LoginUntil == nil {
		t.Errorf("Vault in the status: %v", got)
	}
	for _, p := range first.Problems {
		if p.Severity != keydv1.Problem_NOTE {
			t.Errorf("a problem although all is well: %v", p)
		}
	}

	// Renewed several times: connections that are open go on, new ones meet the new one.
	serials := map[string]bool{}
	until := time.Now().Add(2 * time.Minute)
	for len(serials) < 4 && time.Now().Before(until) {
		answer := ask()
		serials[answer.Tls.Serial] = true
		if answer.Tls.LastFailure != nil {
			t.Errorf("a renewed certificate is not used: %v", answer.Tls.LastFailure)
		}
		if shown := s.shown(auditor); shown != answer.Tls.Serial && shown != ask().Tls.Serial {
			t.Errorf("new connections meet %s, in use is %s", shown, answer.Tls.Serial)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if len(serials) < 4 {
		t.Fatalf("%d certificates", len(serials))
	}
	if front := processes(ask(), "front")[0]; front.Pid != processes(first, "front")[0].Pid || front.Restarts != 0 {
		t.Errorf("the front was started again: %v", front)
	}
	if n := strings.Count(s.logged(), `"msg":"policy loaded"`); n != 0 {
		t.Errorf("a renewal took the policy up %d times", n)
	}
	monitor := func() string {
		dir := filepath.Join(v.dir, "monitor", "current")
		out, err := s.command("", "status", "--server", s.address, "--ca", v.vault.PKI, "--cert", filepath.Join(dir, "certificate.pem"), "--key", filepath.Join(dir, "key.pem"))
		if err != nil {
			t.Errorf("keyd status with the client's certificate of Vault's: %v", err)
		}
		return out
	}
	v.expect(monitor(), "login until")
	if left, found := s.metric("keyd_vault_certificate_expiry_timestamp_seconds", map[string]string{"directory": filepath.Join(v.dir, "monitor")}); !found || left < float64(time.Now().Unix()) {
		t.Errorf("the client's certificate in the metrics: %v, %v", left, found)
	}

	// Vault goes. A module that dies is replaced with the PIN that is held, and requests are
	// answered; the end of it is said.
	v.vault.Kill()
	kill(processes(ask(), "module")[0])
	waitUntil(t, "another module", func() bool {
		modules := processes(ask(), "module")
		return modules[0].State == "ready" && modules[0].Restarts > 0
	})
	waitUntil(t, "the status says so", func() bool {
		for _, p := range ask().Problems {
			if p.Severity == keydv1.Problem_WARNING && strings.Contains(p.Text, "does not answer") {
				return true
			}
		}
		return false
	})
	if failing, _ := s.metric("keyd_vault_failing", nil); failing != 1 {
		t.Errorf("keyd_vault_failing is %v", failing)
	}
	last := ask().Tls.Serial
	v.vault.Run()
	v.vault.Open()
	waitUntil(t, "renewed again", func() bool {
		answer := ask()
		return answer.Tls.Serial != last && answer.Vault.Problem == ""
	})
	// A front that dies starts with what is there.
	kill(processes(ask(), "front")[0])
	waitUntil(t, "another front", func() bool { return statusOver(s.ctx(), s.connect(auditor)) == nil })

	stop()
	v.scanMemory(s)
	s.stop()
	v.secrets = append(v.secrets, vaultPIN)
	places := []string{s.logged()}
	segments, err := filepath.Glob(filepath.Join(v.dir, "front", audit.DirectoryName, "*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no audit log: %v", err)
	}
	for _, segment := range segments {
		places = append(places, string(s.read(segment)))
	}
	for _, place := range places {
		for _, secret := range v.secrets {
			if strings.Contains(place, secret) {
				t.Error("a secret is in a log")
			}
		}
		if strings.Contains(place, "PRIVATE KEY") {
			t.Error("a key is in a log")
		}
	}
	info, err := os.Stat(filepath.Join(v.dir, "tls", "current", "key.pem"))
	v.must(err)
	if owner := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o600 || os.Geteuid() == 0 && owner.Uid != 64900 {
		t.Errorf("the server's key has mode %o and owner %d", info.Mode().Perm(), owner.Uid)
	}
}

// scanMemory looks for what the front must never have had. Only root can.
func (v *vaulted) scanMemory(s *service) {
	v.t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	secrets := map[string][]byte{"the wrapping token": []byte(v.secrets[len(v.secrets)-1])}
	answer, err := keydv1.NewStatusServiceClient(s.connect(v.auditor(s))).GetStatus(s.ctx(), &keydv1.GetStatusRequest{})
	v.must(err)
	pids := []int{s.cmd.Process.Pid}
	for _, p := range answer.Processes {
		pids = append(pids, int(p.Pid))
	}
	for _, pid := range pids {
		for _, hit := range scan(v.t, pid, secrets) {
			v.t.Errorf("process %s: %s", strconv.Itoa(pid), hit)
		}
	}
}

// Without Vault a start fails in a way that has a service manager try again, and says why.
func TestVaultAwayAtStart(t *testing.T) {
	v := newVaulted(t)
	v.deliver()
	v.vault.Seal()
	out := v.run(1, keydBinary, "serve", "--config", v.conf)
	v.expect(out, "sealed")
	v.expect(out, "vault.start_timeout")
	v.vault.Open()
	s := v.serve() // the secret-id was not used up by the attempts
	var used struct {
		WrapInfo struct{ Token string } `json:"wrap_info"`
	}
	v.must(json.Unmarshal(s.read(v.secretID()+".used"), &used))
	if used.WrapInfo.Token != v.secrets[0] {
		t.Error("another secret-id was used")
	}
}
