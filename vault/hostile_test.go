package vault

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"keyd/vault/vaulttest"
)

// impostor answers in Vault's place, over TLS that keyd trusts: what a Vault that was taken
// over could say.
type impostor struct {
	*httptest.Server
	seen atomic.Int32 // requests
	pki  *vaulttest.Authority
}

func newImpostor(t *testing.T, answer func(i *impostor, w http.ResponseWriter, r *http.Request)) (*impostor, *rig) {
	t.Helper()
	a, err := vaulttest.NewAuthority("impostor")
	if err != nil {
		t.Fatal(err)
	}
	pki, err := vaulttest.NewAuthority("PKI")
	if err != nil {
		t.Fatal(err)
	}
	own, err := a.Issue(&x509.Certificate{DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{pki: pki}
	i.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.seen.Add(1)
		if r.URL.Path == "/v1/auth/token/lookup-self" {
			io.WriteString(w, `{"data":{"ttl":3600,"creation_ttl":3600,"renewable":true,"policies":["keyd"]}}`)
			return
		}
		answer(i, w, r)
	}))
	i.TLS = &tls.Config{Certificates: []tls.Certificate{*own}}
	i.StartTLS()
	t.Cleanup(i.Close)
	r := newRig(t, Options{})
	// By name, which is resolved before the confinement.
	r.options.Address = strings.Replace(i.URL, "127.0.0.1", "localhost", 1)
	r.options.CA = filepath.Join(r.dir, "vault.crt")
	r.must(os.WriteFile(r.options.CA, a.PEM(), 0o644))
	r.secrets = []string{"hvs.the-token-itself"}
	r.options.TokenFile = r.secret("token", "hvs.the-token-itself")
	r.options.PIN = &PIN{Mount: "secret", Path: "keyd/token", Field: "pin"}
	return i, r
}

func TestHostileVault(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirection was followed") }))
	t.Cleanup(elsewhere.Close)
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		status int
		says   string
	}{
		"redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, 1, "redirects"},
		"answers for ever": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				w.Write(make([]byte, 4<<10))
			}
		}, 78, "more than"},
		"is no JSON":   {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, 78, "not one of a KV"},
		"says null":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "null") }, 78, "not one of a KV"},
		"KV version 1": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"data":{"pin":"1234"}}`) }, 78, "not one of a KV"},
		"a PIN of a megabyte": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"data":{"data":{"pin":%q},"metadata":{"version":1}}}`, strings.Repeat("1", 1<<19))
		}, 78, "longer than"},
		"a list for a PIN": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"data":{"data":{"pin":["1"]},"metadata":{"version":1}}}`)
		}, 78, "is no text"},
		"a line in the PIN": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"data":{"data":{"pin":"1\n2"},"metadata":{"version":1}}}`)
		}, 78, "no PIN has"},
		"sends back secrets": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			fmt.Fprintf(w, `{"errors":["you said %s\u001b[2J"]}`, r.Header.Get("X-Vault-Token"))
		}, 1, "you said [removed] [2J"},
		"has no time": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(429)
			io.WriteString(w, `{"errors":["quota"]}`)
		}, 1, "429"},
		"is a standby": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(473) }, 1, "standby"},
		"forbids": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			io.WriteString(w, `{"errors":["permission denied"]}`)
		}, 78, "permission denied"},
		"hangs up": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, 1, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, r := newImpostor(t, func(_ *impostor, w http.ResponseWriter, q *http.Request) { c.answer(w, q) })
			if c.status == 1 {
				r.options.StartTimeout = patience
			}
			r.want("unlock", c.status, c.says)
			if r.pin() != "" {
				t.Error("there is a PIN")
			}
		})
	}
}

func TestNamespaceIsSent(t *testing.T) {
	_, r := newImpostor(t, func(_ *impostor, w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("X-Vault-Namespace") != "payments/keyd" || q.Header.Get("X-Vault-Request") != "true" {
			w.WriteHeader(400)
			return
		}
		io.WriteString(w, `{"data":{"data":{"pin":"1234"},"metadata":{"version":1}}}`)
	})
	r.options.Namespace = "payments/keyd"
	r.want("unlock", 0)
	if r.pin() != "1234" {
		t.Error("no PIN")
	}
}

// A Vault that signs something else than what was asked for does not get it into use.
func TestHostilePKI(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		key    bool // another one
		body   string
		says   string
	}{
		"good":          {},
		"another host":  {change: func(c *x509.Certificate) { c.DNSNames = []string{"bank.example"} }, says: "DNS names"},
		"more hosts":    {change: func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "bank.example") }, says: "DNS names"},
		"its own key":   {key: true, says: "another key"},
		"an authority":  {change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, says: "authority"},
		"ten years":     {change: func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(10, 0, 0) }, says: "later than"},
		"a minute":      {change: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) }, says: "raise max_ttl"},
		"no PEM":        {body: `{"data":{"certificate":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}`, says: "is none"},
		"nothing":       {body: `{"data":{}}`, says: "no certificate"},
		"a wrong chain": {body: `{"data":{"certificate":"x","ca_chain":[1,2]}}`, says: "none in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			i, r := newImpostor(t, func(i *impostor, w http.ResponseWriter, q *http.Request) {
				if c.body != "" {
					io.WriteString(w, c.body)
					return
				}
				var asked struct{ CSR string }
				if json.NewDecoder(q.Body).Decode(&asked) != nil {
					t.Error("the request cannot be read")
				}
				block, _ := pem.Decode([]byte(asked.CSR))
				csr, err := x509.ParseCertificateRequest(block.Bytes)
				if err != nil {
					t.Error(err)
				}
				template := &x509.Certificate{DNSNames: csr.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotAfter: time.Now().Add(time.Hour)}
				if c.change != nil {
					c.change(template)
				}
				key := csr.PublicKey
				if c.key {
					key = nil
				}
				made, err := i.pki.Issue(template, key)
				if err != nil {
					t.Error(err)
				}
				json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}))}})
			})
			r.options.PIN = nil
			authority := filepath.Join(r.dir, "pki.crt")
			r.must(os.WriteFile(authority, i.pki.PEM(), 0o644))
			dir := filepath.Join(r.dir, "server")
			r.must(os.Mkdir(dir, 0o755))
			r.options.Certificates = []Certificate{{Directory: dir, Mount: "pki", Role: "r", DNSNames: []string{"localhost"}, TTL: time.Hour, Authority: authority, UID: -1, GID: -1, Mode: 0o600, Server: true}}
			if c.says == "" {
				r.want("unlock", 0)
				return
			}
			r.want("unlock", 78, c.says)
			if _, err := os.Lstat(filepath.Join(dir, current)); err == nil {
				t.Error("it is in use")
			}
		})
	}
}
