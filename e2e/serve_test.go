package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	keydv1 "keyd/api/keyd/v1"
)

// production is a directory for keyd serve: a token that its maker's tool initialised,
// certificates, a policy, a configuration.
type production struct {
	t    *testing.T
	dir  string
	conf string
	env  []string
	more string // at the end of the configuration
}

func newProduction(t *testing.T) *production {
	t.Helper()
	p := &production{t: t, dir: tempDir(t)}
	p.conf = filepath.Join(p.dir, "keyd.yaml")
	// The certificates of a development service do for a client and a server.
	dev := startIn(t, filepath.Join(p.dir, "dev"))
	dev.stop()
	for _, d := range []string{"front", "token"} {
		p.must(os.Mkdir(filepath.Join(p.dir, d), 0o700))
	}
	p.must(os.Mkdir(filepath.Join(p.dir, "config"), 0o755))
	softhsm := filepath.Join(p.dir, "token", "softhsm2.conf")
	p.write(softhsm, "directories.tokendir = "+filepath.Join(p.dir, "token")+"\nobjectstore.backend = file\n", 0o600)
	p.env = append(os.Environ(), "SOFTHSM2_CONF="+softhsm)
	p.run(0, "softhsm2-util", "--init-token", "--free", "--label", "payments", "--so-pin", "87654321", "--pin", "12345678")
	p.write(filepath.Join(p.dir, "pin"), "12345678\n", 0o600)
	p.write(filepath.Join(p.dir, "config", "policy.yaml"), `version: 1
identities:
  - id: spiffe://dev.keyd/switch
    roles: [switch]
  - id: spiffe://dev.keyd/auditor
    roles: [monitor]
roles:
  switch:
    - methods: ["PinService/*"]
      keys: ["*"]
      usages: [P0, B0, V1, V2]
  monitor:
    - methods: [StatusService/GetStatus]
`, 0o644)
	for from, to := range map[string]string{"config/server.crt": "server.crt", "config/server.key": "server.key", "certs/ca.crt": "clients.crt"} {
		b, err := os.ReadFile(filepath.Join(p.dir, "dev", from))
		p.must(err)
		p.write(filepath.Join(p.dir, "config", to), string(b), 0o644)
	}
	p.must(os.Chmod(filepath.Join(p.dir, "config", "server.key"), 0o600))
	p.configure("payments", filepath.Join(p.dir, "token"))
	return p
}

// configure writes the configuration for a token.
func (p *production) configure(label, tokens string) {
	p.t.Helper()
	users := ""
	if os.Geteuid() == 0 {
		users = "users:\n  front: \"64900\"\n  module: \"64901\"\n"
		p.own(filepath.Join(p.dir, "front"), 64900)
		p.own(filepath.Join(p.dir, "config", "server.key"), 64900)
		p.own(tokens, 64901)
	}
	front, conf := filepath.Join(p.dir, "front"), filepath.Join(p.dir, "config")
	p.write(p.conf, fmt.Sprintf(`listen: 127.0.0.1:0
state: %s
policy: %s/policy.yaml
tls:
  certificate: %s/server.crt
  key: %s/server.key
  client_ca: %s/clients.crt
token:
  library: /usr/lib/softhsm/libsofthsm2.so
  label: %s
  pin_file: %s
  directories: [%s]
  environment:
    SOFTHSM2_CONF: %s
modules: 1
%s%s`, front, conf, conf, conf, conf, label, filepath.Join(p.dir, "pin"), tokens, filepath.Join(tokens, "softhsm2.conf"), users, p.more), 0o600)
}

func (p *production) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *production) write(path, text string, mode os.FileMode) {
	p.t.Helper()
	p.must(os.WriteFile(path, []byte(text), mode))
	p.must(os.Chmod(path, mode)) // of a file that was there
}

func (p *production) own(dir string, uid int) {
	p.t.Helper()
	p.must(filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	}))
}

// run runs a command to its end, insists on its status, and returns all it printed.
func (p *production) run(status int, name string, args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = p.env
	cmd.WaitDelay = time.Second
	out, _ := cmd.CombinedOutput() // the status is looked at below
	if got := cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("%s %s: status %d, want %d\n%s", name, strings.Join(args, " "), got, status, out)
	}
	return string(out)
}

func (p *production) expect(output, want string) {
	p.t.Helper()
	if !strings.Contains(output, want) {
		p.t.Errorf("%q is not in:\n%s", want, output)
	}
}

