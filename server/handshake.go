package server

import (
	"errors"
	"io"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"
)

// loggedTLS is TLS that tells the operator whom it did not let in, and why: the client
// reads no more than an alert.
type loggedTLS struct {
	credentials.TransportCredentials
	log *slog.Logger
}

// ServerHandshake implements [credentials.TransportCredentials].
func (t loggedTLS) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := t.TransportCredentials.ServerHandshake(conn)
	if err != nil && !errors.Is(err, io.EOF) { // a probe of the port says nothing
		t.log.Info("connection refused", "peer", conn.RemoteAddr().String(), "cause", err.Error())
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (t loggedTLS) Clone() credentials.TransportCredentials {
	return loggedTLS{t.TransportCredentials.Clone(), t.log}
}
