package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	keydv1 "keyd/api/keyd/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs the certificates of a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	pair := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) issue(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) client(name string) tls.Certificate {
	return a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (a *authority) config() *tls.Config {
	return &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{a.client("switch")}}
}

// write writes the PEM files of a certificate, and returns a configuration that reads
// them.
func (a *authority) write(dir string, own tls.Certificate) Config {
	a.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	c := Config{CA: filepath.Join(dir, "ca.crt"), Certificate: filepath.Join(dir, "own.crt"), Key: filepath.Join(dir, "own.key")}
	for file, block := range map[string]*pem.Block{
		c.CA:          {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		c.Certificate: {Type: "CERTIFICATE", Bytes: own.Certificate[0]},
		c.Key:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return c
}

// recorder is a gRPC server that knows every method of the contract, records what reaches
// it, and answers as it is told. It stands in for keyd where the client's decisions are
// what is tested.
type recorder struct {
	t       testing.TB
	address string
	server  *grpc.Server
	health  *health.Server
	answer  func(ctx context.Context, method string, request proto.Message) error // nil: all is well
	item    func(stream int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error)

	mu      sync.Mutex
	calls   map[string]int // by full name of the method
	items   map[string]int // by account number
	streams int
	under   int // items under way
	most    int
	names   []string // of clients, as they call
}

func startRecorder(t testing.TB, a *authority, answer func(context.Context, string, proto.Message) error, more ...grpc.ServerOption) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "keyd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost", "keyd.example"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "test", Path: "/keyd"}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	r := &recorder{t: t, address: l.Addr().String(), health: health.NewServer(), answer: answer, calls: map[string]int{}, items: map[string]int{}}
	r.server = grpc.NewServer(append(more,
		grpc.Creds(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		})),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return r.handle(stream) }),
	)...)
	grpc_health_v1.RegisterHealthServer(r.server, r.health)
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.server.Serve(l) })
	t.Cleanup(func() {
		r.server.Stop()
		serving.Wait()
	})
	return r
}

func (r *recorder) serving(s bool) {
	state := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if s {
		state = grpc_health_v1.HealthCheckResponse_SERVING
	}
	r.health.SetServingStatus("", state)
}

func (r *recorder) handle(stream grpc.ServerStream) error {
	method, _ := grpc.Method(stream.Context())
	if method == keydv1.PinService_TranslatePinDataStream_FullMethodName {
		return r.carry(stream)
	}
	d := methodOf(r.t, method)
	request := messageOf(r.t, d.Input())
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	r.mu.Lock()
	r.calls[method]++
	if p, ok := peer.FromContext(stream.Context()); ok {
		r.names = append(r.names, p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName)
	}
	r.mu.Unlock()
	if r.answer != nil {
		if err := r.answer(stream.Context(), method, request); err != nil {
			return err
		}
	}
	return stream.SendMsg(messageOf(r.t, d.Output()))
}

// carry serves one stream. Items are answered at the same time, in any order; an error for
// an item ends the stream.
func (r *recorder) carry(stream grpc.ServerStream) error {
	r.mu.Lock()
	r.streams++
	number := r.streams
	r.mu.Unlock()
	var under sync.WaitGroup
	var mu sync.Mutex // of sending, and of ending
	ended := false
	ends := make(chan error, 1)
	end := func(err error) {
		select {
		case ends <- err:
		default:
		}
	}
	go func() { // until the stream has ended
		for {
			item := new(keydv1.TranslatePinDataStreamRequest)
			if err := stream.RecvMsg(item); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				end(err)
				return
			}
			mu.Lock()
			if !ended {
				under.Go(func() {
					answer, err := r.carryOut(number, item)
					if err != nil {
						end(err)
					}
					if answer != nil {
						answer.CorrelationId = item.GetCorrelationId()
						mu.Lock()
						defer mu.Unlock()
						_ = stream.SendMsg(answer) // a broken stream is the client's affair
					}
				})
			}
			mu.Unlock()
		}
	}()
	err := <-ends
	mu.Lock()
	ended = true
	mu.Unlock()
	under.Wait()
	return err
}

func (r *recorder) carryOut(stream int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
	r.mu.Lock()
	r.items[item.GetRequest().GetPrimaryAccountNumber()]++
	r.under++
	r.most = max(r.most, r.under)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.under--
	}()
	return r.item(stream, item)
}

func (r *recorder) count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[method]
}

func (r *recorder) total() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		n += c
	}
	return n
}

// newClient returns a client of recorders that is closed with the test.
func newClient(t testing.TB, a *authority, c Config, servers ...*recorder) *Client {
	t.Helper()
	if c.TLS == nil && c.CA == "" {
		c.TLS = a.config()
	}
	for _, r := range servers {
		c.Addresses = append(c.Addresses, r.address)
	}
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	waitFor(t, "all keyds serve", func() bool { return len(servers) == 0 || len(client.Serving()) == len(servers) })
	return client
}

// waitFor polls. Its limit only ends a test that would hang.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// contract returns every method of keyd's services.
func contract(t testing.TB) (all []protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("keyd.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				all = append(all, f.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	})
	if len(all) < 10 {
		t.Fatalf("the contract has only %d methods", len(all))
	}
	return all
}

func fullName(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

func streams(m protoreflect.MethodDescriptor) bool {
	return m.IsStreamingClient() || m.IsStreamingServer()
}

func methodOf(t testing.TB, name string) protoreflect.MethodDescriptor {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.Trim(name, "/"), "/", ".")))
	if err != nil {
		t.Error(err)
		return nil
	}
	return d.(protoreflect.MethodDescriptor)
}

func messageOf(t testing.TB, d protoreflect.MessageDescriptor) proto.Message {
	m, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Error(err)
		return nil
	}
	return m.New().Interface()
}

// refusal is a status as keyd makes it.
func refusal(t testing.TB, code codes.Code, reason string, more ...protoadapt.MessageV1) error {
	t.Helper()
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "keyd", Reason: reason, Metadata: map[string]string{"request_id": "R1"}}}, more...)
	s, err := status.New(code, "refused").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func retryInfo(d time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}
