package server

import (
	"context"
	"errors"

	"keyd/fault"
)

// terminalFor returns the terminal that a request of a terminal, or of somebody who carries its
// messages, is for.
func terminalFor(_ context.Context, terminalID string) (string, error) {
	if terminalID == "" {
		return "", fault.New(fault.RequestInvalid, "terminal_id is not set")
	}
	return terminalID, nil
}

// errLegacy is why keys in the legacy form are denied.
var errLegacy = errors.New("session keys as bare cryptograms are outside PCI PIN 18-3, and no rule of a policy can allow them")

// authorizeLegacy asks whether the caller may have keys in the legacy form. Nobody may.
func authorizeLegacy(ctx context.Context) error {
	if c := callOf(ctx); c != nil {
		c.asked, c.allowed = true, false
	}
	return fault.Wrap(fault.PolicyDenied, errLegacy)
}
