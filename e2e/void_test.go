package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/simulator"
	"keyd/voidtoken"
)

// counter is a shop that may void payments, with dora as its supervisor.
type counter struct {
	*shop
	pin string
}

func newCounter(t *testing.T, flags ...string) *counter {
	t.Helper()
	c := &counter{newShop(t, flags...), randomPIN(t)}
	c.must("void", "prepare", "--dir", c.dir)
	c.entered("set", dora, true, c.begin("enrol", "1"), c.pin)
	return c
}

// ask is a command about voids, with what is typed or scanned, whose answer is read into m.
func (c *counter) ask(m proto.Message, typed string, args ...string) error {
	c.t.Helper()
	out, err := c.command(typed+"\n", append([]string{"void"}, append(args, "--output", "json", "--dir", c.dir)...)...)
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal([]byte(out), m); err != nil {
		c.t.Fatalf("void %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

func (c *counter) asked(m proto.Message, typed string, args ...string) {
	c.t.Helper()
	if err := c.ask(m, typed, args...); err != nil {
		c.t.Fatalf("void %s: %v", strings.Join(args, " "), err)
	}
}

// facts are what the switch says of a payment of an amount.
func facts(amount int64) []string {
	return []string{"--merchant", "m-17", "--amount", fmt.Sprint(amount)}
}

func (c *counter) created(reference string, amount int64) (id, code string) {
	c.t.Helper()
	a := new(keydv1.CreateVoidResponse)
	c.asked(a, "", append([]string{"create", "--terminal", "t-1", "--reference", reference}, facts(amount)...)...)
	c.is(a.Void, keydv1.Void_CREATED, "CREATED", "SCAN", "OTHER_MEANS")
	return a.Void.VoidId, a.Code
}

func (c *counter) scanned(reference string, amount int64) (id string) {
	c.t.Helper()
	id, code := c.created(reference, amount)
	v := new(keydv1.Void)
	c.asked(v, code, "scan", "--merchant", "m-17")
	c.is(v, keydv1.Void_SCANNED, "SCANNED", "AUTHORIZE", "OTHER_MEANS")
	return id
}

// authorize has a PIN typed at the supervisor's terminal for a void.
func (c *counter) authorize(id, request, pin string, amount int64) *keydv1.AuthorizeVoidResponse {
	c.t.Helper()
	a := new(keydv1.AuthorizeVoidResponse)
	c.asked(a, pin, append([]string{"authorize", id, "--request-id", request, "--name", "dora", "--state", filepath.Join(c.dir, "terminals", "supervisor.json"), "--bdk", "bdk-supervisor"}, facts(amount)...)...)
	return a
}

// approval is the command by which an approver of the service approves a void.
func (c *counter) approval(id, request, name string, amount int64) []string {
	path := filepath.Join(c.dir, "approvers", name)
	return append([]string{"approve", id, "--request-id", request, "--officer-key", path + ".key", "--certificate", path + ".crt", "--yes"}, facts(amount)...)
}

func (c *counter) is(v *keydv1.Void, state keydv1.Void_State, result string, next ...string) {
	c.t.Helper()
	if v.GetState() != state || v.GetResult() != result || !slices.Equal(v.GetNext(), next) {
		c.t.Errorf("the void is %v, %s, next %v; want %v, %s, next %v", v.GetState(), v.GetResult(), v.GetNext(), state, result, next)
	}
}

// without insists on an answer without a token.
func (c *counter) without(a *keydv1.AuthorizeVoidResponse) *keydv1.Void {
	c.t.Helper()
	if a.Verified || a.Token != "" {
		c.t.Errorf("verified %t, with a token %t", a.Verified, a.Token != "")
	}
	return a.Void
}

// verify checks a token as a switch does that has nothing but files.
func (c *counter) verify(token, keys, id, reference string, amount int64, methods ...string) (string, error) {
	c.t.Helper()
	args := []string{"void", "verify", "--keys", filepath.Join(c.dir, "voids", keys), "--void", id, "--terminal", "t-1", "--reference", reference}
	for _, m := range methods {
		args = append(args, "--methods", m)
	}
	return c.command(token+"\n", append(args, facts(amount)...)...)
}

func refusedBy(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want %s", what, err, want)
	}
}

// typed has a PIN typed at a terminal of the service for a void's digest.
func (c *counter) typed(terminal, bdk, number, pin string, digest [sha256.Size]byte) *keydv1.VoidPinEntry {
	c.t.Helper()
	b, err := simulator.Open(filepath.Join(c.dir, "terminals", terminal+".json")).EncryptBoundPIN(pinblock.ISO4, number, []byte(pin), func(block []byte) []byte { return pinrecord.Bound(digest, block, true) })
	if err != nil {
		c.t.Fatal(err)
	}
	serial := &keydv1.DukptAttributes{KeySerialNumber: b.KSN.Bytes()}
	return &keydv1.VoidPinEntry{
		Incoming:          &keydv1.PinKey{KeyId: bdk, Format: keydv1.PinBlockFormat_ISO_FORMAT_4, Dukpt: serial},
		EncryptedPinBlock: b.Block,
		MacKey:            &keydv1.MacKey{KeyId: bdk, Algorithm: keydv1.MacKey_CMAC, Dukpt: serial, Direction: keydv1.MacKey_REQUEST},
		Mac:               b.MAC,
	}
}

// supervisors is dora's PIN.
func (c *counter) supervisors(dora pinrecord.Subject, digest [sha256.Size]byte) *keydv1.VoidPinEntry {
	c.t.Helper()
	e := c.typed("supervisor", "bdk-supervisor", dora.Number(), c.pin, digest)
	e.Whose = &keydv1.VoidPinEntry_Supervisor{Supervisor: &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: dora.Merchant, Name: dora.Name}}
	return e
}

// cardholders is a cardholder's PIN, which is verified by a PVV.
func (c *counter) cardholders(pin, pvv string, digest [sha256.Size]byte) *keydv1.VoidPinEntry {
	c.t.Helper()
	e := c.typed("aes", "bdk-aes", testPAN, pin, digest)
	e.Whose = &keydv1.VoidPinEntry_Cardholder{Cardholder: &keydv1.CardholderPin{VerificationKeyId: "pvk-visa", PrimaryAccountNumber: testPAN, Expected: visa(1, pvv)}}
	return e
}

// send asks for a void's authorisation as a terminal's own program does.
func (c *counter) send(id, request string, amount int64, entries ...*keydv1.VoidPinEntry) (*keydv1.AuthorizeVoidResponse, error) {
	c.t.Helper()
	return keydv1.NewVoidServiceClient(c.connect(c.tls("switch"))).AuthorizeVoid(c.ctx(), &keydv1.AuthorizeVoidRequest{RequestId: request, VoidId: id, Pins: entries, Payment: paid(amount)})
}

// watching is a command that follows a void.
type watching struct {
	t       *testing.T
	command *exec.Cmd
	lines   *bufio.Scanner
}

func (c *counter) watch(t *testing.T, id string) *watching {
	t.Helper()
	w := &watching{t: t, command: exec.CommandContext(t.Context(), keydBinary, "void", "watch", id, "--dir", c.dir)}
	out, err := w.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.command.Start(); err != nil {
		t.Fatal(err)
	}
	w.lines = bufio.NewScanner(out)
	return w
}

// sees reads on until the void is in a state.
func (w *watching) sees(state string) {
	w.t.Helper()
	for w.lines.Scan() {
		if strings.Contains(w.lines.Text(), "  "+state+"  ") {
			return
		}
	}
	w.t.Fatalf("the watch ended before the void was %s: %v", state, w.lines.Err())
}

// ends insists that the watch ends by itself, and well.
func (w *watching) ends() {
	w.t.Helper()
	for w.lines.Scan() {
	}
	if err := w.command.Wait(); err != nil || w.lines.Err() != nil {
		w.t.Errorf("the watch ended with %v, %v", err, w.lines.Err())
	}
}

// A development service starts without the key pairs that its policy names, says which is missing,
// and voids payments once officers have made them.
func TestVoidsWithoutTheirKeys(t *testing.T) {
	s := start(t)
	create := append([]string{"void", "create", "--terminal", "t-1", "--reference", "pay-1", "--dir", s.dir}, facts(12300)...)
	_, err := s.command("", create...)
	refusedBy(t, "no keys", err, "KEY_NOT_FOUND")
	refusedBy(t, "no keys", err, "void-codes, which the policy names for codes")
	if out := s.must("void", "prepare", "--dir", s.dir); strings.Contains(out, "was there") {
		t.Errorf("the first time:\n%s", out)
	}
	if out := s.must("void", "prepare", "--dir", s.dir); strings.Contains(out, "made") {
		t.Errorf("the second time:\n%s", out)
	}
	if out := s.must(create...); !strings.Contains(out, "created (CREATED)") {
		t.Errorf("with keys:\n%s", out)
	}
}

// A payment is voided at commands, on a real token, while a front is killed: by the PIN of a supervisor
// at a terminal, with a wrong one first. The PIN is nowhere in the front.
func TestVoidByASupervisorsPIN(t *testing.T) {
	c := newCounter(t)
	const amount = 12300
	id, code := c.created("pay-1", amount)
	if picture, err := c.command(code+"\n", "void", "qr"); err != nil || strings.Count(picture, "\n") != 29 {
		t.Errorf("the symbol: %v\n%s", err, picture)
	}
	watch := c.watch(t, id)
	watch.sees("created")
	c.is(c.without(c.authorize(id, "early", c.pin, amount)), keydv1.Void_CREATED, "NOT_SCANNED", "SCAN", "OTHER_MEANS")

	v := new(keydv1.Void)
	refusedBy(t, "another merchant", c.ask(v, code, "scan", "--merchant", "m-18"), "this code cannot be used")
	for range 2 { // the same request again
		c.asked(v, code, "scan", "--merchant", "m-17", "--request-id", "scan-1")
		c.is(v, keydv1.Void_SCANNED, "SCANNED", "AUTHORIZE", "OTHER_MEANS")
	}
	refusedBy(t, "a replayed code", c.ask(v, code, "scan", "--merchant", "m-17"), "it was used before")
	watch.sees("scanned")

	wrong := c.without(c.authorize(id, "wrong", "000001", amount))
	c.is(wrong, keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	if wrong.TriesLeft != 2 {
		t.Errorf("%d tries left", wrong.TriesLeft)
	}

	victim := processes(c.status(), "front")[0]
	if err := syscall.Kill(int(victim.Pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "served again", func() bool {
		_, err := c.command("", "void", "show", id, "--dir", c.dir)
		return err == nil && syscall.Kill(int(victim.Pid), 0) == syscall.ESRCH
	})

	a := c.authorize(id, "right", c.pin, amount)
	c.is(a.Void, keydv1.Void_AUTHORIZED, "AUTHORIZED", "REVERSE")
	if !a.Verified || a.Token == "" {
		t.Fatal("no token")
	}
	watch.sees("authorized")
	if again := c.authorize(id, "right", c.pin, amount); !again.Verified || again.Token != a.Token {
		t.Error("the same request gets another answer")
	}
	c.is(c.without(c.authorize(id, "other", c.pin, amount)), keydv1.Void_AUTHORIZED, "ALREADY_AUTHORIZED", "REVERSE")

	if out, err := c.verify(a.Token, "void-tokens.pem", id, "pay-1", amount, "CARDHOLDER_PIN", "SUPERVISOR_PIN"); err != nil || !strings.Contains(out, "SUPERVISOR_PIN by dora") {
		t.Errorf("the token: %s, %v", out, err)
	}
	for what, check := range map[string]func() (string, error){
		"another amount": func() (string, error) {
			return c.verify(a.Token, "void-tokens.pem", id, "pay-1", amount+1, "SUPERVISOR_PIN")
		},
		"another payment": func() (string, error) {
			return c.verify(a.Token, "void-tokens.pem", id, "pay-2", amount, "SUPERVISOR_PIN")
		},
		"another method": func() (string, error) {
			return c.verify(a.Token, "void-tokens.pem", id, "pay-1", amount, "REMOTE_APPROVAL")
		},
		"another key": func() (string, error) {
			return c.verify(a.Token, "void-codes.pem", id, "pay-1", amount, "SUPERVISOR_PIN")
		},
		"a code as a token": func() (string, error) {
			return c.verify(code, "void-tokens.pem", id, "pay-1", amount, "SUPERVISOR_PIN")
		},
	} {
		if out, err := check(); err == nil || out != "" {
			t.Errorf("%s: %s, %v", what, out, err)
		}
	}

	if asRoot(t) {
		packed, err := hex.DecodeString(c.pin)
		if err != nil {
			t.Fatal(err)
		}
		for _, front := range processes(c.status(), "front") {
			if hits := scan(t, int(front.Pid), map[string][]byte{"the PIN": []byte(c.pin), "the PIN, packed": packed}); len(hits) > 0 {
				t.Errorf("front: %s", strings.Join(hits, "; "))
			}
			if hits := scan(t, int(front.Pid), map[string][]byte{"the void": []byte(id)}); len(hits) == 0 {
				t.Error("the scan does not find which void passed through the front")
			}
		}
	}

	c.asked(v, "", "confirm", id)
	c.is(v, keydv1.Void_CONFIRMED, "CONFIRMED", "GO_ON")
	watch.sees("confirmed")
	if err := watch.command.Wait(); err != nil {
		t.Errorf("the watch: %v", err)
	}
	dir := c.dir
	c.stop()
	if strings.Contains(c.logged(), c.pin) {
		t.Error("the log holds the PIN")
	}
	c.service = startIn(t, dir)
	if again := c.authorize(id, "right", c.pin, amount); !again.Verified || again.Token != a.Token {
		t.Error("after a restart the same request gets another answer")
	}
}

// Wrong PINs are counted for the void and for the supervisor, and no code but the service's own is
// scanned.
func TestVoidsThatAreRefused(t *testing.T) {
	c := newCounter(t)
	const amount = 12300
	id := c.scanned("pay-1", amount)
	for left := 2; left >= 0; left-- {
		v := c.without(c.authorize(id, fmt.Sprintf("wrong-%d", left), "000001", amount))
		if left > 0 {
			c.is(v, keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
		} else {
			c.is(v, keydv1.Void_DECLINED, "TRIES_USED_UP", "OTHER_MEANS")
		}
		if int(v.TriesLeft) != left {
			t.Errorf("%d tries left, want %d", v.TriesLeft, left)
		}
	}
	c.is(c.without(c.authorize(id, "late", c.pin, amount)), keydv1.Void_DECLINED, "OVER", "OTHER_MEANS")
	c.stands("blocked")
	second := c.scanned("pay-2", amount)
	c.is(c.without(c.authorize(second, "blocked", c.pin, amount)), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	v := new(keydv1.Void)
	c.asked(v, "", "cancel", second)
	c.is(v, keydv1.Void_CANCELLED, "CANCELLED", "NEW_VOID", "OTHER_MEANS")

	elsewhere := start(t)
	elsewhere.must("void", "prepare", "--dir", elsewhere.dir)
	other := &counter{shop: &shop{service: elsewhere}}
	_, foreign := other.created("pay-3", amount)
	refusedBy(t, "a code of another keyd", c.ask(v, foreign, "scan", "--merchant", "m-17"), "VOID_CODE_REFUSED")
	_, code := c.created("pay-3", amount)
	altered := []byte(code)
	for i := range altered[:len(altered)-1] { // its last character has an unused bit
		altered[i] ^= 'A' ^ 'B'
		if (altered[i] < 'A' || altered[i] > 'Z') && (altered[i] < '2' || altered[i] > '7') {
			altered[i] ^= 'A' ^ 'B'
			continue
		}
		if i%16 == 0 {
			refusedBy(t, fmt.Sprintf("altered at %d", i), c.ask(v, string(altered), "scan", "--merchant", "m-17"), "VOID_CODE_REFUSED")
		}
		altered[i] = code[i]
	}
	c.asked(v, code, "scan", "--merchant", "m-17") // none of it has burnt the code
	c.is(v, keydv1.Void_SCANNED, "SCANNED", "AUTHORIZE", "OTHER_MEANS")

	slip := new(keydv1.CreateVoidResponse)
	c.asked(slip, "", append([]string{"create", "--terminal", "t-1", "--reference", "pay-4", "--slip"}, facts(amount)...)...)
	refusedBy(t, "a code of paper", c.ask(v, slip.SlipCode, "scan", "--merchant", "m-17"), "VOID_CODE_REFUSED")
	refusedBy(t, "another amount at the terminal", c.ask(v, c.pin, append([]string{"authorize", slip.Void.VoidId, "--name", "dora", "--state", filepath.Join(c.dir, "terminals", "supervisor.json"), "--bdk", "bdk-supervisor"}, facts(amount+1)...)...), "than was named")
}

// An approver elsewhere approves a void that is too large for a supervisor's PIN alone.
func TestVoidByAnApproverElsewhere(t *testing.T) {
	c := newCounter(t)
	const amount = 300000
	id := c.scanned("pay-1", amount)
	a := new(keydv1.AuthorizeVoidResponse)
	refusedBy(t, "one PIN of two", c.ask(a, c.pin, append([]string{"authorize", id, "--name", "dora", "--state", filepath.Join(c.dir, "terminals", "supervisor.json"), "--bdk", "bdk-supervisor"}, facts(amount)...)...), "needs a supervisor's PIN and a cardholder's")
	refusedBy(t, "another amount", c.ask(a, "", c.approval(id, "approve", "anna", amount+1)...), "than was named")
	crossed := c.approval(id, "approve", "anna", amount)
	crossed[slices.Index(crossed, "--certificate")+1] = filepath.Join(c.dir, "approvers", "bert.crt")
	refusedBy(t, "another's certificate", c.ask(a, "", crossed...), "the certificate of another key")
	token := ""
	for range 2 { // the same request again
		c.asked(a, "", c.approval(id, "approve", "anna", amount)...)
		c.is(a.Void, keydv1.Void_AUTHORIZED, "AUTHORIZED", "REVERSE")
		if !a.Verified || a.Token == "" || token != "" && a.Token != token {
			t.Fatalf("verified %t, with the same token %t", a.Verified, a.Token == token)
		}
		token = a.Token
	}
	if out, err := c.verify(token, "void-tokens.pem", id, "pay-1", amount, "REMOTE_APPROVAL"); err != nil || !strings.Contains(out, "REMOTE_APPROVAL by anna") {
		t.Errorf("the token: %s, %v", out, err)
	}
	other := new(keydv1.AuthorizeVoidResponse)
	c.asked(other, "", c.approval(id, "second", "bert", amount)...)
	c.is(c.without(other), keydv1.Void_AUTHORIZED, "ALREADY_AUTHORIZED", "REVERSE")

	// Somebody whom the officers do not believe, with a name that they do.
	stranger := start(t)
	stranger.must("pin", "prepare", "--dir", stranger.dir)
	next := c.scanned("pay-2", amount)
	theirs := c.approval(next, "stranger", "anna", amount)
	for i, arg := range theirs {
		theirs[i] = strings.Replace(arg, c.dir+"/", stranger.dir+"/", 1)
	}
	if err := c.ask(a, "", theirs...); err == nil {
		t.Error("a stranger's approval counts")
	}
	v := new(keydv1.Void)
	c.asked(v, "", "show", next)
	if v.State != keydv1.Void_SCANNED {
		t.Errorf("after a stranger's approval it is %v", v.State)
	}
}

// What a terminal has enciphered and bound for one void is good for that one alone.
func TestAVoidsPINIsNotSpentOnAnother(t *testing.T) {
	c := newCounter(t)
	const amount = 12300
	first, second := c.scanned("pay-1", amount), c.scanned("pay-2", amount)
	subject := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}
	fields := voidtoken.Fields{Void: first, Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: amount, Currency: voidtoken.CNY}
	digest, err := fields.Digest()
	if err != nil {
		t.Fatal(err)
	}
	typed := func() *keydv1.VoidPinEntry {
		t.Helper()
		return c.supervisors(subject, digest)
	}
	send := func(id, request string, entry *keydv1.VoidPinEntry) (*keydv1.AuthorizeVoidResponse, error) {
		return c.send(id, request, amount, entry)
	}
	entry := typed()
	a, err := send(second, "spent", entry)
	if err != nil {
		t.Fatal(err)
	}
	c.is(c.without(a), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	mixed, old := typed(), entry
	mixed.EncryptedPinBlock = old.EncryptedPinBlock // under another key serial number
	if a, err = send(first, "mixed", mixed); err != nil {
		t.Fatal(err)
	}
	c.is(c.without(a), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	unbound := typed()
	unbound.MacKey.KeyId = "bdk-aes"
	_, err = send(first, "unbound", unbound)
	if reason(err) != "KEY_USAGE_MISMATCH" {
		t.Errorf("a MAC under another key: %v", err)
	}
	if a, err = send(first, "meant", typed()); err != nil || !a.Verified || a.Token == "" {
		t.Fatalf("for the void that it is meant for: %v, %v", a, err)
	}
}

// A large void takes two PINs of two people at two keys, in one request: with either of them wrong
// there is no token, and which it was is not said.
func TestVoidByTwoPINs(t *testing.T) {
	c := newCounter(t)
	const amount = 300000
	const right, wrong = "4711", "4712"
	id := c.scanned("pay-1", amount)
	dora := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}
	fields := voidtoken.Fields{Void: id, Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: amount, Currency: voidtoken.CNY}
	digest, err := fields.Digest()
	if err != nil {
		t.Fatal(err)
	}
	pvv := pvvOf(t, pvkVisa, testPAN, 1, right)
	if pvv == pvvOf(t, pvkVisa, testPAN, 1, wrong) {
		t.Fatal("both PINs have the same PVV")
	}
	_, err = c.send(id, "alone", amount, c.cardholders(right, pvv, digest))
	if reason(err) != "REQUEST_INVALID" {
		t.Errorf("a cardholder's PIN alone: %v", err)
	}
	a, err := c.send(id, "cardholder-wrong", amount, c.supervisors(dora, digest), c.cardholders(wrong, pvv, digest))
	if err != nil {
		t.Fatal(err)
	}
	first := c.without(a)
	c.is(first, keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	mistaken := *c
	mistaken.pin = "000001"
	if a, err = c.send(id, "supervisor-wrong", amount, mistaken.supervisors(dora, digest), c.cardholders(right, pvv, digest)); err != nil {
		t.Fatal(err)
	}
	second := c.without(a)
	c.is(second, keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	if first.TriesLeft != 2 || second.TriesLeft != 1 || len(second.Authorizations) != 0 {
		t.Errorf("%d and %d tries left, %d authorisations", first.TriesLeft, second.TriesLeft, len(second.Authorizations))
	}
	if a, err = c.send(id, "both", amount, c.supervisors(dora, digest), c.cardholders(right, pvv, digest)); err != nil || !a.Verified {
		t.Fatalf("both PINs: %v, %v", a, err)
	}
	c.is(a.Void, keydv1.Void_AUTHORIZED, "AUTHORIZED", "REVERSE")
	if out, err := c.verify(a.Token, "void-tokens.pem", id, "pay-1", amount, "SUPERVISOR_PIN+CARDHOLDER_PIN"); err != nil || !strings.Contains(out, "SUPERVISOR_PIN by dora") || !strings.Contains(out, "CARDHOLDER_PIN by cardholder") {
		t.Errorf("the token: %s, %v", out, err)
	}
	if out, err := c.verify(a.Token, "void-tokens.pem", id, "pay-1", amount, "SUPERVISOR_PIN"); err == nil {
		t.Errorf("with two methods where one was wanted: %s", out)
	}
	log := c.must("audit", "show", "--dir", c.dir, "--method", "VoidService/AuthorizeVoid", "-o", "json")
	if strings.Contains(log, testPAN) || strings.Contains(log, c.pin) || !strings.Contains(log, "bdk-supervisor") || !strings.Contains(log, testPAN[len(testPAN)-4:]) {
		t.Errorf("the audit log of it is\n%s", log)
	}
}

// The commands of the manuals for the counter work as they are printed, in either language.
func TestVoidsOfTheManual(t *testing.T) {
	for _, name := range []string{"merchant.md", "merchant.zh-CN.md"} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			if err := os.Symlink(keydBinary, filepath.Join(dir, "keyd")); err != nil {
				t.Fatal(err)
			}
			manual, err := os.ReadFile(filepath.Join("..", "docs", name))
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(string(manual), "```\n")
			if len(parts) != 9 {
				t.Fatalf("the manual has %d examples, want 4", (len(parts)-1)/2)
			}
			if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "switch-void"), "keyd/examples/switch-void").CombinedOutput(); err != nil {
				t.Fatalf("build the switch: %v\n%s", err, out)
			}
			startIn(t, filepath.Join(dir, "dev"))
			cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", parts[1]+parts[3]+parts[5]+parts[7])
			cmd.Dir, cmd.WaitDelay = dir, 10*time.Second // the switch is left over where a command before it fails
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			defer func() {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it has ended, where all went well
			}()
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			voided := map[string]string{"merchant.md": "7 wait: VOIDED", "merchant.zh-CN.md": "7 等待: 已撤销"}[name]
			if n := strings.Count(string(out), voided); n != 2 {
				t.Errorf("%q is %d times in what the commands print:\n%s", voided, n, out)
			}
			for _, want := range []string{"SUPERVISOR_PIN by dora", "confirmed (CONFIRMED)", "CARDHOLDER_PIN by cardholder", "REMOTE_APPROVAL by anna", "authorized (AUTHORIZED)"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%q is not in what the commands print:\n%s", want, out)
				}
			}
		})
	}
}
