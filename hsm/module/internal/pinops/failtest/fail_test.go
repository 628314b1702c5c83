// Package failtest has every single token call of PIN operations fail. It is a package of its own because a process loads one
// library.
package failtest

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

//go:embed failing/failing.c
var failing string

// plan is what the library reads, see failing/failing.c.
type plan struct{ countdown, code, failed uint64 }

// failingLibrary makes a library that has calls of another fail.
func failingLibrary(t *testing.T, library string) (path string, p *plan) {
	t.Helper()
	folder := t.TempDir()
	path = filepath.Join(folder, "failing.so")
	compile := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-x", "c", "-o", path, "-", "-ldl")
	compile.Stdin = strings.NewReader(failing)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("the library: %v\n%s", err, out)
	}
	f, err := os.Create(filepath.Join(folder, "plan"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is mapped
	if err := f.Truncate(int64(unsafe.Sizeof(plan{}))); err != nil {
		t.Fatal(err)
	}
	shared, err := syscall.Mmap(int(f.Fd()), 0, int(unsafe.Sizeof(plan{})), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYD_FAILING", library)
	t.Setenv("KEYD_FAIL", f.Name())
	return path, (*plan)(unsafe.Pointer(&shared[0]))
}

// objects are the session objects of this process.
func objects(t *testing.T, ctx *pkcs11.Ctx, session pkcs11.SessionHandle) (all int) {
	t.Helper()
	if err := ctx.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)}); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		found, _, err := ctx.FindObjects(session, 100)
		if err != nil {
			t.Fatal(err)
		}
		all, more = all+len(found), len(found) > 0
	}
	if err := ctx.FindObjectsFinal(session); err != nil {
		t.Fatal(err)
	}
	return all
}

// closesSession is the place of C_CloseSession.
const closesSession = 13

// TestEveryCallFails has each call of each operation fail in turn: nothing is answered, or all; no object stays;
// and the operation after it is carried out.
func TestEveryCallFails(t *testing.T) {
	path, plan := failingLibrary(t, tokentest.NSSPath(t))
	f := tokentest.NSSThrough(t, path)
	b := sealedtest.On(t, f.Open(t, 1))
	slot, _, err := f.Library.FindToken(f.Label)
	if err != nil {
		t.Fatal(err)
	}
	ctx := pkcs11.New(path)
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	samples := pinopstest.Samples(b)
	for i, code := range []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_DATA_LEN_RANGE} {
		for _, fresh := range []bool{false, true} { // the tools are made by the operation
			for j, s := range samples {
				engine := pinops.NewEngine(b.Keys, nil)
				run := func() *pinops.Operation {
					op := s.Operation()
					engine.Run(op)
					return op
				}
				if op := run(); op.Err != nil {
					t.Fatalf("%s: %v", s.Name, op.Err)
				}
				if fresh && j > 0 || (i+j)%2 == 1 { // it takes long
					continue
				}
				for n := 1; ; n++ {
					if fresh {
						engine = pinops.NewEngine(b.Keys, nil)
					}
					stay := objects(t, ctx, session)
					if fresh {
						stay += 2 // its transit keys
					}
					plan.countdown, plan.code, plan.failed = uint64(n), uint64(code), 0
					op := run()
					done := plan.countdown > 0
					plan.countdown = 0
					which := fmt.Sprintf("%s, fresh %v, call %d (function %d) %v", s.Name, fresh, n, plan.failed, pkcs11.Error(code))
					if answered := op.Translated.Custody + op.Verified.Custody + op.Generated.Custody; (op.Err == nil) != (answered == hsm.InToken) {
						t.Errorf("%s: %v, %v", which, op.Err, answered)
					}
					if op.Err != nil && (len(op.Translated.Block)+len(op.Generated.Block)+len(op.Generated.Datum) > 0 || op.Verified.Verified) {
						t.Errorf("%s: something was answered", which)
					}
					dead := op.Err != nil && token.ClassOf(op.Err) == token.TokenDead
					if next := run(); next.Err != nil && !dead {
						t.Fatalf("%s: the next operation: %v", which, next.Err)
					}
					gone := plan.failed == closesSession && code == pkcs11.CKR_SESSION_HANDLE_INVALID // as it says
					if now := objects(t, ctx, session); now > stay && !dead && !gone {
						t.Errorf("%s: %d objects, where %d stay: %v", which, now, stay, op.Err)
					}
					if done {
						break
					}
				}
			}
		}
	}
}
