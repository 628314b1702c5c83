package vault

import (
	"encoding/json"
	"testing"
)

// Whatever Vault says, there is a PIN or an error, and the PIN is what JSON's own rules make
// of the field.
func FuzzPIN(f *testing.F) {
	for _, seed := range []string{
		`{"data":{"data":{"pin":"1234"},"metadata":{"version":1}}}`, `{"data":{"data":{"pin":"a\"\\\/\u003c\u00fc"},"metadata":{"version":1}}}`,
		`{"data":{"data":null,"metadata":{"version":1,"deletion_time":"2026-01-01T00:00:00Z","destroyed":false}}}`, `{"data":{"data":{"pin":"\ud83d\ude00"},"metadata":{}}}`,
		`{"data":{"data":{"pin":1234},"metadata":{"version":1}}}`, `{"errors":[]}`, `null`, `{`, ``,
	} {
		f.Add([]byte(seed), 0, false)
	}
	f.Fuzz(func(t *testing.T, body []byte, version int, missing bool) {
		var want struct {
			Data struct{ Data map[string]any }
		}
		err := json.Unmarshal(body, &want)
		kept := ""
		got := pinIn("read", &PIN{Field: "pin", Version: version}, append([]byte{}, body...), missing, func(pin []byte) error { kept = string(pin); return nil })
		if (got == nil) == (kept == "") {
			t.Fatalf("error %v, PIN %q", got, kept)
		}
		if got == nil && (err != nil || want.Data.Data["pin"] != kept) && json.Valid([]byte(`"`+kept+`"`)) {
			t.Fatalf("the PIN is %q, JSON says %v", kept, want.Data.Data["pin"])
		}
	})
}

func FuzzWrapping(f *testing.F) {
	f.Add([]byte("hvs.token\n"))
	f.Add([]byte(`{"wrap_info":{"token":"hvs.x","ttl":600,"creation_time":"2026-01-01T00:00:00Z"}}`))
	f.Add([]byte(`{"wrap_info":{"token":"hvs.x\ny"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := parseWrapping("file", b)
		if (err == nil) == (w.token == "") {
			t.Fatalf("error %v, token %q", err, w.token)
		}
		for _, r := range w.token {
			if r <= ' ' || r > '~' {
				t.Fatalf("token %q", w.token)
			}
		}
	})
}
