package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyd/vault/vaulttest"
)

// outage is a disk from which the power goes at the n-th change, before it is made, after it,
// or, of a file, in the middle.
type outage struct {
	disk
	at, count int
	when      string
}

var errPower = errors.New("the power is gone")

func (o *outage) do(change, half func() error) error {
	n := o.count
	o.count++
	switch {
	case n < o.at:
		return change()
	case n > o.at:
		return errPower
	case o.when == "after":
		_ = change()
	case o.when == "half" && half != nil:
		_ = half()
	}
	return errPower
}

func (o *outage) Mkdir(p string) error {
	return o.do(func() error { return o.disk.Mkdir(p) }, nil)
}

func (o *outage) Write(p string, b []byte, uid, gid int, mode os.FileMode) error {
	return o.do(func() error { return o.disk.Write(p, b, uid, gid, mode) }, func() error { return os.WriteFile(p, b[:len(b)/2], 0o600) })
}

func (o *outage) Symlink(to, p string) error {
	return o.do(func() error { return o.disk.Symlink(to, p) }, nil)
}

func (o *outage) Rename(from, to string) error {
	return o.do(func() error { return o.disk.Rename(from, to) }, nil)
}

func (o *outage) Remove(p string) error {
	return o.do(func() error { return o.disk.Remove(p) }, nil)
}

func (o *outage) Sync(p string) error {
	return o.do(func() error { return o.disk.Sync(p) }, nil)
}

// local makes pairs without a Vault.
type local struct {
	t         *testing.T
	authority *vaulttest.Authority
	want      Certificate
}

