package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
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
		if n.value == "" {
			return fmt.Errorf("%s is missing", n.name)
		}
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %q is not HOST:PORT", c.Listen)
	}
	paths := []struct{ name, value string }{
		{"state", c.State}, {"policy", c.Policy},
		{"tls.certificate", c.TLS.Certificate}, {"tls.key", c.TLS.Key}, {"tls.client_ca", c.TLS.ClientCA},
		{"token.library", c.Token.Library},
	}
	if c.Token.PINFile != Prompt {
		paths = append(paths, struct{ name, value string }{"token.pin_file", c.Token.PINFile})
	}
	for _, d := range slices.Concat(c.Token.Directories, c.Token.Files) {
		paths = append(paths, struct{ name, value string }{"token.directories and token.files", d})
	}
	for _, p := range paths {
		if !filepath.IsAbs(p.value) {
			return fmt.Errorf("%s: %q must be an absolute path", p.name, p.value)
		}
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
	}
	for _, r := range ranges {
		if r.value < r.least || r.value > r.most {
			return fmt.Errorf("%s: %d is not between %d and %d", r.name, r.value, r.least, r.most)
		}
	}
	if d := time.Duration(c.OperationTimeout); d < 100*time.Millisecond || d > time.Minute {
		return errors.New("operation_timeout must be between 100ms and 1m")
	}
	if d := time.Duration(c.DrainTimeout); d < 0 || d > 10*time.Minute {
		return errors.New("drain_timeout must be between 0s and 10m")
	}
	for _, p := range paths {
		if p.name != "state" && (inside(p.value, c.State) || inside(c.State, p.value)) {
			return fmt.Errorf("%s: %q must not lie in state, nor state in it: the front writes there", p.name, p.value)
		}
	}
	if (c.Users.Front == "") != (c.Users.Module == "") {
		return errors.New("users: name both front and module, or neither")
	}
	if c.Users.Front != "" && c.Users.Front == c.Users.Module {
		return errors.New("users: front and module must be two users")
	}
	return nil
}

// inside reports whether path is dir or lies in it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(filepath.Clean(dir), filepath.Clean(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
