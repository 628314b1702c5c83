package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keyd/fault"
)

// What is not there, or not asked for as it has to be, is refused before anything is done.
func TestRequestsThatAreRefused(t *testing.T) {
	good := `{"code":"` + textOfCode + `"}`
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	for name, c := range map[string]struct {
		method, path, body string
		change             func(*http.Request)
		want               int
	}{
		"the root":            {"GET", "/", "", nil, 404},
		"a file":              {"GET", "/assets/style.css", "", nil, 404},
		"a source":            {"GET", "/page/void.js", "", nil, 404},
		"no code":             {"GET", "/V/", "", nil, 404},
		"more behind it":      {"GET", "/V/A/B", "", nil, 404},
		"dots":                {"GET", "/V/..", "", nil, 404},
		"a way up":            {"GET", "/assets/../p", "", nil, 404},
		"an escape":           {"GET", "/V/%41", "", nil, 404},
		"an escaped slash":    {"GET", "/V%2FA", "", nil, 404},
		"two slashes":         {"GET", "//p", "", nil, 404},
		"a slash at the end":  {"GET", "/p/", "", nil, 404},
		"a query":             {"GET", "/p?a=1", "", nil, 404},
		"an empty query":      {"GET", "/p?", "", nil, 404},
		"a long code":         {"GET", "/V/" + strings.Repeat("A", maxCode+1), "", nil, 404},
		"a whole URL":         {"GET", "/p", "", func(r *http.Request) { r.RequestURI = "https://" + host + "/p" }, 404},
		"a NUL":               {"GET", "/V/A%00", "", nil, 404},
		"the API, read":       {"GET", "/api/void", "", nil, 405},
		"a page, posted":      {"POST", "/p", good, nil, 405},
		"deleted":             {"DELETE", "/V/A", "", nil, 405},
		"options":             {"OPTIONS", "/api/void", "", nil, 405},
		"put":                 {"PUT", "/api/void", good, nil, 405},
		"reading with a body": {"GET", "/p", "x", nil, 400},
		"HTTP/1.0": {"GET", "/p", "", func(r *http.Request) {
			r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0
		}, 505},
		"another host":       {"GET", "/p", "", func(r *http.Request) { r.Host = "evil.example" }, 421},
		"a host with a port": {"GET", "/p", "", func(r *http.Request) { r.Host = host + ":443" }, 421},
		"an upper-case host": {"GET", "/p", "", func(r *http.Request) { r.Host = strings.ToUpper(host) }, 421},
		"no host":            {"POST", "/api/void", good, func(r *http.Request) { r.Host = "" }, 421},

		"another site's":           {"POST", "/api/void", good, header("Sec-Fetch-Site", "cross-site"), 403},
		"a sister's":               {"POST", "/api/void", good, header("Sec-Fetch-Site", "same-site"), 403},
		"typed in":                 {"POST", "/api/void", good, header("Sec-Fetch-Site", "none"), 403},
		"two sites":                {"POST", "/api/void", good, header("Sec-Fetch-Site", "same-origin", "same-origin"), 403},
		"another origin":           {"POST", "/api/void", good, header("Origin", "https://evil.example"), 403},
		"no origin":                {"POST", "/api/void", good, header("Origin", "null"), 403},
		"two origins":              {"POST", "/api/void", good, header("Origin", "https://"+host, "https://"+host), 403},
		"an origin without TLS":    {"POST", "/api/void", good, header("Origin", "http://"+host), 403},
		"nothing of where it is":   {"POST", "/api/void", good, func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") }, 403},
		"a form":                   {"POST", "/api/void", good, header("Content-Type", "application/x-www-form-urlencoded"), 415},
		"text":                     {"POST", "/api/void", good, header("Content-Type", "text/plain"), 415},
		"a charset":                {"POST", "/api/void", good, header("Content-Type", "application/json; charset=utf-16"), 415},
		"two types":                {"POST", "/api/void", good, header("Content-Type", "application/json", "application/json"), 415},
		"compressed":               {"POST", "/api/void", good, header("Content-Encoding", "gzip"), 415},
		"too large":                {"POST", "/api/void", good + strings.Repeat(" ", MaxBody), nil, 413},
		"too large, and unsaid":    {"POST", "/api/void", good + strings.Repeat(" ", MaxBody), func(r *http.Request) { r.ContentLength = -1 }, 413},
		"half of it":               {"POST", "/api/void", "", func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(strings.NewReader(good[:10]), broken{})) }, 408},
		"no such method":           {"POST", "/api/void/other", good, nil, 404},
		"another field":            {"POST", "/api/void", `{"code":"A","more":"B"}`, nil, 400},
		"a field twice":            {"POST", "/api/void", `{"code":"A","code":"A"}`, nil, 400},
		"a field in upper case":    {"POST", "/api/void", `{"CODE":"A"}`, nil, 400},
		"a field in disguise":      {"POST", "/api/void", `{"code":"A","\u0063ode":"A"}`, nil, 400},
		"no field":                 {"POST", "/api/void", `{}`, nil, 400},
		"nothing":                  {"POST", "/api/void", ``, nil, 400},
		"two objects":              {"POST", "/api/void", good + good, nil, 400},
		"a list":                   {"POST", "/api/void", `["A"]`, nil, 400},
		"null":                     {"POST", "/api/void", `{"code":null}`, nil, 400},
		"a number":                 {"POST", "/api/void", `{"code":1}`, nil, 400},
		"an object for a text":     {"POST", "/api/void", `{"code":{}}`, nil, 400},
		"an empty text":            {"POST", "/api/void", `{"code":""}`, nil, 400},
		"a long text":              {"POST", "/api/void", `{"code":"` + strings.Repeat("A", maxCode+1) + `"}`, nil, 400},
		"objects without end":      {"POST", "/api/void", strings.Repeat(`{"code":`, 1500) + strings.Repeat("}", 1500), nil, 400},
		"no UTF-8":                 {"POST", "/api/void", "{\"code\":\"\xff\"}", nil, 400},
		"a mark before it":         {"POST", "/api/void", "\ufeff" + good, nil, 400},
		"no base64url":             {"POST", "/api/void/pin", pinBody("code", "A", "point", strings.Repeat("+", 87)), nil, 400},
		"padded":                   {"POST", "/api/void/pin", pinBody("block", "AAAAAAAAAAAAAAAAAAAAAA=="), nil, 400},
		"unused bits":              {"POST", "/api/void/pin", pinBody("block", "AAAAAAAAAAAAAAAAAAAAAB"), nil, 400},
		"a line feed":              {"POST", "/api/void/pin", pinBody("block", `AAAAAAAAAAAAAAAAAAAAA\nA`), nil, 400},
		"a short block":            {"POST", "/api/void/pin", pinBody("block", "AAAAAAAAAAAAAAAAAAAA"), nil, 400},
		"a long point":             {"POST", "/api/void/pin", pinBody("point", strings.Repeat("A", 88)), nil, 400},
		"a text for a flag":        {"POST", "/api/void/pin", strings.Replace(pinBody(), "false", `"false"`, 1), nil, 400},
		"a field too many, within": {"POST", "/api/enrolment/pin", `{"link":"A","code":` + typedBody + `,"pin":{"point":"A","block":"B","more":"C"}}`, nil, 400},
		"without the PIN":          {"POST", "/api/enrolment/pin", `{"link":"A","code":` + typedBody + `}`, nil, 400},
		"a text for an object":     {"POST", "/api/enrolment/pin", `{"link":"A","code":` + typedBody + `,"pin":"A"}`, nil, 400},
		"a passkey without a user": {"POST", "/api/void/passkey", `{"code":"A","id":"AAAAAAAAAAAAAAAAAAAAAA","client_data":"AA","authenticator_data":"AA","signature":"AA"}`, nil, 400},
	} {
		b := newBank(t)
		r := request(c.method, c.path, c.body)
		if c.change != nil {
			c.change(r)
		}
		got := answer(newHandler(t, b), r)
		body := bodyOf(t, got)
		if got.StatusCode != c.want {
			t.Errorf("%s: %d, want %d: %s", name, got.StatusCode, c.want, body)
		}
		if asked := b.calls(); asked != nil {
			t.Errorf("%s: the backend was asked %q", name, asked)
		}
		if strings.HasPrefix(c.path, "/api/") && c.want != 421 && c.want != 404 && !json.Valid([]byte(body)) || strings.Contains(body, textOfCode) || len(body) > 100 {
			t.Errorf("%s: answered %q", name, body)
		}
		if got.Header.Get("Content-Security-Policy") == "" || got.Header.Get("X-Content-Type-Options") != "nosniff" || got.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", name, got.Header)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

var typedBody = `{"point":"` + strings.Repeat("A", 87) + `","block":"` + strings.Repeat("A", 22) + `"}`

// pinBody is a well-formed approval by PIN, with fields that are changed.
func pinBody(changes ...string) string {
	fields := map[string]string{"code": "A", "name": "dora", "point": strings.Repeat("A", 87), "block": strings.Repeat("A", 22)}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	return `{"of_terminal":false,"code":"` + fields["code"] + `","name":"` + fields["name"] + `","point":"` + fields["point"] + `","block":"` + fields["block"] + `"}`
}

// A refusal has a reason that strangers may know, or none.
func TestRefusalsOfTheBackend(t *testing.T) {
	for _, row := range fault.Table {
		b := newBank(t)
		b.fail = []error{fault.New(row.Reason, "a word of the backend's")}
		got := answer(newHandler(t, b), request("POST", "/api/enrolment", `{"link":"A"}`))
		body := bodyOf(t, got)
		want, known := told[row.Reason]
		reason := row.Name
		if !known {
			want.status, reason = 500, "INTERNAL"
		}
		if got.StatusCode != want.status || !strings.Contains(body, `"error":"`+reason+`"`) || strings.Contains(body, "word") || got.StatusCode < 400 {
			t.Errorf("%s: %d %s", row.Name, got.StatusCode, body)
		}
	}
	b := newBank(t)
	b.fail = []error{io.ErrUnexpectedEOF}
	if got := answer(newHandler(t, b), request("POST", "/api/enrolment", `{"link":"A"}`)); got.StatusCode != 500 || strings.Contains(bodyOf(t, got), "EOF") {
		t.Error(got.StatusCode)
	}
	b.answered = nil
	b.fail = []error{fault.New(fault.RateLimited, "")}
	if got := bodyOf(t, answer(newHandler(t, b), request("POST", "/api/enrolment", `{"link":"A"}`))); got != `{"error":"RATE_LIMITED","retry":false}` {
		t.Error(got)
	}
}

// A backend that panics or hangs is an answer to the page.
func TestABackendThatFails(t *testing.T) {
	b := newBank(t)
	b.voids["A"] = &testVoid{Void: Void{State: "CREATED", PaidAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}}
	if got := answer(newHandler(t, b), request("POST", "/api/void", `{"code":"A"}`)); got.StatusCode != 500 || bodyOf(t, got) != `{"error":"INTERNAL","retry":false}` {
		t.Errorf("a time out of range: %d", got.StatusCode)
	}
	h, err := New(Config{struct{ Backend }{}, host}) // whatever it is asked panics
	must(t, err)
	if got := answer(h, request("POST", "/api/void", `{"code":"A"}`)); got.StatusCode != 500 || bodyOf(t, got) != `{"error":"INTERNAL","retry":false}` {
		t.Errorf("a panic: %d", got.StatusCode)
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		b.hold = make(chan struct{})
		start := time.Now()
		got := answer(newHandler(t, b), request("POST", "/api/void", `{"code":"A"}`))
		if body := bodyOf(t, got); got.StatusCode != 503 || body != `{"error":"MODULE_UNAVAILABLE","retry":true}` || time.Since(start) != requestTime {
			t.Errorf("%d %s after %v", got.StatusCode, body, time.Since(start))
		}
	})
}

// Who goes away has begun all the same what was asked: else a try could be taken and not counted.
func TestWhoGoesAwayStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		b.hold = make(chan struct{})
		code := b.newVoid(nil)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		h := newHandler(t, b)
		assertion := `{"code":"` + code + `","user":"` + text(32) + `","id":"` + text(16) + `","client_data":"` + text(2) + `","authenticator_data":"` + text(2) + `","signature":"` + text(8) + `"}`
		go func() {
			defer close(done)
			answer(h, request("POST", "/api/void/passkey", assertion).WithContext(ctx))
		}()
		synctest.Wait() // the backend was asked
		leave()
		synctest.Wait()
		close(b.hold)
		<-done
		if left := b.voids[code].tries; left != 2 {
			t.Errorf("%d tries are left of a void for which one was taken", left)
		}
	})
}

// text is what bytes are in a request.
func text(size int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, size)) }
