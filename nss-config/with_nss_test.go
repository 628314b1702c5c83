// Package nss holds no Go code; this tests the script beside it.
package nss

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// show prints the token's folder, the modes of what is secret, the PIN's length and the
// token's files, finds the token with its PIN, and ends with a status of its own.
const show = `set -eu
dirname "$KEYD_TEST_TOKEN_FOLDER"
stat -c %a "$KEYD_TEST_TOKEN_FOLDER" "$KEYD_TEST_PIN_FILE"
wc -c <"$KEYD_TEST_PIN_FILE"
[ "$(readlink -f "$KEYD_TEST_MODULE")" = "$KEYD_TEST_MODULE" ] && echo resolved
case $KEYD_TEST_PARAMETERS in *"'sql:$KEYD_TEST_TOKEN_FOLDER'"*"'$KEYD_TEST_TOKEN_LABEL'"*) echo parameters ;; esac
ls "$KEYD_TEST_TOKEN_FOLDER"
cat
exit 7`

func TestCommandHasAFreshToken(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "./with-nss.sh", "sh", "-c", show)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Stdin = strings.NewReader("standard input")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Fatalf("with-nss.sh: %v, want status 7; printed %s", err, out)
	}
	folder, rest, _ := strings.Cut(string(out), "\n")
	if want := "700\n600\n16\nresolved\nparameters\ncert9.db\nkey4.db\nstandard input"; rest != want {
		t.Errorf("the command printed %q, want %q", rest, want)
	}
	gone(t, folder)
}

func TestSignalEndsCommandAndRemovesToken(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "./with-nss.sh", "sh", "-c",
		`trap 'exit 9' TERM; dirname "$KEYD_TEST_TOKEN_FOLDER"; while :; do sleep 0.05; done`)
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
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 9 {
		t.Errorf("%v, want the command's status 9", err)
	}
	gone(t, strings.TrimSpace(folder))
}

func gone(t *testing.T, folder string) {
	t.Helper()
	if !strings.HasPrefix(filepath.Base(folder), "keyd-nss.") {
		t.Fatalf("%q is not the token's folder", folder)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", folder, err)
	}
}
