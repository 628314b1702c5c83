// Package softhsm holds no Go code; this tests the script beside it.
package softhsm

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// show prints the token's folder, the PIN's length and what the token says of itself,
// and ends with a status of its own.
const show = `set -eu
dirname "$SOFTHSM2_CONF"
stat -c %a "$(dirname "$SOFTHSM2_CONF")" "$KEYD_TEST_PIN_FILE"
wc -c <"$KEYD_TEST_PIN_FILE"
[ "$(readlink -f "$KEYD_TEST_MODULE")" = "$KEYD_TEST_MODULE" ] && echo resolved
pkcs11-tool --module "$KEYD_TEST_MODULE" --token-label "$KEYD_TEST_TOKEN_LABEL" --login --pin "$(cat "$KEYD_TEST_PIN_FILE")" \
  --keygen --key-type AES:32 --label fresh >/dev/null 2>&1 && echo usable
cat
exit 7`

func TestCommandHasAFreshToken(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "./with-softhsm.sh", "sh", "-c", show)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Stdin = strings.NewReader("standard input")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Fatalf("with-softhsm.sh: %v, want status 7; printed %s", err, out)
	}
	folder, rest, _ := strings.Cut(string(out), "\n")
	if want := "700\n600\n16\nresolved\nusable\nstandard input"; rest != want {
		t.Errorf("the command printed %q, want %q", rest, want)
	}
	gone(t, folder)
}

func TestSignalEndsCommandAndRemovesToken(t *testing.T) {
	signals := []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
	for _, s := range signals {
		// A shell cannot trap what was ignored when it started (under nohup, say); a
		// signal that this process handles is not ignored in a child.
		handled := make(chan os.Signal, 1)
		signal.Notify(handled, s)
		defer signal.Stop(handled)
	}
	for _, signal := range signals {
		cmd := exec.CommandContext(t.Context(), "./with-softhsm.sh", "sh", "-c", `trap 'exit 9' TERM; dirname "$SOFTHSM2_CONF"; while :; do sleep 0.05; done`)
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		folder, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 9 {
			t.Errorf("%v: %v, want the command's status 9", signal, err)
		}
		gone(t, strings.TrimSpace(folder))
	}
}

func gone(t *testing.T, folder string) {
	t.Helper()
	if !strings.HasPrefix(filepath.Base(folder), "keyd-softhsm.") {
		t.Fatalf("%q is not the token's folder", folder)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", folder, err)
	}
}
