package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoadTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	otherFiles := other.serverFiles(t, t.TempDir())
	for name, c := range map[string]struct {
		spoil func(*testing.T, *TLSFiles)
		want  string // of the error; empty for none
	}{
		"as it should be":         {func(*testing.T, *TLSFiles) {}, ""},
		"group may read the key":  {func(t *testing.T, f *TLSFiles) { chmod(t, f.Key, 0o640) }, ""},
		"others may read the key": {func(t *testing.T, f *TLSFiles) { chmod(t, f.Key, 0o644) }, "chmod 600"},
		"group may write the key": {func(t *testing.T, f *TLSFiles) { chmod(t, f.Key, 0o660) }, "chmod 600"},
		"no certificate file":     {func(_ *testing.T, f *TLSFiles) { f.Certificate += ".gone" }, "server.crt.gone"},
		"no key file":             {func(_ *testing.T, f *TLSFiles) { f.Key += ".gone" }, "server.key.gone"},
		"no authorities file":     {func(_ *testing.T, f *TLSFiles) { f.ClientCA += ".gone" }, "ca.crt.gone"},
		"another's key":           {func(_ *testing.T, f *TLSFiles) { f.Key = otherFiles.Key }, "does not match"},
		"the key twice":           {func(_ *testing.T, f *TLSFiles) { f.Certificate = f.Key }, "server certificate"},
		"authorities without one": {func(_ *testing.T, f *TLSFiles) { f.ClientCA = f.Key }, "holds no certificate"},
		"empty authorities":       {func(t *testing.T, f *TLSFiles) { write(t, f.ClientCA, nil) }, "holds no certificate"},
		"a directory":             {func(_ *testing.T, f *TLSFiles) { f.ClientCA = filepath.Dir(f.ClientCA) }, "directory"},
		"far too large":           {func(t *testing.T, f *TLSFiles) { write(t, f.ClientCA, make([]byte, maxPEM+1)) }, "too large"},
	} {
		files := ca.serverFiles(t, t.TempDir())
		c.spoil(t, &files)
		identity, err := LoadTLS(files)
		if c.want == "" {
			if err != nil || checkTLS(identity.Config) != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || identity != nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "PRIVATE KEY") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A certificate that no client would accept is found before it is used.
func TestServerCertificateIsForServers(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		want   string // of the error; empty for none
	}{
		"a name":           {func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"keyd.example"} }, ""},
		"any purpose":      {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ""},
		"no purpose named": {func(c *x509.Certificate) { c.ExtKeyUsage = nil }, ""},
		"for clients":      {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "serverAuth"},
		"no host":          {func(c *x509.Certificate) { c.IPAddresses = nil }, "names no host"},
	} {
		_, err := LoadTLS(ca.serverFiles(t, t.TempDir(), c.change))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWeakConfigurationsAreRefused(t *testing.T) {
	good := newFront(t)
	for name, spoil := range map[string]func(*Config){
		"no TLS":                   func(c *Config) { c.TLS = nil },
		"TLS 1.2":                  func(c *Config) { c.TLS.MinVersion = tls.VersionTLS12 },
		"optional certificates":    func(c *Config) { c.TLS.ClientAuth = tls.VerifyClientCertIfGiven },
		"unchecked certificates":   func(c *Config) { c.TLS.ClientAuth = tls.RequireAnyClientCert },
		"the system's authorities": func(c *Config) { c.TLS.ClientCAs = nil },
		"session tickets":          func(c *Config) { c.TLS.SessionTicketsDisabled = false },
		"another for some": func(c *Config) {
			c.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil }
		},
		"no audit log": func(c *Config) { c.Audit = nil },
		"no keys":      func(c *Config) { c.Keys = nil },
		"no serials":   func(c *Config) { c.Serials = nil },
		"no modules":   func(c *Config) { c.Modules = nil },
		"no log":       func(c *Config) { c.Log = nil },
	} {
		c := good.config
		if c.TLS != nil {
			c.TLS = c.TLS.Clone()
		}
		spoil(&c)
		if s, err := New(c); err == nil || s != nil {
			t.Errorf("%s was accepted", name)
		}
	}
	s, err := New(good.config)
	if err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// Whoever reaches the port cannot fill the log.
func TestRefusalsAreLoggedSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &logged{}
		r := &refusals{log: slog.New(slog.NewJSONHandler(out, nil))}
		peer := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4}
		for range 1000 {
			r.report(peer, errors.New("no certificate"))
		}
		if n := strings.Count(out.String(), "\n"); n != maxRefusals {
			t.Errorf("%d lines", n)
		}
		time.Sleep(time.Second) // of the test's own clock
		r.report(peer, errors.New("no certificate"))
		if !strings.Contains(out.String(), `"not_logged_before":990`) || !strings.Contains(out.String(), "192.0.2.1:4") {
			t.Errorf("logged: %s", out)
		}
	})
}
