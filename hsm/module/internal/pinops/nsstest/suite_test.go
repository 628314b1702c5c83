// Package nsstest runs the suite of PIN operations with NSS softokn. It is a package of its own because a
// process loads one library.
package nsstest

import (
	"os"
	"testing"

	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func TestSuite(t *testing.T) { pinopstest.Suite(t, tokentest.NSS(t).Open(t, 4)) }
