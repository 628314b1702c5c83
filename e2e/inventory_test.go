package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	keydv1 "keyd/api/keyd/v1"
)

// TestInventoryOfTerminals: an operator registers terminals, takes them out of service, and
// finds all of it again after a restart, on either database.
func TestInventoryOfTerminals(t *testing.T) {
	for name, flags := range map[string]func(*testing.T) []string{
		"SQLite":   func(*testing.T) []string { return nil },
		"Postgres": func(t *testing.T) []string { return onPostgres(t, startPostgres(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			given := flags(t)
			dir := filepath.Join(tempDir(t), "dev")
			s := startWith(t, dir, given)
			must := func(args ...string) string {
				t.Helper()
				out, err := s.command("", append([]string{"terminal"}, append(args, "--dir", dir)...)...)
				if err != nil {
					t.Fatalf("%q: %v", args, err)
				}
				return out
			}
			refused := func(why string, status int, args ...string) {
				t.Helper()
				out, err := s.command("", append([]string{"terminal"}, append(args, "--dir", dir)...)...)
				if err == nil || exitStatus(err) != status || !strings.Contains(err.Error(), why) {
					t.Errorf("%q: %v, want %s and status %d\n%s", args, err, why, status, out)
				}
			}
			register := func(id string, more ...string) []string {
				return append([]string{"register", id, "--owner", "m-17", "--model", "P400 Plus", "--serial", "804-" + id}, more...)
			}
			must(register("t-1", "--site", "Zürich", "--dry-run")...)
			refused("TERMINAL_NOT_FOUND", 3, "show", "t-1")
			must(register("t-1", "--site", "Zürich")...)
			if out := must(register("t-1", "--site", "Zürich")...); !strings.Contains(out, "nothing has changed") {
				t.Errorf("registered again:\n%s", out)
			}
			refused("TERMINAL_EXISTS", 3, register("t-1")...)
			refused("REQUEST_INVALID", 3, register("t 2")...)

			// No root for terminals is trusted: no certificate counts.
			device := filepath.Join(t.TempDir(), "device.pem")
			if err := os.WriteFile(device, deviceCertificate(t), 0o600); err != nil {
				t.Fatal(err)
			}
			refused("no authority is believed", 3, register("t-2", "--certificate", device)...)
			refused("CERTIFICATE_UNTRUSTED", 3, "renew", "t-1", "--certificate", device)
			refused("no such file", 1, "renew", "t-1", "--certificate", device+".none")

			must(register("t-2")...)
			must("suspend", "t-1", "--reason", "lost, perhaps")
			refused("it is suspended", 3, "suspend", "t-1")
			must("resume", "t-1")
			must("replace", "t-1", "t-2", "--reason", "broken")
			refused("it is replaced", 3, "resume", "t-1")
			refused("never comes back", 3, register("t-1", "--site", "Zürich")...)
			must("retire", "t-2")

			// The auditor looks, and changes nothing; a switch has no business here.
			refused("POLICY_DENIED", 3, "retire", "t-1", "--as", "auditor")
			refused("POLICY_DENIED", 3, "list", "--as", "switch")
			s.stop()
			s = startWith(t, dir, given)
			var list keydv1.ListTerminalsResponse
			if err := protojson.Unmarshal([]byte(must("list", "--as", "auditor", "-o", "json")), &list); err != nil || len(list.Terminals) != 2 {
				t.Fatal(err, &list)
			}
			if one := list.Terminals[0]; one.TerminalId != "t-1" || one.State != keydv1.Terminal_REPLACED || one.ReplacedBy != "t-2" || one.Site != "Zürich" || one.Certificate != nil {
				t.Errorf("%v", one)
			}
			if out := must("list", "--state", "retired", "--owner", "m-17", "--model", "P400 Plus", "--limit", "1"); !strings.Contains(out, "t-2 ") || strings.Contains(out, "t-1 ") {
				t.Errorf("retired:\n%s", out)
			}
			var history keydv1.ListTerminalEventsResponse
			if err := protojson.Unmarshal([]byte(must("history", "t-1", "-o", "json")), &history); err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, e := range history.Events {
				kinds = append(kinds, e.Kind)
				if e.Actor != "spiffe://dev.keyd/officer-1" || time.Since(e.At.AsTime()) > time.Hour {
					t.Errorf("%v", e)
				}
			}
			if strings.Join(kinds, " ") != "registered suspended resumed replaced" || history.Events[3].Detail != "by t-2: broken" {
				t.Errorf("%v", history.Events)
			}
			log, err := s.command("", "audit", "show", "--dir", dir)
			if err != nil || !strings.Contains(log, "terminal t-1 was replaced by t-2") || !strings.Contains(log, "terminal t-1: it is suspended, and cannot become suspended") {
				t.Errorf("%v\n%s", err, log)
			}
			completed, err := s.command("", "__complete", "terminal", "suspend", "--dir", dir, "")
			if err != nil || strings.Contains(completed, "t-1") || !strings.Contains(completed, ":4") {
				t.Errorf("completed: %v\n%s", err, completed)
			}
			completed, err = s.command("", "__complete", "terminal", "show", "--dir", dir, "")
			if err != nil || !strings.Contains(completed, "t-1\tm-17 P400 Plus") {
				t.Errorf("completed: %v\n%s", err, completed)
			}
		})
	}
}

// TestImportOfTerminals: a thousand rows, in a dry run, in earnest, and once more.
func TestImportOfTerminals(t *testing.T) {
	s := start(t)
	folder := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const number = 1000
	var text strings.Builder
	text.WriteString("id,owner,model,serial,site\n")
	for n := range number {
		fmt.Fprintf(&text, "t-%04d,m-%d,P400 Plus,804-%d,\"Zürich, %d\"\n", n, n%7, n, n)
	}
	file := write("terminals.csv", text.String())
	type report struct {
		DryRun bool `json:"dry_run"`
		Counts struct{ Registered, Unchanged, Failed int }
		Rows   []struct {
			Line                 int
			ID, Outcome, Problem string
		}
	}
	importing := func(status int, file string, more ...string) (r report) {
		t.Helper()
		out, err := s.command("", append([]string{"terminal", "import", file, "--dir", s.dir, "--timeout", "1m", "-o", "json"}, more...)...)
		if exitStatus(err) != status {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return r
	}
	there := func() int {
		t.Helper()
		out, err := s.command("", "terminal", "list", "--dir", s.dir)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(out, "\n") - 1
	}
	if r := importing(0, file, "--dry-run"); !r.DryRun || r.Counts.Registered != number || len(r.Rows) != number || there() != 0 {
		t.Fatalf("%+v, and %d are there", r.Counts, there())
	}
	// It breaks off where a line cannot be read, and what came before is registered.
	if r := importing(1, write("broken.csv", text.String()[:20_000]+"\n\"open")); r.Counts.Registered < 100 || r.Counts.Failed != 0 || there() != r.Counts.Registered {
		t.Errorf("%+v, and %d are there", r.Counts, there())
	}
	before := there()
	if r := importing(0, file); r.Counts.Registered != number-before || r.Counts.Unchanged != before || there() != number {
		t.Errorf("%+v, and %d are there", r.Counts, there())
	}
	if r := importing(0, file); r.Counts.Unchanged != number || there() != number {
		t.Errorf("again: %+v", r.Counts)
	}
	write("device.pem", string(deviceCertificate(t)))
	mixed := write("mixed.csv", "id,owner,model,serial,certificate\nnew-1,m,P,1,\nt-0007,m,P,1,\nnew 2,m,P,1,\nnew-1,m,P,1,\nnew-3,m,P,1,device.pem\nnew-4,m,P,1,none.pem\nnew-5,m,P,1,\n")
	r := importing(1, mixed)
	want := []string{"", "TERMINAL_EXISTS", "REQUEST_INVALID", "line 2 has this identifier already", "CERTIFICATE_UNTRUSTED", "no such file", ""}
	if len(r.Rows) != len(want) || r.Counts.Registered != 2 || r.Counts.Failed != 5 || there() != number+2 {
		t.Fatalf("%+v", r)
	}
	for i, why := range want {
		if got := r.Rows[i]; got.Line != i+2 || (why == "") != (got.Outcome == "registered") || !strings.Contains(got.Problem, why) {
			t.Errorf("%+v, want %q", got, why)
		}
	}
	out, err := s.command("", "terminal", "import", mixed, "--dry-run", "--dir", s.dir)
	if exitStatus(err) != 1 || !strings.Contains(out, "0 would be registered, 2 unchanged, 5 failed") || !strings.Contains(out, "LINE  TERMINAL") {
		t.Errorf("%v\n%s", err, out)
	}
	// Who may not, or whose service is away, gets no report of a thousand failures.
	if r := importing(3, file, "--as", "auditor"); len(r.Rows) != 0 {
		t.Errorf("%+v", r)
	}
	if _, err := s.command("", "terminal", "import", write("none.csv", "id,owner\n"), "--dir", s.dir); exitStatus(err) != 1 || !strings.Contains(err.Error(), "no column model") {
		t.Errorf("%v", err)
	}
	// A person sees how far it is.
	c := openConsole(t, "terminal", "import", file, "--dir", s.dir, "--timeout", "1m")
	if status, seen := c.end(); status != 0 || !strings.Contains(seen, " rows, 0 failed") || !strings.Contains(seen, "1000 unchanged") {
		t.Errorf("status %d:\n%.2000s", status, seen)
	}
}

// exitStatus is that of a command's error.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// deviceCertificate is one that a device could have, of an authority that nobody knows, in PEM.
func deviceCertificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "KRD 804-1"}, KeyUsage: x509.KeyUsageKeyAgreement,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
