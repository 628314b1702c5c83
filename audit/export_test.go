package audit

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/checkpoint"
)

func TestProofs(t *testing.T) {
	key := newKey(t)
	dir := segmented(t, key)
	report, err := VerifyDir(dir, trust(key))
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= report.Head.Seq; seq++ {
		p, err := Prove(dir, seq)
		if err != nil {
			t.Fatal(seq, err)
		}
		encoded, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseProof(encoded)
		if err != nil {
			t.Fatal(seq, err)
		}
		rec, c, by, err := back.Verify(trust(key))
		if err != nil || rec.Seq != seq || c.Tree != report.Tree || !by.Trusted {
			t.Errorf("%d: %+v, %+v, %v", seq, rec, by, err)
		}
		if _, _, by, err := back.Verify(Trust{}); err != nil || by.Trusted {
			t.Errorf("%d: nobody vouches: %+v, %v", seq, by, err)
		}
		if _, _, _, err := back.Verify(trust(newKey(t))); !errors.Is(err, checkpoint.ErrSignature) {
			t.Errorf("%d: another module: %v", seq, err)
		}
		if seq != 7 {
			continue
		}
		for i := range encoded {
			changed := bytes.Clone(encoded)
			changed[i] ^= 1 << (i % 8)
			p, err := ParseProof(changed)
			if err == nil {
				_, _, _, err = p.Verify(trust(key))
			}
			if err == nil {
				t.Errorf("byte %d of a proof, turned, is not found", i)
			}
		}
	}
	for _, seq := range []uint64{0, report.Head.Seq + 1, 1 << 60} {
		if p, err := Prove(dir, seq); err == nil || p != nil || !strings.Contains(err.Error(), fmt.Sprintf("no entry %d", seq)) {
			t.Errorf("entry %d: %v, %v", seq, p, err)
		}
	}
}

func TestExport(t *testing.T) {
	key := newKey(t)
	dir := segmented(t, key)
	records, err := Tail(dir, 1000)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(len(records))
	whole := func(p string) (from, until time.Time) {
		if p == "all" {
			return time.Time{}, records[n-1].Time.Add(time.Hour)
		}
		return records[8].Time, records[15].Time
	}
	for name, want := range map[string]Range{"all": {1, n}, "a part": {9, 15}} {
		into := filepath.Join(t.TempDir(), "export")
		from, until := whole(name)
		m, err := Export(dir, into, from, until)
		if err != nil {
			t.Fatal(name, err)
		}
		if m.First != want.First || m.Last != want.Last || len(m.Segments) == 0 || m.LeftOut != 0 {
			t.Errorf("%s: %+v", name, m)
		}
		if _, c, by, err := VerifyExport(into, trust(key)); err != nil || !by.Trusted || c.Size != n {
			t.Errorf("%s: %v", name, err)
		}
		rows, err := csv.NewReader(bytes.NewReader(read(t, filepath.Join(into, exportTable)))).ReadAll()
		if err != nil || uint64(len(rows)) != want.Last-want.First+2 || len(rows[0]) != len(columns) {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
		readme := string(read(t, filepath.Join(into, exportReadme)))
		for _, c := range columns {
			if !strings.Contains(readme, "\n"+c+" ") {
				t.Errorf("the sheet does not say what column %s is", c)
			}
		}
		if _, err := Export(dir, into, from, until); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: written over: %v", name, err)
		}
		if name == "all" {
			continue
		}
		// A turned bit is found wherever it is, and what is missing.
		files, err := os.ReadDir(into)
		if err != nil || len(files) != 6 {
			t.Fatal(len(files), err)
		}
		for _, f := range files {
			path := filepath.Join(into, f.Name())
			content := read(t, path)
			for i := 0; i < len(content); i += 1 + len(content)/500 {
				changed := bytes.Clone(content)
				changed[i] ^= 1 << (i % 8)
				put(t, path, i, changed[i])
				if _, _, _, err := VerifyExport(into, trust(key)); err == nil && !harmless(m, changed) {
					t.Errorf("%s: byte %d, turned, is not found", f.Name(), i)
				}
				put(t, path, i, content[i])
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, _, _, err := VerifyExport(into, trust(key)); !errors.Is(err, ErrExport) {
				t.Errorf("without %s: %v", f.Name(), err)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, p := range map[string][2]time.Time{
		"before": {time.Time{}, records[0].Time}, "after": {records[n-1].Time.Add(time.Second), records[n-1].Time.Add(time.Hour)},
	} {
		into := filepath.Join(t.TempDir(), "export")
		if m, err := Export(dir, into, p[0], p[1]); !errors.Is(err, ErrNoEntries) || m != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(into); !os.IsNotExist(err) {
			t.Errorf("%s: something is left", name)
		}
	}
	// A segment in the middle of the period is in the archive.
	all := list(t, dir)
	if err := os.Remove(all[2].path); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(dir, filepath.Join(t.TempDir(), "export"), time.Time{}, time.Now().Add(time.Hour)); err == nil || !strings.Contains(err.Error(), "from the archive") {
		t.Error(err)
	}
}

// harmless are the parts of the manifest that nobody signs: the period that was asked for, the
// number of what was left out, and the digests of whole segments, for who has those.
func harmless(m *Manifest, changed []byte) bool {
	other := new(Manifest)
	if decodeExactly(changed, other, maxManifest) != nil {
		return false
	}
	other.From, other.Until, other.LeftOut, other.Segments = m.From, m.Until, m.LeftOut, m.Segments
	a, err := m.encode()
	b, wrong := other.encode()
	return err == nil && wrong == nil && bytes.Equal(a, b)
}

// Whatever a caller sends, no cell is a formula.
func TestCellsAreNoFormulas(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "spiffe://dev.keyd/switch": "spiffe://dev.keyd/switch", "…1111": "…1111",
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", " =1": "' =1", "\t=1": "'?=1", "\r\n=1": "'??=1", "＝1": "'＝1",
		"a=1": "a=1", "a\nb": "a?b", "\x00": "?",
	} {
		if want == "'?=1" || want == "'??=1" {
			want = want[1:] // a question mark begins no formula
		}
		if got := cell(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte("{\n  \"version\": 1,\n  \"seq\": 1,\n  \"line\": \"\",\n  \"proof\": [],\n  \"checkpoint\": \"\",\n  \"module\": \"\"\n}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProof(b)
		if (p == nil) != (err != nil) {
			t.Fatal(p, err)
		}
		if p == nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q is written %q", b, again)
		}
		if _, _, _, err := p.Verify(Trust{}); err == nil {
			if _, err := checkpoint.Parse([]byte(p.Checkpoint)); err != nil {
				t.Errorf("%q verifies", b)
			}
		}
	})
}
