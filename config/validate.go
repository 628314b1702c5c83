package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"keyd/checkpoint"
)

// Prompt as pin_file asks for the token PIN on the terminal.
const Prompt = "prompt"

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// validate checks what can be known without looking at the machine.
func (c *Config) validate() error {
	needed := []struct{ name, value string }{
		{"listen", c.Listen},
		{"state", c.State},
		{"policy", c.Policy},
		{"tls.certificate", c.TLS.Certificate},
		{"tls.key", c.TLS.Key},
		{"tls.client_ca", c.TLS.ClientCA},
		{"token.library", c.Token.Library},
		{"token.label", c.Token.Label},
		{"token.pin_file", c.Token.PINFile},
	}
	for _, n := range needed {
		if n.value == "" && (n.name != "token.pin_file" || c.Token.PINVault == nil) {
			return fmt.Errorf("%s is missing", n.name)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is not HOST:PORT", c.Listen)
	}
	paths := []struct{ name, value string }{
		{"state", c.State}, {"policy", c.Policy},
		{"tls.certificate", c.TLS.Certificate}, {"tls.key", c.TLS.Key}, {"tls.client_ca", c.TLS.ClientCA},
		{"token.library", c.Token.Library}, {"velocity.file", c.Velocity.File},
		{"audit.checkpoints", c.Audit.Checkpoints}, {"ledger", c.Ledger},
	}
	if c.Token.PINFile != Prompt && c.Token.PINVault == nil {
		paths = append(paths, struct{ name, value string }{"token.pin_file", c.Token.PINFile})
	}
	for _, d := range slices.Concat(c.Token.Directories, c.Token.Files) {
		paths = append(paths, struct{ name, value string }{"token.directories and token.files", d})
	}
	if c.Tracing.CA != "" {
		paths = append(paths, struct{ name, value string }{"tracing.ca", c.Tracing.CA})
	}
	for _, f := range []struct{ name, value string }{{"web.certificate", c.Web.Certificate}, {"web.key", c.Web.Key}} {
		if f.value != "" {
			paths = append(paths, f)
		}
	}
	if p := c.Database.Postgres; p != nil {
		for _, f := range []struct{ name, value string }{
			{"database.postgres.password_file", p.PasswordFile}, {"database.postgres.ca", p.CA},
			{"database.postgres.certificate", p.Certificate}, {"database.postgres.key", p.Key},
		} {
			if f.value != "" {
				paths = append(paths, f)
			}
		}
	}
	for _, p := range paths {
		if !filepath.IsAbs(p.value) {
			return fmt.Errorf("%s: %q must be an absolute path", p.name, p.value)
		}
	}
	if p := c.Token.Parameters; len(p) > 4096 || strings.ContainsFunc(p, unicode.IsControl) {
		return errors.New("token.parameters must be one line of up to 4096 bytes")
	}
	for name := range c.Token.Environment {
		if !variable.MatchString(name) {
			return fmt.Errorf("token.environment: %q is no name of a variable", name)
		}
	}
	ranges := []struct {
		name               string
		value, least, most int
	}{
		{"modules", c.Modules, 1, 64},
		{"token.sessions", c.Token.Sessions, 1, 256},
		{"token.cached_keys", c.Token.CachedKeys, 16, 1 << 20},
		{"token.derived_keys", c.Token.DerivedKeys, 16, 1 << 20},
		{"velocity.entries", c.Velocity.Entries, 1 << 10, 1 << 26},
	}
	for _, r := range ranges {
		if r.value < r.least || r.value > r.most {
			return fmt.Errorf("%s: %d is not between %d and %d", r.name, r.value, r.least, r.most)
		}
	}
	if c.Velocity.Entries&(c.Velocity.Entries-1) != 0 {
		return fmt.Errorf("velocity.entries: %d is no power of two", c.Velocity.Entries)
	}
	for name, l := range map[string]Limits{"velocity.verify": c.Velocity.Verify, "velocity.translate": c.Velocity.Translate, "velocity.card": c.Velocity.Card} {
		if err := l.validate(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := c.Audit.validate(); err != nil {
		return fmt.Errorf("audit.%w", err)
	}
	if d := time.Duration(c.KSN.RetryWindow); d < time.Second || d > 10*time.Minute {
		return errors.New("ksn.retry_window must be between 1s and 10m")
	}
	if c.KSN.MaxJump < 1 || c.KSN.MaxJump > 1<<31 {
		return fmt.Errorf("ksn.max_jump: %d is not between 1 and %d", c.KSN.MaxJump, uint32(1)<<31)
	}
	if d := time.Duration(c.OperationTimeout); d < 100*time.Millisecond || d > time.Minute {
		return errors.New("operation_timeout must be between 100ms and 1m")
	}
	if d := time.Duration(c.RestartPause); d < 100*time.Millisecond || d > time.Minute {
		return errors.New("restart_pause must be between 100ms and 1m")
	}
	if d := time.Duration(c.DrainTimeout); d < 0 || d > 10*time.Minute {
		return errors.New("drain_timeout must be between 0s and 10m")
	}
	for _, p := range paths {
		if p.name != "state" && (inside(p.value, c.State) || inside(c.State, p.value)) {
			return fmt.Errorf("%s: %q must not lie in state, nor state in it: the front writes there", p.name, p.value)
		}
	}
	if err := c.CheckDatabase(); err != nil {
		return err
	}
	if err := CheckAdmin(c.Admin.Listen); err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	if err := c.Web.validate(); err != nil {
		return fmt.Errorf("web.%w", err)
	}
	if err := c.Tracing.validate(); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	if err := c.validateVault(); err != nil {
		return err
	}
	if (c.Users.Front == "") != (c.Users.Module == "") {
		return errors.New("users: name both front and module, or neither")
	}
	if c.Users.Front != "" && c.Users.Front == c.Users.Module {
		return errors.New("users: front and module must be two users")
	}
	return nil
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$`)

// CheckDatabase wants a name and a size where there is a shared database, and nothing of a
// fleet where there is none.
func (c *Config) CheckDatabase() error {
	p := c.Database.Postgres
	switch {
	case p == nil && c.Fleet != (Fleet{}):
		return errors.New("fleet: several keyds need a database that they share: set database.postgres")
	case p == nil:
		return nil
	case !nodeName.MatchString(c.Fleet.Node):
		return errors.New("fleet.node: a name of this keyd that no other has is needed: up to 64 letters, digits, hyphens and dots")
	case c.Fleet.Size < 1 || c.Fleet.Size > 64:
		return errors.New("fleet.size: say how many keyds there are at most, 1 to 64: each keeps its share of the velocity limits")
	}
	if p.Connections == 0 {
		p.Connections = 16
	}
	if err := p.validate(); err != nil {
		return fmt.Errorf("database.postgres.%w", err)
	}
	return nil
}

func (p *Postgres) validate() error {
	if len(p.Hosts) == 0 || len(p.Hosts) > 8 {
		return errors.New("hosts: 1 to 8 are needed, each IP:PORT")
	}
	for _, h := range p.Hosts {
		at, err := netip.ParseAddrPort(h)
		switch {
		case err != nil || at.Port() == 0:
			return fmt.Errorf("hosts: %q is not IP:PORT; the front cannot look a name up", h)
		case p.CA == "" && !at.Addr().Unmap().IsLoopback():
			return fmt.Errorf("ca: it is needed for %s, since sealed keys and counters would go over the network unprotected", h)
		}
	}
	switch {
	case p.Database == "" || p.User == "":
		return errors.New("database and user are needed")
	case (p.Certificate == "") != (p.Key == ""):
		return errors.New("certificate and key: name both, or neither")
	case p.Certificate != "" && p.CA == "":
		return errors.New("ca: a certificate is only shown to a server whose own is checked")
	case p.PasswordFile == "" && p.Certificate == "":
		return errors.New("password_file: the server asks for a password, or else for a certificate: name one")
	case p.Connections < 4 || p.Connections > 200:
		return fmt.Errorf("connections: %d is not between 4 and 200", p.Connections)
	}
	return nil
}

func (a Audit) validate() error {
	const least, most = 1 << 20, 16 << 30
	if a.SegmentSize < least || a.SegmentSize > most {
		return fmt.Errorf("segment_size: %d is not between %d and %d", a.SegmentSize, least, int64(most))
	}
	if d := time.Duration(a.SegmentAge); d < time.Minute || d > 366*24*time.Hour {
		return errors.New("segment_age must be between 1m and 8784h")
	}
	if !checkpoint.ValidNode(a.Node) {
		return fmt.Errorf("node: %w", checkpoint.ErrNode)
	}
	return nil
}

// CheckAdmin wants a loopback address with a port, or nothing.
func CheckAdmin(listen string) error {
	if listen == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(listen)
	if err != nil {
		return fmt.Errorf("%q is not IP:PORT", listen)
	}
	if !at.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is no loopback address: whoever reaches it reads metrics and profiles without a certificate; use 127.0.0.1, and let a program on this machine pass them on", at.Addr())
	}
	return nil
}

func (w Web) validate() error {
	if w.Listen == "" {
		if w != (Web{}) {
			return errors.New("listen is missing: without it certificate and key are without effect")
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(w.Listen); err != nil {
		return fmt.Errorf("listen: %q is not HOST:PORT", w.Listen)
	}
	if w.Certificate == "" || w.Key == "" {
		return errors.New("listen needs certificates: web.certificate and web.key are missing, or one of them")
	}
	return nil
}

func (t Tracing) validate() error {
	if t.Sample <= 0 || t.Sample > 1 {
		return errors.New("sample must be above 0 and at most 1")
	}
	if t.OTLP == "" {
		if t.CA != "" {
			return errors.New("ca without otlp is without effect")
		}
		return nil
	}
	at, err := netip.ParseAddrPort(t.OTLP)
	if err != nil || at.Port() == 0 {
		return fmt.Errorf("otlp: %q is not IP:PORT; the front cannot look a name up", t.OTLP)
	}
	if t.CA == "" && !at.Addr().Unmap().IsLoopback() {
		return errors.New("otlp: spans would go over the network unenciphered: set ca, or send them to a collector on this machine")
	}
	return nil
}

// validate refuses a longer window with a smaller limit: the shorter one would be
// without effect, which nobody means.
func (l Limits) validate() error {
	last := Limit(0)
	for _, limit := range []Limit{l.Minute, l.Hour, l.Day} {
		if limit == Unlimited {
			continue
		}
		if limit < last {
			return fmt.Errorf("%v a minute, %v an hour, %v a day: a longer time has a smaller limit; set all three (what is not set has its default)", l.Minute, l.Hour, l.Day)
		}
		last = limit
	}
	return nil
}

// inside reports whether path is dir or lies in it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(filepath.Clean(dir), filepath.Clean(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
