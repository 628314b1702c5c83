package eavesdrop

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// RecordWithSpy is [Record] with OpenSC's pkcs11-spy between the recorder and the library, whose log then
// is a part of the record.
func RecordWithSpy(t testing.TB, library string) *Recording {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/pkcs11-spy.so")
	if err != nil || len(found) == 0 {
		t.Fatal("pkcs11-spy.so is missing: apt-get install opensc-pkcs11")
	}
	r := Record(t, found[0])
	r.spy = filepath.Join(t.TempDir(), "spy.log")
	t.Setenv("PKCS11SPY", library)
	t.Setenv("PKCS11SPY_OUTPUT", r.spy)
	return r
}

// spyCalled is a call as pkcs11-spy has it, with the buffers that it shows.
type spyCalled struct {
	name    string
	in, out [][]byte
}

var (
	spyCall = regexp.MustCompile(`^\d+: (C_\w+)$`)
	spyDump = regexp.MustCompile(`^ +[0-9a-f]{8}  ((?:[0-9A-Fa-f]{2} ?){1,16})`)
)

// spied reads the log of pkcs11-spy from the mark on.
func (r *Recording) spied(t testing.TB) []spyCalled {
	t.Helper()
	text, err := os.ReadFile(r.spy)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := parseSpy(string(text[r.spyFrom:]))
	if err != nil {
		t.Fatal(err)
	}
	return calls
}

func parseSpy(text string) (calls []spyCalled, err error) {
	var into *[]byte // what a dump belongs to
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if m := spyCall.FindStringSubmatch(line); m != nil {
			calls, into = append(calls, spyCalled{name: m[1]}), nil
			continue
		}
		if len(calls) == 0 {
			continue
		}
		c := &calls[len(calls)-1]
		switch m := spyDump.FindStringSubmatch(line); {
		case m != nil && into != nil:
			b, err := hex.DecodeString(strings.ReplaceAll(m[1], " ", ""))
			if err != nil {
				return nil, fmt.Errorf("the log of pkcs11-spy: %q", line)
			}
			*into = append(*into, b...)
		case strings.HasPrefix(line, "[out]"):
			c.out = append(c.out, nil)
			into = &c.out[len(c.out)-1]
		case strings.HasPrefix(line, "[in]"), strings.HasPrefix(line, "    CKA_"):
			list := &c.in
			if strings.HasPrefix(line, "    CKA_") && c.name == "C_GetAttributeValue" {
				list = &c.out
			}
			*list = append(*list, nil)
			into = &(*list)[len(*list)-1]
		}
	}
	return calls, nil
}

// spied adds what pkcs11-spy shows to what crossed.
func (w *Wire) spied(calls []spyCalled) {
	for i, c := range calls {
		for _, b := range c.in {
			w.showed(i, c.name+" in", b)
		}
		for _, b := range c.out {
			w.showed(i, c.name+" out", b)
		}
	}
}

func (w *Wire) showed(call int, what string, b []byte) {
	if len(b) > 0 {
		w.buffers = append(w.buffers, buffer{0, fmt.Sprintf("%s, which pkcs11-spy shows (its call %d)", what, call+1), b})
	}
}
