package main

import (
	"github.com/spf13/cobra"

	"keyd/officer"
)

// expect is the identity of the module that a signed file must be by, as the reader says it.
type expect struct{ identity, known, server string }

// flags adds --identity, --known and --server to a command; one of the first and the last is
// required.
func (e *expect) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.identity, "identity", "", "fingerprint of the identity of the module")
	f.StringVar(&e.known, "known", "", "file of the modules that you have confirmed (default ~/.config/keyd/known.json)")
	f.StringVar(&e.server, "server", "", "the server for which you have confirmed the module")
	c.MarkFlagsOneRequired("identity", "server")
	c.MarkFlagsMutuallyExclusive("identity", "server")
}

// fingerprint returns the identity that was given, or the one that the reader has confirmed for
// the server.
func (e *expect) fingerprint() (officer.Fingerprint, error) {
	if e.identity != "" {
		return officer.ParseFingerprint(e.identity)
	}
	path := e.known
	if path == "" {
		var err error
		if path, err = officer.DefaultKnown(); err != nil {
			return officer.Fingerprint{}, err
		}
	}
	k, err := officer.Load(path)
	if err != nil {
		return officer.Fingerprint{}, err
	}
	expected, _, err := k.Confirmed(e.server)
	return expected, err
}
