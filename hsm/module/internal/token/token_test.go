package token_test

import (
	"os"
	"path/filepath"
	"testing"

	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func TestLoadRefusesWhatIsNoLibrary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "library.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"libsofthsm2.so", "", "/nonexistent/library.so", text} {
		if _, err := token.Load(path, ""); err == nil {
			t.Errorf("Load(%q) succeeded", path)
		}
	}
}
