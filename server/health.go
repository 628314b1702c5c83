package server

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// watchInterval is how often a watcher's view is brought up to date.
const watchInterval = time.Second

// healthBinding answers grpc.health.v1: SERVING while at least one module that can use keys is attached
// and the server does not drain. It looks whenever it is asked, so that no change can be
// missed.
type healthBinding struct {
	health.UnimplementedHealthServer
	services map[string]bool // that have a health; "" is the server's
	attached func() int
	draining <-chan struct{}
}

// Check implements grpc.health.v1.Health.
func (b healthBinding) Check(_ context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if !b.services[r.GetService()] {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &health.HealthCheckResponse{Status: b.state()}, nil
}

// List implements grpc.health.v1.Health.
func (b healthBinding) List(context.Context, *health.HealthListRequest) (*health.HealthListResponse, error) {
	answer := &health.HealthListResponse{Statuses: make(map[string]*health.HealthCheckResponse, len(b.services))}
	for name := range b.services {
		answer.Statuses[name] = &health.HealthCheckResponse{Status: b.state()}
	}
	return answer, nil
}

// Watch implements grpc.health.v1.Health. A watcher learns that the server drains as
// the last thing, and then its stream ends, so that it does not hold up the end.
func (b healthBinding) Watch(r *health.HealthCheckRequest, stream health.Health_WatchServer) error {
	known := b.services[r.GetService()]
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	sent := health.HealthCheckResponse_UNKNOWN
	for {
		drains := b.drains() // before the state, so that the last one sent is of the drain
		state := health.HealthCheckResponse_SERVICE_UNKNOWN
		if known {
			state = b.state()
		}
		if state != sent {
			if err := stream.Send(&health.HealthCheckResponse{Status: state}); err != nil {
				return err
			}
			sent = state
		}
		if drains {
			return status.Error(codes.Unavailable, "the server drains")
		}
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-b.draining:
		case <-ticker.C:
		}
	}
}

func (b healthBinding) state() health.HealthCheckResponse_ServingStatus {
	if b.drains() || b.attached() == 0 {
		return health.HealthCheckResponse_NOT_SERVING
	}
	return health.HealthCheckResponse_SERVING
}

func (b healthBinding) drains() bool {
	select {
	case <-b.draining:
		return true
	default:
		return false
	}
}
