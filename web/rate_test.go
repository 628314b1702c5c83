package web

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// Who opens connections and leaves them at once has no more handshakes for it, which cost more than all else.
func TestConnectionsComeAtARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listener{from: make(chan string, 4000)}
		limited := Limit(l).(*limited)
		taken := func(addresses func(i int) string, last string) (n int) {
			for i := range 2000 {
				l.from <- addresses(i)
			}
			l.from <- last
			for {
				c, err := limited.Accept()
				must(t, err)
				_ = c.Close()
				if addressOf(c.RemoteAddr().String()) == addressOf(last) {
					return n
				}
				n++
			}
		}
		one := func(int) string { return "203.0.113.7:1" }
		if n := taken(one, "203.0.113.8:1"); n != 100 {
			t.Errorf("%d connections of one address at once", n)
		}
		time.Sleep(2 * time.Second)
		if n := taken(one, "203.0.113.9:1"); n != 20 {
			t.Errorf("%d of it two seconds later", n)
		}
		time.Sleep(time.Minute)
		close(l.from)
		l = listener{from: make(chan string, 4000)}
		limited.Listener = l
		for i := range 2000 {
			l.from <- fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)
		}
		close(l.from)
		n := 0
		for ; ; n++ {
			c, err := limited.Accept()
			if err != nil {
				break
			}
			_ = c.Close()
		}
		if n != 1000 {
			t.Errorf("%d of many addresses at once", n)
		}
	})
}

// Who has many networks of 64 bits, as subscribers at home do, has a quarter of everything with them.
func TestAWideNetworkIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := func(i int) string { return fmt.Sprintf("[2001:db8:7:%x::1]:1", i) }
		l := listener{from: make(chan string, 2*MaxConnections)}
		limited := Limit(l).(*limited)
		for i := range MaxConnections {
			l.from <- network(i)
		}
		l.from <- "[2001:db8:8::1]:1"
		l.from <- "203.0.113.7:1"
		close(l.from)
		var open []net.Conn
		for {
			c, err := limited.Accept()
			if err != nil {
				break
			}
			open = append(open, c)
		}
		if len(open) != MaxConnections/4+2 {
			t.Errorf("%d connections", len(open))
		}
		for _, c := range open {
			_ = c.Close()
		}
		if limited.all != 0 || len(limited.open) != 0 || len(limited.openOf) != 0 {
			t.Errorf("%d, %v, %v", limited.all, limited.open, limited.openOf)
		}
		h := newHandler(t, newBank(t))
		n := 0
		for i := range 1000 {
			r := request("POST", "/api/void", `{"code":"A"}`)
			r.RemoteAddr = network(i)
			if answer(h, r).StatusCode != http.StatusTooManyRequests {
				n++
			}
		}
		if n != 75 {
			t.Errorf("%d questions", n)
		}
	})
}

// What is refused counts as well: who asks for nothing that is there is cut off like who asks for pages.
func TestWhatIsRefusedIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, r := range map[string]func() *http.Request{
			"nothing":      func() *http.Request { return request("GET", "/", "") },
			"another host": func() *http.Request { r := request("GET", "/p", ""); r.Host = "evil.example"; return r },
			"read":         func() *http.Request { return request("GET", "/api/void", "") },
			"another site": func() *http.Request {
				r := request("POST", "/api/void", "{}")
				r.Header.Set("Sec-Fetch-Site", "cross-site")
				return r
			},
			"a body": func() *http.Request { return request("GET", "/p", "x") },
		} {
			h := newHandler(t, newBank(t))
			n := 0
			for ; n < 1000; n++ {
				got := answer(h, r())
				if got.StatusCode != http.StatusTooManyRequests {
					continue
				}
				if got.Header.Get("Connection") != "close" || got.Header.Get("Retry-After") == "" {
					t.Errorf("%s: %v", name, got.Header)
				}
				break
			}
			if n != 120 {
				t.Errorf("%s: %d are answered", name, n)
			}
		}
	})
}
