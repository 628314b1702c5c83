package client

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// balancerName is the balancing of this package in gRPC's registry: a connection to each
// keyd, and in turn or by terminal those of them that are healthy. It is gRPC's
// round_robin, but that it knows homes and the keyds that failed a call before.
const balancerName = "keyd_in_turn"

func init() {
	balancer.Register(builder{base.NewBalancerBuilder(balancerName, pickers{}, base.Config{HealthCheck: true})})
}

// nodes are the keyds that are healthy now, by address. They do not change: when one comes
// or goes there are new ones.
type nodes struct {
	addresses []string // in order
	hashes    []uint64
	conns     []balancer.SubConn
	epochs    []uint64 // another since the keyd was last not healthy, so perhaps another connection
	turn      atomic.Uint64
}

func newNodes(ready map[balancer.SubConn]base.SubConnInfo) *nodes {
	type node struct {
		address string
		conn    balancer.SubConn
	}
	var all []node
	for conn, info := range ready {
		all = append(all, node{info.Address.Addr, conn})
	}
	slices.SortFunc(all, func(a, b node) int { return cmp.Compare(a.address, b.address) })
	n := new(nodes)
	for _, a := range all {
		n.addresses = append(n.addresses, a.address)
		n.hashes = append(n.hashes, hash([]byte(a.address)))
		n.conns = append(n.conns, a.conn)
	}
	n.turn.Store(rand.Uint64N(1 << 32)) // many clients that start together do not all begin with the first
	return n
}

// choose returns which keyd gets a call, -1 if there is none. Keyds that the route avoids
// get it only if there are no others.
func (n *nodes) choose(r *route) int {
	if len(n.addresses) == 0 {
		return -1
	}
	avoid := r.avoided()
	if n.allAvoided(avoid) {
		avoid = nil
	}
	if r != nil && r.terminal != 0 {
		return n.home(r.terminal, avoid)
	}
	turn := n.turn.Load() + 1
	if len(r.avoided()) == 0 { // a repeat takes no turn, or one of two keyds that fails would get every first attempt
		turn = n.turn.Add(1)
	}
	start := int(turn % uint64(len(n.addresses)))
	for i := range n.addresses {
		if at := (start + i) % len(n.addresses); !slices.Contains(avoid, n.addresses[at]) {
			return at
		}
	}
	return -1
}

func (n *nodes) allAvoided(avoid []string) bool {
	return !slices.ContainsFunc(n.addresses, func(a string) bool { return !slices.Contains(avoid, a) })
}

// home is the keyd with the highest weight for a terminal: when one is lost, only its
// own terminals move (rendezvous hashing).
func (n *nodes) home(terminal uint64, avoid []string) int {
	best, weight := -1, uint64(0)
	for i, h := range n.hashes {
		if slices.Contains(avoid, n.addresses[i]) {
			continue
		}
		if w := mix(h ^ terminal); best < 0 || w > weight {
			best, weight = i, w
		}
	}
	return best
}

// hash and mix must give the same for every client, so they have no seed.
func hash(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b) //nolint:errcheck // it cannot fail
	return mix(h.Sum64())
}

// mix spreads a number's bits over all 64 of them.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	return x ^ x>>31
}

// view is what a client knows of which keyds are healthy.
type view struct {
	mu      sync.Mutex
	ready   *nodes
	changed chan struct{}
	epoch   uint64 // the newest
}

func newView() *view { return &view{ready: new(nodes), changed: make(chan struct{})} }

func (v *view) set(n *nodes) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ready == n {
		return
	}
	n.epochs = make([]uint64, len(n.addresses))
	for i, a := range n.addresses {
		if at := slices.Index(v.ready.addresses, a); at >= 0 {
			n.epochs[i] = v.ready.epochs[at]
			continue
		}
		v.epoch++
		n.epochs[i] = v.epoch
	}
	v.ready = n
	close(v.changed)
	v.changed = make(chan struct{})
}

// get returns the healthy keyds, and what is closed when they are others.
func (v *view) get() (*nodes, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ready, v.changed
}

// builder makes gRPC's base balancer, which tells the client's view what it tells gRPC.
type builder struct{ balancer.Builder }

// Build implements [balancer.Builder].
func (b builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	t := &telling{ClientConn: cc}
	return watched{b.Builder.Build(t, o), t}
}

// watched takes the view from the resolver's state.
type watched struct {
	balancer.Balancer
	telling *telling
}

// UpdateClientConnState implements [balancer.Balancer].
func (w watched) UpdateClientConnState(s balancer.ClientConnState) error {
	if v, ok := s.ResolverState.Attributes.Value(viewKey{}).(*view); ok {
		w.telling.view = v
	}
	return w.Balancer.UpdateClientConnState(s)
}

// telling tells the view. gRPC calls a balancer from one goroutine at a time.
type telling struct {
	balancer.ClientConn
	view *view
}

// UpdateState implements [balancer.ClientConn].
func (t *telling) UpdateState(s balancer.State) {
	if t.view != nil {
		n := new(nodes) // no keyd can be reached: the picker is one of gRPC's own
		if p, ok := s.Picker.(picker); ok {
			n = p.nodes
		}
		t.view.set(n)
	}
	t.ClientConn.UpdateState(s)
}

type pickers struct{}

// Build implements [base.PickerBuilder].
func (pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	return picker{newNodes(info.ReadySCs)}
}

// picker chooses a keyd for each call.
type picker struct{ nodes *nodes }

// Pick implements [balancer.Picker].
func (p picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	r := routeOf(info.Ctx)
	if r != nil && r.only != "" {
		at := slices.Index(p.nodes.addresses, r.only)
		if at < 0 {
			return balancer.PickResult{}, status.Error(codes.Unavailable, fmt.Sprintf("%s is not healthy", r.only))
		}
		return balancer.PickResult{SubConn: p.nodes.conns[at]}, nil
	}
	at := p.nodes.choose(r)
	if at < 0 {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	r.took(p.nodes.addresses[at])
	return balancer.PickResult{SubConn: p.nodes.conns[at]}, nil
}
