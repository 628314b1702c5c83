package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/hashicorp/vault/api"
)

// Bounds of one request.
const (
	requestTimeout = 15 * time.Second
	dialTimeout    = 5 * time.Second
	maxAnswer      = 1 << 20 // bytes
	maxHeader      = 64 << 10
	maxFile        = 1 << 20 // of authorities, bytes
)

// client is a Vault as this process sees it.
type client struct {
	*Options
	api     *api.Client
	address string   // host and port, for messages
	secrets []string // what must not come back in a message
}

// newClient makes a client that goes to the addresses that Vault's name has now and to no
// other: later this process could not look a name up. It reads nothing of the environment,
// which is emptied, because the library reads it in several places.
func newClient(ctx context.Context, o *Options) (*client, error) {
	os.Clearenv()
	u, err := url.Parse(o.Address)
	if err != nil {
		return nil, refused("vault.address cannot be read")
	}
	c := &client{Options: o, address: u.Host}
	hosts, err := resolve(ctx, u.Hostname())
	if err != nil {
		return nil, away("the name of %s cannot be resolved: %s", c.address, c.quote(err.Error()))
	}
	transport := &http.Transport{
		Proxy:                  nil, // whatever stands in the environment
		DialContext:            dialer(hosts, u.Port()),
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  requestTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // a small answer cannot become a large one
		MaxConnsPerHost:        1,
	}
	if u.Scheme == "https" {
		pool, err := authorities("vault.ca", o.CA)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: u.Hostname()}
	}
	config := &api.Config{
		Address:          o.Address,
		HttpClient:       &http.Client{Transport: bounded{transport}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		MaxRetries:       0, // who calls decides
		Timeout:          requestTimeout,
		DisableRedirects: true,
	}
	if c.api, err = api.NewClient(config); err != nil {
		return nil, refused("%s", c.quote(err.Error()))
	}
	c.api.ClearToken()
	if o.Namespace != "" {
		c.api.SetNamespace(o.Namespace)
	}
	return c, nil
}

// resolve looks a name up with Go's own resolver.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if at, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{at}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	r := net.Resolver{PreferGo: true}
	list, err := r.LookupNetIP(ctx, "ip", host)
	if err == nil && len(list) == 0 {
		err = errors.New("it has no address")
	}
	return list, err
}

// dialer connects to the first of the hosts that takes the connection.
func dialer(hosts []netip.Addr, port string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTimeout}
		d.SetMultipathTCP(false) // Landlock does not know it
		var errs []error
		for _, host := range hosts {
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host.Unmap().String(), port))
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}

// bounded refuses redirections and answers that are too large.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		_ = response.Body.Close() // not read
		return nil, away("Vault redirects (status %d), which is not followed: name the active node, or an address that always leads to it", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, refused("an answer of more than %d bytes: whatever answers is no Vault", maxAnswer)
	}
	response.Body = wiped{bytes.NewReader(body), body}
	return response, nil
}

// wiped is a body that is gone once it is closed.
type wiped struct {
	*bytes.Reader
	memory []byte
}

// Close implements [io.Closer].
func (w wiped) Close() error { clear(w.memory); return nil }

// use has later requests come with a token.
func (c *client) use(token string) {
	c.hide(token)
	c.api.SetToken(token)
}

// hide keeps a secret out of messages.
func (c *client) hide(secret string) {
	if secret != "" {
		c.secrets = append(c.secrets, secret)
	}
}

// write is a request that changes something, or a question with a body. An answer without
// content is nil.
func (c *client) write(ctx context.Context, doing, path string, body map[string]any) (*api.Secret, error) {
	s, err := c.api.Logical().WriteWithContext(ctx, path, body)
	if err != nil {
		return nil, c.explain(doing, "update on "+path, err)
	}
	return s, nil
}

// CheckAuthorities says what is wrong with a PEM file of authorities.
func CheckAuthorities(what, path string) error {
	_, err := authorities(what, path)
	return err
}

// authorities reads a PEM file of authorities.
func authorities(what, path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, refused("%s: %v", what, err)
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, refused("%s: %v", what, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, refused("%s: %s holds no certificate in PEM", what, path)
	}
	return pool, nil
}

// text returns a string of an answer's data.
func text(s *api.Secret, name string) (string, error) {
	if s != nil {
		if v, ok := s.Data[name].(string); ok && v != "" {
			return v, nil
		}
	}
	return "", fmt.Errorf("the answer has no %s", name)
}
