package audit

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMaskPAN(t *testing.T) {
	for pan, want := range map[string]string{
		"":                     "",
		"4111111111111111":     "…1111",
		"123456789":            "…6789",
		"12345678":             "…",
		"1":                    "…",
		"1234567890123456789":  "…6789",
		"12345678901234567890": "…",
		"411111111111111A":     "…",
		"４１１１１１１１１":            "…",
	} {
		if got := MaskPAN(pan).String(); got != want {
			t.Errorf("MaskPAN(%q) = %q, want %q", pan, got, want)
		}
	}
}

func TestPANReadsOnlyWhatIsMasked(t *testing.T) {
	for _, text := range []string{"4111111111111111", "1111", "…411111", "…111", "…111A", "...1111"} {
		var p PAN
		if err := p.UnmarshalText([]byte(text)); !errors.Is(err, ErrEntry) || p != (PAN{}) {
			t.Errorf("%q: %v, %q", text, err, p)
		}
	}
	masked := MaskPAN("4111111111111111")
	b, err := json.Marshal(masked)
	if err != nil {
		t.Fatal(err)
	}
	var back PAN
	if err := json.Unmarshal(b, &back); err != nil || back != masked {
		t.Errorf("%s came back as %q, %v", b, back, err)
	}
}

func TestEntryRefuses(t *testing.T) {
	for name, change := range map[string]func(*Entry){
		"no decision":             func(e *Entry) { e.Decision = "" },
		"unknown decision":        func(e *Entry) { e.Decision = "maybe" },
		"reason when allowed":     func(e *Entry) { e.Reason = "POLICY_DENIED" },
		"reason in words":         func(e *Entry) { e.Decision, e.Reason = Failed, "bad block" },
		"custody in words":        func(e *Entry) { e.Custody = "in token" },
		"nine keys":               func(e *Entry) { e.Keys = make([]Key, 9) },
		"usage of three":          func(e *Entry) { e.Keys[0].Usage = "P00" },
		"TDES block as KSN":       func(e *Entry) { e.Keys[0].KSN = "0123456789ABCDEF" },
		"AES block as KSN":        func(e *Entry) { e.Keys[0].KSN = strings.Repeat("0123456789ABCDEF", 2) },
		"TDES block as KCV":       func(e *Entry) { e.Keys[0].KCV = "0123456789ABCDEF" },
		"lower-case KCV":          func(e *Entry) { e.Keys[0].KCV = "08d7b4" },
		"lower-case KSN":          func(e *Entry) { e.Keys[0].KSN = "ffff9876543210e00001" },
		"block in place of usage": func(e *Entry) { e.Keys[1].Usage = "0123456789ABCDEF" },
	} {
		e := sample()
		change(&e)
		if _, err := e.normalize(); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDetailKeepsNoFigures(t *testing.T) {
	for detail, want := range map[string]string{
		"PAN 4111111111111111 refused": "PAN … refused",
		"block 0123456789abcdef.":      "block ….",
		"counter 21 of 2026-01-02":     "counter 21 of 2026-01-02",
		"digest 0a1b2c3d":              "digest 0a1b2c3d",
		"12345678901":                  "12345678901",
		"123456789012":                 "…",
		"":                             "",
	} {
		e := sample()
		e.Detail = detail
		n, err := e.normalize()
		if err != nil || n.Detail != want {
			t.Errorf("%q became %q (%v), want %q", detail, n.Detail, err, want)
		}
	}
}

// The largest and ugliest entry still fits into a line and reads back.
func TestLargestEntry(t *testing.T) {
	for name, unit := range map[string]string{
		"control": "\x00", "quote": `"`, "not UTF-8": "\xff\x41", "two units": "😀", "ellipsis": "…", "line separator": "\u2028",
	} {
		long := strings.Repeat(unit, 5000)
		e := Entry{RequestID: long, Identity: long, Method: long, Decision: Failed, Reason: strings.Repeat("R", 64),
			Rule: long, PAN: MaskPAN("4111111111111111"), Custody: strings.Repeat("C", 32), Detail: long}
		for range maxKeys {
			e.Keys = append(e.Keys, Key{long, 1<<32 - 1, "P0", "08D7B4", "FFFF9876543210E000010000"})
		}
		given := e.Keys[0].Name
		n, err := e.normalize()
		if err != nil {
			t.Fatal(name, err)
		}
		if e.Keys[0].Name != given {
			t.Errorf("%s: the caller's keys were changed", name)
		}
		line, hash := appendLine(nil, 1<<64-1, time.Now(), appendBody(nil, &n), Hash{})
		if len(line) > maxLine {
			t.Errorf("%s: line of %d bytes", name, len(line))
		}
		rec, problem := parseLine(line[:len(line)-1])
		if problem != "" || rec.Hash != hash {
			t.Errorf("%s: %s", name, problem)
		}
		for field, s := range map[string]string{"identity": rec.Identity, "key": rec.Keys[7].Name, "detail": rec.Detail} {
			if !strings.HasSuffix(s, ellipsis) {
				t.Errorf("%s: %s was cut without a mark", name, field)
			}
		}
	}
}

// The encoding is fixed: hashes of old logs depend on every byte of it.
func TestEncoding(t *testing.T) {
	e := sample()
	e.Identity = "a\"b\\c\n\x7fé😀…<&>"
	n, err := e.normalize()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 4, 4, 5, 678900000, time.FixedZone("CET", 3600))
	line, hash := appendLine(nil, 7, at, appendBody(nil, &n), Hash{0xab})
	want := `{"v":2,"seq":7,"time":"2026-01-02T03:04:05.6789Z","request_id":"req-1",` +
		`"identity":"a\"b\\c\u000a\u007f\u00e9\ud83d\ude00…<&>","method":"PinService/TranslatePinData","decision":"allowed","rule":"switch[0]",` +
		`"keys":[{"name":"bdk-1","version":1,"usage":"B0","kcv":"08D7B4","ksn":"FFFF9876543210E00001"},{"name":"zpk-1","version":2,"usage":"P0","kcv":"7B83F7"}],` +
		`"pan":"…1111","custody":"CUSTODY_MODULE","prev":"ab` + strings.Repeat("0", 62) + `","hash":"` + hash.String() + `"}` + "\n"
	if string(line) != want {
		t.Errorf("got  %swant %s", line, want)
	}
}

func FuzzParseLine(f *testing.F) {
	n, err := sample().normalize()
	if err != nil {
		f.Fatal(err)
	}
	line, _ := appendLine(nil, 1, time.Unix(0, 1), appendBody(nil, &n), Hash{})
	f.Add(line[:len(line)-1])
	f.Add([]byte(`{"v":2,"seq":1}`))
	f.Add([]byte(`{"v":2,"V":1}`))
	f.Add([]byte(`{"v":1} {}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		rec, problem := parseLine(in)
		if problem != "" {
			if rec.Seq != 0 || rec.Decision != "" || rec.Hash != (Hash{}) {
				t.Errorf("a partial record with %q", problem)
			}
			return
		}
		again, hash := appendLine(nil, rec.Seq, rec.Time, appendBody(nil, &rec.Entry), rec.Prev)
		if string(again) != string(in)+"\n" || hash != rec.Hash {
			t.Errorf("%q is written as %q", in, again)
		}
	})
}

// Whatever the texts are, what is written can be read.
func FuzzAppend(f *testing.F) {
	f.Add("spiffe://dev.keyd/switch", "detail", "key", uint32(1), "allowed", "PIN_BLOCK_INVALID")
	f.Add("\xff\xfe", "\ufffd4111111111111111\xc3", "\u2028", uint32(0), "failed", "")
	f.Fuzz(func(t *testing.T, identity, detail, key string, version uint32, decision, reason string) {
		e := Entry{Identity: identity, Method: identity, RequestID: key, Detail: detail, Rule: detail,
			Decision: Decision(decision), Reason: reason, Keys: []Key{{Name: key, Version: version}}}
		n, err := e.normalize()
		if err != nil {
			return
		}
		line, hash := appendLine(nil, 1, time.Unix(0, int64(version)), appendBody(nil, &n), Hash{})
		if rec, problem := parseLine(line[:len(line)-1]); problem != "" || rec.Hash != hash {
			t.Errorf("%s: %s", problem, line)
		}
	})
}
