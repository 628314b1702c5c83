package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc/credentials"
)

// transport is the TLS of every connection. Its files are read for each handshake.
type transport struct {
	files    Config // CA, Certificate, Key and Log
	complete func(*tls.Config) *tls.Config

	mu   sync.Mutex
	last *tls.Config // that was good
}

// newTransport fails if the files cannot be read now.
func newTransport(c Config) (*transport, error) {
	t := &transport{files: c, complete: func(config *tls.Config) *tls.Config { return completeTLS(config, c) }}
	if c.TLS != nil {
		t.files = Config{}
		t.last = t.complete(c.TLS.Clone())
		return t, nil
	}
	var err error
	t.last, err = t.read()
	return t, err
}

// completeTLS adds what is demanded of every server.
func completeTLS(config *tls.Config, c Config) *tls.Config {
	config.MinVersion = tls.VersionTLS13
	if c.ServerName != "" {
		config.ServerName = c.ServerName
	}
	if c.ServerID == "" {
		return config
	}
	next := config.VerifyConnection
	config.VerifyConnection = func(s tls.ConnectionState) error { // after the chain and the name
		if err := checkID(s, c.ServerID); err != nil || next == nil {
			return err
		}
		return next(s)
	}
	return config
}

func checkID(s tls.ConnectionState, want string) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	for _, uri := range s.PeerCertificates[0].URIs {
		if uri.String() == want {
			return nil
		}
	}
	return fmt.Errorf("the server's certificate is not of %s", want)
}

func (t *transport) read() (*tls.Config, error) {
	pem, err := os.ReadFile(t.files.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", t.files.CA)
	}
	own, err := tls.LoadX509KeyPair(t.files.Certificate, t.files.Key)
	if err != nil {
		return nil, err
	}
	return t.complete(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}), nil
}

// config returns the configuration for a new connection. Files that do not fit together
// are being replaced: the last good ones still are the caller's.
func (t *transport) config() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files.CA == "" {
		return t.last
	}
	config, err := t.read()
	if err != nil {
		t.files.Log.Warn("TLS files cannot be used: the ones before still are", "cause", err)
		return t.last
	}
	t.last = config
	return t.last
}

// ClientHandshake implements [credentials.TransportCredentials].
func (t *transport) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config := t.config()
	if config.ServerName != "" {
		authority = config.ServerName // which gRPC would check in its place
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, c)
}

// ServerHandshake implements [credentials.TransportCredentials]. There is no server here.
func (t *transport) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("the credentials are a client's")
}

// Info implements [credentials.TransportCredentials].
func (t *transport) Info() credentials.ProtocolInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	return credentials.NewTLS(t.last).Info()
}

// Clone implements [credentials.TransportCredentials]. Connections share what was read.
func (t *transport) Clone() credentials.TransportCredentials { return t }

// OverrideServerName implements [credentials.TransportCredentials], where it is
// deprecated.
func (t *transport) OverrideServerName(string) error {
	return errors.New("the server's name is in the configuration")
}

var _ credentials.TransportCredentials = (*transport)(nil)
