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

// checkIdentity accepts the SPIFFE ID of a workload, or of a fleet: a path of at
// least one segment and "/*", which stands for exactly one more segment.
func checkIdentity(id string) error {
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
// under which the fleet that it belongs to is filed.
func fleetOf(identity string) (string, bool) {
	i := strings.LastIndexByte(identity, '/')
	if i < 0 || i == len(identity)-1 {
		return "", false
	}
	return identity[:i+1], true
}
