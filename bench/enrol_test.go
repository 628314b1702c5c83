package main

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"keyd/receipt"
)

// TestThousandTerminals: a thousand terminals get their keys by every method, and make a
// transaction each. What must hold of all of them is looked at by the run itself.
func TestThousandTerminals(t *testing.T) {
	keyd := filepath.Join(t.TempDir(), "keyd")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", keyd, "keyd/cmd/keyd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var progress strings.Builder
	r := &runner{
		options: options{keyd: keyd, ksn: "monotonic", progress: &progress},
		ctx:     t.Context(), dir: t.TempDir(), binary: keyd, cards: &cards{number: 1_000_000},
	}
	const n = 1000
	if err := r.enrol(n); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	t.Log(progress.String())
	e := r.results.Enrolment
	if e == nil || e.Terminals != n || e.Proven != n || e.Keys != 2*n || e.RSA != 40 {
		t.Errorf("%+v", e)
	}
	var names []string
	got := 0
	for _, s := range e.Steps {
		names = append(names, s.Name)
		if s.Count == 0 || s.Rate <= 0 || s.P50 <= 0 {
			t.Errorf("%+v", s)
		}
		for _, m := range methods {
			if s.Name == m.name {
				got += s.Count
			}
		}
	}
	if want := "registered|key agreement, AES|key agreement, TDES|TR-34 two-pass|TR-34 one-pass|transactions"; strings.Join(names, "|") != want || got != n {
		t.Errorf("steps: %s; %d terminals got keys", names, got)
	}
	if rows := r.results.Enrolments().Rows; len(rows) != len(e.Steps) {
		t.Errorf("%d rows", len(rows))
	}
}

// What the run looks for at its end would be found.
func TestKeyGivenTwice(t *testing.T) {
	e := new(enrolment)
	given := make(map[initialKey]string)
	record := func(terminal string, ids ...string) *receipt.Record {
		r := &receipt.Record{Terminal: terminal, Keys: []receipt.Key{{Name: "master"}, {Name: "receipt"}}}
		for _, id := range ids {
			r.Keys = append(r.Keys, receipt.Key{BDK: "bdk", ID: id})
		}
		return r
	}
	for _, r := range []*receipt.Record{record("t-1", "01", "02"), record("t-2", "03")} {
		if err := e.count(given, r); err != nil {
			t.Error(err)
		}
	}
	for _, r := range []*receipt.Record{record("t-3", "02"), record("t-1", "01"), record("t-4", "05", "05")} {
		if err := e.count(given, r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
	r := record("t-5", "01")
	r.Keys[2].BDK = "other"
	if err := e.count(given, r); err != nil || e.Keys != 5 {
		t.Errorf("%v, %d keys", err, e.Keys)
	}
}

func TestEach(t *testing.T) {
	var progress strings.Builder
	e := &enrolling{runner: &runner{options: options{progress: &progress}, ctx: t.Context()}, out: &enrolment{AtOnce: 3}}
	var all []*enrolled
	for range 10 {
		all = append(all, &enrolled{id: "t"})
	}
	var calls atomic.Int64
	if err := e.each("well", all, true, func(context.Context, *enrolled) error { calls.Add(1); return nil }); err != nil || calls.Load() != 10 {
		t.Errorf("%v after %d", err, calls.Load())
	}
	if len(e.out.Steps) != 1 || e.out.Steps[0].Count != 10 {
		t.Errorf("%+v", e.out.Steps)
	}
	broken := errors.New("broken")
	calls.Store(0)
	err := e.each("badly", all, true, func(context.Context, *enrolled) error {
		if calls.Add(1) == 4 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "badly") || len(e.out.Steps) != 1 {
		t.Errorf("%v, %+v", err, e.out.Steps)
	}
}

func TestBar(t *testing.T) {
	var done atomic.Int64
	b := &bar{name: "registered", of: 2000, done: &done}
	for n, want := range map[int64]string{0: "[" + strings.Repeat(" ", 40) + "] 0 of 2,000", 1000: "[" + strings.Repeat("=", 20) + strings.Repeat(" ", 20) + "] 1,000 of 2,000", 2000: "[" + strings.Repeat("=", 40) + "] 2,000 of 2,000"} {
		done.Store(n)
		if got := b.line(); !strings.HasSuffix(got, want) || !strings.Contains(got, "registered") {
			t.Errorf("%q", got)
		}
	}
}
