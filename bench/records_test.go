package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A short run of PIN records and voids on both databases. That every PIN was verified, and every token
// good, is looked at by the run itself.
func TestRecordsAndVoids(t *testing.T) {
	keyd := filepath.Join(t.TempDir(), "keyd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", keyd, "keyd/cmd/keyd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var progress strings.Builder
	r := &runner{
		options: options{keyd: keyd, length: 200 * time.Millisecond, underWay: 4, perConnection: 2, age: 100, ksn: "monotonic", progress: &progress},
		ctx:     t.Context(), dir: shared(t), binary: keyd, cards: &cards{number: 10_000},
	}
	if err := r.records(8); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	t.Log(progress.String())
	var names []string
	for _, f := range r.results.Records {
		names = append(names, f.Name+" on "+f.Database)
		if f.Count == 0 || f.Rate <= 0 || f.P50 <= 0 || f.CPU["front"] < 0 {
			t.Errorf("%+v", f)
		}
	}
	var want []string
	for _, name := range []string{"TDES DUKPT, verify (PVV)", "AES DUKPT, verify (PVV)", "TDES DUKPT, PIN record", "AES DUKPT, PIN record", "TDES DUKPT, PIN record, one subject", "AES DUKPT, PIN record, one subject"} {
		want = append(want, name+" on SQLite", name+" on PostgreSQL")
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s, want %s", strings.Join(names, "|"), strings.Join(want, "|"))
	}
	names = nil
	for _, f := range r.results.Voids {
		names = append(names, f.Name+" on "+f.Database)
		if f.Count == 0 || f.Rate <= 0 || len(f.Steps) != len(voidSteps) {
			t.Errorf("%+v", f)
		}
		for _, s := range f.Steps {
			if s.P50 <= 0 || s.P99 < s.P50 || s.P50 > f.P50 {
				t.Errorf("%s: %+v", f.Name, s)
			}
		}
	}
	if got := strings.Join(names, "|"); got != "voids, supervisor on SQLite|voids, supervisor on PostgreSQL|voids, supervisor and cardholder on SQLite|voids, supervisor and cardholder on PostgreSQL" {
		t.Error(got)
	}
	for _, a := range r.results.Alone {
		if a.US <= 0 {
			t.Errorf("%+v", a)
		}
	}
}

func TestModuleAlone(t *testing.T) {
	const out = `goos: linux
BenchmarkVerifyRecord/AES-2         	    2000	    512345 ns/op
BenchmarkVerifyRecord/TDES-2        	    3000	    401234.5 ns/op
BenchmarkAuthorizeVoid/AES          	    1000	   1012345 ns/op
BenchmarkAuthorizeVoid/TDES         	    1000	    912345 ns/op
PASS
`
	list, err := parseAlone(out)
	if err != nil || len(list) != 4 || list[0] != (alone{"AES DUKPT, PIN record", 512.345}) || list[3].Name != "TDES DUKPT, authorise a void" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := parseAlone(strings.Replace(out, "BenchmarkAuthorizeVoid/AES", "BenchmarkOther/AES", 1)); err == nil {
		t.Error("an output without one of the figures is taken")
	}
}

// shared returns a new directory through which everybody may pass, since PostgreSQL is not run by root.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Nobody has another's PIN or number.
func TestSubjects(t *testing.T) {
	seen := make(map[string]bool)
	for i := range 2000 {
		s := newSubject(i)
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(s.pin) != 12 || seen[string(s.pin)] || seen[s.number] {
			t.Fatalf("subject %d: %s, %s", i, s.number, s.pin)
		}
		seen[string(s.pin)], seen[s.number] = true, true
	}
}
