// Package nss makes the attempts of package abuse on a fresh token.
package nss

import (
	"os"
	"testing"

	"keyd/hsm/module/internal/abuse"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func TestNSS(t *testing.T) {
	abuse.Run(t, tokentest.NSS(t), func(a abuse.Attempt) string { return a.NSS })
}
