// Package admin is the front's second listener, for the machine that keyd runs on alone:
// metrics, health and profiles over plain HTTP.
//
// Whoever can reach a loopback address of the machine can read it, so nothing here is a
// secret and nothing changes anything. Profiles hold names of functions and counts, never
// what memory holds; the one form that prints arguments of functions is refused.
//
// Only the front uses this package.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"golang.org/x/net/netutil"
)

const (
	// MaxProfile bounds how long a profile takes, in seconds.
	MaxProfile = 60

	maxConnections = 16
	maxHeader      = 8 << 10
	readLimit      = 5 * time.Second
	writeLimit     = (MaxProfile + 10) * time.Second
)

// Options are what the pages show.
type Options struct {
	// Metrics serves /metrics.
	Metrics http.Handler

	// Ready returns why no request can be served, or nil.
	Ready func() error
}

// Server serves the pages. Close ends it.
type Server struct{ http *http.Server }

// New returns a server that listens nowhere yet.
func New(o Options) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", o.Metrics)
	// Alive: that it answers is the answer. What hangs or is gone is the supervisor's to mend.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			say(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		say(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /debug/pprof/profile", bounded(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", bounded(pprof.Trace))
	for _, name := range []string{"goroutine", "heap", "allocs", "threadcreate"} {
		mux.HandleFunc("GET /debug/pprof/"+name, bounded(pprof.Handler(name).ServeHTTP))
	}
	return &Server{&http.Server{
		Handler: here(mux), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: readLimit, ReadTimeout: readLimit, WriteTimeout: writeLimit, IdleTimeout: writeLimit,
	}}
}

// Serve answers on a bound listener until [Server.Close], and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(netutil.LimitListener(l, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the admin address: %w", err)
	}
	return nil
}

// Close ends the server at once; nothing that it answers is worth waiting for.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.http.Shutdown(ctx) // closes the listener; what is left is broken off
	return s.http.Close()
}

// here refuses requests that a browser was talked into: their host is a name of somebody
// else's which leads to this machine.
func here(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			say(w, http.StatusForbidden, "ask for it by a loopback address")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bounded refuses what takes too long, and the listing of goroutines with the arguments of
// their functions: words of memory.
func bounded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if d := r.FormValue("debug"); d != "" && d != "0" && d != "1" {
			say(w, http.StatusForbidden, "debug is 0 or 1: the longer form prints words of memory")
			return
		}
		if gc := r.FormValue("gc"); gc != "" && gc != "0" {
			say(w, http.StatusForbidden, "gc is 0: a collection of the whole memory is not for whoever asks")
			return
		}
		if text := r.FormValue("seconds"); text != "" {
			if n, err := strconv.Atoi(text); err != nil || n < 1 || n > MaxProfile {
				say(w, http.StatusBadRequest, fmt.Sprintf("seconds is a whole number from 1 to %d", MaxProfile))
				return
			}
		}
		next(w, r)
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // whoever asked may have gone
}
