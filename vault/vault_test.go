package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/supervisor/pinfile"
	"keyd/vault/report"
	"keyd/vault/vaulttest"
)

// The test binary is the unlock process too, as the supervisor starts it: what confines
// itself for good cannot be a test.

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "unlock" || os.Args[1] == "renew") {
		os.Exit(play(os.Args[1]))
	}
	os.Exit(m.Run())
}

// play is the process. Its descriptors are: options, PIN, login, report.
func play(part string) int {
	o, err := ReadOptions(os.NewFile(3, "options"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	p := Process{Options: o, PINFD: 4, SessionFD: 5, Report: os.NewFile(6, "report"), Log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	if part == "unlock" {
		err := Start(context.Background(), p)
		switch {
		case IsAway(err):
			fmt.Fprintln(os.Stderr, err)
			return 1
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			return 78
		}
		return 0
	}
	done, err := Renew(context.Background(), p)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	code := 0
	if done.Failed {
		code++
	}
	if done.Changed {
		code += 10
	}
	return code
}

// rig is a machine with its memory files, as the supervisor has them.
type rig struct {
	t       *testing.T
	dir     string
	options Options
	files   []*os.File // options, PIN, login, report
	secrets []string   // that no process may say
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd-vault-rig-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, options: o}
	if r.options.StartTimeout == 0 {
		r.options.StartTimeout = time.Minute
	}
	r.reset()
	return r
}

// reset is a new start of keyd: memory is empty.
func (r *rig) reset() {
	r.t.Helper()
	input, err := os.CreateTemp(r.dir, "options")
	r.must(err)
	pin, _, err := pinfile.Create()
	r.must(err)
	login, _, err := pinfile.Create()
	r.must(err)
	told, err := report.Create()
	r.must(err)
	r.files = []*os.File{input, pin, login, told}
	r.t.Cleanup(func() {
		for _, f := range []*os.File{input, pin, login, told} {
			_ = f.Close()
		}
	})
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// run runs one process and returns its status and all that it said.
func (r *rig) run(part string) (int, string) {
	r.t.Helper()
	b, err := json.Marshal(r.options)
	r.must(err)
	r.must(r.files[0].Truncate(0))
	_, err = r.files[0].WriteAt(b, 0)
	r.must(err)
	self, err := os.Executable()
	r.must(err)
	cmd := exec.Command(self, part)
	cmd.ExtraFiles = r.files
	// What a person's environment may hold must be without effect.
	cmd.Env = []string{"VAULT_ADDR=https://127.0.0.1:1", "VAULT_TOKEN=hvs.environment", "VAULT_NAMESPACE=elsewhere", "VAULT_SKIP_VERIFY=1",
		"HTTPS_PROXY=http://127.0.0.1:1", "VAULT_HTTP_PROXY=http://127.0.0.1:1", "VAULT_WRAP_TTL=60", "VAULT_MAX_RETRIES=nonsense", "VAULT_CACERT=/nowhere"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	for _, secret := range r.secrets {
		if secret != "" && strings.Contains(out.String(), secret) {
			r.t.Errorf("the %s process said a secret: %s", part, out.String())
		}
	}
	if told, err := report.Read(r.files[3]); err == nil {
		text, _ := json.Marshal(told)
		for _, secret := range r.secrets {
			if secret != "" && bytes.Contains(text, []byte(secret)) {
				r.t.Errorf("the report has a secret: %s", text)
			}
		}
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// want runs a process and insists on its status and on what it says.
func (r *rig) want(part string, status int, says ...string) string {
	r.t.Helper()
	got, out := r.run(part)
	if got != status {
		r.t.Fatalf("%s: status %d, want %d:\n%s", part, got, status, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			r.t.Errorf("%s does not say %q:\n%s", part, s, out)
		}
	}
	return out
}

func (r *rig) pin() string {
	r.t.Helper()
	b := make([]byte, 300)
	n, err := pinfile.Read(int(r.files[1].Fd()), b)
	if errors.Is(err, pinfile.ErrEmpty) {
		return ""
	}
	r.must(err)
	return string(b[:n])
}

func (r *rig) session() *session {
	r.t.Helper()
	s, err := loadSession(int(r.files[2].Fd()))
	r.must(err)
	return s
}

func (r *rig) report() *report.Report {
	r.t.Helper()
	told, err := report.Read(r.files[3])
	r.must(err)
	return told
}

// secret writes a private file, as whoever delivers does: whole.
func (r *rig) secret(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	r.must(os.WriteFile(path+".new", []byte(text), 0o600))
	r.must(os.Rename(path+".new", path))
	return path
}

// patience is a start_timeout that is waited for in vain, and long enough for an attempt on a
// machine that has much to do.
const patience = 6 * time.Second

const pin = "8261 <&> ümlaut \"quoted\""

// byRole is a rig that logs in with a wrapped secret-id.
func byRole(t *testing.T, s *vaulttest.Server) *rig {
	r := newRig(t, Options{Address: s.Address, CA: s.CA, AppRole: &AppRole{Mount: "approle", Role: vaulttest.Role, RoleID: s.RoleID, Wrapped: true}})
	r.options.AppRole.SecretIDFile = filepath.Join(r.dir, "secret-id")
	r.secrets = []string{pin}
	return r
}

// deliver puts a wrapped secret-id in place.
func (r *rig) deliver(s *vaulttest.Server, ttl string) (token string) {
	r.t.Helper()
	token, answer := s.Wrapped(ttl)
	r.secrets = append(r.secrets, token)
	r.secret("secret-id", answer)
	return token
}

func (r *rig) certificate(s *vaulttest.Server, name string, server bool, ttl time.Duration) *Certificate {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	r.must(os.Mkdir(dir, 0o755))
	c := Certificate{Directory: dir, Mount: "pki", Role: vaulttest.ClientRole, URIs: []string{"spiffe://test.keyd/" + name}, TTL: ttl, Authority: s.PKI, UID: -1, GID: -1, Mode: 0o600}
	if server {
		c = Certificate{Directory: dir, Mount: "pki", Role: vaulttest.ServerRole, CommonName: "localhost", DNSNames: []string{"localhost"}, Addresses: []string{"127.0.0.1", "::1"}, TTL: ttl, Authority: s.PKI, UID: -1, GID: -1, Mode: 0o600, Server: true}
		if os.Geteuid() == 0 {
			c.UID, c.GID = 64900, 64901
		}
	}
	r.options.Certificates = append(r.options.Certificates, c)
	return &r.options.Certificates[len(r.options.Certificates)-1]
}

func TestPINByWrappedSecretID(t *testing.T) {
	s := vaulttest.Start(t)
	s.PutPIN("an older one")
	s.PutPIN(pin)
	r := byRole(t, s)
	r.options.PIN = &PIN{Mount: "secret", Path: "keyd/token", Field: "pin"}
	r.deliver(s, "10m")
	r.want("unlock", 0)
	if got := r.pin(); got != pin {
		t.Errorf("the PIN is %q", got)
	}
	// Nothing is asked of Vault any more: there is no login that could be stolen.
	if left := r.session(); left.Token != "" || left.SecretID != "" {
		t.Error("a login is left")
	}
	var list struct{ Data struct{ Keys []string } }
	r.must(json.Unmarshal(s.Call("LIST", "auth/token/accessors", nil), &list))
	if len(list.Data.Keys) != 1 { // the root token's
		t.Errorf("%d tokens live on", len(list.Data.Keys))
	}

	// keyd itself used it: no alarm, but a new one is needed.
	r.reset()
	r.want("unlock", 78, "keyd used the last one up", "deliver a new wrapped secret-id")

	// Somebody else used it.
	r.reset()
	stolen := r.deliver(s, "10m")
	s.UnwrapAs(stolen)
	r.want("unlock", 78, "SECURITY", "unwrapped by somebody else", "treat it as stolen")
	if r.pin() != "" {
		t.Error("there is a PIN")
	}
	if _, err := os.Stat(r.options.AppRole.SecretIDFile); err != nil {
		t.Errorf("the evidence: %v", err)
	}
	// On one line keyd cannot know when it expires, and says so.
	r.secret("secret-id", stolen+"\n")
	r.want("unlock", 78, "SECURITY", "either its time is over")

	// It expired.
	r.deliver(s, "1s")
	eventually(t, "expired", func() bool {
		code, out := r.run("unlock")
		r.reset()
		if code == 78 && strings.Contains(out, "the wrapped secret-id expired") {
			return true
		}
		r.deliver(s, "1s")
		time.Sleep(1100 * time.Millisecond)
		return false
	})

	// Something else is wrapped, or it is for another role.
	r.reset()
	s.Call("POST", "auth/approle/role/other", map[string]any{"token_policies": []string{"default"}})
	r.options.AppRole.Role = "other"
	r.deliver(s, "10m")
	r.want("unlock", 78, "SECURITY", "was not made by auth/approle/role/other/secret-id but by auth/approle/role/keyd/secret-id")
	r.options.AppRole.Role = vaulttest.Role

	// Other versions.
	for name, c := range map[string]struct {
		prepare func()
		version int
		field   string
		path    string
		pin     string
		says    string
	}{
		"pinned":      {version: 1, pin: "an older one"},
		"no version":  {version: 9, says: "not version 9"},
		"no field":    {field: "pincode", says: `no field "pincode"`},
		"no path":     {path: "keyd/nothing", says: "there is nothing"},
		"not allowed": {path: "other/token", says: "permission denied"},
		"no text":     {path: "keyd/number", says: "is no text", prepare: func() { s.Call("POST", "secret/data/keyd/number", map[string]any{"data": map[string]any{"pin": 1234}}) }},
		"empty":       {path: "keyd/empty", says: "is empty", prepare: func() { s.Call("POST", "secret/data/keyd/empty", map[string]any{"data": map[string]any{"pin": ""}}) }},
		"deleted": {path: "keyd/deleted", says: "was deleted", prepare: func() {
			s.Call("POST", "secret/data/keyd/deleted", map[string]any{"data": map[string]any{"pin": pin}})
			s.Call("DELETE", "secret/data/keyd/deleted", nil)
		}},
		"destroyed": {path: "keyd/destroyed", says: "was destroyed", prepare: func() {
			s.Call("POST", "secret/data/keyd/destroyed", map[string]any{"data": map[string]any{"pin": pin}})
			s.Call("PUT", "secret/destroy/keyd/destroyed", map[string]any{"versions": []int{1}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := byRole(t, s)
			r.options.PIN = &PIN{Mount: "secret", Path: "keyd/token", Field: "pin", Version: c.version}
			if c.field != "" {
				r.options.PIN.Field = c.field
			}
			if c.path != "" {
				r.options.PIN.Path = c.path
			}
			if c.prepare != nil {
				c.prepare()
			}
			r.deliver(s, "10m")
			if c.pin != "" {
				r.want("unlock", 0)
			} else {
				r.want("unlock", 78, c.says)
			}
			if got := r.pin(); got != c.pin {
				t.Errorf("the PIN is %q", got)
			}
		})
	}
}

func TestTokenFile(t *testing.T) {
	s := vaulttest.Start(t)
	s.PutPIN(pin)
	r := newRig(t, Options{Address: s.Address, CA: s.CA, PIN: &PIN{Mount: "secret", Path: "keyd/token", Field: "pin"}})
	token := s.Token(map[string]any{"ttl": "8s", "renewable": true})
	r.secrets = []string{pin, token, s.Root}
	r.options.TokenFile = r.secret("token", token+"\n")
	r.want("unlock", 0)
	if r.pin() != pin {
		t.Errorf("the PIN is %q", r.pin())
	}
	if r.session().Token != "" {
		t.Error("the token of a file lies in memory too")
	}
	// Renewed for longer than it would have lived.
	first := r.session().Expires
	until := time.Now().Add(12 * time.Second)
	for time.Now().Before(until) {
		r.want("renew", 0)
		time.Sleep(300 * time.Millisecond)
	}
	if got := r.session().Expires; !got.After(first) {
		t.Errorf("good until %s, as at first", got)
	}
	s.Call("POST", "auth/token/lookup", map[string]any{"token": token}) // it lives

	// Another token in its place.
	other := s.Token(nil)
	r.secrets = append(r.secrets, other)
	r.secret("token", other)
	r.want("renew", 0)
	if got := r.session().Expires; time.Until(got) < 30*time.Minute {
		t.Errorf("the new token is good until %s", got)
	}

	// What is refused.
	for name, c := range map[string]struct {
		change func(path string)
		says   string
	}{
		"readable for others": {func(path string) { r.must(os.Chmod(path, 0o640)) }, "chmod 600"},
		"a link":              {func(path string) { r.must(os.Rename(path, path+".real")); r.must(os.Symlink(path+".real", path)) }, "symbolic link"},
		"a directory":         {func(path string) { r.must(os.Remove(path)); r.must(os.Mkdir(path, 0o700)) }, "not a regular file"},
		"missing":             {func(path string) { r.must(os.Remove(path)) }, "there is no file"},
		"two lines":           {func(path string) { r.must(os.WriteFile(path, []byte(other+"\n"+other), 0o600)) }, "one line"},
		"binary":              {func(path string) { r.must(os.WriteFile(path, []byte("a\x01b"), 0o600)) }, "characters"},
		"revoked":             {func(path string) { r.must(os.WriteFile(path, []byte("hvs.nosuchtoken"), 0o600)) }, "expired or been revoked"},
		"root":                {func(path string) { r.must(os.WriteFile(path, []byte(s.Root), 0o600)) }, "root token"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, r.options)
			r.secrets = []string{pin, token, other, s.Root}
			r.options.TokenFile = r.secret("token", other)
			c.change(r.options.TokenFile)
			r.want("unlock", 78, c.says)
		})
	}
}

func TestVaultAway(t *testing.T) {
	s := vaulttest.Start(t)
	s.PutPIN(pin)
	r := byRole(t, s)
	r.options.PIN = &PIN{Mount: "secret", Path: "keyd/token", Field: "pin"}
	r.deliver(s, "10m")

	s.Seal()
	r.options.StartTimeout = patience
	r.want("unlock", 1, "sealed", "in vain")
	s.Open()

	wrong, err := vaulttest.NewAuthority("of nobody")
	r.must(err)
	r.options.StartTimeout = time.Minute
	good := r.options.CA
	r.options.CA = filepath.Join(r.dir, "wrong.crt")
	r.must(os.WriteFile(r.options.CA, wrong.PEM(), 0o644))
	r.want("unlock", 78, "leads to none of the authorities in vault.ca")
	r.options.CA = good

	r.options.Address = strings.Replace(s.Address, "127.0.0.1", "localhost", 1)
	r.want("unlock", 78, "for another name")
	r.options.Address = s.Address

	s.Kill()
	r.options.StartTimeout = patience
	r.want("unlock", 1, "does not answer", "in vain")
	// It comes while it is waited for, and the secret-id has not been used up by waiting.
	r.options.StartTimeout = time.Minute
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(time.Second)
		s.Run()
		s.Open()
	}()
	r.want("unlock", 0, "waiting for Vault")
	<-done
	if r.pin() != pin {
		t.Errorf("the PIN is %q", r.pin())
	}
}

func TestCertificates(t *testing.T) {
	s := vaulttest.Start(t)
	s.SetRole(map[string]any{"token_ttl": "6s", "token_max_ttl": "15s"}) // logged in anew meanwhile
	r := byRole(t, s)
	server := *r.certificate(s, "server", true, 12*time.Second)
	monitor := *r.certificate(s, "monitor", false, time.Hour)
	r.deliver(s, "10m")
	r.want("unlock", 0)
	leaf, err := held(server, time.Now())
	r.must(err)
	if _, err := held(monitor, time.Now()); err != nil {
		t.Errorf("the client's: %v", err)
	}
	if got := r.report(); got.Problem != "" || len(got.Certificates) != 2 || got.Certificates[0].Serial != leaf.SerialNumber.Text(16) || !got.Certificates[0].Server {
		t.Errorf("report: %+v", got)
	}
	secretID := r.session().SecretID
	if secretID == "" {
		t.Fatal("the secret-id is lost")
	}
	r.secrets = append(r.secrets, secretID, r.session().Token)
	for _, c := range []Certificate{server, monitor} {
		key, err := os.ReadFile(filepath.Join(c.Directory, current, keyFile))
		r.must(err)
		r.secrets = append(r.secrets, string(bytes.Split(key, []byte("\n"))[1]))
	}
	r.nothingOnDisk(secretID, r.session().Token)

	// Several lives of certificate and login.
	serials, tokens := map[string]bool{leaf.SerialNumber.Text(16): true}, map[string]bool{}
	until := time.Now().Add(2 * time.Minute)
	for (len(serials) < 3 || len(tokens) < 2) && time.Now().Before(until) {
		code, out := r.run("renew")
		if code != 0 && code != 10 {
			t.Fatalf("renew: status %d\n%s", code, out)
		}
		now, err := held(server, time.Now()) // at no time without one
		r.must(err)
		if serials[now.SerialNumber.Text(16)] != (code == 0) {
			t.Errorf("status %d, and the certificate is %s", code, now.SerialNumber.Text(16))
		}
		serials[now.SerialNumber.Text(16)] = true
		tokens[r.session().Token] = true
		time.Sleep(200 * time.Millisecond)
	}
	if len(serials) < 3 || len(tokens) < 2 {
		t.Errorf("%d certificates and %d logins", len(serials), len(tokens))
	}
	entries, err := os.ReadDir(server.Directory)
	r.must(err)
	if len(entries) > 3 { // current, and two versions
		t.Errorf("old versions pile up: %v", entries)
	}

	// The login is taken back: another one is made of the secret-id.
	revoked := r.session().Token
	s.Call("POST", "auth/token/revoke", map[string]any{"token": revoked})
	eventually(t, "another login", func() bool {
		if code, out := r.run("renew"); code%10 != 0 {
			t.Fatalf("status %d: %s", code, out)
		}
		return r.session().Token != revoked
	})

	// Vault goes: what is held stays, and when it is back all goes on.
	s.Kill()
	var out string
	eventually(t, "something is due", func() bool {
		var code int
		code, out = r.run("renew")
		return code == 1
	})
	if !strings.Contains(out, "does not answer") || !strings.Contains(r.report().Problem, "does not answer") {
		t.Errorf("said: %s; reported: %+v", out, r.report())
	}
	s.Run()
	if code, out := r.run("renew"); code != 1 || !strings.Contains(out, "sealed") {
		t.Errorf("sealed: status %d: %s", code, out)
	}
	s.Open()
	eventually(t, "renewed again", func() bool { code, _ := r.run("renew"); return code == 10 })
	if got := r.report().Problem; got != "" {
		t.Errorf("still reported: %s", got)
	}

	// The secret-id is taken back: what is held stays, and a new one is taken up.
	s.Call("POST", "auth/approle/role/keyd/secret-id/destroy", map[string]any{"secret_id": secretID})
	r.reset()
	r.want("unlock", 0, "starts with what it holds", "keyd used the last one up") // the certificate is valid
	r.deliver(s, "10m")
	eventually(t, "logged in with the new secret-id", func() bool { code, _ := r.run("renew"); return code%10 == 0 && r.session().SecretID != "" })
}

// nothingOnDisk looks for secrets below the rig's directory.
func (r *rig) nothingOnDisk(secrets ...string) {
	r.t.Helper()
	r.must(filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				r.t.Errorf("%s holds a secret", path)
			}
		}
		return nil
	}))
}

// The service starts with a certificate that is valid, whatever Vault does; without one it
// cannot.
func TestStartWithoutVault(t *testing.T) {
	s := vaulttest.Start(t)
	r := byRole(t, s)
	server := *r.certificate(s, "server", true, time.Hour)
	r.deliver(s, "10m")
	r.want("unlock", 0)
	before, err := held(server, time.Now())
	r.must(err)
	s.Kill()
	r.reset()
	r.want("unlock", 0, "starts with what it holds")
	if r.report().Problem == "" {
		t.Error("nothing is reported")
	}
	if now, err := held(server, time.Now()); err != nil || !now.Equal(before) {
		t.Errorf("the certificate: %v", err)
	}
	r.must(os.Remove(filepath.Join(server.Directory, current)))
	r.reset()
	r.secret("secret-id", "hvs.any")
	r.options.StartTimeout = patience
	r.want("unlock", 1, "does not answer")
}

func TestRoleThatDoesNotAllow(t *testing.T) {
	s := vaulttest.Start(t)
	for name, c := range map[string]struct {
		change func(*Certificate)
		says   string
	}{
		"another name":      {func(c *Certificate) { c.DNSNames = []string{"bank.example"} }, "does not allow"},
		"another use":       {func(c *Certificate) { c.Role = vaulttest.ClientRole; c.URIs = []string{"spiffe://test.keyd/x"} }, "server_flag"},
		"no such role":      {func(c *Certificate) { c.Role = "nobody" }, "permission denied"},
		"longer than may":   {func(c *Certificate) { c.TTL = 1000 * time.Hour }, "raise max_ttl"},
		"another authority": {func(c *Certificate) { c.Authority = s.CA }, "does not lead to"},
	} {
		t.Run(name, func(t *testing.T) {
			r := byRole(t, s)
			c.change(r.certificate(s, "server", true, time.Hour))
			r.deliver(s, "10m")
			r.want("unlock", 78, c.says)
		})
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	until := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(until) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
