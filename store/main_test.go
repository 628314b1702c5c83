package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"keyd/store"
	"keyd/store/storetest"
)

// The test binary runs itself again as another process of the same database.
const (
	roleVariable = "KEYD_STORE_TEST_ROLE"
	pathVariable = "KEYD_STORE_TEST_PATH"

	roleWriter       = "writer"
	roleEpochs       = "epochs"
	roleUnprivileged = "unprivileged"
)

// nobody is a user without rights on what a test made.
const nobody = 65534

func TestMain(m *testing.M) {
	path := os.Getenv(pathVariable)
	switch os.Getenv(roleVariable) {
	case "":
		code := m.Run()
		if err := stopShared(); err != nil {
			exit(err)
		}
		os.Exit(code)
	case roleWriter:
		exit(writeForever(path))
	case roleEpochs:
		exit(advanceForever(path))
	case roleUnprivileged:
		exit(openUnprivileged(path))
	}
	exit(errors.New("unknown role"))
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// again returns a command that runs this binary in a role.
func again(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role, pathVariable+"="+path)
	return cmd
}

// batch is what the writer process writes in one transaction, and head tells which
// was the last.
func batch(n int) []store.KeyRecord {
	head := storetest.Record("head", 1)
	head.Sealed = fmt.Appendf(nil, "%06d", n)
	records := []store.KeyRecord{head}
	for _, part := range []string{"a", "b", "c"} {
		records = append(records, storetest.Record(fmt.Sprintf("part-%06d-%s", n, part), 1))
	}
	return records
}

// writeForever goes on from the last batch, and prints the number of each that was
// acknowledged.
func writeForever(path string) error {
	ctx := context.Background()
	s, err := store.OpenSQLite(ctx, path)
	if err != nil {
		return err
	}
	n := 0
	head, err := s.Get(ctx, "head")
	switch {
	case err == nil:
		if _, err := fmt.Sscanf(string(head.Sealed), "%06d", &n); err != nil {
			return err
		}
		n++
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for ; ; n++ {
		if err := s.Replace(ctx, batch(n)...); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, n); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// openUnprivileged opens the database without root's right to write everything.
func openUnprivileged(path string) error {
	if os.Geteuid() == 0 {
		if err := syscall.Setgid(nobody); err != nil {
			return err
		}
		if err := syscall.Setuid(nobody); err != nil {
			return err
		}
	}
	s, err := store.OpenSQLite(context.Background(), path)
	if err != nil {
		return err
	}
	return errors.Join(errors.New("the database was opened"), s.Close())
}