func newLocal(t *testing.T) *local {
	t.Helper()
	a, err := vaulttest.NewAuthority("PKI")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := &local{t: t, authority: a, want: Certificate{
		Directory: filepath.Join(dir, "server"), DNSNames: []string{"localhost"}, TTL: time.Hour, Authority: filepath.Join(dir, "ca.crt"), UID: -1, GID: -1, Mode: 0o600, Server: true,
	}}
	for _, err := range []error{os.Mkdir(l.want.Directory, 0o755), os.WriteFile(l.want.Authority, a.PEM(), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *local) template() *x509.Certificate {
	return &x509.Certificate{DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

func (l *local) pair() *pair {
	l.t.Helper()
	made, err := l.authority.Issue(l.template(), nil)
	if err != nil {
		l.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		l.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(made.Certificate[0])
	if err != nil {
		l.t.Fatal(err)
	}
	return &pair{
		leaf: leaf, chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

// inUse is the certificate that a reader meets, with its key.
func (l *local) inUse() *x509.Certificate {
	l.t.Helper()
	dir := filepath.Join(l.want.Directory, current)
	both, err := tls.LoadX509KeyPair(filepath.Join(dir, certificateFile), filepath.Join(dir, keyFile))
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := held(l.want, time.Now()); err != nil {
		l.t.Fatal(err)
	}
	return both.Leaf
}

// The power goes at every change that a renewal makes. What is left is a whole pair, the old
// one or the new, and the next renewal goes through and leaves nothing of the broken one.
func TestPowerGoesAtEveryChange(t *testing.T) {
	total := 0
	for _, when := range []string{"before", "half", "after"} {
		for at := 0; ; at++ {
			l := newLocal(t)
			first, old, fresh, last := l.pair(), l.pair(), l.pair(), l.pair()
			for _, p := range []*pair{first, old} { // the renewal has a version to tidy away
				if err := put(realDisk{}, l.want, p); err != nil {
					t.Fatal(err)
				}
			}
			o := &outage{disk: realDisk{}, at: at, when: when}
			err := put(o, l.want, fresh)
			if err == nil {
				total = max(total, at)
				break
			}
			if !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			if got := l.inUse(); !got.Equal(old.leaf) && !got.Equal(fresh.leaf) {
				t.Errorf("%s change %d: another certificate is in use", when, at)
			}
			if err := put(realDisk{}, l.want, last); err != nil {
				t.Fatalf("%s change %d: the next renewal: %v", when, at, err)
			}
			if got := l.inUse(); !got.Equal(last.leaf) {
				t.Errorf("%s change %d: the next renewal is not in use", when, at)
			}
			entries, err := os.ReadDir(l.want.Directory)
			if err != nil || len(entries) != 3 {
				t.Errorf("%s change %d: %d entries are left: %v", when, at, len(entries), err)
			}
		}
	}
	if total < 10 {
		t.Errorf("only %d changes were looked at", total)
	}
}

// The very first pair: there is none, or a whole one.
func TestPowerGoesAtTheFirstPair(t *testing.T) {
	for at := 0; ; at++ {
		l := newLocal(t)
		p := l.pair()
		err := put(&outage{disk: realDisk{}, at: at, when: "half"}, l.want, p)
		if err == nil {
			break
		}
		if _, err := os.Lstat(filepath.Join(l.want.Directory, current)); err == nil {
			l.inUse()
		}
		if err := put(realDisk{}, l.want, p); err != nil {
			t.Fatal(err)
		}
		l.inUse()
	}
}

// What lies on the disk is looked at each time, not believed.
func TestHeldIsLookedAt(t *testing.T) {
	for name, spoil := range map[string]func(l *local, dir string) error{
		"no link":          func(l *local, dir string) error { return os.Remove(filepath.Join(l.want.Directory, current)) },
		"no key":           func(_ *local, dir string) error { return os.Remove(filepath.Join(dir, keyFile)) },
		"an open key":      func(_ *local, dir string) error { return os.Chmod(filepath.Join(dir, keyFile), 0o644) },
		"no certificate":   func(_ *local, dir string) error { return os.Remove(filepath.Join(dir, certificateFile)) },
		"half of it":       func(_ *local, dir string) error { return os.Truncate(filepath.Join(dir, certificateFile), 100) },
		"other names":      func(l *local, _ string) error { l.want.DNSNames = []string{"example.org"}; return nil },
		"another lifetime": func(l *local, _ string) error { l.want.TTL = time.Minute; return nil },
		"other authority": func(l *local, _ string) error {
			a, err := vaulttest.NewAuthority("another")
			return errors.Join(err, os.WriteFile(l.want.Authority, a.PEM(), 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLocal(t)
			if err := put(realDisk{}, l.want, l.pair()); err != nil {
				t.Fatal(err)
			}
			l.inUse()
			if err := spoil(l, filepath.Join(l.want.Directory, current)); err != nil {
				t.Fatal(err)
			}
			if _, err := held(l.want, time.Now()); err == nil {
				t.Error("it is still taken for good")
			}
		})
	}
}

// What is not exactly what was asked for is refused.
func TestFits(t *testing.T) {
	l := newLocal(t)
	l.want.Addresses, l.want.URIs = []string{"127.0.0.1"}, nil
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := vaulttest.NewAuthority("a stranger")
	if err != nil {
		t.Fatal(err)
	}
	roots, err := authorities("", l.want.Authority)
	if err != nil {
		t.Fatal(err)
	}
	good := func() *x509.Certificate {
		c := l.template()
		c.IPAddresses = append(c.IPAddresses, []byte{127, 0, 0, 1})
		return c
	}
	for name, test := range map[string]struct {
		change    func(c *x509.Certificate)
		authority *vaulttest.Authority
		key       any
		fine      bool
	}{
		"good":          {fine: true},
		"another key":   {key: (*ecdsa.PrivateKey)(nil)},
		"a name more":   {change: func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "evil.example") }},
		"a wildcard":    {change: func(c *x509.Certificate) { c.DNSNames = []string{"*"} }},
		"a name less":   {change: func(c *x509.Certificate) { c.IPAddresses = nil }},
		"e-mail":        {change: func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.org"} }},
		"common name":   {change: func(c *x509.Certificate) { c.Subject.CommonName = "root" }},
		"an authority":  {change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }},
		"may sign":      {change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
		"for clients":   {change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }},
		"for any use":   {change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		"no signatures": {change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }},
		"for ever":      {change: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(12 * time.Hour) }},
		"over": {change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}},
		"not yet":       {change: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }},
		"of a stranger": {authority: stranger},
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			if test.change != nil {
				test.change(c)
			}
			from := l.authority
			if test.authority != nil {
				from = test.authority
			}
			var public any = &key.PublicKey
			if test.key != nil {
				public = nil // a new one
			}
			made, err := from.Issue(c, public)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(made.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := fits(l.want, leaf, nil, roots, &key.PublicKey, time.Now()); (err == nil) != test.fine {
				t.Errorf("fits: %v", err)
			}
		})
	}
}

// Hosts do not renew at the same moment, and none later than after two thirds.
func TestRenewAt(t *testing.T) {
	l := newLocal(t)
	seen := map[time.Time]bool{}
	for range 20 {
		leaf := l.pair().leaf
		life := leaf.NotAfter.Sub(leaf.NotBefore)
		share := float64(renewAt(leaf).Sub(leaf.NotBefore)) / float64(life)
		if share < 0.56 || share > 0.667 {
			t.Errorf("renewed after %.3f of the life", share)
		}
		seen[renewAt(leaf)] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 certificates are renewed at %d moments", len(seen))
	}
}
