package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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

// dial connects with the client certificate; the server must prove who it is too.
func (c *connection) dial() (*grpc.ClientConn, error) {
	if c.dir != "" {
		certs := filepath.Join(c.dir, "certs")
		c.ca, c.cert, c.key = filepath.Join(certs, "ca.crt"), filepath.Join(certs, c.as+".crt"), filepath.Join(certs, c.as+".key")
		if c.server == "" {
			address, err := development.Address(c.dir)
			if err != nil {
				return nil, err
			}
			c.server = address
		}
	}
	if c.server == "" || c.ca == "" || c.cert == "" || c.key == "" {
		return nil, errors.New("name the service with --server, --ca, --cert and --key, or a development service with --dir")
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", c.ca)
	}
	certificate, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(c.server, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      roots,
		Certificates: []tls.Certificate{certificate},
	})))
}

// explain turns a status into a line for a person: code, reason, message.
func explain(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "keyd" {
			return exitError{fmt.Errorf("refused: %s (%s): %s", info.Reason, s.Code(), s.Message()), 3}
		}
	}
	if s.Code() == codes.Unavailable {
		return exitError{fmt.Errorf("no keyd answers (%s)", s.Message()), 4}
	}
	return exitError{fmt.Errorf("%s: %s", s.Code(), s.Message()), 4}
}
