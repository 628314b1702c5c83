package voids

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"keyd/hsm"
	"keyd/store"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// The test binary runs itself again as a front that is killed at a step of an authorisation.
const (
	stepVariable = "KEYD_VOIDS_TEST_STEP"
	pathVariable = "KEYD_VOIDS_TEST_PATH"
	voidVariable = "KEYD_VOIDS_TEST_VOID"
)

// steps are where a front is killed, in their order.
var steps = []string{"before the module", "after the module", "before it is kept", "after it is kept"}

func TestMain(m *testing.M) {
	if step := os.Getenv(stepVariable); step != "" {
		dieAt(step, os.Getenv(pathVariable), os.Getenv(voidVariable))
		os.Exit(3) // it was to be killed
	}
	os.Exit(m.Run())
}

// die is what kill -9 does, or a loss of power to the process.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// dying is a database whose front is killed around the transaction that keeps the token.
type dying struct {
	store.Voids
	step string
}

func (d dying) ChangeVoid(ctx context.Context, id string, since time.Time, change func(store.VoidRecord, store.Standing) (store.VoidRecord, error)) (store.VoidRecord, error) {
	r, err := d.Voids.ChangeVoid(ctx, id, since, func(r store.VoidRecord, s store.Standing) (store.VoidRecord, error) {
		next, err := change(r, s)
		if err == nil && next.Token != "" && d.step == "before it is kept" {
			die()
		}
		return next, err
	})
	if err == nil && r.Token != "" && d.step == "after it is kept" {
		die()
	}
	return r, err
}

// child is a testing.TB of a process that is no test.
type child struct{ testing.TB }

func (child) Helper()        {}
func (child) Cleanup(func()) {}
func (child) Fatal(a ...any) { fmt.Fprintln(os.Stderr, a...); os.Exit(2) }
func (child) Fatalf(f string, a ...any) {
	fmt.Fprintf(os.Stderr, f+"\n", a...)
	os.Exit(2)
}
func (child) Error(a ...any) { fmt.Fprintln(os.Stderr, a...); os.Exit(2) }

// dieAt authorises a void and is killed at a step.
func dieAt(step, dir, id string) {
	t := child{}
	b := &bench{t: t, records: &counted{left: 10}}
	b.at.Store(moment.UnixMicro())
	b.boundary = &boundary{token: readKey(t, dir, "token"), code: readKey(t, dir, "code"), now: b.now}
	b.open = openIn(t, dir)
	b.setPolicy(policyText)
	b.store = b.open()
	switch step {
	case "before the module":
		b.boundary.before = func() error { die(); return nil }
	case "after the module":
		b.boundary.after = func(hsm.AuthorizedVoid) error { die(); return nil }
	}
	s := b.over(b.store, dying{b.store, step})
	v, err := s.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.authorize(s, v, "the-one", b.pin(v.Fields, "dora", right))
	t.Fatal("it was not killed:", err)
}

func openIn(t testing.TB, dir string) func() store.Store {
	return func() store.Store {
		s, err := store.OpenSQLite(context.Background(), filepath.Join(dir, "keyd.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

// readKey reads a key that stands for one of a token, or makes it.
func readKey(t testing.TB, dir, name string) *ecdsa.PrivateKey {
	path := filepath.Join(dir, name+".pem")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		der, err := x509.MarshalECPrivateKey(newKey(t))
		if err == nil {
			err = os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return readKey(t, dir, name)
	}
	block, _ := pem.Decode(text)
	if err != nil || block == nil {
		t.Fatal("no key", err)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil || key.Curve != elliptic.P256() {
		t.Fatal("no key of P-256", err)
	}
	return key
}

// A front is killed between each two steps; another one, on the same database, is asked by the same
// request, and one token leaves.
func TestKilledAtEachStep(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			b := &bench{t: t, records: &counted{left: 10}, open: openIn(t, dir)}
			b.at.Store(moment.UnixMicro())
			b.boundary = &boundary{token: readKey(t, dir, "token"), code: readKey(t, dir, "code"), now: b.now}
			b.store = b.open()
			b.setPolicy(policyText)
			b.put("token", "S0", &b.boundary.token.PublicKey)
			b.put("code", "S0", &b.boundary.code.PublicKey)
			b.put("bdk", "B0", nil)
			s := b.over(b.store, b.store)
			v := b.scanned(s, "pay-1", 12300)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), stepVariable+"="+step, pathVariable+"="+dir, voidVariable+"="+v.Fields.Void)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:errcheck // of an ended process
				t.Fatalf("the front was not killed: %v: %s", err, out)
			}
			kept, err := b.store.Void(t.Context(), v.Fields.Void)
			if err != nil || (kept.Token != "") != (step == "after it is kept") || (kept.State == store.VoidAuthorized) != (kept.Token != "") {
				t.Fatalf("left: %s with a token %t, %v", kept.State, kept.Token != "", err)
			}
			a, err := b.authorize(s, v, "the-one", b.pin(v.Fields, "dora", right))
			if err != nil || !a.Verified || a.Void.Outcome.Result != flow.ResultAuthorized || kept.Token != "" && a.Token != kept.Token {
				t.Fatalf("%+v, %v", a, err)
			}
			b.good(a.Token, v.Fields, voidtoken.SupervisorPIN)
			again, err := b.authorize(s, v, "the-one", b.pin(v.Fields, "dora", right))
			if err != nil || again.Token != a.Token {
				t.Errorf("once more: %+v, %v", again, err)
			}
		})
	}
}
