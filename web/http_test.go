package web

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
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
