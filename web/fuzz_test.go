package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Whatever comes is answered, and by what it has to be.
func FuzzRequest(f *testing.F) {
	b := newBank(f)
	h := newHandler(f, b).(*handler)
	f.Add("POST", "/api/void", host, "same-origin", []byte(`{"code":"A"}`))
	f.Add("POST", "/api/void/pin", host, "same-origin", []byte(pinBody()))
	f.Add("GET", "/V/A", host, "", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, at, site string, body []byte) {
		r, err := http.NewRequest(method, "https://"+host+"/", bytes.NewReader(body))
		if err != nil {
			return
		}
		if r.URL, err = r.URL.Parse(path); err != nil {
			return
		}
		r.RequestURI, r.Host, r.RemoteAddr = path, at, "203.0.113.7:1"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Sec-Fetch-Site", site)
		h.requestsOf, h.asks = newLimiter(requestsOfOne), newSharing(asksOfOne, asksOfAll)
		got := answer(h, r)
		asked := b.calls()
		if len(asked) > 0 && (method != "POST" || at != host || site != "same-origin" || !strings.HasPrefix(path, "/api/") || !json.Valid(body)) {
			t.Errorf("%s %q at %q from %q asked %q", method, path, at, site, asked)
		}
		if got.StatusCode < 300 && at != host || got.StatusCode/100 == 3 {
			t.Errorf("%d", got.StatusCode)
		}
	})
}

// What parses has each name once, and nothing that JSON would read otherwise.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"code":"A","pin":{"point":"B"},"of_terminal":true}`))
	f.Add([]byte(`{"a":"b","a":"c"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parse(body)
		if err != nil {
			if o != nil {
				t.Error("a partial result")
			}
			return
		}
		var plain map[string]any
		if err := json.Unmarshal(body, &plain); err != nil || len(plain) != len(o.values) {
			t.Errorf("%v: %d names, %d", err, len(plain), len(o.values))
		}
		for name, value := range o.values {
			if inner, ok := value.(*object); ok {
				if len(inner.values) != len(plain[name].(map[string]any)) {
					t.Errorf("%q", name)
				}
			} else if plain[name] != value {
				t.Errorf("%q: %v, %v", name, value, plain[name])
			}
		}
	})
}
