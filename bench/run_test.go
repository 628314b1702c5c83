package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A short run against the real service: everything is there, and what was not asked for
// is not.
func TestRun(t *testing.T) {
	keyd := filepath.Join(t.TempDir(), "keyd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", keyd, "keyd/cmd/keyd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var progress strings.Builder
	r, err := run(t.Context(), options{
		keyd: keyd, length: 100 * time.Millisecond, underWay: 16, perConnection: 8, terminals: 50, age: 100, accounts: 10_000,
		ksn: "monotonic", only: regexp.MustCompile(`^(empty|TDES|verify|10 |audit)`), progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	names := func(list []figures) (all []string) {
		for _, f := range list {
			all = append(all, f.Name)
			if f.Count == 0 || f.Rate <= 0 || f.P50 <= 0 {
				t.Errorf("%s: %+v", f.Name, f)
			}
		}
		return all
	}
	for what, c := range map[string]struct {
		got  []string
		want string
	}{
		"empty":     {names(r.Empty), "empty gRPC call, unary|empty gRPC call, stream"},
		"closed":    {names(r.Closed), "TDES DUKPT → zone, unary|TDES DUKPT → zone, stream|verify (PVV), unary"},
		"terminals": {names(r.Terminals), "10 terminals: TDES DUKPT → zone|10 terminals: AES DUKPT → zone"},
		"keys":      {names(r.Keys), "10 keys"},
		"ksn":       {names(r.KSN), ""},
	} {
		if got := strings.Join(c.got, "|"); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	if r.Machine.Keyd == "" || r.Setup.Modules == 0 || r.Token.TDES1 <= 0 || r.Token.Derive <= r.Token.TDES1 || r.Derivations.AESToken <= 0 {
		t.Errorf("%+v %+v %+v %+v", r.Machine, r.Setup, r.Token, r.Derivations)
	}
	for _, f := range r.Terminals {
		if f.Memory["front"] < 1 || sum(f.Memory, "module") < 1 || f.Ratio <= 0 {
			t.Errorf("%s: %+v", f.Name, f)
		}
	}
	for _, c := range r.Compared {
		if c.This.Count == 0 || c.Other.Count == 0 || c.RatePercent >= 100 {
			t.Errorf("%+v", c)
		}
	}
	if len(r.Compared) != 4 {
		t.Errorf("%d comparisons, of two operations with two other binaries", len(r.Compared))
	}
	if _, err := renderPage(r); err != nil {
		t.Error(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}
