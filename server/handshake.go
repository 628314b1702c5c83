package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// loggedTLS is TLS that tells the operator whom it did not let in, and why: the client
// reads no more than an alert. It knows the connections that are open.
type loggedTLS struct {
	credentials.TransportCredentials
	refusals *refusals
	open     *connections
}

// ServerHandshake implements [credentials.TransportCredentials].
func (t loggedTLS) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := t.TransportCredentials.ServerHandshake(conn)
	if err == nil {
		secured, info, err = t.open.add(secured, info)
	}
	if err != nil && !errors.Is(err, io.EOF) { // a probe of the port says nothing
		t.refusals.report(conn.RemoteAddr(), err)
	}
	if err != nil {
		return nil, nil, err
	}
	return secured, info, nil
}

// Clone implements [credentials.TransportCredentials].
func (t loggedTLS) Clone() credentials.TransportCredentials {
	return loggedTLS{t.TransportCredentials.Clone(), t.refusals, t.open}
}

// maxRefusals bounds the lines per second about connections that were refused:
// whoever reaches the port can cause them.
const maxRefusals = 10

// refusals logs connections that were refused.
type refusals struct {
	log   *slog.Logger
	total atomic.Uint64

	mu      sync.Mutex
	second  time.Time
	lines   int
	skipped int
}

func (r *refusals) report(peer net.Addr, cause error) {
	r.total.Add(1)
	r.mu.Lock()
	now := time.Now().Truncate(time.Second)
	if !now.Equal(r.second) {
		r.second, r.lines = now, 0
	}
	r.lines++
	if r.lines > maxRefusals {
		r.skipped++
		r.mu.Unlock()
		return
	}
	skipped := r.skipped
	r.skipped = 0
	r.mu.Unlock()
	r.log.Info("connection refused", "peer", peer.String(), "cause", cause.Error(), "not_logged_before", skipped)
}
