package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	keydv1 "keyd/api/keyd/v1"
	keydserver "keyd/server"
)

// The yardstick of the machine: a server that answers at once, over the same gRPC and
// mutual TLS, in a process of its own. What keyd does beyond it is keyd's.

// emptyServer answers unary calls with an empty message and items of a stream with
// their correlation identifiers.
type emptyServer struct {
	keydv1.UnimplementedStatusServiceServer
	keydv1.UnimplementedPinServiceServer
}

func (emptyServer) GetStatus(context.Context, *keydv1.GetStatusRequest) (*keydv1.GetStatusResponse, error) {
	return &keydv1.GetStatusResponse{}, nil
}

func (emptyServer) TranslatePinDataStream(s grpc.BidiStreamingServer[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]) error {
	for {
		item, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&keydv1.TranslatePinDataStreamResponse{CorrelationId: item.GetCorrelationId()}); err != nil {
			return err
		}
	}
}

// serveEmpty serves until ctx ends, with the certificates of a development directory.
func serveEmpty(ctx context.Context, dev string, out io.Writer) error {
	identity, err := keydserver.LoadTLS(keydserver.TLSFiles{
		Certificate: filepath.Join(dev, "config", "server.crt"),
		Key:         filepath.Join(dev, "config", "server.key"),
		ClientCA:    filepath.Join(dev, "certs", "ca.crt"),
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.Config)))
	keydv1.RegisterStatusServiceServer(s, emptyServer{})
	keydv1.RegisterPinServiceServer(s, emptyServer{})
	stop := context.AfterFunc(ctx, s.GracefulStop)
	defer stop()
	if _, err := fmt.Fprintln(out, "ready", l.Addr()); err != nil {
		return err
	}
	return s.Serve(l)
}

// startEmpty starts this program again as the empty server, with the certificates of a
// service.
func startEmpty(ctx context.Context, dir string, of *server) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{name: "the server of empty calls", certs: of.certs, log: filepath.Join(dir, "empty.log")}
	return s, s.start(ctx, time.Minute, self, "-serve-empty", filepath.Dir(of.certs))
}
