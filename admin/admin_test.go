package admin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPages(t *testing.T) {
	var ready error
	s := New(Options{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
		Ready:   func() error { return ready },
	})
	ask := func(method, path, host string) (int, string) {
		r := httptest.NewRequest(method, path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const here = "127.0.0.1:9464"
	for _, c := range []struct {
		method, path, host string
		status             int
		body               string
	}{
		{"GET", "/metrics", here, 200, "metrics"}, {"GET", "/healthz", here, 200, "ok"}, {"GET", "/readyz", here, 200, "ok"},
		{"GET", "/metrics", "localhost", 200, "metrics"}, {"GET", "/metrics", "[::1]:9464", 200, "metrics"},
		{"GET", "/metrics", "keyd.attacker.example:9464", 403, ""}, {"GET", "/metrics", "192.0.2.1:9464", 403, ""}, {"GET", "/metrics", "", 403, ""},
		{"POST", "/metrics", here, 405, ""}, {"GET", "/debug/pprof/cmdline", here, 404, ""}, {"GET", "/debug/pprof/symbol", here, 404, ""},
		{"GET", "/debug/pprof/goroutine?debug=2", here, 403, "words of memory"}, {"GET", "/debug/pprof/goroutine?debug=02", here, 403, ""},
		{"GET", "/debug/pprof/profile?seconds=61", here, 400, ""}, {"GET", "/debug/pprof/trace?seconds=-1", here, 400, ""}, {"GET", "/debug/pprof/heap?seconds=NaN", here, 400, ""},
		{"GET", "/debug/pprof/goroutine?debug=1", here, 200, "goroutine profile"},
		{"GET", "/debug/pprof/heap?gc=1", here, 403, ""}, {"GET", "/debug/pprof/heap", here, 200, ""},
	} {
		if status, body := ask(c.method, c.path, c.host); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s %s by %q: %d %q", c.method, c.path, c.host, status, body)
		}
	}
	ready = errors.New("no module can be asked")
	if status, body := ask("GET", "/readyz", here); status != 503 || body != "no module can be asked\n" {
		t.Errorf("not ready: %d %q", status, body)
	}
	if status, _ := ask("GET", "/healthz", here); status != 200 {
		t.Errorf("alive: %d", status)
	}
}

func TestServeEnds(t *testing.T) {
	s := New(Options{Metrics: http.NotFoundHandler(), Ready: func() error { return nil }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	answer, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
