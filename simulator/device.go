package simulator

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"keyd/trust"
)

// Algorithms are those that a device's key pair can have.
var Algorithms = []string{"P-256", "P-384", "P-521", "RSA-2048", "RSA-3072"}

// Device is a simulated terminal whose whole state lies in one file. Several processes may use
// one file: they take turns. It is safe for concurrent use.
type Device struct{ path string }

// OpenDevice returns the device whose state is in the file at path.
func OpenDevice(path string) *Device { return &Device{path: path} }

// GenerateKey makes a key pair of one of [Algorithms].
func GenerateKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "P-256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RSA-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("a terminal's key pair is one of %q, not %q", Algorithms, algorithm)
}

// NewDevice makes the file of a new device that has that key pair, and neither certificate nor
// host. profile is that of its TR-34 tokens; "" is as the standards say. A file that is there
// stays as it is, and is an error.
func NewDevice(path, terminal, profile string, key crypto.Signer) (*Device, error) {
	if terminal == "" {
		return nil, errors.New("a terminal has an identifier: that of keyd's inventory")
	}
	if _, err := profileNamed(profile); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	state := &deviceState{Version: 1, Terminal: terminal, Profile: profile, Key: der}
	defer state.destroy()
	b, err := state.encode()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return OpenDevice(path), createFile(path, b, 0o600)
}

// CertificateRequest returns a request (PKCS #10) for a certificate of the device's key, in DER.
func (d *Device) CertificateRequest() (der []byte, err error) {
	err = d.view(func(s *deviceState) error {
		key, err := s.privateKey()
		if err != nil {
			return err
		}
		der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: s.Terminal}}, key)
		return err
	})
	return der, err
}

// SetCertificates gives the device its certificate over its own key, then those of its issuers,
// in DER.
func (d *Device) SetCertificates(chain [][]byte) error {
	if len(chain) == 0 || len(chain) > trust.MaxChain {
		return fmt.Errorf("there are 1 to %d certificates: the terminal's and then its issuers", trust.MaxChain)
	}
	return d.update(func(s *deviceState) error {
		key, err := s.privateKey()
		if err != nil {
			return err
		}
		for n, der := range chain {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return err
			}
			if n == 0 && !samePublic(c.PublicKey, key.Public()) {
				return errors.New("the first certificate is not of this terminal's key")
			}
		}
		s.Certificates = chain
		return nil
	})
}

// BelieveHosts sets the authorities whose hosts the device believes, in DER. A device has them
// from its maker; here they may change.
func (d *Device) BelieveHosts(authorities [][]byte) error {
	for _, der := range authorities {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if !c.IsCA {
			return errors.New("what a terminal believes is the certificate of an authority of hosts: this one is no authority's")
		}
	}
	return d.update(func(s *deviceState) error {
		s.Authorities = authorities
		return nil
	})
}

// TLSCertificate returns what the device proves itself with when it connects to keyd.
func (d *Device) TLSCertificate() (c tls.Certificate, err error) {
	err = d.view(func(s *deviceState) error {
		if len(s.Certificates) == 0 {
			return errNoCertificate
		}
		key, err := s.privateKey()
		c = tls.Certificate{Certificate: s.Certificates, PrivateKey: key}
		return err
	})
	return c, err
}

var errNoCertificate = errors.New("the terminal has no certificate yet: have its maker sign its request (keyd terminal simulate new --csr), and give it the certificate (keyd terminal simulate certify)")

// Info is what can be shown of a device: no secret.
type Info struct {
	Terminal     string
	Profile      string
	KeyAlgorithm string
	Certificates []*x509.Certificate
	Authorities  []*x509.Certificate
	Host         *x509.Certificate // to which it is bound (TR-34); nil if to none
	OnePass      time.Time         // stamp of the last one-pass token, or of the binding; zero if there is none
	Waiting      string            // for the answer to what; "" for none
	Received     *InfoKeys         // not confirmed
	Current      *InfoKeys
}

// InfoKeys describes the keys of an injection.
type InfoKeys struct {
	Injection   string
	CheckValues []string
	Registers   []InfoRegister
	Session     []InfoSession
}

// InfoRegister describes an initial key at work.
type InfoRegister struct {
	Name, KeyID, KSN string // KSN is that of the next transaction; empty when there is none
}

// InfoSession describes a session key.
type InfoSession struct {
	Name, KeyID, Usage string
	NotAfter           time.Time
}

// Info describes the device.
func (d *Device) Info() (*Info, error) {
	var i *Info
	err := d.view(func(s *deviceState) (err error) {
		key, err := s.privateKey()
		if err != nil {
			return err
		}
		i = &Info{Terminal: s.Terminal, Profile: s.Profile, KeyAlgorithm: algorithmOf(key.Public()), Received: s.Received.info(), Current: s.Current.info()}
		if s.Asked != nil {
			i.Waiting = s.Asked.What
		}
		if s.OnePass != 0 {
			i.OnePass = time.Unix(s.OnePass, 0)
		}
		if i.Certificates, err = parseAll(s.Certificates); err != nil {
			return err
		}
		if i.Authorities, err = parseAll(s.Authorities); err != nil {
			return err
		}
		if s.Host != nil {
			i.Host, err = x509.ParseCertificate(s.Host)
		}
		return err
	})
	return i, err
}

func (i *injected) info() *InfoKeys {
	if i == nil {
		return nil
	}
	out := &InfoKeys{Injection: i.Injection, CheckValues: i.CheckValues}
	for n := range i.Registers {
		r := &i.Registers[n]
		out.Registers = append(out.Registers, InfoRegister{r.Name, r.KeyID, r.next()})
	}
	for _, k := range i.Session {
		out.Session = append(out.Session, InfoSession{k.Name, k.KeyID, k.Usage, time.Unix(k.NotAfter, 0)})
	}
	return out
}

func algorithmOf(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return k.Curve.Params().Name
	}
	return fmt.Sprintf("%T", key)
}

func parseAll(ders [][]byte) (all []*x509.Certificate, err error) {
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// view reads the state. What read takes out of it is gone from memory afterwards, but for copies.
func (d *Device) view(read func(*deviceState) error) error {
	return d.locked(func(s *deviceState) error { return read(s) }, false)
}

// update changes the state under a lock, and has it on the disk when it returns nil. After an
// error the file is as it was.
func (d *Device) update(change func(*deviceState) error) error { return d.locked(change, true) }

func (d *Device) locked(do func(*deviceState) error, write bool) error {
	unlock, err := lockFile(d.path)
	if err != nil {
		return err
	}
	defer unlock()
	b, err := readFile(d.path, maxDeviceState)
	if err != nil {
		return err
	}
	defer clear(b)
	s, err := decodeState(b)
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	defer s.destroy()
	if err := do(s); err != nil || !write {
		return err
	}
	next, err := s.encode()
	if err != nil {
		return err
	}
	defer clear(next)
	return WriteFile(d.path, next, 0o600)
}

func upperHex(b []byte) string { return fmt.Sprintf("%X", b) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
