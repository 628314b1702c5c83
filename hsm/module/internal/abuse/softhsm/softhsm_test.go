// Package softhsm makes the attempts of package abuse on a fresh token.
package softhsm

import (
	"os"
	"testing"

	"keyd/hsm/module/internal/abuse"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func TestSoftHSM(t *testing.T) {
	abuse.Run(t, tokentest.SoftHSM(t), func(a abuse.Attempt) string { return a.SoftHSM })
}
