package web

import (
	"errors"
	"strings"

	"keyd/passkey"
)

// Config is what pages are served with.
type Config struct {
	Backend Backend

	// Host is where phones find the pages: a DNS name in lower case, perhaps with a colon and a port
	// that is not 443. It is the host of codes' URLs. What asks for another is refused.
	Host string
}

// origin is how a browser names the pages' site.
func (c *Config) origin() string { return "https://" + c.Host }

// local reports whether the pages are for the machine that serves them.
func (c *Config) local() bool {
	name, _, _ := strings.Cut(c.Host, ":")
	return name == "localhost"
}

func (c *Config) check() error {
	switch {
	case c.Backend == nil:
		return errors.New("web: there is nothing that the pages could ask")
	case !passkey.ValidOrigin(c.origin()):
		return errors.New("web: the host is a DNS name in lower case, perhaps with a port that is not 443: phones have passkeys for nothing else")
	}
	return nil
}
