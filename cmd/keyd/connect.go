package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"keyd/development"
)

// connection holds the flags by which a command finds and trusts a service.
type connection struct {
	server, ca, cert, key string
	dir, as               string
	timeout               time.Duration

	// own is what connects where neither a certificate nor an identity is named: a simulated
	// terminal with its own.
	own func() (tls.Certificate, error)
}

func (c *connection) flags(cmd *cobra.Command, as string) {
	f := cmd.Flags()
	f.StringVar(&c.server, "server", "", "HOST:PORT of the service")
	f.StringVar(&c.ca, "ca", "", "PEM file of the authority that signed the server's certificate")
	f.StringVar(&c.cert, "cert", "", "PEM file of the client certificate")
	f.StringVar(&c.key, "key", "", "PEM file of the client's private key")
	f.StringVar(&c.dir, "dir", "", "directory of a development service, in place of the four flags above")
	f.StringVar(&c.as, "as", as, "with --dir: the identity to use, a name in DIR/certs")
	f.DurationVar(&c.timeout, "timeout", 5*time.Second, "how long to wait for the answer")
}

// dial connects with the client certificate; the server must prove who it is too. The
// configuration that it returns is the one of the handshake.
func (c *connection) dial() (*grpc.ClientConn, *tls.Config, error) {
	if c.dir != "" {
		certs := filepath.Join(c.dir, "certs")
		c.ca = filepath.Join(certs, "ca.crt")
		if c.as != "" {
			c.cert, c.key = filepath.Join(certs, c.as+".crt"), filepath.Join(certs, c.as+".key")
		}
		if c.server == "" {
			address, err := development.Address(c.dir)
			if err != nil {
				return nil, nil, err
			}
			c.server = address
		}
	}
	given := c.cert != "" && c.key != ""
	if own := c.own != nil && c.cert == "" && c.key == ""; c.server == "" || c.ca == "" || !given && !own {
		return nil, nil, errors.New("name the service with --server, --ca, --cert and --key, or a development service with --dir")
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%s holds no certificate", c.ca)
	}
	var certificate tls.Certificate
	if given {
		certificate, err = tls.LoadX509KeyPair(c.cert, c.key)
	} else {
		certificate, err = c.own()
	}
	if err != nil {
		return nil, nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    roots,
		// Also to a server that asks for those of other authorities: its log then says why
		// it refuses this one, not that there was none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
	}
	conn, err := grpc.NewClient(c.server, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	return conn, config, err
}

// handshake says why there is no connection, where it is for a certificate, or returns nil.
// gRPC's message often does not say it: in TLS 1.3 the server's verdict about the client's
// certificate comes when the client's handshake is done, and is lost when gRPC writes first.
func (c *connection) handshake(ctx context.Context, config *tls.Config) error {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", c.server)
	if err == nil {
		defer conn.Close() //nolint:errcheck // nothing was said
		if deadline, ok := ctx.Deadline(); ok {
			_ = conn.SetReadDeadline(deadline)
		}
		_, err = conn.Read(make([]byte, 1))
	}
	var untrusted *tls.CertificateVerificationError
	var network *net.OpError
	switch {
	case errors.As(err, &untrusted):
		return exitError{fmt.Errorf("%s is not the keyd that --ca vouches for: %w", c.server, untrusted.Err), exitAway}
	case errors.As(err, &network) && network.Op == "remote error": // a TLS alert
		return exitError{fmt.Errorf("%s refuses the client certificate %s (%w); keyd's log says why", c.server, c.cert, network.Err), exitRefused}
	}
	return nil
}

// why turns the error of a call into one for a person, nil into nil.
func (c *connection) why(ctx context.Context, config *tls.Config, err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unavailable && reason(s) == "" {
		if why := c.handshake(ctx, config); why != nil {
			return why
		}
	}
	return explain(err)
}

// calls is a connection for several calls, between which people are asked: each has the
// time that --timeout allows. Its errors are for people.
type calls struct {
	*grpc.ClientConn
	c      *connection
	config *tls.Config
}

func (c *connection) open() (*calls, error) {
	conn, config, err := c.dial()
	if err != nil {
		return nil, err
	}
	return &calls{conn, c, config}, nil
}

// Invoke implements grpc.ClientConnInterface.
func (l *calls) Invoke(ctx context.Context, method string, request, answer any, options ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, l.c.timeout)
	defer cancel()
	return l.c.why(ctx, l.config, l.ClientConn.Invoke(ctx, method, request, answer, options...))
}

// Exit statuses of what calls a service.
const (
	exitRefused = 3
	exitAway    = 4
)

// explain turns a status into a line for a person: code, reason, message.
func explain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	message := printable(s.Message()) // whoever answers may be anybody
	if why := printable(reason(s)); why != "" {
		return refusal{exitError{fmt.Errorf("refused: %s (%s): %s", why, s.Code(), message), exitRefused}, why}
	}
	if s.Code() == codes.Unavailable {
		return exitError{fmt.Errorf("no keyd answers (%s)", message), exitAway}
	}
	return exitError{fmt.Errorf("%s: %s", s.Code(), message), exitAway}
}

// refusal is a service's own refusal, with its reason (docs/errors.md).
type refusal struct {
	exitError
	reason string
}

func (r refusal) Unwrap() error { return r.exitError }

// reason returns keyd's reason in a status, or nothing.
func reason(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "keyd" {
			return info.Reason
		}
	}
	return ""
}
