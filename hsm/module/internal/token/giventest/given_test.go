// Package giventest runs the conformance suite on a token that a script has made, or that the environment
// names: KEYD_TEST_MODULE, KEYD_TEST_PARAMETERS, KEYD_TEST_TOKEN_LABEL and
// KEYD_TEST_PIN_FILE (nss-config/README.md).
package giventest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// TestGiven runs the suite on the token that the environment names. Without one there is nothing to try;
// TestScripts sees to it that there is one.
func TestGiven(t *testing.T) {
	if given, ok := tokentest.Given(t); ok {
		tokentest.Conformance(t, given)
	}
}

// TestScripts has each script run TestGiven on a fresh token of its own.
func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../../../../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"SoftHSM": "softhsm-config/with-softhsm.sh", "NSS softokn": "nss-config/with-nss.sh"} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), filepath.Join(root, script), os.Args[0], "-test.run", "^TestGiven$", "-test.v").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if n := strings.Count(string(out), "--- PASS: TestGiven/"); n < 20 {
				t.Errorf("only %d parts of the suite were run:\n%s", n, out)
			}
		})
	}
}
