package web

import (
	"context"
	"net/http"
	"net/netip"
	"strings"

	"keyd/fault"
)

// New returns what answers phones. Everything that is not named here is refused.
func New(c Config) (http.Handler, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	served, err := loaded()
	if err != nil {
		return nil, err
	}
	h := &handler{config: c, files: served, requestsOf: newLimiter(requestsOfOne), asks: newSharing(asksOfOne, asksOfAll)}
	h.methods = map[string]method{
		"/api/void":              h.void,
		"/api/void/passkey":      h.voidByPasskey,
		"/api/void/pin":          h.voidByPIN,
		"/api/enrolment":         h.enrolment,
		"/api/enrolment/pin":     h.setPIN,
		"/api/enrolment/passkey": h.setPasskey,
	}
	return h, nil
}

type handler struct {
	config  Config
	files   *files
	methods map[string]method

	requestsOf *limiter // of an address
	asks       *sharing
}

// AddressOf returns from where a request came that the backend is asked about: an address, or nothing
// outside of requests. It is the connection's; what a header says of others is not believed.
func AddressOf(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addressKey{}).(netip.Addr)
	return a
}

type addressKey struct{}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.setHeaders(w.Header())
	switch {
	case !h.requestsOf.allow(addressOf(r.RemoteAddr)):
		w.Header().Set("Connection", "close") // another costs a handshake, of which there are fewer
		h.tooMany(w, r)
	case !r.ProtoAtLeast(1, 1):
		w.Header().Set("Connection", "close")
		say(w, http.StatusHTTPVersionNotSupported, "HTTP/1.1 or newer is needed")
	case r.Host != h.config.Host:
		say(w, http.StatusMisdirectedRequest, "another host is served here")
	case r.RequestURI != r.URL.Path: // a query, an escape, a whole URL
		say(w, http.StatusNotFound, "there is nothing here")
	case h.methods[r.URL.Path] != nil:
		h.ask(w, r, h.methods[r.URL.Path])
	default:
		h.file(w, r)
	}
}

// file answers with what is the same for everybody.
func (h *handler) file(w http.ResponseWriter, r *http.Request) {
	f := h.files.find(r.URL.Path)
	switch {
	case f == nil:
		say(w, http.StatusNotFound, "there is nothing here")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		say(w, http.StatusMethodNotAllowed, "this is for reading")
	case r.ContentLength != 0:
		w.Header().Set("Connection", "close")
		say(w, http.StatusBadRequest, "who reads sends nothing")
	default:
		f.serve(w, r)
	}
}

// maxCode bounds what stands where a code does, in characters.
const maxCode = 256

// find returns a page or what it loads, or nil. What a code says is not looked at.
func (l *files) find(p string) *file {
	if f := l.assets[p]; f != nil {
		return f
	}
	if p == "/p" {
		return l.enrolment
	}
	code, ok := strings.CutPrefix(p, "/V/")
	if !ok {
		code, ok = strings.CutPrefix(p, "/v/")
	}
	if ok && code != "" && len(code) <= maxCode && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == "" {
		return l.void
	}
	return nil
}

// tooMany answers who comes too often.
func (h *handler) tooMany(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "2")
	if h.methods[r.URL.Path] == nil {
		say(w, http.StatusTooManyRequests, "there were too many requests")
		return
	}
	refuse(w, http.StatusTooManyRequests, fault.RateLimited.String())
}

// say answers in words, to who is no page.
func say(w http.ResponseWriter, status int, words string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(words + "\n")) // who has gone away is told nothing
}

// ask answers a page. Whatever is refused before the backend was asked has changed nothing.
func (h *handler) ask(w http.ResponseWriter, r *http.Request, m method) {
	defer func() {
		if p := recover(); p != nil { // the backend has panics of its own in its log
			refuse(w, http.StatusInternalServerError, fault.Internal.String())
		}
	}()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		refuse(w, http.StatusMethodNotAllowed, "METHOD")
		return
	}
	if !h.own(r.Header) {
		refuse(w, http.StatusForbidden, "ORIGIN")
		return
	}
	if kinds := r.Header["Content-Type"]; len(kinds) != 1 || kinds[0] != "application/json" || r.Header["Content-Encoding"] != nil {
		refuse(w, http.StatusUnsupportedMediaType, "CONTENT_TYPE")
		return
	}
	if !h.asks.allow(addressOf(r.RemoteAddr)) {
		h.tooMany(w, r)
		return
	}
	body, status := readBody(w, r)
	if status != 0 {
		w.Header().Set("Connection", "close")
		refuse(w, status, "BODY")
		return
	}
	fields, err := parse(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, fault.RequestInvalid.String())
		return
	}
	// Who goes away stops nothing that was begun: what takes a try has to be counted.
	ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(r.Context()), addressKey{}, peer(r.RemoteAddr)), requestTime)
	defer cancel()
	answer, err := m(ctx, fields)
	if err != nil {
		refuseFor(w, err)
		return
	}
	write(w, http.StatusOK, answer)
}

// own reports whether a request is from a page of this host's, as browsers say and no page can forge.
// One that says nothing of where it was made has to say where it came from.
func (h *handler) own(header http.Header) bool {
	site, origin := header["Sec-Fetch-Site"], header["Origin"]
	if len(origin) > 1 || len(origin) == 1 && origin[0] != h.config.origin() {
		return false
	}
	if site == nil {
		return len(origin) == 1
	}
	return len(site) == 1 && site[0] == "same-origin"
}

// peer is the address of a connection, whole.
func peer(remote string) netip.Addr {
	p, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr().Unmap().WithZone("")
}
