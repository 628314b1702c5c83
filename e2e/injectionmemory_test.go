package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/development"
	"keyd/keyblock/software"
	"keyd/simulator"
)

// terminalSecrets are the keys that a terminal has, as its own file says, and those that it does not
// keep: its initial keys, which follow from the sample keys.
type terminalSecrets struct {
	Received, Current *struct {
		Master, Receipt struct{ Value []byte }
		Session         []struct {
			Name string
			Key  struct{ Value []byte }
		}
	}
}

// secretsOf adds the keys of a terminal to secrets, and returns how many it knows.
func (f *giver) secretsOf(t *testing.T, id string, secrets map[string][]byte) (n int) {
	t.Helper()
	var s terminalSecrets
	if err := json.Unmarshal(readAll(t, f.state(id)), &s); err != nil {
		t.Fatal(err)
	}
	add := func(name string, value []byte) {
		if len(value) < 16 {
			t.Fatalf("%s of %s has %d bytes", name, id, len(value))
		}
		secrets[id+": "+name] = value
		n++
	}
	keys, state := s.Current, "in use"
	if s.Received != nil {
		keys, state = s.Received, "received"
	}
	if keys == nil {
		t.Fatalf("%s has no keys", id)
	}
	add("master key "+state, keys.Master.Value)
	add("receipt key "+state, keys.Receipt.Value)
	for _, k := range keys.Session {
		add("session key "+k.Name, k.Key.Value)
	}
	return n
}

// initialKeys adds the initial keys of an injection, which have the check values that keyd says.
func (f *giver) initialKeys(t *testing.T, i *keydv1.Injection, secrets map[string][]byte) {
	t.Helper()
	for _, k := range i.Keys[2:] {
		name := fmt.Sprintf("%s: initial key %s", i.TerminalId, k.Name)
		bdk := unhex(t, sampleValue(t, k.KeyId))
		if k.Algorithm == "A" {
			secrets[name] = deriveAES(t, bdk, append(k.KeySerialNumber[:8:8], 0, 0, 0, 1))["AES initial key"]
		} else {
			secrets[name] = deriveTDES(t, bdk, k.KeySerialNumber)["TDES initial key"]
		}
		if check, err := software.CheckValue(k.Algorithm[0], secrets[name]); err != nil || fmt.Sprintf("%X", check) != k.KeyCheckValue {
			t.Fatalf("%s: check value %X, keyd says %s: %v", name, check, k.KeyCheckValue, err)
		}
	}
}

// sampleValue is the published value of a sample key.
func sampleValue(t *testing.T, name string) string {
	t.Helper()
	var all []testKey
	if err := json.Unmarshal(development.SampleKeys, &all); err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		if k.Name == name {
			return k.Value
		}
	}
	t.Fatalf("no sample key %s", name)
	return ""
}

// clean fails if a secret is in the memory of the front or the supervisor, in keyd's log, or in a
// file of the service: database, audit log, whatever else is there.
func (f *giver) clean(t *testing.T, when string, secrets map[string][]byte) {
	t.Helper()
	fronts := processes(f.status(), "front")
	if len(fronts) == 0 {
		t.Fatal("no front")
	}
	for _, front := range fronts {
		if hits := scan(t, int(front.Pid), secrets); len(hits) > 0 {
			t.Errorf("front, %s: %s", when, strings.Join(hits, "; "))
		}
	}
	if hits := scan(t, f.cmd.Process.Pid, secrets); len(hits) > 0 {
		t.Errorf("supervisor, %s: %s", when, strings.Join(hits, "; "))
	}
	forms := formsOf(secrets)
	index := newPrefixIndex(forms)
	for _, form := range index.find([]byte(f.logged())) {
		t.Errorf("log, %s: %s", when, forms[form])
	}
	for _, path := range f.files(t) {
		for _, form := range index.find(readAll(t, path)) {
			t.Errorf("%s, %s: %s", path, when, forms[form])
		}
	}
}

// files are all of the service's directory but what is no file, and what goes away meanwhile.
func (f *giver) files(t *testing.T) (paths []string) {
	t.Helper()
	database, log := 0, 0
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if strings.Contains(path, "keyd.db") {
			database++
		}
		if strings.Contains(path, "/audit/") {
			log++
		}
		paths = append(paths, path)
		return nil
	})
	if err != nil || database == 0 || log == 0 {
		t.Fatalf("%d files of the database, %d of the audit log, %v", database, log, err)
	}
	return paths
}

// TestNoTerminalKeyStaysInMemory looks for every key of terminals outside the modules, by each
// method: when the answer has left, when it is confirmed, and when the terminal has signed in.
func TestNoTerminalKeyStaysInMemory(t *testing.T) {
	if !asRoot(t) {
		return
	}
	f := prepared(t)
	client := keydv1.NewTerminalServiceClient(f.connect(f.tls("terminal-1")))
	secrets := map[string][]byte{}
	for n, try := range []struct {
		method           keydv1.InjectionMethod
		name, algo, keys string
	}{
		{keydv1.InjectionMethod_KEY_AGREEMENT, "key-agreement", "P-256", "dev-aes"},
		{keydv1.InjectionMethod_TR34_TWO_PASS, "tr34-two-pass", "RSA-2048", "dev-tdes"},
		{keydv1.InjectionMethod_TR34_ONE_PASS, "tr34-one-pass", "RSA-3072", "dev-aes"},
	} {
		id := fmt.Sprintf("t-%d", n)
		f.terminal(t, id, try.algo, try.keys)
		f.bind(t, id, try.name)
		d := simulator.OpenDevice(f.state(id))
		i, err := d.FetchKeys(f.ctx(), client, try.method, simulator.FetchOptions{At: func(at simulator.Step) error {
			if at == simulator.AfterStore {
				if known := f.secretsOf(t, id, secrets); known != 2 {
					t.Errorf("%s: %d keys, not master and receipt key", id, known)
				}
				f.initialKeys(t, f.injections(t, id)[0], secrets)
				f.clean(t, try.name+", given", secrets)
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		f.secretsOf(t, id, secrets)
		f.clean(t, try.name+", confirmed", secrets)
		if _, err := d.FetchSession(f.ctx(), client); err != nil {
			t.Fatal(err)
		}
		want := 5 // those of a session besides
		if try.keys == "dev-tdes" {
			want = 6 // another for the MAC of voids
		}
		if known := f.secretsOf(t, id, secrets); known != want {
			t.Errorf("%s: %d keys, want %d with those of the session", id, known, want)
		}
		f.clean(t, try.name+", signed in", secrets)
		// What is public is found, in each place: the scan reads where the work was done.
		public := map[string][]byte{"the injection": []byte(i.InjectionId)}
		for _, front := range processes(f.status(), "front") {
			if hits := scan(t, int(front.Pid), public); len(hits) == 0 {
				t.Errorf("%s: the scan of the front does not find the injection's identifier", id)
			}
		}
	}
	// Files are read, and each secret is found in one that has it.
	found := false
	for _, path := range f.files(t) {
		found = found || strings.Contains(path, "keyd.db") && strings.Contains(string(readAll(t, path)), "KEY_AGREEMENT")
	}
	if !found {
		t.Error("no injection is found in the database")
	}
	planted := filepath.Join(t.TempDir(), "planted")
	for name, value := range secrets {
		if err := os.WriteFile(planted, []byte("x"+string(value)), 0o600); err != nil {
			t.Fatal(err)
		}
		if len(newPrefixIndex(formsOf(map[string][]byte{name: value})).find(readAll(t, planted))) == 0 {
			t.Errorf("%s is not found where it is planted", name)
		}
	}
}
