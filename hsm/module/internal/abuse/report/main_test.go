package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"keyd/hsm/module/internal/abuse"
	"keyd/hsm/module/internal/token/tokentest"
)

// TestReport reports on a SoftHSM token that was made with its own tool, and leaves nothing in it.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	conf, pin := filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		conf: fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens), pin: "0123\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.CommandContext(t.Context(), "softhsm2-util", "--init-token", "--free", "--label", "TRY", "--so-pin", "0123", "--pin", "0123").CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	var out strings.Builder
	if err := report(&out, tokentest.SoftHSMPath, "", "TRY", pin); err != nil {
		t.Fatal(err)
	}
	for _, c := range abuse.Chapters {
		for _, a := range c.Attempts {
			if want := fmt.Sprintf("  %s\n      %s\n", a.Name, a.SoftHSM); !strings.Contains(out.String(), want) {
				t.Errorf("the report lacks\n%s", want)
			}
		}
	}
	objects, err := filepath.Glob(filepath.Join(tokens, "*", "*.object"))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if filepath.Base(object) != "token.object" {
			t.Errorf("the token keeps %s", object)
		}
	}
	if len(objects) == 0 {
		t.Error("the token is not where it was looked for")
	}
}

func TestReportWithoutAPIN(t *testing.T) {
	if err := report(new(strings.Builder), tokentest.SoftHSMPath, "", "TRY", filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("reported without a PIN")
	}
}
