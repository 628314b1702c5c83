package policies

import (
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// maxIdentity is the length of the longest SPIFFE ID (SPIFFE-ID §2.3), in bytes.
const maxIdentity = 2048

// fleetSuffix ends an identity that stands for every workload directly below a path.
const fleetSuffix = "/*"

// terminalPrefix begins the identity of a terminal that connects with its own certificate. No
// SPIFFE ID begins so. Behind it is the terminal's identifier, or * for every terminal of the
// inventory.
const terminalPrefix = "terminal:"

// TerminalIdentity returns the identity of the terminal with an identifier.
func TerminalIdentity(id string) string { return terminalPrefix + id }

// terminalOf returns the identifier of the terminal whose identity it is.
func terminalOf(identity string) (id string, ok bool) {
	return strings.CutPrefix(identity, terminalPrefix)
}

// maxTerminal is the length of the longest identifier of a terminal, in bytes.
const maxTerminal = 64

// checkTerminal accepts what an inventory can have, and *.
func checkTerminal(id string) error {
	if id == "*" {
		return nil
	}
	for i := range len(id) {
		c := id[i]
		if letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'; !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return fmt.Errorf("no terminal has the identifier %q; write terminal:ID, or terminal:* for all of the inventory", id)
		}
	}
	if id == "" || len(id) > maxTerminal {
		return fmt.Errorf("a terminal's identifier has 1 to %d characters; write terminal:ID, or terminal:* for all of the inventory", maxTerminal)
	}
	return nil
}

// checkIdentity accepts the SPIFFE ID of a workload, or of a fleet: a path of at
// least one segment and "/*", which stands for exactly one more segment. It accepts a
// terminal as well, see [terminalPrefix].
func checkIdentity(id string) error {
	if terminal, ok := terminalOf(id); ok {
		return checkTerminal(terminal)
	}
	if len(id) > maxIdentity {
		return fmt.Errorf("a SPIFFE ID has at most %d bytes, this one has %d", maxIdentity, len(id))
	}
	exact, fleet := strings.CutSuffix(id, fleetSuffix)
	parsed, err := spiffeid.FromString(exact)
	if err != nil {
		return fmt.Errorf("%q is no SPIFFE ID (%v); write spiffe://TRUST-DOMAIN/PATH", id, err)
	}
	if parsed.Path() == "" {
		if fleet {
			return fmt.Errorf("%q would cover a whole trust domain; a fleet needs a path, as in spiffe://TRUST-DOMAIN/terminal/*", id)
		}
		return fmt.Errorf("%q names a trust domain, not a workload; write spiffe://TRUST-DOMAIN/PATH", id)
	}
	if parsed.String() != exact {
		return fmt.Errorf("%q is not in the form in which a certificate carries it; write %q", id, parsed.String())
	}
	return nil
}

// fleetOf returns the part of an identity up to and with the last slash of its path,
// under which the fleet that it belongs to is filed. That of all terminals is filed under
// what their identities begin with.
func fleetOf(identity string) (string, bool) {
	if terminal, ok := terminalOf(identity); ok {
		return terminalPrefix, terminal != ""
	}
	i := strings.LastIndexByte(identity, '/')
	if i < 0 || i == len(identity)-1 {
		return "", false
	}
	return identity[:i+1], true
}
