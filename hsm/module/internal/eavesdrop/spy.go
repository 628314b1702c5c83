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

// RecordWithSpy is [Record] with OpenSC's pkcs11-spy between the recorder and the library; log is the spy's.
func RecordWithSpy(t testing.TB, library string) (r *Recording, log string) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/pkcs11-spy.so")
	if err != nil || len(found) == 0 {
		t.Fatal("pkcs11-spy.so is missing: apt-get install opensc-pkcs11")
	}
	r = Record(t, found[0])
	log = filepath.Join(t.TempDir(), "spy.log")
	t.Setenv("PKCS11SPY", library)
	t.Setenv("PKCS11SPY_OUTPUT", log)
	return r, log
}

// SpyCall is a call as pkcs11-spy has it, with the buffers that it shows.
type SpyCall struct {
	Name    string
	In, Out [][]byte
}

var (
	spyCall = regexp.MustCompile(`^\d+: (C_\w+)$`)
	spyDump = regexp.MustCompile(`^ +[0-9a-f]{8}  ((?:[0-9A-Fa-f]{2} ?){1,16})`)
)

// SpyCalls reads the log of pkcs11-spy from a place on.
func SpyCalls(t testing.TB, log string, from int64) (calls []SpyCall) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var into *[]byte // what a dump belongs to
	for line := range strings.Lines(string(text[from:])) {
		line = strings.TrimRight(line, "\n")
		if m := spyCall.FindStringSubmatch(line); m != nil {
			calls, into = append(calls, SpyCall{Name: m[1]}), nil
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
				t.Fatalf("the spy's log: %q", line)
			}
			*into = append(*into, b...)
		case strings.HasPrefix(line, "[out]"):
			c.Out = append(c.Out, nil)
			into = &c.Out[len(c.Out)-1]
		case strings.HasPrefix(line, "[in]"), strings.HasPrefix(line, "    CKA_"):
			list := &c.In
			if strings.HasPrefix(line, "    CKA_") && c.Name == "C_GetAttributeValue" {
				list = &c.Out
			}
			*list = append(*list, nil)
			into = &(*list)[len(*list)-1]
		}
	}
	return calls
}

// Spied adds what pkcs11-spy shows to what crossed.
func (w *Wire) Spied(calls []SpyCall) {
	for i, c := range calls {
		for way, list := range map[string][][]byte{"in": c.In, "out": c.Out} {
			for _, b := range list {
				if len(b) > 0 {
					w.buffers = append(w.buffers, buffer{0, fmt.Sprintf("%s %s, which pkcs11-spy shows (its call %d)", c.Name, way, i+1), b})
				}
			}
		}
	}
}
