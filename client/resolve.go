package client

import (
	"net"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
)

const (
	listScheme = "keyd" // of a list of addresses
	dnsScheme  = "dns"
)

// viewKey is where a resolver's state has the client's view, for the balancer.
type viewKey struct{}

// list resolves to the configured addresses.
type list struct {
	addresses []string
	view      *view
}

// Scheme implements [resolver.Builder].
func (list) Scheme() string { return listScheme }

// Build implements [resolver.Builder].
func (l list) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	state := resolver.State{Attributes: attributes.New(viewKey{}, l.view)}
	for _, a := range l.addresses {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return nil, err
		}
		state.Addresses = append(state.Addresses, resolver.Address{Addr: a, ServerName: host})
	}
	return settled{}, cc.UpdateState(state)
}

// settled is a resolver that has said all it knows.
type settled struct{}

// ResolveNow implements [resolver.Resolver].
func (settled) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements [resolver.Resolver].
func (settled) Close() {}

// lookup is gRPC's own resolver for dns, with the view.
type lookup struct {
	resolver.Builder
	view *view
}

// Build implements [resolver.Builder].
func (l lookup) Build(t resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	return l.Builder.Build(t, viewed{cc, l.view}, o)
}

// viewed adds the view to every state.
type viewed struct {
	resolver.ClientConn
	view *view
}

// UpdateState implements [resolver.ClientConn].
func (v viewed) UpdateState(s resolver.State) error {
	s.Attributes = s.Attributes.WithValue(viewKey{}, v.view)
	return v.ClientConn.UpdateState(s)
}
