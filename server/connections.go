package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// connections are those that are open, and the TLS identity by which new ones are let in.
type connections struct {
	identity atomic.Pointer[tls.Config]

	mu   sync.Mutex
	open map[*connection]struct{}
}

func newConnections(c *tls.Config) *connections {
	s := &connections{open: make(map[*connection]struct{})}
	s.identity.Store(c)
	return s
}

// config is the configuration for handshakes: that of the moment.
func (s *connections) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.identity.Load(), nil },
	}
}

// connection is one that is open, with the chain that the client showed, leaf first.
type connection struct {
	net.Conn
	chain []*x509.Certificate
	all   *connections
	once  sync.Once
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.once.Do(func() {
		c.all.mu.Lock()
		delete(c.all.open, c)
		c.all.mu.Unlock()
	})
	return c.Conn.Close()
}

var errAuthorityGone = errors.New("the client's authority is not one any more")

// add takes in a connection whose handshake may have begun with an earlier identity.
func (s *connections) add(conn net.Conn, info credentials.AuthInfo, before *tls.Config) (net.Conn, error) {
	t, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, errors.Join(errors.New("the connection is not TLS"), conn.Close())
	}
	c := &connection{Conn: conn, chain: t.State.PeerCertificates, all: s}
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	// Looked at after it can be found: a replacement sees the connection, or this does it.
	if now := s.identity.Load(); now != before && !leads(c.chain, now.ClientCAs) {
		return nil, errors.Join(errAuthorityGone, c.Close())
	}
	return c, nil
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// replace lets new connections in by another identity, and closes those whose client
// would not be let in by it. It returns their number.
func (s *connections) replace(c *tls.Config) (closed int) {
	s.identity.Store(c)
	s.mu.Lock()
	var gone []*connection
	for open := range s.open {
		if !leads(open.chain, c.ClientCAs) {
			gone = append(gone, open)
		}
	}
	s.mu.Unlock()
	for _, open := range gone {
		_ = open.Close() // what the client sends is not wanted any more
	}
	return len(gone)
}

// leads reports whether a client's chain leads to one of the authorities.
func leads(chain []*x509.Certificate, authorities *x509.CertPool) bool {
	if len(chain) == 0 {
		return false
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err == nil
}

// SetTLS puts another TLS identity in the place of the one in use: connections that begin
// now are made with its certificate and let in by its authorities. Connections that are open
// go on, but those whose client its authorities would not let in are closed at once, with
// the requests that are under way on them; closed is their number.
//
// A configuration that would let in more than [LoadTLS]'s is refused, and nothing changes.
func (s *Server) SetTLS(c *tls.Config) (closed int, err error) {
	if err := checkTLS(c); err != nil {
		return 0, fmt.Errorf("server: %w", err)
	}
	return s.connections.replace(c.Clone()), nil
}

// Connections returns how many connections are open, and how many were refused in their
// handshake since the server was made.
func (s *Server) Connections() (open int, refused uint64) {
	return s.connections.count(), s.refusals.total.Load()
}
