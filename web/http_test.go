package web

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keyd/fault"
)

const textOfCode = "AEAVZUSS7NVWK6LEAAAAAAM6G543S72KPQKWWCLQ7SM3JK7L6RZAAT2SLNO2W5CCTE4RANU6YCLMLSGLLKPZAB6G5QOAUQY7WYLK26MSXQQ4A6K4FIGH6CUEBPDRS6BOHJ353K5CW6GLMYMGRGCWVU6N47ZQE"

func newHandler(t testing.TB, b *bank) http.Handler {
	t.Helper()
	h, err := New(Config{Backend: b, Host: host})
	must(t, err)
	return h
}

// request is what a page sends.
func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = host
	r.RemoteAddr = "203.0.113.7:40000"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Origin", "https://"+host)
	}
	return r
}

func answer(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	must(t, err)
	return string(b)
}

func TestHosts(t *testing.T) {
	b := newBank(t)
	for _, good := range []string{"void.example.com", "localhost:8443", "a.b:1"} {
		if _, err := New(Config{b, good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "VOID.EXAMPLE.COM", "void.example.com:443", "127.0.0.1", "https://void.example.com", "void.example.com/", "a b", "*.example.com"} {
		if h, err := New(Config{b, bad}); err == nil || h != nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := Server(Config{nil, host}); err == nil {
		t.Error("pages without a backend")
	}
}

// Pages are the same for everybody, and nobody else's code, frame or form gets into them.
func TestPagesAndTheirHeaders(t *testing.T) {
	b := newBank(t)
	h := newHandler(t, b)
	void := answer(h, request(http.MethodGet, "/V/"+textOfCode, ""))
	page := bodyOf(t, void)
	for name, want := range map[string]string{
		"Content-Type":                 "text/html; charset=utf-8",
		"Cache-Control":                "no-store",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Strict-Transport-Security":    "max-age=31536000",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'; trusted-types 'none'",
		"Set-Cookie": "",
	} {
		if got := void.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if p := void.Header.Get("Permissions-Policy"); !strings.HasPrefix(p, "publickey-credentials-get=(self), publickey-credentials-create=(self), ") || !strings.Contains(p, "camera=(), ") {
		t.Error(p)
	}
	for _, path := range []string{"/v/" + textOfCode, "/V/A", "/V/anything"} {
		if got := answer(h, request(http.MethodGet, path, "")); got.StatusCode != http.StatusOK || bodyOf(t, got) != page {
			t.Errorf("%s: %d, or another page", path, got.StatusCode)
		}
	}
	head := answer(h, request(http.MethodHead, "/V/A", ""))
	if bodyOf(t, head) != "" || head.ContentLength != int64(len(page)) {
		t.Error("HEAD has a body, or another length")
	}
	if got := b.calls(); got != nil {
		t.Errorf("reading a page has asked %q", got)
	}

	assets := regexp.MustCompile(`(?:href|src)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(assets) < 8 {
		t.Fatalf("%q", assets)
	}
	named := regexp.MustCompile(`^/assets/[a-z]+\.[0-9a-f]{16}\.(js|css)$`)
	for _, a := range assets {
		got := answer(h, request(http.MethodGet, a[1], ""))
		if !named.MatchString(a[1]) || got.StatusCode != http.StatusOK || got.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", a[1], got.StatusCode, got.Header)
		}
		body := bodyOf(t, got)
		for _, m := range regexp.MustCompile(`from "\./([^"]+)"`).FindAllStringSubmatch(body, -1) {
			if !strings.Contains(page, "/assets/"+m[1]) {
				t.Errorf("%s imports %s, which the page does not name", a[1], m[1])
			}
		}
		r := request(http.MethodGet, a[1], "")
		r.Header.Set("Accept-Encoding", "br, gzip")
		z, err := gzip.NewReader(answer(h, r).Body)
		must(t, err)
		if unzipped, err := io.ReadAll(z); err != nil || string(unzipped) != body {
			t.Errorf("%s is another when it is compressed: %v", a[1], err)
		}
	}

	local, err := New(Config{b, "localhost:8443"})
	must(t, err)
	r := request(http.MethodGet, "/p", "")
	r.Host = "localhost:8443"
	if got := answer(local, r); got.StatusCode != http.StatusOK || got.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("localhost: %d %v", got.StatusCode, got.Header)
	}
}

// A page with its style and its scripts is small enough for a slow network.
func TestPagesAreSmall(t *testing.T) {
	l, err := loaded()
	must(t, err)
	for name, c := range map[string]struct {
		page  *file
		other string
	}{"void": {l.void, "/assets/enrolment."}, "enrolment": {l.enrolment, "/assets/void."}} {
		plain, zipped := len(c.page.body), len(c.page.zipped)
		for path, f := range l.assets {
			if !strings.HasPrefix(path, c.other) {
				plain += len(f.body)
				zipped += len(f.zipped)
			}
		}
		t.Logf("%s: %d bytes, %d compressed", name, plain, zipped)
		if plain >= 60_000 {
			t.Errorf("%s has %d bytes", name, plain)
		}
	}
}

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

// Bytes come and go as base64url without padding; what is well formed reaches the backend, once, with
// the address that it came from.
func TestRequestsThatAreTaken(t *testing.T) {
	b := newBank(t)
	h := newHandler(t, b)
	code := b.newVoid(nil)
	got := answer(h, request("POST", "/api/void", `{"code":"`+code+`"}`))
	var v struct {
		Amount    int64
		Digest    string
		Challenge string
		CodeKey   string `json:"code_key"`
		Key       struct {
			Point, Signature string
			ExpiresAt        int64 `json:"expires_at"`
		}
	}
	must(t, json.Unmarshal([]byte(bodyOf(t, got)), &v))
	want := b.voids[code]
	text := base64.RawURLEncoding.EncodeToString
	if got.StatusCode != 200 || v.Amount != 12345 || v.Digest != text(want.Digest) || v.Challenge != text(want.Challenge) || v.CodeKey != text(want.CodeKey) ||
		v.Key.Point != text(want.Key.Point) || v.Key.Signature != text(want.Key.Signature) || v.Key.ExpiresAt != want.Key.ExpiresAt || b.from != "203.0.113.7" {
		t.Errorf("%d %+v", got.StatusCode, v)
	}
	got = answer(h, request("POST", "/api/void/pin", pinBody("code", code)))
	if body := bodyOf(t, got); got.StatusCode != 400 || !strings.Contains(body, `"REQUEST_INVALID"`) { // zeros are no point
		t.Errorf("%d %s", got.StatusCode, body)
	}
	if asked := b.calls(); len(asked) != 2 {
		t.Errorf("%q", asked)
	}
	r := request("POST", "/api/void", `{"code":"`+code+`"}`)
	r.Header.Del("Sec-Fetch-Site") // browsers before 2023
	if got := answer(h, r); got.StatusCode != 200 {
		t.Errorf("without Sec-Fetch-Site: %d", got.StatusCode)
	}
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
		h.filesOf, h.asksOf, h.asks = newLimiter(filesOfOne), newLimiter(asksOfOne), newLimiter(asksOfAll)
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
