package e2e

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	keydv1 "keyd/api/keyd/v1"
)

// admin returns the address of the second listener.
func (s *service) admin() string {
	s.t.Helper()
	address := ""
	waitUntil(s.t, "the second listener is there", func() bool {
		_, after, found := strings.Cut(s.logged(), `"msg":"metrics, health and profiles","address":"`)
		address, _, _ = strings.Cut(after, `"`)
		return found
	})
	return address
}

// get asks the second listener.
func (s *service) get(path string) (status int, body string) {
	s.t.Helper()
	answer, err := http.Get("http://" + s.admin() + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// metric returns the sum over the series of a metric that have these labels, and whether
// there are any.
func (s *service) metric(name string, labels map[string]string) (sum float64, found bool) {
	s.t.Helper()
	_, body := s.get("/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range families[name].GetMetric() {
		have := map[string]string{}
		for _, l := range m.GetLabel() {
			have[l.GetName()] = l.GetValue()
		}
		match := true
		for k, v := range labels {
			match = match && have[k] == v
		}
		if match {
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum, found
}

func TestMetricsHealthAndProfiles(t *testing.T) {
	s := startWith(t, filepath.Join(tempDir(t), "dev"), []string{"--admin", "127.0.0.1:0", "--verify-limits", "10,60,200"})
	const pan = "4012345678909"
	for range 3 {
		if _, err := s.pins().VerifyPinData(s.ctx(), verification()); reason(err) != "KEY_NOT_FOUND" {
			t.Fatal(err)
		}
	}
	// What a caller may write where it might end in a label.
	hostile := verification()
	hostile.VerificationKeyId, hostile.Incoming.KeyId = pan, `x"} evil{a="`+pan
	_, _ = s.pins().VerifyPinData(s.ctx(), hostile)
	conn := s.connect(s.tls("switch"))
	_ = conn.Invoke(s.ctx(), "/keyd.v1.PinService/"+pan, &keydv1.GetStatusRequest{}, &keydv1.GetStatusResponse{})
	_ = conn.Invoke(s.ctx(), "/"+pan+"/X", &keydv1.GetStatusRequest{}, &keydv1.GetStatusResponse{})
	odd := s.tls("switch")
	odd.ServerName = "pan-" + pan + ".example"
	odd.InsecureSkipVerify = true
	_ = s.connect(odd).Invoke(s.ctx(), "/keyd.v1.PinService/VerifyPinData", verification(), &keydv1.VerifyPinDataResponse{})
	s.status()

	for name, want := range map[string]struct {
		labels map[string]string
		least  float64
	}{
		"keyd_requests_total":                           {map[string]string{"method": "PinService/VerifyPinData", "reason": "KEY_NOT_FOUND"}, 4},
		"keyd_request_seconds":                          {map[string]string{"method": "StatusService/GetStatus"}, 1},
		"keyd_requests_in_flight":                       {map[string]string{"method": "other"}, 0},
		"keyd_module_operation_seconds":                 {map[string]string{"operation": "Describe"}, 1},
		"keyd_modules_attached":                         {nil, 1},
		"keyd_module_operations_in_flight":              {map[string]string{"module": "0"}, 0},
		"keyd_process_state":                            {map[string]string{"role": "front", "state": "ready"}, 1},
		"keyd_process_restarts_total":                   {map[string]string{"role": "module", "module": "1"}, 0},
		"keyd_token_calls_total":                        {map[string]string{"module": "0", "function": "C_DeriveKey"}, 1},
		"keyd_token_errors_total":                       {map[string]string{"module": "0", "class": "token_dead"}, 0},
		"keyd_velocity_entries":                         {map[string]string{"module": "0"}, 1},
		"keyd_ksn_accepted_total":                       {nil, 0},
		"keyd_audit_append_seconds":                     {nil, 4},
		"keyd_audit_writable":                           {nil, 1},
		"keyd_tls_certificate_expiry_timestamp_seconds": {nil, 1},
		"keyd_web_certificate_expiry_timestamp_seconds": {nil, 1},
		"keyd_policy_info":                              {map[string]string{"digest": s.status().Policy.Digest}, 1},
		"keyd_connections":                              {nil, 1},
		"keyd_reloads_total":                            {map[string]string{"what": "policy", "result": "ok"}, 0},
		"go_goroutines":                                 {nil, 1},
	} {
		if got, found := s.metric(name, want.labels); !found || got < want.least {
			t.Errorf("%s%v is %v, want at least %v (found: %v)", name, want.labels, got, want.least, found)
		}
	}
	status, body := s.get("/metrics")
	if status != http.StatusOK || strings.Contains(body, pan) || strings.Contains(body, "evil") {
		t.Errorf("what a caller wrote is in the metrics:\n%s", body)
	}

	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/": 404, "/debug/pprof/": 404, "/debug/pprof/cmdline": 404,
		"/debug/pprof/goroutine": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/goroutine?debug=2": 403,
		"/debug/pprof/heap": 200, "/debug/pprof/profile?seconds=1": 200, "/debug/pprof/profile?seconds=0.2": 400, "/debug/pprof/profile?seconds=3600": 400,
		"/debug/pprof/trace?seconds=1": 200,
	} {
		if got, body := s.get(path); got != want {
			t.Errorf("%s: status %d, want %d: %.200s", path, got, want, body)
		}
	}
	if state := confinement(s.status(), "seccomp"); state != "on" {
		t.Errorf("seccomp is %s", state)
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+s.admin()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "keyd.attacker.example" // a page in somebody's browser
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden {
		t.Errorf("by a foreign name: %v", answer.Status)
	}

	// The address stays when the front is started again, and so does what it says.
	front := processes(s.status(), "front")[0]
	kill(front)
	waitUntil(t, "a new front", func() bool {
		got, _ := s.metric("keyd_process_restarts_total", map[string]string{"role": "front"})
		return got == 1
	})
}

func confinement(s *keydv1.GetStatusResponse, name string) string {
	for _, m := range s.FrontConfinement {
		if m.Name == name {
			return m.State
		}
	}
	return ""
}

func TestAdminIsLoopbackOnly(t *testing.T) {
	s := &service{t: t}
	for _, address := range []string{"0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "localhost:9464", ":9464"} {
		if _, err := s.command("", "dev", "--dir", filepath.Join(tempDir(t), "dev"), "--admin", address); err == nil || !strings.Contains(err.Error(), "--admin") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestStatusForPeopleAndScripts(t *testing.T) {
	s := start(t)
	out, err := s.command("", "status", "--dir", s.dir, "--as", "auditor")
	if err != nil || !strings.HasPrefix(out, "all is well\n") {
		t.Errorf("%v:\n%s", err, out)
	}
	for _, want := range []string{"policy ", "certificate ", "client authorities ", "failed calls"} {
		if !regexp.MustCompile(`(?m)^ *` + want).MatchString(out) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	s.replace(s.file("config", "policy.yaml"), []byte("nonsense"))
	s.reload(kept)
	out, err = s.command("", "status", "--dir", s.dir, "--as", "auditor")
	if err == nil || !strings.Contains(err.Error(), "exit status 5") || !strings.HasPrefix(out, "WARNING: the newest policy is not in use") {
		t.Errorf("%v:\n%s", err, out)
	}
	out, err = s.command("", "status", "--dir", s.dir, "--as", "auditor", "--output", "json")
	if err == nil || !strings.Contains(err.Error(), "exit status 5") || !regexp.MustCompile(`"severity": +"WARNING"`).MatchString(out) {
		t.Errorf("%v:\n%s", err, out)
	}
	if _, err := s.command("", "status", "--dir", s.dir, "--as", "terminal-1"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("as somebody who may not ask: %v", err)
	}
}
