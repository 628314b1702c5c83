package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinblock"
	"keyd/simulator"
)

// shop is a development service with approvers, and a supervisor's terminal.
type shop struct {
	*service
	papers string   // directory of what approvers sign
	of     []string // whose PIN it is about; dora's if unset
}

// whose is the flags that say whose PIN it is about.
func (s *shop) whose() []string {
	if s.of != nil {
		return s.of
	}
	return dora
}

var dora = []string{"--merchant", "m-17", "--name", "dora"}

// newShop starts one with flags of its own.
func newShop(t *testing.T, flags ...string) *shop {
	t.Helper()
	s := &shop{service: startWith(t, filepath.Join(tempDir(t), "dev"), flags), papers: tempDir(t)}
	s.must("pin", "prepare", "--dir", s.dir)
	return s
}

// approved has anna and bert sign, and returns their files.
func (s *shop) approved(action, version string) (first, second string) {
	s.t.Helper()
	first = filepath.Join(s.papers, action+version)
	second = first + "-again"
	by := func(name string) []string {
		path := filepath.Join(s.dir, "approvers", name)
		return []string{"--officer-key", path + ".key", "--certificate", path + ".crt", "--yes"}
	}
	s.must(append(append([]string{"pin", "approve", "--action", action, "--version", version, "--out", first}, s.whose()...), by("anna")...)...)
	s.must(append([]string{"pin", "approve", "--paper", first, "--out", second}, by("bert")...)...)
	return first, second
}

// begin hands two approvals in, and returns the code as anna reads it.
func (s *shop) begin(action, version string, more ...string) string {
	s.t.Helper()
	first, second := s.approved(action, version)
	return s.handIn(first, second, more...)
}

func (s *shop) handIn(first, second string, more ...string) string {
	s.t.Helper()
	sealed := first + "-code"
	s.must(append([]string{"pin", "begin", first, second, "--code-out", sealed, "--dir", s.dir}, more...)...)
	code := strings.TrimSpace(s.must("pin", "code", "--approval", first, "--sealed", sealed, "--officer-key", filepath.Join(s.dir, "approvers", "anna.key")))
	if len(code) != 8 {
		s.t.Fatalf("a code of %d digits", len(code))
	}
	return code
}

// enter is a command at the terminal, at which lines are typed.
func (s *shop) enter(command string, whose []string, lines ...string) (string, error) {
	s.t.Helper()
	args := append([]string{"pin", command, "--state", filepath.Join(s.dir, "terminals", "supervisor.json"), "--bdk", "bdk-supervisor", "--dir", s.dir}, whose...)
	return s.command(strings.Join(lines, "\n")+"\n", args...)
}

func (s *shop) entered(command string, whose []string, want bool, lines ...string) {
	s.t.Helper()
	out, err := s.enter(command, whose, lines...)
	if verified := map[bool]string{true: "verified  true", false: "verified  false"}[want]; err != nil || !strings.Contains(strings.Join(strings.Fields(out), "  "), verified) {
		s.t.Errorf("%s: %s, %v; want %s", command, out, err, verified)
	}
}

func (s *shop) stands(state string) {
	s.t.Helper()
	out := s.must(append([]string{"pin", "status", "--dir", s.dir}, s.whose()...)...)
	if !strings.Contains(strings.Join(strings.Fields(out), " "), "state "+state) {
		s.t.Errorf("it is\n%s\nwant %s", out, state)
	}
}

// randomPIN is one of 12 digits that is found nowhere by chance.
func randomPIN(t *testing.T) string {
	t.Helper()
	random := make([]byte, 12)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	for i := range random {
		random[i] = '0' + random[i]%10
	}
	return string(random)
}

