// Command switch-void does what a switch does when a payment is voided. Its terminals speak
// VoidService with it, each with its own certificate. It says itself what it knows of the payment, has
// keyd verify the PINs, checks the void token against its own records without asking anybody,
// reverses the payment once, tells keyd, and then the terminal. The token stays here.
//
// It calls a development service (keyd dev --dir ./dev) that was made ready with keyd terminal simulate
// prepare, keyd pin prepare and keyd void prepare:
//
//	go run ./examples/switch-void -dir ./dev -payments payments.json -journal journal
//
// It listens on 127.0.0.1:7453 and prints "ready ADDRESS". What it knows is in payments.json ([book]);
// what it has done is in the journal, and survives it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	keydv1 "keyd/api/keyd/v1"
	"keyd/client"
	"keyd/voidtoken"
)

func main() {
	dir := flag.String("dir", "dev", "directory of the development service")
	listen := flag.String("listen", "127.0.0.1:7453", "HOST:PORT for terminals")
	payments := flag.String("payments", "payments.json", "file of terminals and payments")
	journal := flag.String("journal", "journal", "file of what was reversed; made where there is none")
	stop := flag.String("stop-at", "", `"reversed": kill this process when a payment is reversed and nobody was told`)
	flag.Parse()
	if err := run(*dir, *listen, *payments, *journal, *stop); err != nil {
		fmt.Fprintln(os.Stderr, "switch-void:", err)
		os.Exit(1)
	}
}

func run(dir, listen, payments, journal, stop string) error {
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		return err
	}
	certs := filepath.Join(dir, "certs")
	keyd, err := client.New(client.Config{
		Addresses: []string{strings.TrimSpace(string(address))}, CA: filepath.Join(certs, "ca.crt"), Certificate: filepath.Join(certs, "switch.crt"), Key: filepath.Join(certs, "switch.key"),
	})
	if err != nil {
		return err
	}
	defer keyd.Close() //nolint:errcheck // the answers are there
	signers, err := os.ReadFile(filepath.Join(dir, "voids", "void-tokens.pem"))
	if err != nil {
		return err
	}
	s := &server{keyd: keydv1.NewVoidServiceClient(keyd.Conn())}
	if s.keys, err = voidtoken.ParseKeys(signers); err != nil {
		return err
	}
	if s.book, err = open(payments, journal); err != nil {
		return err
	}
	s.reversed = func() {
		if stop == "reversed" {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL) // as a loss of power does
		}
	}
	config, err := forTerminals(dir)
	if err != nil {
		return err
	}
	socket, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	serving := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)), grpc.MaxRecvMsgSize(64<<10))
	keydv1.RegisterVoidServiceServer(serving, s)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		s.settle(ctx) // also what was reversed before a restart
		serving.Stop()
	}()
	fmt.Println("ready", socket.Addr())
	err = serving.Serve(socket)
	cancel()
	<-settled
	return err
}

// forTerminals lets terminals in whose maker is known, and nobody else.
func forTerminals(dir string) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "certs", "switch-server.crt"), filepath.Join(dir, "certs", "switch-server.key"))
	if err != nil {
		return nil, err
	}
	maker, err := os.ReadFile(filepath.Join(dir, "maker", "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("%w: keyd terminal simulate prepare makes it", err)
	}
	makers := x509.NewCertPool()
	if !makers.AppendCertsFromPEM(maker) {
		return nil, fmt.Errorf("no certificate in %s", filepath.Join(dir, "maker", "ca.crt"))
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: makers}, nil
}
