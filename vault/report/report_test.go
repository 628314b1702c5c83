package report

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	f, err := Create()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Read(f); !errors.Is(err, ErrEmpty) {
		t.Errorf("before anything was written: %v", err)
	}
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for _, want := range []Report{
		{At: now, Problem: strings.Repeat("x", maxText), Certificates: []Certificate{{Name: "/a", Serial: "1f", NotAfter: now}}},
		{At: now, LoginUntil: now.Add(time.Hour)}, // shorter than the one before
	} {
		if err := Write(f, want); err != nil {
			t.Fatal(err)
		}
		got, err := Read(f)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("read %+v, %v", got, err)
		}
	}
	if _, err := f.WriteAt([]byte{1}, header+3); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(f); !errors.Is(err, ErrTorn) || got != nil {
		t.Errorf("half written: %v, %v", got, err)
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"at":"2026-07-01T00:00:00Z"}`), true)
	f.Add([]byte(`{`), true)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, false)
	f.Fuzz(func(t *testing.T, text []byte, sum bool) {
		b := make([]byte, size)
		if sum && len(text) < size-header {
			binary.BigEndian.PutUint32(b, uint32(len(text)))
			s := sha256.Sum256(text)
			copy(b[4:], s[:])
			copy(b[header:], text)
		} else {
			copy(b, text)
		}
		if r, err := parse(b); (r == nil) == (err == nil) {
			t.Fatalf("%v, %v", r, err)
		}
	})
}
