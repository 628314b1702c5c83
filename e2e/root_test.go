package e2e

import (
	"os"
	"os/exec"
	"testing"
)

// asRoot reports whether the test goes on here. Started by another user, it runs the
// same test of this binary as root, with sudo, and fails where that fails.
func asRoot(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		return true
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sudo", "-n", "env", "PATH="+os.Getenv("PATH"), binaryVariable+"="+keydBinary,
		binary, "-test.run", "^"+t.Name()+"$", "-test.v").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("%s as root: %v; run the tests as root, or where sudo asks for no password", t.Name(), err)
	}
	return false
}
