package front

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"keyd/policies"
	"keyd/server"
	"keyd/web"
)

// nobodyAsks is a backend that is never asked.
type nobodyAsks struct{ web.Backend }

func phonePolicy(t *testing.T, section string) *policies.Policy {
	t.Helper()
	p, err := policies.Parse([]byte("version: 1\nidentities: []\nroles: {}\nvoids:\n  token_key: t\n  code_key: c\n  token_life: 300\n  code_life: 120\n" + section))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The pages are served at the host that the policy in force names, and nowhere where it lets nothing be
// done on phones.
func TestPagesFollowThePolicy(t *testing.T) {
	at := func(host string) string { return "  code_host: " + host + "\n  phone: {page_key: p, set_pin: false}\n" }
	p, err := newPhonePages(nobodyAsks{}, new(server.WebIdentity), phonePolicy(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		policy *policies.Policy
		want   map[string]int // by host
	}{
		{nil, map[string]int{"a.example": http.StatusNotFound}},
		{phonePolicy(t, at("a.example")), map[string]int{"a.example": http.StatusOK, "b.example": http.StatusMisdirectedRequest}},
		{phonePolicy(t, at("B.EXAMPLE:8443")), map[string]int{"a.example": http.StatusMisdirectedRequest, "b.example:8443": http.StatusOK, "b.example": http.StatusMisdirectedRequest, anyHost: http.StatusMisdirectedRequest}},
		{phonePolicy(t, "  code_host: b.example\n"), map[string]int{"b.example": http.StatusNotFound, "b.example:8443": http.StatusNotFound}},
		{nil, map[string]int{"b.example": http.StatusNotFound, anyHost: http.StatusNotFound}},
	} {
		if err := p.use(step.policy); err != nil {
			t.Fatal(err)
		}
		served := p.served.Load()
		if err := p.use(step.policy); err != nil || p.served.Load() != served {
			t.Errorf("the same policy forgets what is remembered of addresses: %v", err)
		}
		for host, want := range step.want {
			r := httptest.NewRequest(http.MethodGet, "/p", nil)
			r.Host = host
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s: %d, want %d", host, w.Code, want)
			}
		}
	}
}
