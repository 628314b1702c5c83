package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/simulator"
	"keyd/voidtoken"
)

// addPIN adds every form in which a PIN, or a code, could stand somewhere: digits in several codings,
// and the clear field and block of each ISO format for a number. Each form is long enough not to
// occur by chance.
func addPIN(t *testing.T, secrets map[string][]byte, name, digits, number string) {
	t.Helper()
	add := func(form string, value []byte) { secrets[name+", "+form] = value }
	add("digits", []byte(digits))
	add("hex of digits", []byte(hex.EncodeToString([]byte(digits))))
	var each, little, big []byte
	for _, c := range utf16.Encode([]rune(digits)) {
		each = append(each, byte(c-'0'))
		little, big = append(little, byte(c), 0), append(big, 0, byte(c))
	}
	add("a byte each", each)
	add("UTF-16", little)
	add("UTF-16, big-endian", big)
	if len(digits) >= 12 {
		add("packed", unhex(t, digits))
	}
	length := string("0123456789ABC"[len(digits)])
	field := func(control, fill string) string {
		f := control + length + digits
		return f + strings.Repeat(fill, 16-len(f))
	}
	add("field of format 0", unhex(t, field("0", "F")))
	add("block of format 0", iso0(t, "0", digits, "F", number))
	add("field of format 4", unhex(t, field("4", "A")))
	if len(digits) >= 12 { // of format 3 before its random fill
		add("field of format 3", unhex(t, field("3", "F"))[:7])
		add("block of format 3", iso0(t, "3", digits, "F", number)[:7])
	}
}

// secretFlow is what is done with the PINs of a supervisor and of a cardholder, every one of them
// known to the test.
type secretFlow struct {
	*counter
	secrets map[string][]byte
	said    *transcript
	number  string
	blocks  [][]byte // enciphered, as they were sent
}

// enciphered is a PIN entered at the supervisor's terminal.
func (f *secretFlow) enciphered(name, pin string) *keydv1.PinEntry {
	f.t.Helper()
	addPIN(f.t.(*testing.T), f.secrets, name, pin, f.number)
	b, err := simulator.Open(filepath.Join(f.dir, "terminals", "supervisor.json")).EncryptPIN(pinblock.ISO4, f.number, []byte(pin))
	if err != nil {
		f.t.Fatal(err)
	}
	f.blocks = append(f.blocks, b.Block)
	return &keydv1.PinEntry{
		Incoming:          &keydv1.PinKey{KeyId: "bdk-supervisor", Format: keydv1.PinBlockFormat_ISO_FORMAT_4, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: b.KSN.Bytes()}},
		EncryptedPinBlock: b.Block,
	}
}

// code hands two approvals in, and returns the code as anna reads it.
func (f *secretFlow) code(action, version string) string {
	f.t.Helper()
	request := new(keydv1.BeginPinRequest)
	first, second := f.approved(action, version)
	for _, path := range []string{first, second} {
		var s pinrecord.Signed
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil {
			f.t.Fatal(err)
		}
		request.Approvals = append(request.Approvals, &keydv1.PinApproval{Document: s.Document, Signature: s.Signature, Certificates: s.Certificates})
	}
	a, err := keydv1.NewPinRecordServiceClient(f.recorded("officer-1", f.said)).BeginPin(f.ctx(), request)
	if err != nil {
		f.t.Fatal(err)
	}
	sealed := first + "-sealed"
	if err := os.WriteFile(sealed, a.SealedCode, 0o600); err != nil {
		f.t.Fatal(err)
	}
	code := strings.TrimSpace(f.must("pin", "code", "--approval", first, "--sealed", sealed, "--officer-key", filepath.Join(f.dir, "approvers", "anna.key")))
	addPIN(f.t.(*testing.T), f.secrets, "the code of "+action, code, f.number)
	return code
}

