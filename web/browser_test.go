package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"

	"keyd/web/chromium"
)

// served is a bank behind the pages' own server, over TLS.
type served struct {
	*bank
	address string
	pin     string            // of the certificate, as Chromium wants it
	modules map[string]string // paths of scripts
}

// serve serves a bank's pages on a port of this machine.
func serve(t *testing.T) *served {
	t.Helper()
	b := newBank(t)
	server, err := Server(Config{Backend: b, Host: host})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	hash := sha256.Sum256(public)
	server.TLSConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(Limit(l), "", "") }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	s := &served{b, l.Addr().String(), base64.StdEncoding.EncodeToString(hash[:]), map[string]string{}}
	all, err := loaded()
	must(t, err)
	for path := range all.assets {
		if !strings.HasSuffix(path, ".js") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/assets/"), ".")
		s.modules[name+".js"] = path
	}
	return s
}

// phone is a phone on which somebody looks at a bank's pages.
type phone struct {
	*served
	*chromium.Phone
}

func newPhone(t *testing.T, s *served, language string) *phone {
	t.Helper()
	return &phone{s, chromium.New(t, chromium.Site{Host: host, Address: s.address, Key: s.pin}, language)}
}

// eval and call are those of the phone.
func eval[T any](p *phone, expression string) T {
	p.t.Helper()
	return chromium.Eval[T](p.Phone, expression)
}

func call[P, R any](p *phone, command cdp.Command[P, R], parameters P) R {
	p.t.Helper()
	return chromium.Call(p.Phone, command, parameters)
}

// openVoid opens a code's page, openLink a link's.
func (p *phone) openVoid(code string) {
	p.t.Helper()
	p.Open("/V/" + code)
}

func (p *phone) openLink(link string) {
	p.t.Helper()
	p.Do(chromedp.Navigate("about:blank")) // another fragment alone is no other page
	p.Open("/p#" + link)
}

// text is a text of the pages in the language that is shown.
func (p *phone) text(key string, about ...any) string {
	p.t.Helper()
	if about == nil {
		about = []any{}
	}
	arguments, err := json.Marshal(about)
	must(p.t, err)
	return eval[string](p, fmt.Sprintf(`import(%q).then((m) => m.text(%q, ...%s))`, p.modules["text.js"], key, arguments))
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }
