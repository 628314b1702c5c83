package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/terminals/batch"
)

// answering is a service as an import sees it: it gives these errors one after the other, and
// then registers.
type answering struct {
	keydv1.TerminalServiceClient
	errs  []error
	asked int
}

// RegisterTerminal implements keydv1.TerminalServiceClient.
func (a *answering) RegisterTerminal(context.Context, *keydv1.RegisterTerminalRequest, ...grpc.CallOption) (*keydv1.RegisterTerminalResponse, error) {
	a.asked++
	if len(a.errs) >= a.asked {
		return nil, a.errs[a.asked-1]
	}
	return &keydv1.RegisterTerminalResponse{}, nil
}

// TestImportWaits: what passes is waited for, a refusal of one row is that row's, and anything
// else ends the import at once.
func TestImportWaits(t *testing.T) {
	for name, c := range map[string]struct {
		reason fault.Reason
		times  int
		asked  int
		row    bool // the error is the row's
		ends   bool
	}{
		"registered":           {asked: 1},
		"no audit log":         {reason: fault.AuditUnavailable, times: 2, asked: 3},
		"no database":          {reason: fault.StoreUnavailable, times: 4, asked: 5},
		"too many requests":    {reason: fault.RateLimited, times: 1, asked: 2},
		"no database for long": {reason: fault.StoreUnavailable, times: 9, asked: 5, ends: true},
		"another's key":        {reason: fault.PublicKeyKnown, times: 9, asked: 1, row: true},
		"not allowed":          {reason: fault.PolicyDenied, times: 9, asked: 1, ends: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			service := &answering{}
			for range c.times {
				service.errs = append(service.errs, refusal{exitError{errors.New("refused"), exitRefused}, c.reason.String()})
			}
			_, err := registering(service, false)(t.Context(), &batch.Row{})
			var row batch.Refused
			if service.asked != c.asked || errors.As(err, &row) != c.row || (err != nil) != (c.row || c.ends) {
				t.Errorf("%s: asked %d times, %v", name, service.asked, err)
			}
		})
	}
}
