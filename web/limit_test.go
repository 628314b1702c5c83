package web

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		h := newHandler(t, b)
		ask := func(from string) int {
			r := request("POST", "/api/void", `{"code":"A"}`)
			r.RemoteAddr = from
			return answer(h, r).StatusCode
		}
		taken := func(from string) (n int) {
			for ask(from) != http.StatusTooManyRequests {
				n++
			}
			return n
		}
		if n := taken("203.0.113.7:1"); n != 30 {
			t.Errorf("%d at once", n)
		}
		if n := taken("[::ffff:203.0.113.7]:2"); n != 0 {
			t.Errorf("%d by another way to write the address", n)
		}
		if n := taken("[2001:db8::1]:1") + taken("[2001:db8::2]:1"); n != 30 {
			t.Errorf("%d of one subscriber", n)
		}
		time.Sleep(5 * time.Second)
		if n := taken("203.0.113.7:1"); n != 10 {
			t.Errorf("%d after five seconds", n)
		}
		time.Sleep(time.Hour)
		all := 0
		for i := range 20 {
			all += taken(fmt.Sprintf("198.51.100.%d:1", i))
		}
		if all != 300 {
			t.Errorf("%d of all", all)
		}
		n := 0
		for answer(h, request("GET", "/p", "")).StatusCode != http.StatusTooManyRequests {
			n++
		}
		if n != 120 {
			t.Errorf("%d pages", n)
		}
	})
}

// Many addresses take no more memory than there is for them, and who was there keeps what it has.
func TestAddressesWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(rate{burst: 2, second: 1})
		address := func(i int) netip.Addr {
			return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		}
		for i := range maxBuckets {
			if !l.allow(address(i)) {
				t.Fatal(i)
			}
		}
		strangers := 0
		for i := range 100 {
			if l.allow(address(maxBuckets + i)) {
				strangers++
			}
		}
		if len(l.buckets) != maxBuckets || strangers != 2 {
			t.Errorf("%d addresses, %d of those for whom there was no room", len(l.buckets), strangers)
		}
		if !l.allow(address(0)) || l.allow(address(0)) {
			t.Error("who was there has more, or less")
		}
		time.Sleep(time.Minute)
		if !l.allow(address(maxBuckets)) || len(l.buckets) != 1 {
			t.Errorf("%d addresses after a minute", len(l.buckets))
		}
	})
}

// listener gives connections whose addresses a test chooses.
type listener struct {
	net.Listener
	from chan string
}

type from struct {
	net.Conn
	address net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.address }

func (l listener) Accept() (net.Conn, error) {
	address, ok := <-l.from
	if !ok {
		return nil, net.ErrClosed
	}
	c, other := net.Pipe()
	_ = other.Close()
	return from{c, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))}, nil
}

func TestConnectionsAreLimited(t *testing.T) {
	l := listener{from: make(chan string, 2*MaxConnections)}
	limited := Limit(l).(*limited)
	accept := func(addresses ...string) net.Conn {
		for _, a := range addresses {
			l.from <- a
		}
		c, err := limited.Accept()
		must(t, err)
		return c
	}
	var open []net.Conn
	for range MaxPerAddress {
		open = append(open, accept("203.0.113.7:1"))
	}
	c := accept("203.0.113.7:1", "203.0.113.8:1") // the first is closed at once
	if got := addressOf(c.RemoteAddr().String()).String(); got != "203.0.113.8" || limited.all != MaxPerAddress+1 {
		t.Errorf("%s, %d", got, limited.all)
	}
	must(t, open[0].Close())
	_ = open[0].Close() // twice counts once
	open[0] = accept("203.0.113.7:1")
	for i := 0; limited.all < MaxConnections; i++ {
		open = append(open, accept(fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)))
	}
	l.from <- "192.0.2.1:1"
	close(l.from)
	if c, err := limited.Accept(); err == nil {
		t.Errorf("one more: %v", c.RemoteAddr())
	}
	_ = c.Close()
	for _, c := range open {
		_ = c.Close()
	}
	if limited.all != 0 || len(limited.open) != 0 {
		t.Errorf("%d, %v", limited.all, limited.open)
	}
}

