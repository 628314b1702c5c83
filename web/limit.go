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
	return &limited{Listener: l, open: map[netip.Addr]int{}, openOf: map[netip.Addr]int{}, coming: newSharing(connectionsOfOne, connectionsOfAll)}
}

type limited struct {
	net.Listener

	coming *sharing

	lock   sync.Mutex
	all    int
	open   map[netip.Addr]int // by address; no zeros
	openOf map[netip.Addr]int // by network, likewise
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
	n := networkOf(a)
	if l.all >= MaxConnections || l.open[a] >= MaxPerAddress || l.openOf[n] >= MaxConnections/share || !l.coming.allow(a) {
		return false
	}
	l.all++
	l.open[a]++
	l.openOf[n]++
	return true
}

func (l *limited) leave(a netip.Addr) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.all--
	if l.open[a]--; l.open[a] == 0 {
		delete(l.open, a)
	}
	n := networkOf(a)
	if l.openOf[n]--; l.openOf[n] == 0 {
		delete(l.openOf, n)
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
// address that one phone has. What is no address at all is one and the same.
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

// networkOf is the network in which one may have many addresses of [addressOf]: the 48 bits of IPv6 of which
// a site is given up to all, and a home 256. It may also be a mobile network's, with many phones. An IPv4
// address is its own.
func networkOf(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	network, err := a.Prefix(48)
	if err != nil {
		return netip.Addr{}
	}
	return network.Addr()
}
