package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"keyd/keys"
)

// connections are those that are open, and by what new ones are let in: the TLS identity, and
// for terminals the register.
type connections struct {
	identity atomic.Pointer[tls.Config]
	makers   *makers

	mu        sync.Mutex
	open      map[*connection]struct{}
	terminals int                       // of them
	devices   map[[sha256.Size]byte]int // of those, by the public key of the device
}

func newConnections(c *tls.Config, officers *keys.Ceremonies) *connections {
	s := &connections{open: make(map[*connection]struct{}), devices: make(map[[sha256.Size]byte]int), makers: &makers{officers: officers}}
	s.identity.Store(c)
	return s
}

// config is the configuration for handshakes: that of the moment. What a handshake has let in
// is looked at once more by add, which says whose it is.
func (s *connections) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.makers.with(s.identity.Load()), nil },
	}
}

// connection is one that is open, with the chain that the client showed, leaf first.
type connection struct {
	net.Conn
	chain  []*x509.Certificate
	device *device // nil: its chain leads to a client authority
	all    *connections
	once   sync.Once
}

// admitted is what is known of a connection that was let in.
type admitted struct {
	credentials.TLSInfo
	device *device // of a terminal, otherwise nil
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.once.Do(func() {
		c.all.mu.Lock()
		delete(c.all.open, c)
		if c.device != nil {
			c.all.terminals--
			key := c.device.publicKey()
			if c.all.devices[key]--; c.all.devices[key] == 0 {
				delete(c.all.devices, key)
			}
		}
		c.all.mu.Unlock()
	})
	return c.Conn.Close()
}

var (
	errNoAuthority = errors.New("the certificates lead to no client authority")
	errGreedy      = fmt.Errorf("this device has %d connections open, and gets no more", MaxDeviceConnections)
	errCrowded     = fmt.Errorf("%d terminals are connected, and no more are let in: the rest is for clients", MaxTerminalConnections)
)

// add takes in a connection after its handshake, and says whose it is: a client's, if and only
// if its chain leads to a client authority of this moment, which may be another than when the
// handshake began; otherwise a terminal's, whose chain the register has to believe.
func (s *connections) add(conn net.Conn, info credentials.AuthInfo) (net.Conn, credentials.AuthInfo, error) {
	t, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.Join(errors.New("the connection is not TLS"), conn.Close())
	}
	c := &connection{Conn: conn, chain: t.State.PeerCertificates, all: s}
	identity := s.identity.Load()
	if !leads(c.chain, identity.ClientCAs) {
		c.device = &device{chain: c.chain, officers: s.makers.officers}
		if err := c.device.believe(time.Now()); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%w, and no terminal is let in with them: %w", errNoAuthority, err), conn.Close())
		}
	}
	if err := s.enter(c); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	// Looked at after it can be found: a replacement sees the connection, or this does it.
	if now := s.identity.Load(); c.device == nil && now != identity && !leads(c.chain, now.ClientCAs) {
		return nil, nil, errors.Join(errNoAuthority, c.Close())
	}
	return c, admitted{t, c.device}, nil
}

// enter has a connection found. Of terminals' it takes no more than leave room for clients, and of
// one device's no more than leave room for other terminals.
func (s *connections) enter(c *connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device != nil {
		key := c.device.publicKey()
		switch {
		case s.devices[key] >= MaxDeviceConnections:
			return errGreedy
		case s.terminals >= MaxTerminalConnections:
			return errCrowded
		}
		s.devices[key]++
		s.terminals++
	}
	s.open[c] = struct{}{}
	return nil
}

func (s *connections) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// replace lets new connections in by another identity, and closes those whose client
// would not be let in by it. It returns their number. Terminals do not depend on it.
func (s *connections) replace(c *tls.Config) (closed int) {
	s.identity.Store(c)
	s.mu.Lock()
	var gone []*connection
	for open := range s.open {
		if open.device == nil && !leads(open.chain, c.ClientCAs) {
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
