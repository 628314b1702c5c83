package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"keyd/audit"
	"keyd/fault"
	"keyd/hsm"
	"keyd/ksn"
	"keyd/policies"
	"keyd/server"
	"keyd/store"
	"keyd/supervisor/child"
	"keyd/terminals"
	"keyd/vault/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pan = "4012345678909"

// sources are a front's, with modules that nobody attached.
func sources(t *testing.T) Sources {
	t.Helper()
	dir := t.TempDir()
	log, err := audit.Open(filepath.Join(dir, "audit"), audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	database, err := store.OpenSQLite(context.Background(), filepath.Join(dir, "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = database.Close() })
	serials, err := ksn.Open(context.Background(), database, ksn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serials.Close() })
	modules := hsm.NewClient(time.Second, slog.New(slog.DiscardHandler))
	t.Cleanup(modules.Close)
	return Sources{
		Version: "1", Audit: log, Serials: serials, Modules: modules,
		Processes: func() []child.ChildState {
			return []child.ChildState{{Role: child.RoleFront, Phase: child.PhaseReady}, {Role: child.RoleModule, Index: 3, Phase: child.PhaseWaiting, Restarts: 2, LastExit: "signal: killed"}}
		},
		InUse: func() server.InUse {
			now := time.Now()
			return server.InUse{Policy: server.PolicyInUse{Digest: strings.Repeat("ab", 32), LoadedAt: now},
				TLS:   server.TLSInUse{Serial: "1", NotAfter: now, LoadedAt: now, AuthoritiesUntil: now, Failed: server.FailedReload{At: now, Why: "of " + pan}},
				Pages: &server.PagesInUse{Serial: "2", NotAfter: now, LoadedAt: now, Failed: server.FailedReload{At: now, Why: "of " + pan}},
				Vault: &report.Report{At: now, Problem: "said " + pan, Certificates: []report.Certificate{{Name: "/var/lib/keyd/tls", Server: true, NotAfter: now, RenewAt: now, Problem: "of " + pan}}}}
		},
		Connections: func() (int, uint64) { return 2, 7 },
		Dropped:     func() uint64 { return 0 },
		Ends: func(context.Context) ([]terminals.End, error) {
			at := time.Now()
			return []terminals.End{{Kind: terminals.EndMakerList, Name: "0011223344556677", At: at}, {Kind: terminals.EndHostList, Name: "kdh-rsa", At: at}, {Kind: terminals.EndHostCertificate, Name: "kdh-rsa", At: at}}, nil
		},
	}
}

// modulesOf emits the metrics of modules that say anything.
type modulesOf struct {
	*collector
	list []hsm.Description
}

func (m modulesOf) Collect(out chan<- prometheus.Metric) {
	for _, d := range m.list {
		m.collectModule(emitter{out}, d)
	}
}

func gather(t *testing.T, g prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	list, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := map[string]*dto.MetricFamily{}
	for _, f := range list {
		families[f.GetName()] = f
	}
	return families
}

// TestLabelsAreFromClosedSets walks every metric after calls whose every word is hostile.
func TestLabelsAreFromClosedSets(t *testing.T) {
	m := New()
	s := sources(t)
	m.Watch(s)
	m.registry.MustRegister(modulesOf{newCollector(s), []hsm.Description{{
		Module:      0,
		EpochLoaded: 6, EpochPinned: 7,
		Calls:    []hsm.TokenCalls{{Name: "C_Encrypt CKM_DES3_ECB", Count: 1, Blocks: 1}, {Name: "C_Sign\n" + pan}, {Name: strings.Repeat("x", 4096)}},
		Errors:   []hsm.TokenErrors{{Class: "busy", Count: 1}, {Class: "\"} evil{"}},
		Velocity: &hsm.Velocity{Failing: pan},
	}}})
	for i := range 2000 {
		method := []string{
			fmt.Sprintf("/evil.Service/%d", i), "PinService/" + pan, "PinService/TranslatePinData\x00", fmt.Sprintf("/grpc.health.v1.Health/%d", i),
			fmt.Sprintf("/grpc.reflection.v1alpha.ServerReflection/%d", i), policies.Methods[i%len(policies.Methods)].Name,
		}[i%6]
		reason := []string{"OK", pan, fmt.Sprint("REASON_", i), fault.Table[i%len(fault.Table)].Name}[i%4]
		m.Requests.Began(method)
		m.Requests.Ended(method, reason, time.Millisecond)
	}
	m.Requests.Recorded(time.Millisecond, nil)
	m.Requests.Recorded(time.Millisecond, errors.New(pan))
	m.Requests.Operation(context.Background(), "TranslatePin", 0)(nil)
	m.Requests.Operation(context.Background(), "TranslatePin", 0)(fault.New(fault.ModuleUnavailable, ""))
	m.Reloads.Done(ReloadPolicy, errors.New(pan))

	var states []string
	for _, p := range phases {
		states = append(states, string(p))
	}
	allowed := map[string][]string{
		"method":    methods,
		"reason":    reasons,
		"operation": {"TranslatePin"},
		"what":      {ReloadPolicy, ReloadTLS, ReloadWeb},
		"result":    {"ok", "kept", "made", "failed"},
		"version":   {s.Version},
		"digest":    {s.InUse().Policy.Digest},
		"role":      {child.RoleFront, child.RoleModule},
		"module":    {"", "0", "3"},
		"state":     states,
		"function":  {"C_Encrypt CKM_DES3_ECB", other},
		"class":     {"busy", other},
		"kind":      {registerLoaded, registerPinned},
		"directory": {"/var/lib/keyd/tls"},
		"server":    {"true"},
		"document":  terminals.EndKinds,
		"name":      {"0011223344556677", "kdh-rsa"},
	}
	series := 0
	families := gather(t, nonStrict{m.registry})
	for name, f := range families {
		if !strings.HasPrefix(name, "keyd_") {
			continue
		}
		for _, metric := range f.Metric {
			series++
			for _, l := range metric.Label {
				if !slices.Contains(allowed[l.GetName()], l.GetValue()) {
					t.Errorf("%s: %s=%q is not from a closed set", name, l.GetName(), l.GetValue())
				}
			}
		}
		if text := f.String(); strings.Contains(text, pan) || strings.Contains(text, "evil") {
			t.Errorf("%s holds what a caller wrote: %s", name, text)
		}
	}
	for _, name := range []string{"keyd_vault_failing", "keyd_vault_certificate_failing"} {
		if m := families[name].GetMetric(); len(m) != 1 || m[0].GetGauge().GetValue() != 1 {
			t.Errorf("%s: %v", name, families[name])
		}
	}
	if f := families["keyd_register_version"]; sumOf(f, "kind", registerLoaded) != 6 || sumOf(f, "kind", registerPinned) != 7 {
		t.Errorf("the register's versions: %v", f)
	}
	// The most there can be: each method with each reason, and what a front has besides.
	if most := len(methods)*(len(reasons)+2) + 100; series > most {
		t.Errorf("%d series, at most %d", series, most)
	}
	if got := len(families["keyd_requests_total"].Metric); got > len(methods)*len(reasons) {
		t.Errorf("%d series of keyd_requests_total", got)
	}
}

// nonStrict passes over that the hostile module names one thing twice ("other").
type nonStrict struct{ prometheus.Gatherer }

func (g nonStrict) Gather() ([]*dto.MetricFamily, error) {
	list, _ := g.Gatherer.Gather() // what could be gathered is gathered
	return list, nil
}

func TestRequestsAreCounted(t *testing.T) {
	m := New()
	const method = "PinService/VerifyPinData"
	m.Requests.Began(method)
	if got := gather(t, m.Gatherer())["keyd_requests_in_flight"]; sumOf(got, "method", method) != 1 {
		t.Errorf("in flight: %v", got)
	}
	m.Requests.Ended(method, server.ReasonOK, 3*time.Millisecond)
	m.Requests.Began(method)
	m.Requests.Ended(method, "RATE_LIMITED", time.Microsecond)
	families := gather(t, m.Gatherer())
	if sumOf(families["keyd_requests_in_flight"], "method", method) != 0 || sumOf(families["keyd_requests_total"], "method", method) != 2 ||
		sumOf(families["keyd_requests_total"], "reason", "RATE_LIMITED") != 1 {
		t.Errorf("%v", families)
	}
	for _, metric := range families["keyd_request_seconds"].Metric {
		if h := metric.Histogram; h.GetSampleCount() == 2 {
			for _, b := range h.Bucket {
				want := uint64(1)
				if b.GetUpperBound() >= .005 {
					want = 2
				}
				if b.GetCumulativeCount() != want {
					t.Errorf("bucket %v has %d", b.GetUpperBound(), b.GetCumulativeCount())
				}
			}
			return
		}
	}
	t.Error("no latencies")
}

func sumOf(f *dto.MetricFamily, label, value string) (sum float64) {
	for _, m := range f.GetMetric() {
		for _, l := range m.Label {
			if l.GetName() == label && l.GetValue() == value {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A scrape asks no module that does not answer for longer than its limit, and needs none.
func TestScrapeWithoutModules(t *testing.T) {
	m := New()
	m.Watch(sources(t))
	families := gather(t, m.Gatherer())
	if families["keyd_modules_attached"].Metric[0].Gauge.GetValue() != 0 || families["keyd_token_calls_total"] != nil {
		t.Errorf("%v", families)
	}
}

func BenchmarkRequest(b *testing.B) {
	m := New().Requests
	for b.Loop() {
		m.Began("PinService/TranslatePinData")
		m.Ended("PinService/TranslatePinData", server.ReasonOK, 300*time.Microsecond)
	}
}

func BenchmarkRequestParallel(b *testing.B) {
	m := New().Requests
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Began("PinService/TranslatePinData")
			done := m.Operation(context.Background(), "TranslatePin", 0)
			m.Recorded(100*time.Microsecond, nil)
			done(nil)
			m.Ended("PinService/TranslatePinData", server.ReasonOK, 300*time.Microsecond)
		}
	})
}
