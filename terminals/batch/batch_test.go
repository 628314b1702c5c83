package batch

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// device returns a certificate as PEM.
func device(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// files are what open finds.
type files map[string]string

func (f files) open(path string) ([]byte, error) {
	text, ok := f[path]
	if !ok {
		return nil, errors.New("no such file")
	}
	return []byte(text), nil
}

func rows(t *testing.T, text string, f files) (list []*Row, err error) {
	t.Helper()
	r, err := NewReader(strings.NewReader(text), f.open)
	if err != nil {
		return nil, err
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, row)
	}
}

func TestRead(t *testing.T) {
	one, two := device(t), device(t)
	f := files{"certs/1.pem": one, "both.pem": two + one, "key.pem": one + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "text": "none"}
	list, err := rows(t, "\xEF\xBB\xBFSerial,ID, model ,owner,certificate,site,Key_Set\r\n"+
		"804-1,t-1,P400 Plus,m-1,certs/1.pem,\"Zürich, 1. Stock\",counter\r\n"+
		"804-2,t-2,P400,m-1,both.pem,,\n"+
		"\n"+
		"804-3,t-3,P400,m-1,\""+two+"\",,\n"+
		"804-4,t-4,P400,m-1,,,\n"+
		"804-5,t-1,P400,m-1,,,\n"+
		"804-6,t-6,P400,m-1,none.pem,,\n"+
		"804-7,t-7,P400,m-1,key.pem,,\n"+
		"804-8,t-8,P400,m-1,text,,\n"+
		"804-9,t-9,P400,m-1,\"a\nb\",,\n", f)
	if err != nil {
		t.Fatal(err)
	}
	der := func(text string) []byte { b, _ := pem.Decode([]byte(text)); return b.Bytes }
	row := func(line int, id, model, serial string, problem string, certificates ...string) *Row {
		r := &Row{Line: line, ID: id, Owner: "m-1", Model: model, Serial: serial, Problem: problem}
		for _, c := range certificates {
			r.Certificates = append(r.Certificates, der(c))
		}
		return r
	}
	want := []*Row{
		row(2, "t-1", "P400 Plus", "804-1", "", one), row(3, "t-2", "P400", "804-2", "", two, one),
		row(5, "t-3", "P400", "804-3", "line 3 has a certificate over the same public key", two),
	}
	want[0].Site, want[0].KeySet = "Zürich, 1. Stock", "counter"
	line := 5 + strings.Count(two, "\n") + 1
	for i, problem := range []string{
		"", "line 2 has this identifier already", "certificate: no such file",
		"certificate: there is something other than certificates in it: a private key has no place there", "certificate: there is something other than PEM in it",
		"certificate: it is neither PEM nor the path of a file",
	} {
		id := fmt.Sprintf("t-%d", i+4)
		if i == 1 {
			id = "t-1"
		}
		want = append(want, row(line+i, id, "P400", fmt.Sprintf("804-%d", i+4), problem))
	}
	if len(list) != len(want) {
		t.Fatalf("%d rows, want %d", len(list), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(list[i], want[i]) {
			t.Errorf("row %d: %+v, want %+v", i, list[i], want[i])
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	const head = "id,owner,model,serial\n"
	for name, c := range map[string]struct {
		text string
		rows int
		says string
	}{
		"empty":            {"", 0, "empty"},
		"no model":         {"id,owner,serial\n", 0, "no column model"},
		"unknown column":   {"id,owner,model,serial,pin\n", 0, "column 5"},
		"a column twice":   {"id,owner,model,serial,id\n", 0, "column 5"},
		"a cell too few":   {head + "a,m,p,s\nb,m,p\n", 1, "line 3"},
		"a cell too many":  {head + "a,m,p,s,x\n", 0, "line 2"},
		"an open quote":    {head + "a,m,p,s\n\"b,m,p,s\n", 1, "line "},
		"a quote within":   {head + "a,m,p,canary\"s\n", 0, "line 2"},
		"another encoding": {"\xff\xfei\x00d\x00", 0, "column 1"},
	} {
		list, err := rows(t, c.text, nil)
		if err == nil || len(list) != c.rows || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %d rows, %v", name, len(list), err)
		}
	}
}

func TestPEM(t *testing.T) {
	one := device(t)
	for name, text := range map[string]string{
		"nothing": "", "text": "text", "text before": "subject=x\n" + one, "text behind": one + "x", "cut": one[:len(one)/2], "between": one + "x\n" + one,
		"a broken one and a good one": "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n" + one,
		"another kind":                strings.ReplaceAll(one, "CERTIFICATE", "CERTIFICATE REQUEST"), "large": strings.Repeat(one, 200),
	} {
		if ders, err := Certificates([]byte(text)); err == nil || ders != nil {
			t.Errorf("%s: %d certificates, %v", name, len(ders), err)
		}
	}
	if ders, err := Certificates([]byte("\n" + one + "\r\n\n" + one + "\n ")); err != nil || len(ders) != 2 {
		t.Errorf("%d certificates, %v", len(ders), err)
	}
}

// TestRun: every row is tried once, what is refused does not stop the others, and reports come in
// the order of the file.
func TestRun(t *testing.T) {
	const number = 1000
	var text strings.Builder
	text.WriteString("id,owner,model,serial\n")
	for n := range number {
		fmt.Fprintf(&text, "t-%d,m,p,s\n", n)
	}
	text.WriteString("t-7,m,p,s\n")
	r, err := NewReader(strings.NewReader(text.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	tried := map[string]int{}
	var results []Result
	counts, err := Run(t.Context(), r, func(_ context.Context, row *Row) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		tried[row.ID]++
		switch {
		case strings.HasSuffix(row.ID, "3"):
			return false, Refused{"because of " + row.ID}
		case strings.HasSuffix(row.ID, "5"):
			return true, nil
		}
		return false, nil
	}, func(r Result) { results = append(results, r) })
	if err != nil || counts != (Counts{Registered: 800, Unchanged: 100, Failed: 101}) || len(tried) != number || len(results) != number+1 {
		t.Fatalf("%+v, %v, %d tried, %d reported", counts, err, len(tried), len(results))
	}
	for i, got := range results[:number] {
		want := Result{Line: i + 2, ID: fmt.Sprintf("t-%d", i), Outcome: Registered}
		switch i % 10 {
		case 3:
			want.Outcome, want.Problem = Failed, "because of "+want.ID
		case 5:
			want.Outcome = Unchanged
		}
		if got != want || tried[want.ID] != 1 {
			t.Errorf("%+v, tried %d times, want %+v", got, tried[want.ID], want)
		}
	}
	if last := results[number]; last.Outcome != Failed || last.Problem != "line 9 has this identifier already" {
		t.Errorf("%+v", last)
	}

	// What is no refusal ends the run, and says where.
	r, err = NewReader(strings.NewReader(text.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	away := errors.New("no keyd answers")
	reported := 0
	counts, err = Run(t.Context(), r, func(_ context.Context, row *Row) (bool, error) {
		if row.ID == "t-20" {
			return false, away
		}
		return false, nil
	}, func(Result) { reported++ })
	if !errors.Is(err, away) || !strings.Contains(err.Error(), "line 22") || counts.Registered != 20 || reported != 20 {
		t.Errorf("%v, %+v, %d reported", err, counts, reported)
	}
}

// FuzzRead: whatever a file holds, its rows are told apart or it is refused, and no row that has
// no problem has anything but whole certificates.
func FuzzRead(f *testing.F) {
	one := device(f)
	f.Add([]byte("id,owner,model,serial,site,certificate\nt-1,m,p,s,,\"" + one + "\"\n"))
	f.Add([]byte("id,owner,model,serial\nt-1,m,p,s\nt-1,m,p,s\n"))
	f.Add([]byte("\xEF\xBB\xBFserial,id,model,owner,certificate\r\n\"\"\"\",\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := NewReader(bytes.NewReader(text), func(string) ([]byte, error) { return text, nil })
		if err != nil {
			return
		}
		before := 1
		seen := map[string]bool{}
		for {
			row, err := r.Next()
			if err != nil {
				if row != nil {
					t.Error("a row comes with an error")
				}
				return
			}
			if row.Line <= before {
				t.Errorf("line %d comes after line %d", row.Line, before)
			}
			before = row.Line
			if row.Problem != "" {
				continue
			}
			if seen[row.ID] {
				t.Error("an identifier comes twice")
			}
			seen[row.ID] = true
			for i, der := range row.Certificates {
				if _, err := x509.ParseCertificate(der); i == 0 && err != nil {
					t.Errorf("a certificate that is none: %v", err)
				}
			}
		}
	})
}
