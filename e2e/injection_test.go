package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/officer"
)

// The sample card.
const (
	samplePAN = "4564320000980369"
	samplePIN = "2205"
)

// giver is a service that gives simulated terminals their keys.
type giver struct {
	*service
	states string // directory of the terminals' files
}

// prepared starts a service that is ready to give keys.
func prepared(t *testing.T, flags ...string) *giver {
	t.Helper()
	f := &giver{startWith(t, filepath.Join(tempDir(t), "dev"), flags), t.TempDir()}
	f.must(t, "terminal", "simulate", "prepare", "--dir", f.dir)
	return f
}

// must runs a command that succeeds, and returns what it says.
func (f *giver) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.command("", args...)
	if err != nil {
		t.Fatalf("keyd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused runs a command that keyd refuses for a reason.
func (f *giver) refused(t *testing.T, why string, args ...string) {
	t.Helper()
	out, err := f.command("", args...)
	if exitStatus(err) != 3 || !strings.Contains(err.Error(), why) {
		t.Errorf("keyd %s: %v, want a refusal for %s\n%s", strings.Join(args, " "), err, why, out)
	}
}

func (f *giver) state(id string) string { return filepath.Join(f.states, id+".json") }

// terminal makes and registers a simulated terminal.
func (f *giver) terminal(t *testing.T, id, algorithm, keySet string) {
	t.Helper()
	f.must(t, "terminal", "simulate", "new", id, "--state", f.state(id), "--algorithm", algorithm, "--key-set", keySet, "--dir", f.dir)
}

// simulate returns the arguments of a command about a terminal that asks the service.
func (f *giver) simulate(id, what string, more ...string) []string {
	return append([]string{"terminal", "simulate", what, "--state", f.state(id), "--dir", f.dir, "--timeout", "20s"}, more...)
}

// bind binds a terminal by TR-34; by key agreement there is nothing to bind.
func (f *giver) bind(t *testing.T, id, method string) {
	t.Helper()
	if method != "key-agreement" {
		f.must(t, f.simulate(id, "bind", "--method", method)...)
	}
}

// keys has a terminal get keys, and returns the injection.
func (f *giver) keys(t *testing.T, id, method string, more ...string) *keydv1.Injection {
	t.Helper()
	i := new(keydv1.Injection)
	parse(t, f.must(t, f.simulate(id, "keys", append([]string{"--method", method, "-o", "json"}, more...)...)...), i)
	if i.State != keydv1.Injection_CONFIRMED {
		t.Fatalf("the injection is %v", i.State)
	}
	return i
}

func parse(t *testing.T, text string, into proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// payment is what a terminal's transaction says.
type payment struct {
	KSN  string `json:"key_serial_number"`
	PIN  *bool  `json:"pin_verified"`
	MAC  *bool  `json:"mac_verified"`
	Text string `json:"message"`
}

// transact has a terminal make a payment, which keyd verifies.
func (f *giver) transact(t *testing.T, id, pin, format string, more ...string) payment {
	t.Helper()
	args := f.simulate(id, "transaction", append([]string{"--pan", samplePAN, "--format", format, "--verify-as", "switch", "-o", "json"}, more...)...)
	out, err := f.command(pin+"\n", args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	var x payment
	if err := json.Unmarshal([]byte(out), &x); err != nil || x.PIN == nil || x.MAC == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return x
}

// injections returns those of a terminal, the newest first.
func (f *giver) injections(t *testing.T, id string) []*keydv1.Injection {
	t.Helper()
	var all keydv1.ListInjectionsResponse
	parse(t, f.must(t, "terminal", "injection", "list", id, "--dir", f.dir, "-o", "json"), &all)
	return all.Injections
}

// TestFromNothingToAVerifiedPIN by each method: a terminal is made, registered, gets its keys over
// the network, and makes payments whose PIN and MAC are verified, under DUKPT and under the keys
// of a sign-in.
func TestFromNothingToAVerifiedPIN(t *testing.T) {
	f := prepared(t)
	identity := f.identity(t)
	again := f.must(t, "terminal", "simulate", "prepare", "--dir", f.dir)
	if strings.Contains(again, "made") {
		t.Errorf("preparing twice does something:\n%s", again)
	}
	numbers := map[string]string{}
	for n, try := range []struct{ algorithm, method, keySet, format, first, next string }{
		{"P-256", "key-agreement", "dev-aes", "4", "00000001", "00000002"},
		{"P-521", "key-agreement", "dev-tdes", "0", "E00001", "E00002"},
		{"RSA-2048", "tr34-two-pass", "dev-tdes", "3", "", ""},
		{"RSA-3072", "tr34-two-pass", "dev-aes", "4", "00000001", "00000002"},
		{"RSA-3072", "tr34-one-pass", "dev-aes", "4", "00000001", "00000002"},
	} {
		id := fmt.Sprintf("t-%d", n)
		t.Run(id+" "+try.method+" "+try.algorithm+" "+try.keySet, func(t *testing.T) {
			f.terminal(t, id, try.algorithm, try.keySet)
			f.bind(t, id, try.method)
			i := f.keys(t, id, try.method)
			if len(i.Keys) != 5 || i.Keys[0].Usage != "K1" || i.Keys[1].Usage != "M6" || i.Keys[2].Name != "pin" || i.Keys[3].Name != "data" || i.Keys[4].Name != "supervisor" {
				t.Errorf("%v", i.Keys)
			}
			for _, k := range i.Keys[2:] {
				number := fmt.Sprintf("%X", k.KeySerialNumber)
				if numbers[number] != "" {
					t.Errorf("%s has %s, which %s has", id, number, numbers[number])
				}
				numbers[number] = id
			}
			one := f.transact(t, id, samplePIN, try.format)
			two := f.transact(t, id, "9999", try.format)
			if !*one.PIN || !*one.MAC || *two.PIN || !*two.MAC {
				t.Errorf("the right PIN %t, MAC %t; a wrong PIN %t, MAC %t", *one.PIN, *one.MAC, *two.PIN, *two.MAC)
			}
			if one.KSN == two.KSN || try.first != "" && (!strings.HasSuffix(one.KSN, try.first[len(try.first)-5:]) || !strings.HasSuffix(two.KSN, try.next[len(try.next)-5:])) {
				t.Errorf("KSN %s, then %s", one.KSN, two.KSN)
			}
			data := f.transact(t, id, samplePIN, try.format, "--register", "data")
			if !*data.PIN || !*data.MAC {
				t.Error("the other initial key does not work")
			}
			f.must(t, f.simulate(id, "sign-in")...)
			for range 2 {
				if x := f.transact(t, id, samplePIN, try.format, "--session"); !*x.PIN || !*x.MAC || x.KSN != "" {
					t.Errorf("under session keys: %+v", x)
				}
			}
			f.proven(t, id, i.InjectionId, identity)
		})
	}
	// Again: new keys take the place of the old ones, whose numbers never come again.
	i := f.keys(t, "t-0", "key-agreement")
	for _, k := range i.Keys[2:] {
		if number := fmt.Sprintf("%X", k.KeySerialNumber); numbers[number] != "" {
			t.Errorf("%s comes again", number)
		}
	}
	if all := f.injections(t, "t-0"); len(all) != 2 || all[0].State != keydv1.Injection_CONFIRMED || all[1].State != keydv1.Injection_SUPERSEDED {
		t.Errorf("%v", all)
	}
	f.verifyLog()
}

// identity is the fingerprint of the module, as an officer has confirmed it.
func (f *giver) identity(t *testing.T) string {
	t.Helper()
	k, err := officer.Load(filepath.Join(f.dir, "officers", "officer-1.known.json"))
	if err != nil {
		t.Fatal(err)
	}
	identity, _, err := k.Confirmed("development service")
	if err != nil {
		t.Fatal(err)
	}
	return identity.String()
}

// proven exports the statement on an injection, and verifies it without the service.
func (f *giver) proven(t *testing.T, id, injection, identity string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "statement")
	f.must(t, "terminal", "injection", "export", id, injection, "--file", file, "--dir", f.dir)
	verify := []string{"terminal", "injection", "verify", file, "--identity", identity}
	if said := f.must(t, verify...); !strings.Contains(said, injection) || !strings.Contains(said, id) {
		t.Error(said)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(text) / 3, len(text) / 2, len(text) - 10} {
		altered := append([]byte{}, text...)
		if altered[at]++; altered[at] == text[at] {
			t.Fatal("not altered")
		}
		if err := os.WriteFile(file, altered, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := f.command("", verify...); exitStatus(err) != 7 {
			t.Errorf("altered at %d: %v\n%s", at, err, out)
		}
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	other := "1F2A " + strings.Repeat("0000 ", 14) + "0000"
	if out, err := f.command("", "terminal", "injection", "verify", file, "--identity", other); exitStatus(err) != 7 {
		t.Errorf("by another module: %v\n%s", err, out)
	}
}
