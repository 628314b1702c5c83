// Package nsstest says what keyd knows of NSS softokn. It is a package of its own because a process loads
// one library.
package nsstest

import (
	"os"
	"testing"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// TestWhatNSSLacks says which protections of a key a token of NSS softokn does without.
func TestWhatNSSLacks(t *testing.T) {
	if knows := tokentest.NSS(t).Open(t, 1).Knows(); knows != (token.Knows{}) {
		t.Errorf("NSS softokn knows %+v: docs/decisions/0060 and the comments in package token say otherwise", knows)
	}
}
