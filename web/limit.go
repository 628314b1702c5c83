package web

import (
	"net"
	"net/netip"
	"sync"
)

// MaxConnections and MaxPerAddress are how many connections there are at once, in all and of one address.
// Phones of a mobile network share addresses, and so do those of a shop.
const (
	MaxConnections = 512
	MaxPerAddress  = 32
)

// Limit returns a listener that closes connections beyond the limits, and beyond the rates, as soon as they
// come, so that who opens many keeps nobody else waiting but by filling all of them, from many addresses.
func Limit(l net.Listener) net.Listener {
	return &limited{Listener: l, open: map[netip.Addr]int{}, comingOf: newLimiter(connectionsOfOne), coming: newLimiter(connectionsOfAll)}
}

type limited struct {
	net.Listener

	comingOf *limiter // of an address
	coming   *limiter // of all, as one

	lock sync.Mutex
	all  int
	open map[netip.Addr]int // no zeros
}

// Accept returns the next connection that is within the limits.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := addressOf(c.RemoteAddr().String())
		if l.enter(address) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.leave(address) })}, nil
		}
		_ = c.Close() // nothing was said on it
	}
}

func (l *limited) enter(a netip.Addr) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.all >= MaxConnections || l.open[a] >= MaxPerAddress || !l.comingOf.allow(a) || !l.coming.allow(netip.Addr{}) {
		return false
	}
	l.all++
	l.open[a]++
	return true
}

func (l *limited) leave(a netip.Addr) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.all--
	if l.open[a]--; l.open[a] == 0 {
		delete(l.open, a)
	}
}

type counted struct {
	net.Conn
	leave func()
}

// Close closes the connection, and gives its place back.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// addressOf is whom a connection is from, as far as limits go: an IPv4 address, or the 64 bits of an IPv6
// address that one subscriber has. What is no address at all is one and the same.
func addressOf(remote string) netip.Addr {
	p, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := p.Addr().Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	network, err := a.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}
