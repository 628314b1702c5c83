package tokentest

import (
	"os"
	"strings"
	"testing"

	"keyd/hsm/module/internal/token"
)

// Given returns the token that the environment names, as softhsm-config/with-softhsm.sh and
// nss-config/with-nss.sh set it for a command, and anybody for a token of his own; or false.
func Given(t testing.TB) (Fresh, bool) {
	t.Helper()
	f := Fresh{Path: os.Getenv("KEYD_TEST_MODULE"), Parameters: os.Getenv("KEYD_TEST_PARAMETERS"), Label: os.Getenv("KEYD_TEST_TOKEN_LABEL")}
	if f.Path == "" {
		return f, false
	}
	if lacks := os.Getenv("KEYD_TEST_LACKS"); lacks != "" {
		f.Lacks = strings.Split(lacks, ",")
	}
	var err error
	if f.PIN, err = os.ReadFile(os.Getenv("KEYD_TEST_PIN_FILE")); err != nil {
		t.Fatalf("KEYD_TEST_PIN_FILE: %v", err)
	}
	if f.Library, err = token.Load(f.Path, f.Parameters); err != nil {
		t.Fatal(err)
	}
	return f, true
}