// run does what there is to do with PINs: enrol, set, verify, change, reset, and void, at terminals and on
// a phone.
func (f *secretFlow) run(t *testing.T) {
	t.Helper()
	subject := &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: "m-17", Name: "dora"}
	dora := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}
	f.number = dora.Number()
	pins := keydv1.NewPinRecordServiceClient(f.recorded("switch", f.said))
	first, second, third := randomPIN(t), randomPIN(t), randomPIN(t)
	answered := func(what string, want bool, verified interface{ GetVerified() bool }, err error) {
		t.Helper()
		if err != nil || verified.GetVerified() != want {
			t.Fatalf("%s: %v, %v", what, verified, err)
		}
	}
	set := func(code, pin string) {
		t.Helper()
		a, err := pins.SetPin(f.ctx(), &keydv1.SetPinRequest{Subject: subject, Code: f.enciphered("a code", code), Pin: f.enciphered("a PIN", pin)})
		answered("set", true, a, err)
	}
	verify := func(name, pin string, want bool) {
		t.Helper()
		a, err := pins.VerifyPin(f.ctx(), &keydv1.VerifyPinRequest{Subject: subject, Pin: f.enciphered(name, pin)})
		answered(name, want, a, err)
	}
	set(f.code("enrol", "1"), first)
	verify("the first PIN", first, true)
	verify("a wrong PIN", randomPIN(t), false)
	change, err := pins.ChangePin(f.ctx(), &keydv1.ChangePinRequest{Subject: subject, Current: f.enciphered("the first PIN", first), Pin: f.enciphered("the second PIN", second)})
	answered("change", true, change, err)
	verify("the second PIN", second, true)
	set(f.code("reset", "3"), third)
	verify("the third PIN", third, true)
	f.pin = third

	voids := keydv1.NewVoidServiceClient(f.recorded("switch", f.said))
	authorize := func(reference, request string, amount int64, want bool, entries func(digest [32]byte) []*keydv1.VoidPinEntry) {
		t.Helper()
		id := f.scanned(reference, amount)
		fields := voidtoken.Fields{Void: id, Merchant: "m-17", Terminal: "t-1", Reference: reference, Amount: amount, Currency: voidtoken.CNY}
		digest, err := fields.Digest()
		if err != nil {
			t.Fatal(err)
		}
		r := &keydv1.AuthorizeVoidRequest{RequestId: request, VoidId: id, Pins: entries(digest), Payment: paid(amount)}
		for _, e := range r.Pins {
			f.blocks = append(f.blocks, e.EncryptedPinBlock)
		}
		a, err := voids.AuthorizeVoid(f.ctx(), r)
		answered("the void of "+reference, want, a, err)
	}
	addPIN(t, f.secrets, "the third PIN", third, f.number)
	authorize("pay-1", "one", 12300, true, func(digest [32]byte) []*keydv1.VoidPinEntry {
		return []*keydv1.VoidPinEntry{f.supervisors(dora, digest)}
	})
	card := randomPIN(t)
	addPIN(t, f.secrets, "the cardholder's PIN", card, testPAN)
	wrong := *f.counter
	wrong.pin = randomPIN(t)
	addPIN(t, f.secrets, "a wrong PIN for a void", wrong.pin, f.number)
	authorize("pay-2", "wrong", 300000, false, func(digest [32]byte) []*keydv1.VoidPinEntry {
		return []*keydv1.VoidPinEntry{wrong.supervisors(dora, digest), f.cardholders(card, pvvOf(t, pvkVisa, testPAN, 1, card), digest)}
	})
	authorize("pay-3", "both", 300000, true, func(digest [32]byte) []*keydv1.VoidPinEntry {
		return []*keydv1.VoidPinEntry{f.supervisors(dora, digest), f.cardholders(card, pvvOf(t, pvkVisa, testPAN, 1, card), digest)}
	})
	f.runOnPhone(t)
}

// coreless insists that no process of the service can leave a core file.
func coreless(t *testing.T, s *service) {
	t.Helper()
	all := append(processes(s.status(), "front"), processes(s.status(), "module")...)
	for _, p := range all {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(limits)) {
			if of, ok := strings.CutPrefix(line, "Max core file size"); ok && strings.Join(strings.Fields(of), " ") != "0 0 bytes" {
				t.Errorf("process %d may leave a core file:%s", p.Pid, of)
			}
		}
	}
	if len(all) < 2 {
		t.Errorf("%d processes", len(all))
	}
}

