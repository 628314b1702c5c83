package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"keyd/policies"
	"keyd/server"
	"keyd/supervisor/child"
	"keyd/web"
)

// phonePages serves the pages for phones. Certificate and policy are replaced while it does.
type phonePages struct {
	backend web.Backend
	http    *http.Server

	certificate atomic.Pointer[tls.Certificate]
	served      atomic.Pointer[servedPages]
}

// servedPages are the pages for one host.
type servedPages struct {
	host    string
	handler http.Handler
}

// anyHost is what the limits of a server are taken with; nothing is served under it.
const anyHost = "pages.invalid"

func newPhonePages(b web.Backend, identity *server.WebIdentity, policy *policies.Policy) (*phonePages, error) {
	p := &phonePages{backend: b}
	p.certificate.Store(identity.Certificate)
	if err := p.use(policy); err != nil {
		return nil, err
	}
	var err error
	if p.http, err = web.Server(web.Config{Backend: b, Host: anyHost}); err != nil {
		return nil, err
	}
	p.http.Handler = p
	if p.http.TLSConfig == nil {
		p.http.TLSConfig = new(tls.Config)
	}
	p.http.TLSConfig.MinVersion = tls.VersionTLS12
	p.http.TLSConfig.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate.Load(), nil }
	return p, nil
}

// use serves the pages at the host of a policy, or nothing where it lets nothing be done on phones.
func (p *phonePages) use(policy *policies.Policy) error {
	host := ""
	if v := policy.Voids(); v != nil && v.Phone != nil {
		host = strings.TrimPrefix(v.Origin(), "https://")
	}
	if now := p.served.Load(); now != nil && now.host == host {
		return nil // what it remembers of addresses stays
	}
	next := &servedPages{host: host, handler: http.NotFoundHandler()}
	if host != "" {
		var err error
		if next.handler, err = web.New(web.Config{Backend: p.backend, Host: host}); err != nil {
			return err
		}
	}
	p.served.Store(next)
	return nil
}

// ServeHTTP answers by what is served at the moment.
func (p *phonePages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.served.Load().handler.ServeHTTP(w, r)
}

// serve serves until [phonePages.drain]. It closes the listener.
func (p *phonePages) serve(l net.Listener) error {
	err := p.http.ServeTLS(web.Limit(l), "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain lets requests under way end, and breaks them off when ctx ends.
func (p *phonePages) drain(ctx context.Context) {
	if err := p.http.Shutdown(ctx); err != nil {
		_ = p.http.Close() // who has waited for longer is told nothing
	}
}

// openPages is the pages of a front that serves them, nil of others.
func (f *front) openPages(b web.Backend, policy *policies.Policy) (*phonePages, error) {
	if f.web == nil {
		return nil, nil
	}
	identity, err := server.LoadWebTLS(f.WebCertificate, f.WebKey)
	if err != nil {
		return nil, fmt.Errorf("pages for phones: %w", err)
	}
	f.usePages(identity)
	return newPhonePages(b, identity, policy)
}

func (f *front) usePages(i *server.WebIdentity) {
	f.current.set(func(u *server.InUse) {
		u.Pages = &server.PagesInUse{Serial: i.Serial, NotAfter: i.NotAfter, LoadedAt: time.Now()}
	})
}

// reloadWeb takes certificate and key of the pages up together, or nothing of them.
func (f *front) reloadWeb(opened child.Opened) error {
	certificate, err := readable(opened, FileWebCertificate)
	if err != nil {
		return err
	}
	key, err := readable(opened, FileWebKey)
	if err != nil {
		return err
	}
	identity, err := server.ReadWebTLS(certificate, key)
	if err != nil {
		return err
	}
	if err := identity.CheckTime(time.Now()); err != nil {
		return fmt.Errorf("%s: %w", certificate.Name(), err)
	}
	if err := f.event(fmt.Sprintf("certificate of the pages for phones until %s loaded", identity.NotAfter.UTC().Format(time.DateTime))); err != nil {
		return err
	}
	f.phones.certificate.Store(identity.Certificate)
	f.usePages(identity)
	f.Log.Info("certificate and key of the pages for phones loaded", "serial", identity.Serial, "not_after", identity.NotAfter.UTC())
	return nil
}
