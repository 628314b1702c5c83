package server

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// What one client may take from the others.
const (
	// MaxRequest bounds a message, in bytes. The largest request of the contract has the
	// message of a MAC, or data, of 32 KiB, and less than a kilobyte besides.
	MaxRequest = 64 << 10

	// MaxConnections bounds the connections, those in their handshake included.
	MaxConnections = 4096

	// MaxTerminalConnections bounds those of terminals with certificates of their makers, so
	// that a flood of them leaves clients a quarter of the connections.
	MaxTerminalConnections = MaxConnections / 4 * 3

	// MaxDeviceConnections bounds those of one device, so that one that was stolen does not keep
	// all others out. A terminal needs one, and a second while it finds out that one has broken.
	MaxDeviceConnections = 8

	maxStreams       = 1000             // requests at once on a connection
	maxHeaders       = 16 << 10         // bytes of a request's metadata
	handshakeTimeout = 5 * time.Second  // TLS and HTTP/2 together
	minPingInterval  = 10 * time.Second // of a client; one that pings faster is dropped
	pingAfter        = 30 * time.Second // of silence, to notice a client that has gone
	pingTimeout      = 10 * time.Second

	// maxConnectionAge is when a client is asked, without losing a request, to come
	// again, and so to prove its certificate again.
	maxConnectionAge   = time.Hour
	maxConnectionGrace = time.Minute
)

func limits() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxRequest),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             minPingInterval,
			PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:                  pingAfter,
			Timeout:               pingTimeout,
			MaxConnectionAge:      maxConnectionAge,
			MaxConnectionAgeGrace: maxConnectionGrace,
		}),
	}
}
