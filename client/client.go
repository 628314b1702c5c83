package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	_ "google.golang.org/grpc/health" // health checking of connections
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	keydv1 "keyd/api/keyd/v1"
)

// serviceConfig chooses the balancing and asks each keyd for its health as a whole.
const serviceConfig = `{"loadBalancingConfig":[{"` + balancerName + `":{}}],"healthCheckConfig":{"serviceName":""}}`

// A silent connection is asked whether it is alive. keyd drops clients that ask more
// often than every 10 seconds.
const (
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// Client calls one or several keyds.
type Client struct {
	config Config
	view   *view
	budget *budget
	conn   *grpc.ClientConn

	mu      sync.Mutex
	closed  bool
	streams []*Stream
}

// New returns a client that connects in the background. It fails if the configuration is
// wrong or its files cannot be read; [Client.WaitServing] tells whether a keyd answers.
func New(c Config) (*Client, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("client of keyd: %w", err)
	}
	tls, err := newTransport(c)
	if err != nil {
		return nil, fmt.Errorf("client of keyd: %w", err)
	}
	client := &Client{config: c, view: newView(), budget: newBudget(c.Budget)}
	target, resolve := c.target(), resolver.Builder(lookup{resolver.Get(dnsScheme), client.view})
	if target == "" {
		target, resolve = listScheme+":///"+listScheme, list{c.Addresses, client.view}
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(tls),
		grpc.WithResolvers(resolve),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // none from DNS
		grpc.WithDisableRetry(),         // but for what never reached a keyd, which gRPC always sends again
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithChainUnaryInterceptor(client.unary),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0), // connected also when nothing is asked
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, c.DialOptions...)
	if client.conn, err = grpc.NewClient(target, options...); err != nil {
		return nil, fmt.Errorf("client of keyd: %w", err)
	}
	client.conn.Connect()
	return client, nil
}

// Pin returns the PIN operations. For many translations at once, [Client.Stream] is faster.
func (c *Client) Pin() keydv1.PinServiceClient { return keydv1.NewPinServiceClient(c.conn) }

// Mac returns the MAC operations.
func (c *Client) Mac() keydv1.MacServiceClient { return keydv1.NewMacServiceClient(c.conn) }

// Data returns the operations on data and card verification values.
func (c *Client) Data() keydv1.DataServiceClient { return keydv1.NewDataServiceClient(c.conn) }

// Status returns what runs at one of the keyds.
func (c *Client) Status() keydv1.StatusServiceClient { return keydv1.NewStatusServiceClient(c.conn) }

// Velocity returns the resets of tries. Tries are counted by each host for itself, and so
// is a permit: use a client with the address of that one keyd.
func (c *Client) Velocity() keydv1.VelocityServiceClient {
	return keydv1.NewVelocityServiceClient(c.conn)
}

// Conn returns the connection to all keyds, for other generated clients. Its calls are
// repeated by the same table; streams are not.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Serving returns the addresses of the keyds that are connected and healthy.
func (c *Client) Serving() []string {
	ready, _ := c.view.get()
	return slices.Clone(ready.addresses)
}

// WaitServing returns when a keyd is connected and healthy, or with ctx's error.
func (c *Client) WaitServing(ctx context.Context) error {
	for {
		ready, changed := c.view.get()
		if len(ready.addresses) > 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("no keyd is healthy: %w", ctx.Err())
		}
	}
}

// Close ends every call under way and closes the connections. It may be called again.
func (c *Client) Close() error {
	c.mu.Lock()
	first, streams := !c.closed, c.streams
	c.closed, c.streams = true, nil
	c.mu.Unlock()
	if !first {
		return nil
	}
	var errs []error
	for _, s := range streams {
		errs = append(errs, s.Close())
	}
	errs = append(errs, c.conn.Close())
	c.view.set(new(nodes))
	return errors.Join(errs...)
}
