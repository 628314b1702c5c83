package postgrestest

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Proxy stands between a client and a server. It can cut connections after a number of bytes,
// and keep them open without passing anything on.
type Proxy struct {
	Address string // IP:PORT

	server   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	left   int64 // bytes that may still pass in both directions; negative: any number
	silent bool
	closed bool
	open   map[net.Conn]bool
	moved  int64
	goOn   *sync.Cond
}

// NewProxy starts a proxy before a server.
func NewProxy(server string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Address: l.Addr().String(), server: server, listener: l, left: -1, open: map[net.Conn]bool{}}
	p.goOn = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// CutAfter has all connections end when that many more bytes have passed, and new ones end at
// once. A negative number passes everything.
func (p *Proxy) CutAfter(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.moved = bytes, 0
}

// Moved returns how many bytes passed since [Proxy.CutAfter].
func (p *Proxy) Moved() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moved
}

// Silence keeps connections open and passes nothing on, or goes on.
func (p *Proxy) Silence(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	p.goOn.Broadcast()
}

// Cut ends all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // both ends see it
	}
}

// Close ends the proxy.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed, p.silent = true, false
	p.goOn.Broadcast()
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			_, _ = client.Close(), server.Close()
			p.mu.Unlock()
			return
		}
		p.open[client], p.open[server] = true, true
		p.mu.Unlock()
		var both sync.WaitGroup
		both.Go(func() { p.pass(client, server) })
		both.Go(func() { p.pass(server, client) })
		p.running.Go(func() {
			both.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.open, client)
			delete(p.open, server)
		})
	}
}

// pass moves bytes in one direction until an end is closed, or the proxy cuts it.
func (p *Proxy) pass(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		allowed, cut := p.allow(n)
		if allowed > 0 {
			if _, e := to.Write(buffer[:allowed]); e != nil {
				return
			}
		}
		if cut || errors.Is(err, io.EOF) || err != nil {
			return
		}
	}
}

// allow waits while the proxy is silent, and returns how many of n bytes may pass.
func (p *Proxy) allow(n int) (allowed int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.silent && !p.closed {
		p.goOn.Wait()
	}
	if p.left >= 0 && int64(n) >= p.left {
		n, cut = int(p.left), true
	}
	if p.left >= 0 {
		p.left -= int64(n)
	}
	p.moved += int64(n)
	return n, cut
}