// Over a connection, with what a client sends byte by byte: who is slow or says too much is cut off.
func TestConnectionsThatAreCutOff(t *testing.T) {
	s := serve(t)
	dial := func(protocols ...string) *tls.Conn {
		c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, ServerName: host, NextProtos: protocols}) //nolint:gosec // its key is not what is tested
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	post := "POST /api/void HTTP/1.1\r\nHost: " + host + "\r\nOrigin: https://" + host + "\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct{ sent, want string }{
		"a page":              {"GET /p HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "HTTP/1.1 200"},
		"HTTP/1.0":            {"GET /p HTTP/1.0\r\nHost: " + host + "\r\n\r\n", "HTTP/1.0 505"},
		"no host":             {"GET /p HTTP/1.1\r\n\r\n", "HTTP/1.1 400"},
		"two hosts":           {"GET /p HTTP/1.1\r\nHost: " + host + "\r\nHost: " + host + "\r\n\r\n", "HTTP/1.1 400"},
		"a whole URL":         {"GET https://" + host + "/p HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "HTTP/1.1 404"},
		"a proxy's request":   {"CONNECT evil.example:443 HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "HTTP/1.1 421"},
		"options of all":      {"OPTIONS * HTTP/1.1\r\nHost: " + host + "\r\n\r\n", "HTTP/1.1 404"},
		"too many headers":    {"GET /p HTTP/1.1\r\nHost: " + host + "\r\nX: " + strings.Repeat("x", MaxHeader+8<<10) + "\r\n\r\n", "HTTP/1.1 431"},
		"two lengths":         {post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "HTTP/1.1 400"},
		"a length and chunks": {post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "HTTP/1.1 400"},
		"too long":            {post + "Content-Length: 1000000\r\n\r\n{", "HTTP/1.1 413"},
		"two requests in one": {post + "Content-Length: 2\r\n\r\n{}GET /p HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 400"},
		"slow headers":        {"GET /p HTTP/1.1\r\nHost: ", ""},
		"half a body":         {post + "Content-Length: 100\r\n\r\n{", "HTTP/1.1 408"},
		"nothing":             {"", ""},
		"something else":      {"\x16\x03\x01\x02\x00", "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial("http/1.1")
			_, err := io.WriteString(conn, c.sent)
			must(t, err)
			r := bufio.NewReader(conn)
			line, err := r.ReadString('\n')
			if err != nil && err != io.EOF && c.want != "" {
				t.Fatal(err)
			}
			if !strings.HasPrefix(line, c.want) || c.want == "" && line != "" {
				t.Errorf("%q, want %q", line, c.want)
			}
		})
	}
	t.Run("half a body over HTTP/2", func(t *testing.T) {
		t.Parallel()
		var protocols http.Protocols
		protocols.SetHTTP2(true)
		client := http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: &protocols} //nolint:gosec // its key is not what is tested
		defer client.CloseIdleConnections()
		body, more := io.Pipe()
		defer func() { _ = more.Close() }()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.address+"/api/void", body)
		must(t, err)
		r.Host = host
		r.Header = http.Header{"Content-Type": {"application/json"}, "Origin": {"https://" + host}}
		answer, err := client.RoundTrip(r) // returns when the server has had enough
		if err == nil {
			defer func() { _ = answer.Body.Close() }()
		}
		if err == nil && (answer.StatusCode != http.StatusRequestTimeout || answer.ProtoMajor != 2) {
			t.Errorf("%s %s", answer.Proto, answer.Status)
		}
		if asked := s.calls(); asked != nil {
			t.Errorf("the backend was asked %q", asked)
		}
	})
	t.Run("no handshake", func(t *testing.T) {
		t.Parallel()
		conn, err := net.Dial("tcp", s.address)
		must(t, err)
		if b, err := io.ReadAll(conn); err != nil || len(b) > 0 { // until the server ends it
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		if _, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil { //nolint:gosec // it has to be refused
			t.Error("it is taken")
		}
	})
	t.Run("many", func(t *testing.T) {
		var open []*tls.Conn
		more := func() bool {
			c, err := tls.Dial("tcp", s.address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // its key is not what is tested
			if err == nil {
				open = append(open, c)
			}
			return err == nil
		}
		for more() {
		}
		if len(open) > MaxPerAddress || len(open) < MaxPerAddress-1 { // the one before may not be gone yet
			t.Errorf("%d connections of one address", len(open))
		}
		for _, c := range open {
			_ = c.Close()
		}
		for !more() { // until the server has seen that they are gone
		}
		_ = open[len(open)-1].Close()
	})
}