// A PIN's whole life, typed at commands, on a real token. Afterwards neither the PINs nor the codes
// are in a file of the service, in its log or in the memory of its front.
func TestLifeOfASupervisorsPIN(t *testing.T) {
	s := newShop(t)
	nobody := []string{"--merchant", "m-17", "--name", "nobody"}
	first, second, third := randomPIN(t), randomPIN(t), randomPIN(t)
	code := s.begin("enrol", "1")
	s.stands("enrol pending")
	if out, err := s.enter("set", dora, code, "123456"); err == nil || !strings.Contains(err.Error(), "PIN_WEAK") {
		t.Errorf("a weak PIN: %s, %v", out, err)
	}
	s.entered("set", dora, false, "00000000", first)
	s.entered("set", dora, true, code, first)
	s.entered("verify", dora, true, first)
	s.entered("verify", nobody, false, first)
	s.entered("change", dora, true, first, second)
	s.entered("verify", dora, false, first)
	s.entered("verify", dora, true, second)
	for range 3 {
		s.entered("verify", dora, false, first)
	}
	s.stands("blocked")
	s.entered("verify", dora, false, second)
	one, two := s.approved("unblock", "2")
	s.must("pin", "unblock", one, two, "--dir", s.dir)
	s.entered("verify", dora, true, second)
	again := s.begin("reset", "3")
	s.entered("verify", dora, false, second)
	s.entered("set", dora, true, again, third)
	s.entered("verify", dora, true, third)

	if asRoot(t) {
		secrets := map[string][]byte{}
		for name, digits := range map[string]string{"the first PIN": first, "the second PIN": second, "the third PIN": third} {
			bcd, err := hex.DecodeString(digits)
			if err != nil {
				t.Fatal(err)
			}
			secrets[name] = []byte(digits)
			secrets[name+", packed"] = bcd
		}
		for _, front := range processes(s.status(), "front") {
			if hits := scan(t, int(front.Pid), secrets); len(hits) > 0 {
				t.Errorf("front: %s", strings.Join(hits, "; "))
			}
			if hits := scan(t, int(front.Pid), map[string][]byte{"whose": []byte("merchant m-17")}); len(hits) == 0 {
				t.Error("the scan does not find whose PINs passed through the front")
			}
		}
	}

	s.must(append([]string{"pin", "revoke", "--reason", "has left", "--dir", s.dir}, dora...)...)
	s.entered("verify", dora, false, third)
	s.stands("revoked")
	history := s.must(append([]string{"pin", "history", "--dir", s.dir}, dora...)...)
	for _, kind := range []string{"enrol-begun", "pin-set", "changed", "blocked", "unblocked", "reset-begun", "revoked"} {
		if !strings.Contains(history, kind) {
			t.Errorf("the history lacks %s:\n%s", kind, history)
		}
	}
	s.stop()
	said := 0
	for _, root := range []string{s.dir, s.papers} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if bytes.Contains(content, []byte("m-17")) {
				said++
			}
			for _, secret := range []string{first, second, third, code, again} {
				if bytes.Contains(content, []byte(secret)) {
					t.Errorf("%s holds a PIN or a code", path)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if said == 0 {
		t.Error("no file says whose PINs there were")
	}
	for _, secret := range []string{first, second, third, code, again} {
		if strings.Contains(s.logged(), secret) || strings.Contains(history, secret) {
			t.Error("the log or the history holds a PIN or a code")
		}
	}
}

// Wrong PINs without end, while fronts and modules are killed: three of them are tries, and what is
// blocked stays so.
func TestTriesOfAPINWhileProcessesAreKilled(t *testing.T) {
	s := newShop(t)
	pin := randomPIN(t)
	s.entered("set", dora, true, s.begin("enrol", "1"), pin)
	subject := &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: "m-17", Name: "dora"}
	record, err := keydv1.NewPinRecordServiceClient(s.connect(s.tls("officer-1"))).GetPinRecord(s.ctx(), &keydv1.GetPinRecordRequest{Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	const many = 200
	blocks := make(chan *keydv1.VerifyPinRequest, many)
	terminal := simulator.Open(filepath.Join(s.dir, "terminals", "supervisor.json"))
	for range many {
		b, err := terminal.EncryptPIN(pinblock.ISO4, record.Number, []byte("000001"))
		if err != nil {
			t.Fatal(err)
		}
		blocks <- &keydv1.VerifyPinRequest{Subject: subject, Pin: &keydv1.PinEntry{
			Incoming:          &keydv1.PinKey{KeyId: "bdk-supervisor", Format: keydv1.PinBlockFormat_ISO_FORMAT_4, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: b.KSN.Bytes()}},
			EncryptedPinBlock: b.Block,
		}}
	}
	close(blocks)
	var answered atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		pins := keydv1.NewPinRecordServiceClient(s.connect(s.tls("switch")))
		clients.Go(func() {
			for request := range blocks {
				for {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					answer, err := pins.VerifyPin(ctx, request)
					cancel()
					if code := status.Code(err); err != nil && (code == codes.Unavailable || code == codes.DeadlineExceeded) && t.Context().Err() == nil {
						time.Sleep(20 * time.Millisecond) // somebody was killed
						continue
					}
					if err != nil || answer.Verified {
						t.Errorf("%v, %v", answer, err)
					}
					answered.Add(1)
					break
				}
			}
		})
	}
	for round := range 4 {
		waitUntil(t, "some were answered", func() bool { return answered.Load() >= int64(many*round/5) })
		victim := processes(s.status(), []string{"front", "module"}[round%2])[0]
		if err := syscall.Kill(int(victim.Pid), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "replaced", func() bool { return syscall.Kill(int(victim.Pid), 0) == syscall.ESRCH })
		waitUntil(t, "served again", func() bool {
			_, err := keydv1.NewPinRecordServiceClient(s.connect(s.tls("officer-1"))).GetPinRecord(s.ctx(), &keydv1.GetPinRecordRequest{Subject: subject})
			return err == nil
		})
	}
	clients.Wait()
	if answered.Load() != many {
		t.Errorf("%d answers to %d requests", answered.Load(), many)
	}
	s.stands("blocked")
	s.entered("verify", dora, false, pin)
	if blocked := strings.Count(s.must(append([]string{"pin", "history", "--dir", s.dir}, dora...)...), "blocked"); blocked != 1 {
		t.Errorf("it was blocked %d times", blocked)
	}
}
