package metrics

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"keyd/audit"
	"keyd/hsm"
	"keyd/ksn"
	"keyd/server"
	"keyd/supervisor/child"
	"keyd/terminals"
)

// Sources are what is asked at each scrape. All are needed but where it says otherwise.
type Sources struct {
	Version     string
	Audit       *audit.Log
	Serials     *ksn.Ledger
	Modules     *hsm.Client
	Processes   func() []child.ChildState
	InUse       func() server.InUse
	Connections func() (open int, refused uint64)

	// Ends returns when what terminals get their keys by runs out.
	Ends func(context.Context) ([]terminals.End, error)

	// Dropped returns how many spans were not exported. nil where nothing is traced.
	Dropped func() uint64
}

// Metrics are all that a front exports.
type Metrics struct {
	// Requests is told of each request.
	Requests *Requests

	// Reloads counts reloads.
	Reloads *Reloads

	registry *prometheus.Registry
}

// New returns the metrics of a front, with those of Go's runtime.
func New() *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector())
	return &Metrics{Requests: newRequests(r), Reloads: newReloads(r), registry: r}
}

// Watch adds what is asked at each scrape. It is called once.
func (m *Metrics) Watch(s Sources) { m.registry.MustRegister(newCollector(s)) }

// Gatherer gives the metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// maxScrapes bounds the scrapes at once: each asks the modules.
const maxScrapes = 4

// Handler serves the metrics in the formats that Prometheus reads.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, ErrorHandling: promhttp.ContinueOnError})
}

// Reloads counts reloads by what was reloaded.
type Reloads struct{ total *prometheus.CounterVec }

// What can be reloaded.
const (
	ReloadPolicy = "policy"
	ReloadTLS    = "tls"
	ReloadWeb    = "web" // the pages for phones
)

func newReloads(r prometheus.Registerer) *Reloads {
	m := &Reloads{total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keyd_reloads_total", Help: "Reloads, by what was reloaded (policy, or tls: certificate, key, client authorities; or web: certificate and key of the pages for phones) and result: ok, or kept where the old stayed in use.",
	}, []string{"what", "result"})}
	r.MustRegister(m.total)
	for _, what := range []string{ReloadPolicy, ReloadTLS, ReloadWeb} {
		for _, result := range []string{"ok", "kept"} {
			m.total.WithLabelValues(what, result)
		}
	}
	return m
}

// Done counts a reload of [ReloadPolicy], [ReloadTLS] or [ReloadWeb].
func (m *Reloads) Done(what string, err error) {
	result := "ok"
	if err != nil {
		result = "kept"
	}
	m.total.WithLabelValues(what, result).Inc()
}
