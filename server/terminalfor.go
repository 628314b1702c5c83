package server

import (
	"context"

	"keyd/fault"
)

// terminalFor returns the terminal that a request of a terminal, or of somebody who carries its
// messages, is for. One that asks for itself need not name itself; that it names another is for
// the policy to deny.
func terminalFor(ctx context.Context, terminalID string) (string, error) {
	if c := callOf(ctx); terminalID == "" && c != nil && c.terminal != nil {
		return c.terminal.ID, nil
	}
	if terminalID == "" {
		return "", fault.New(fault.RequestInvalid, "terminal_id is not set")
	}
	return terminalID, nil
}
