package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/datasvc"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/pinsvc"
	"keyd/pinsvc/records"
	"keyd/policies"
	"keyd/store"
	"keyd/supervisor/child"
	"keyd/terminals"
	"keyd/voids"
)

// Config is what a server is made of. Everything is needed unless it says otherwise.
type Config struct {
	// TLS comes from [LoadTLS]. Terminals are let in besides, whose certificates lead to an
	// authority that officers believe for terminals.
	TLS *tls.Config

	// Policy says who may do what, until [Server.SetPolicy]. A nil policy allows nothing.
	Policy *policies.Policy

	// Audit takes the entry of every decision. The server does not close it.
	Audit *audit.Log

	// Keys is the inventory of sealed keys.
	Keys *keys.Inventory

	// Officers are the ceremonies in which keys come and go.
	Officers *keys.Ceremonies

	// Serials is the record of key serial numbers that were used. The server does not
	// close it.
	Serials *ksn.Ledger

	// Terminals is the inventory of terminals.
	Terminals *terminals.Inventory

	// Distribution is how terminals get keys.
	Distribution *terminals.Distribution

	// PINRecords is the database, as PIN records have it.
	PINRecords store.PINRecords

	// Voids is the database, as void requests have it.
	Voids store.Voids

	// Backups is the database, as a backup has it.
	Backups store.Backups

	// Modules carry out the operations. The server is healthy while one is attached, and
	// they have the register of officers and keys.
	Modules *hsm.Client

	// Log gets denials, failures and panics.
	Log *slog.Logger

	// Metrics is told of every request. May be nil.
	Metrics Metrics

	// Tracer makes spans of requests. May be nil.
	Tracer Tracer

	// InUse returns what the front goes by at the moment, for GetStatus. May be nil.
	InUse func() InUse

	// Version of keyd, for GetStatus. May be empty.
	Version string

	// Processes returns how the supervisor's children stand, for GetStatus. May be nil.
	Processes func() []child.ChildState

	// Confinement is what confines this process, for GetStatus. May be empty.
	Confinement []hsm.Measure

	// Reflection offers the contract to any valid certificate. For development.
	Reflection bool
}

// Server is keyd's gRPC service.
type Server struct {
	grpc     *grpc.Server
	steps    []grpc.UnaryServerInterceptor // of a request, or of an item of a stream
	inForce  *inForce
	clients  *clients
	draining chan struct{}
	drain    sync.Once
	voids    *voids.Service
	pages    pages

	connections *connections
	refusals    *refusals
}

// New returns a server that listens nowhere yet. It refuses a configuration that lacks
// something or whose TLS would let in more than certificates of known authorities.
func New(c Config) (*Server, error) {
	if err := checkTLS(c.TLS); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if c.Audit == nil || c.Keys == nil || c.Officers == nil || c.Serials == nil || c.Terminals == nil || c.Distribution == nil || c.PINRecords == nil || c.Voids == nil || c.Backups == nil || c.Modules == nil || c.Log == nil {
		return nil, errors.New("server: audit log, keys, officers, serial numbers, terminals, their keys, PIN records, voids, database, modules and log are all needed")
	}
	if c.Processes == nil {
		c.Processes = func() []child.ChildState { return nil }
	}
	if c.InUse == nil {
		c.InUse = func() InUse { return InUse{} }
	}
	s := newServer(c)
	access := gate{}
	used := keyuse.New(c.Keys, c.Serials, access)
	pins, data := pinsvc.New(used, c.Modules), datasvc.New(used, c.Modules)
	keydv1.RegisterPinServiceServer(s.grpc, pinBinding{pins: pins, steps: s.steps, draining: s.draining})
	keydv1.RegisterMacServiceServer(s.grpc, macBinding{data: data})
	keydv1.RegisterDataServiceServer(s.grpc, dataBinding{data: data})
	keydv1.RegisterVelocityServiceServer(s.grpc, velocityBinding{pins: pins})
	keydv1.RegisterCeremonyServiceServer(s.grpc, ceremonyBinding{access: access, officers: c.Officers})
	keydv1.RegisterKeyServiceServer(s.grpc, keyBinding{access: access, officers: c.Officers, inventory: c.Keys})
	keydv1.RegisterTerminalServiceServer(s.grpc, terminalBinding{
		access: access, steps: s.steps, uploads: make(chan struct{}, maxUploads), inventory: c.Terminals, distribution: c.Distribution, keys: c.Keys,
	})
	pinRecords := records.New(c.PINRecords, used, c.Keys, c.Officers, c.Modules)
	keydv1.RegisterPinRecordServiceServer(s.grpc, recordBinding{access: access, records: pinRecords})
	s.voids = voids.New(voids.Config{
		Store: c.Voids, Used: used, Keys: c.Keys, Records: tries{pinRecords}, Authorities: c.Officers, Modules: c.Modules, Settings: voidSettings,
	})
	keydv1.RegisterVoidServiceServer(s.grpc, voidBinding{access: access, steps: s.steps, draining: s.draining, watching: make(chan struct{}, maxWatchers), voids: s.voids})
	s.pages = pages{newPhones(c, s.inForce, s.clients), s.voids, pinRecords}
	keydv1.RegisterFleetServiceServer(s.grpc, fleetBinding{access: access, officers: c.Officers})
	keydv1.RegisterAuditServiceServer(s.grpc, auditBinding{access: access, log: c.Audit})
	keydv1.RegisterBackupServiceServer(s.grpc, backupBinding{
		access: access, steps: s.steps, draining: s.draining, busy: new(atomic.Bool),
		version: c.Version, database: c.Backups, audit: c.Audit, modules: c.Modules, officers: c.Officers,
	})
	keydv1.RegisterStatusServiceServer(s.grpc, statusBinding{
		access: access, version: c.Version, started: time.Now(),
		processes: c.Processes, confinement: c.Confinement, inUse: c.InUse, connections: s.Connections, drains: s.Draining,
		modules: c.Modules, inventory: c.Keys, serials: c.Serials, audit: c.Audit, officers: c.Officers, terminals: c.Distribution,
	})
	services := map[string]bool{"": true}
	for name := range s.grpc.GetServiceInfo() {
		services[name] = true
	}
	health.RegisterHealthServer(s.grpc, healthBinding{services: services, attached: func() int {
		if !c.Officers.Ready() { // no module takes a key without the register
			return 0
		}
		return c.Modules.Attached()
	}, draining: s.draining})
	if c.Reflection {
		reflection.Register(s.grpc)
	}
	return s, nil
}

