package officer

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary runs itself again as a program with another terminal, or with none.
const askVariable = "KEYD_OFFICER_TEST_ASK"

func TestMain(m *testing.M) {
	if os.Getenv(askVariable) != "" {
		os.Exit(ask())
	}
	goleak.VerifyTestMain(m)
}

// ask opens its terminal and has a passphrase typed in.
func ask() int {
	t, err := OpenTerminal()
	if err == nil {
		_, err = t.Passphrase("Passphrase", false)
	}
	fmt.Fprintln(os.Stdout, "result:", err)
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