// TestNoPINStandsOutsideTheModules looks for every PIN and every code of a supervisor's life with
// voids: in what crosses the network and the socket to the modules, in the front's memory and in the
// supervisor's, in the modules' when all is done, in the database, the logs, the audit log and a
// backup, and in what a front that crashes leaves.
func TestNoPINStandsOutsideTheModules(t *testing.T) {
	if !asRoot(t) { // only root can read the memory of keyd's processes
		return
	}
	server := startPostgres(t)
	for name, flags := range map[string][]string{"SQLite": nil, "PostgreSQL": onPostgres(t, server)} {
		t.Run(name, func(t *testing.T) {
			s := &shop{service: startWith(t, filepath.Join(tempDir(t), "dev"), flags), papers: tempDir(t)}
			s.must("pin", "prepare", "--dir", s.dir)
			s.must("void", "prepare", "--dir", s.dir)
			f := &secretFlow{counter: &counter{shop: s}, secrets: map[string][]byte{}, said: new(transcript)}
			front := processes(s.status(), "front")[0]
			wire := tapped(t, front.Pid)
			f.run(t)
			if len(f.secrets) < 8*8 {
				t.Fatalf("only %d secrets", len(f.secrets))
			}
			look := newSearch(t, f.secrets)

			look.at("messages", f.said.bytes(), f.blocks[0])
			streams, blocks := wire.streams(), 0
			for of, b := range streams {
				look.at("the front's "+of, b, nil)
				for _, block := range f.blocks {
					if strings.HasPrefix(of, "write") || strings.HasPrefix(of, "send") {
						blocks += bytes.Count(b, block)
					}
				}
			}
			if blocks < len(f.blocks) {
				t.Errorf("the front was seen to send %d blocks to modules, want %d", blocks, len(f.blocks))
			}
			for _, p := range append(processes(s.status(), "front"), processes(s.status(), "module")...) {
				if hits := scan(t, int(p.Pid), f.secrets); len(hits) > 0 {
					t.Errorf("%s: %s", p.Role, strings.Join(hits, "; "))
				}
			}
			if hits := scan(t, s.cmd.Process.Pid, f.secrets); len(hits) > 0 {
				t.Errorf("supervisor: %s", strings.Join(hits, "; "))
			}
			if hits := scan(t, int(front.Pid), map[string][]byte{"whose": []byte("merchant m-17")}); len(hits) == 0 {
				t.Error("the scan does not find whose PINs passed through the front")
			}
			if hits := scan(t, os.Getpid(), f.secrets); len(hits) < 8 {
				t.Errorf("of all PINs the scan finds %d in the process that has them", len(hits))
			}
			coreless(t, s.service)

			backup := filepath.Join(s.papers, "backup")
			s.must("backup", "--out", backup, "--dir", s.dir)
			look.at("a backup", readAll(t, backup), []byte("dora"))
			look.files(s.dir, "audit")
			if name == "SQLite" {
				look.files(s.dir, "keyd.db", "keyd.db-wal")
			}
			look.files(s.papers)
			if name == "PostgreSQL" {
				dump, err := server.Dump(flags[3])
				if err != nil {
					t.Fatal(err)
				}
				look.at("the database", dump, []byte("dora"))
				look.files(server.Data(), "pg_wal")
			}
			// A front that crashes says in the log where it was, and leaves nothing else.
			if err := syscall.Kill(int(front.Pid), syscall.SIGABRT); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "replaced", func() bool { return syscall.Kill(int(front.Pid), 0) == syscall.ESRCH })
			waitUntil(t, "served again", func() bool {
				_, err := s.command("", append([]string{"pin", "status", "--dir", s.dir}, dora...)...)
				return err == nil
			})
			look.files(s.dir)
			s.stop()
			look.at("the log", []byte(s.logged()), []byte("front"))
			look.planted(s.dir)
		})
	}
}
