package front

import (
	"errors"

	"keyd/admin"
	"keyd/metrics"
	"keyd/server"
	"keyd/supervisor/child"
)

// pages are what the second listener serves.
func (f *front) pages(service *server.Server, processes func() []child.ChildState) *admin.Server {
	sources := metrics.Sources{
		Version: f.Version, Audit: f.log, Serials: f.serials, Modules: f.modules,
		Processes: processes, InUse: f.inUse, Connections: service.Connections, Ends: f.distribution.Ends,
	}
	if f.tracer != nil {
		sources.Dropped = f.tracer.Dropped
	}
	f.metrics.Watch(sources)
	return admin.New(admin.Options{Metrics: f.metrics.Handler(), Ready: func() error { return f.ready(service) }})
}

// ready says why requests cannot be served.
func (f *front) ready(service *server.Server) error {
	switch {
	case service.Draining():
		return errors.New("the service stops")
	case f.modules.Attached() == 0:
		return errors.New("no module can be asked")
	case f.log.Err() != nil:
		return errors.New("the audit log cannot be written")
	}
	return nil
}
