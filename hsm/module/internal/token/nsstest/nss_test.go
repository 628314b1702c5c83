// Package nsstest runs the conformance suite for tokens on NSS softokn. It is a package of
// its own because a process loads one library.
package nsstest

import (
	"os"
	"testing"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// TestNSS runs the conformance suite on a fresh token of NSS softokn.
func TestNSS(t *testing.T) {
	tokentest.Conformance(t, tokentest.NSS(t))
}

// TestWhatNSSLacks says which protections of a key a token of NSS softokn does without.
func TestWhatNSSLacks(t *testing.T) {
	if knows := tokentest.NSS(t).Open(t, 1).Knows(); knows != (token.Knows{}) {
		t.Errorf("NSS softokn knows %+v: docs/decisions/0060 and the comments in package token say otherwise", knows)
	}
}
