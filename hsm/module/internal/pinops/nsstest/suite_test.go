// Package nsstest runs the suite of PIN operations with NSS softokn, where PINs stay in the token. It is a
// package of its own because a process loads one library.
package nsstest

import (
	"os"
	"testing"

	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func open(t testing.TB) *token.Token { return tokentest.NSS(t).Open(t, 4) }

func TestSuite(t *testing.T) { pinopstest.Suite(t, open(t)) }