// TestServe takes a token from its maker's tool to a service that answers, and every
// wrong turn on the way.
func TestServe(t *testing.T) {
	p := newProduction(t)
	p.expect(p.run(0, keydBinary, "config", "check", p.conf), "good")

	// Without master keys: an explanation, and no restart loop.
	p.expect(p.run(78, keydBinary, "serve", "--config", p.conf), "keyd init")
	p.expect(p.initialise(), "generation 1, check value ")
	// Once: whoever is at the machine cannot give the token other officers.
	again := []string{keydBinary, "init", "--config", p.conf, "--definition", p.papers("init.yaml"), "--request", p.papers("again.request")}
	p.expect(p.run(78, again[0], again[1:]...), "the token has a roster")
	if _, err := os.Stat(p.papers("again.request")); !os.IsNotExist(err) {
		t.Errorf("a request that nothing came of is there: %v", err)
	}

	cmd := exec.Command(keydBinary, "serve", "--config", p.conf)
	var log syncBuffer
	cmd.Stderr = &log
	p.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	address := ""
	waitUntil(t, "keyd serve is ready", func() bool {
		_, after, found := strings.Cut(log.String(), `"msg":"serving","address":"`)
		address, _, _ = strings.Cut(after, `"`)
		return found
	})
	s := &service{t: t, dir: filepath.Join(p.dir, "dev"), address: address, ended: make(chan struct{})}
	status := s.status()
	if status.Development || len(processes(status, "module")) != 1 || status.Keys != 0 || len(status.Tokens) != 1 || status.Tokens[0].Label != "payments" {
		t.Errorf("status: %v", status)
	}
	if token := status.Tokens[0]; token.EpochLoaded != 1 || token.EpochPinned != 1 {
		t.Errorf("the register: %d is loaded, %d is pinned", token.EpochLoaded, token.EpochPinned)
	}
	if os.Geteuid() == 0 {
		on := false
		for _, m := range status.FrontConfinement {
			on = on || m.Name == "separate-users" && m.State == "on"
		}
		if !on {
			t.Errorf("no separate users: %v", status.FrontConfinement)
		}
	}
	_, err := s.pins().TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{KeyId: "zone", Format: 1}, Outgoing: &keydv1.PinKey{KeyId: "zone", Format: 1},
		PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: make([]byte, 8)})
	if reason(err) != "KEY_NOT_FOUND" {
		t.Errorf("a key that is not there: %v", err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(s.tls("terminal-1"))))
	p.must(err)
	defer conn.Close() //nolint:errcheck // the answer is there
	health, err := grpc_health_v1.NewHealthClient(conn).Check(s.ctx(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	p.must(cmd.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, log.String())
	}

	// A wrong PIN is tried once, and stops everything.
	p.write(filepath.Join(p.dir, "pin"), "11111111\n", 0o600)
	out := p.run(78, keydBinary, "serve", "--config", p.conf)
	p.expect(out, "CKR_PIN_INCORRECT")
	if n := strings.Count(out, "CKR_PIN_INCORRECT"); n != 1 {
		t.Errorf("the wrong PIN was tried %d times", n)
	}
	p.write(filepath.Join(p.dir, "pin"), "12345678\n", 0o644)
	p.expect(p.run(78, keydBinary, "serve", "--config", p.conf), "chmod 600")

	// The development token is refused by serve and by init.
	p.must(os.Chmod(filepath.Join(p.dir, "pin"), 0o600))
	pin, err := os.ReadFile(filepath.Join(p.dir, "dev", "pin"))
	p.must(err)
	p.write(filepath.Join(p.dir, "pin"), string(pin), 0o600)
	p.configure("keyd development", filepath.Join(p.dir, "dev", "token"))
	p.expect(p.run(78, keydBinary, "serve", "--config", p.conf), "development mark")
	p.expect(p.run(78, again[0], again[1:]...), "development mark")
}

func TestConfigCheckFindsWhatIsWrong(t *testing.T) {
	p := newProduction(t)
	conf := filepath.Join(p.dir, "config")
	type spoiled struct {
		spoil func()
		want  string
	}
	cases := map[string]spoiled{
		"an unknown key":    {func() { p.write(p.conf, read(p, p.conf)+"colour: blue\n", 0o600) }, "colour"},
		"a policy":          {func() { p.write(filepath.Join(conf, "policy.yaml"), "version: 2\n", 0o644) }, "version"},
		"a certificate":     {func() { p.write(filepath.Join(conf, "server.crt"), "no PEM", 0o644) }, "tls.certificate"},
		"an open directory": {func() { p.must(os.Chmod(filepath.Join(p.dir, "token"), 0o755)) }, "chmod 700"},
		"an open PIN file":  {func() { p.must(os.Chmod(filepath.Join(p.dir, "pin"), 0o640)) }, "chmod 600"},
		"no such port":      {func() { p.write(p.conf, strings.Replace(read(p, p.conf), "127.0.0.1:0", "127.0.0.1:99999", 1), 0o600) }, "listen"},
		"metrics for all":   {func() { p.write(p.conf, read(p, p.conf)+"admin: {listen: 0.0.0.0:9464}\n", 0o600) }, "no loopback address"},
		"no library":        {func() { p.write(p.conf, strings.Replace(read(p, p.conf), "libsofthsm2.so", "none.so", 1), 0o600) }, "token.library"},
	}
	if os.Geteuid() == 0 { // the front has a user of its own, who may lack what root has
		cases["a policy that the front cannot read"] = spoiled{func() { p.must(os.Chmod(filepath.Join(conf, "policy.yaml"), 0o600)) }, "users.front"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			keep := map[string]string{}
			for _, f := range []string{p.conf, filepath.Join(conf, "policy.yaml"), filepath.Join(conf, "server.crt")} {
				keep[f] = read(p, f)
			}
			c.spoil()
			p.expect(p.run(1, keydBinary, "config", "check", p.conf), c.want)
			for f, text := range keep {
				p.write(f, text, 0o644)
			}
			p.must(os.Chmod(filepath.Join(p.dir, "token"), 0o700))
			p.must(os.Chmod(filepath.Join(p.dir, "pin"), 0o600))
		})
	}
	p.expect(p.run(0, keydBinary, "config", "check", p.conf), "good")
}

func read(p *production, path string) string {
	p.t.Helper()
	b, err := os.ReadFile(path)
	p.must(err)
	return string(b)
}

// syncBuffer is a buffer that a process writes and a test reads.
type syncBuffer struct{ service }

func (b *syncBuffer) String() string { return b.logged() }
