package metrics

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyd/fault"
	"keyd/policies"
	"keyd/server"
)

// other stands for every method, reason and operation that is not in its table.
const other = "other"

// buckets of latencies in seconds: from what an answer from memory takes to what a caller
// without a deadline waits at most (server.DefaultDeadline).
var buckets = []float64{.00005, .0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}

// methods are the labels of methods: the policies' table, what phones ask for, what needs no policy, and the
// rest.
var methods = func() (names []string) {
	for _, m := range policies.Methods {
		names = append(names, m.Name)
	}
	names = append(names, server.PageMethods()...)
	return append(names, "health", "reflection", other)
}()

// reasons are the labels of outcomes.
var reasons = func() (names []string) {
	names = []string{server.ReasonOK, server.ReasonCancelled, server.ReasonDeadline}
	for _, r := range fault.Table {
		names = append(names, r.Name)
	}
	return append(names, other)
}()

// indexOf finds positions by name; what has none is the last.
type indexOf map[string]int

func index(names []string) indexOf {
	in := make(indexOf, len(names))
	for i, n := range names {
		in[n] = i
	}
	return in
}

var (
	methodIndex = index(methods)
	reasonIndex = index(reasons)
)

// methodOf is a method's position in methods, whatever it is called.
func methodOf(name string) int {
	if i, ok := methodIndex[name]; ok {
		return i
	}
	switch {
	case strings.HasPrefix(name, "/grpc.health.v1."):
		return methodIndex["health"]
	case strings.HasPrefix(name, "/grpc.reflection.v1"):
		return methodIndex["reflection"]
	}
	return len(methods) - 1
}

func reasonOf(name string) int {
	if i, ok := reasonIndex[name]; ok {
		return i
	}
	return len(reasons) - 1
}

// Requests counts requests. It implements [server.Metrics], and its method Operation is a
// hsm.Observer.
type Requests struct {
	total    *prometheus.CounterVec
	seconds  []prometheus.Observer // by method
	inFlight []prometheus.Gauge    // by method
	counters []atomic.Pointer[prometheus.Counter]

	operations  *prometheus.HistogramVec
	unavailable *prometheus.CounterVec

	audit       prometheus.Observer
	auditFailed prometheus.Counter
}

var _ server.Metrics = (*Requests)(nil)

// newRequests registers the metrics of requests.
func newRequests(r prometheus.Registerer) *Requests {
	m := &Requests{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_requests_total", Help: "Requests that ended, by method and by reason: OK, or why they were refused. An item of a stream is a request.",
		}, []string{"method", "reason"}),
		counters: make([]atomic.Pointer[prometheus.Counter], len(methods)*len(reasons)),
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyd_module_operation_seconds", Help: "Time from a request to a module to its answer.", Buckets: buckets,
		}, []string{"operation"}),
		unavailable: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_module_operations_failed_total", Help: "Operations that no module answered in time.",
		}, []string{"operation"}),
		auditFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyd_audit_append_failures_total", Help: "Audit entries that did not become durable; their answers were withheld.",
		}),
	}
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "keyd_request_seconds", Help: "Time that requests took in the front, audit entry included.", Buckets: buckets,
	}, []string{"method"})
	inFlight := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "keyd_requests_in_flight", Help: "Requests under way.",
	}, []string{"method"})
	audit := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "keyd_audit_append_seconds", Help: "Time until an audit entry was durable.", Buckets: buckets,
	})
	m.audit = audit
	r.MustRegister(m.total, m.operations, m.unavailable, m.auditFailed, seconds, inFlight, audit)
	for i, name := range methods {
		m.seconds = append(m.seconds, seconds.WithLabelValues(name))
		m.inFlight = append(m.inFlight, inFlight.WithLabelValues(name))
		for reason := range reasons {
			m.counter(i, reason) // the first of its kind is an increase from 0, which an alarm sees
		}
	}
	return m
}

// counter returns the counter at a place, which comes into being when it is needed.
func (m *Requests) counter(method, reason int) prometheus.Counter {
	at := &m.counters[method*len(reasons)+reason]
	if c := at.Load(); c != nil {
		return *c
	}
	c := m.total.WithLabelValues(methods[method], reasons[reason])
	at.Store(&c)
	return c
}

// Began implements [server.Metrics].
func (m *Requests) Began(method string) { m.inFlight[methodOf(method)].Inc() }

// Ended implements [server.Metrics].
func (m *Requests) Ended(method, reason string, took time.Duration) {
	i := methodOf(method)
	m.inFlight[i].Dec()
	m.seconds[i].Observe(took.Seconds())
	m.counter(i, reasonOf(reason)).Inc()
}

// Recorded implements [server.Metrics].
func (m *Requests) Recorded(took time.Duration, err error) {
	if err != nil {
		m.auditFailed.Inc()
		return
	}
	m.audit.Observe(took.Seconds())
}

// Operation is told of every operation that a module is asked for. Its names are those
// of keyd's own messages.
func (m *Requests) Operation(_ context.Context, operation string, _ int) (done func(error)) {
	started := time.Now()
	return func(err error) {
		if err != nil && fault.Of(err).Reason == fault.ModuleUnavailable {
			m.unavailable.WithLabelValues(operation).Inc()
			return
		}
		m.operations.WithLabelValues(operation).Observe(time.Since(started).Seconds())
	}
}