// streamWorkers keep their goroutines, and their stacks, from request to request. When
// all are busy a request gets a goroutine of its own.
const streamWorkers = 1024

// newServer returns a server with every step of a request's way, and no service.
func newServer(c Config) *Server {
	policy, known := new(inForce), newClients(c.Log, func(e audit.Entry) error { return c.Audit.AppendWithin(recordLimit, e) })
	policy.policy.Store(c.Policy)
	translate, record, observe := translator{c.Log}, recorder{c.Audit, known, c.Metrics}, observer{c.Metrics, c.Tracer}
	who := identifier{c.Terminals}
	// In the order of the package comment. A panic is recovered twice: inside, so that
	// it is recorded like other failures, and outside, for the recorder's own.
	steps := []grpc.UnaryServerInterceptor{
		translate.unary,
		observe.unary,
		recoverPanic,
		record.unary,
		recoverPanic,
		limitTime,
		policy.begin,
		who.unary,
		known.admit,
		requireAuthorization,
		refuseUnknown,
	}
	s := &Server{
		steps: steps, draining: make(chan struct{}),
		inForce: policy, clients: known, connections: newConnections(c.TLS.Clone(), c.Officers), refusals: &refusals{log: c.Log},
	}
	options := append(limits(),
		grpc.NumStreamWorkers(uint32(streamWorkers)),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.Creds(loggedTLS{credentials.NewTLS(s.connections.config()), s.refusals, s.connections}),
		grpc.ChainUnaryInterceptor(steps...),
		grpc.ChainStreamInterceptor(
			translate.stream,
			recoverStreamPanic,
			known.stream(policy, who),
			knownStreamsOnly,
		),
	)
	s.grpc = grpc.NewServer(options...)
	return s
}

// SetPolicy puts another policy in force, for requests that begin from now on and for
// further items of streams; those under way end with the one that they began with. A
// limit that is used up stays so. A nil policy allows nothing. It may be called at any
// time by any goroutine.
func (s *Server) SetPolicy(p *policies.Policy) { s.inForce.policy.Store(p) }

// ExpireVoids ends voids whose time is over, and returns how many.
func (s *Server) ExpireVoids(ctx context.Context) (int, error) { return s.voids.Expire(ctx) }

// Serve accepts connections on a bound listener until [Server.Drain], and then returns
// nil. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(netutil.LimitListener(l, MaxConnections))
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve gRPC: %w", err)
	}
	return nil
}

// Drain stops the server: health turns NOT_SERVING, no connection and no request is
// accepted any more, requests under way end. When ctx ends before they have, they are
// broken off, and Drain returns ctx's error. It may be called again.
func (s *Server) Drain(ctx context.Context) error {
	s.drain.Do(func() { close(s.draining) })
	defer s.clients.report()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.grpc.Stop()
	<-done
	return fmt.Errorf("drain: requests were broken off: %w", ctx.Err())
}

// Draining reports whether [Server.Drain] was called.
func (s *Server) Draining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}
