package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Vault is a HashiCorp Vault from which the unlock process, and no other, gets the token
// PIN and certificates. Nothing asks it when Address is not set. What the environment says
// of Vault (VAULT_ADDR and the like) is without effect.
type Vault struct {
	// Address is https://HOST:PORT; http only to a loopback address.
	Address string `yaml:"address"`

	// CA holds the authorities of Vault's own certificate, in PEM. Needed with https: the
	// machine's authorities are not trusted with a PIN.
	CA string `yaml:"ca"`

	// Namespace is of Vault Enterprise and HCP.
	Namespace string `yaml:"namespace"`

	// TokenFile holds a Vault token on one line, readable by the user that starts keyd
	// alone. keyd renews the token and never writes the file. Either it or AppRole.
	TokenFile string `yaml:"token_file"`

	AppRole AppRole `yaml:"approle"`

	// StartTimeout is how long a start waits for a Vault that is away or sealed, 1s to 1h;
	// 1m when it is not set.
	StartTimeout Duration `yaml:"start_timeout"`

	// Interval is how often the unlock process looks whether something is to be renewed, 1s
	// to 1h; 1m when it is not set.
	Interval Duration `yaml:"interval"`

	// Certificates are kept by Vault's PKI secrets engine.
	Certificates []VaultCertificate `yaml:"certificates"`
}

// AppRole is how keyd logs in without a token.
type AppRole struct {
	Mount string `yaml:"mount"` // of the auth method; approle when it is not set
	Role  string `yaml:"role"`  // the role's name

	// RoleID is the role's identifier: a name, no secret.
	RoleID string `yaml:"role_id"`

	// SecretIDFile holds the secret-id on one line, readable by the user that starts keyd
	// alone. With Wrapped it holds the response-wrapping token, or what
	// "vault write -wrap-ttl=… -format=json" puts out, and is renamed to NAME.used before it
	// is unwrapped.
	SecretIDFile string `yaml:"secret_id_file"`
	Wrapped      bool   `yaml:"wrapped"`
}

// PINVault is where the token PIN is in a KV secrets engine, version 2.
type PINVault struct {
	Mount   string `yaml:"mount"`   // secret when it is not set
	Path    string `yaml:"path"`    // below the mount
	Field   string `yaml:"field"`   // pin when it is not set
	Version int    `yaml:"version"` // the newest when it is not set
}

// VaultCertificate is one certificate with a key that is made here, and made anew with
// each renewal. Vault gets a signing request.
type VaultCertificate struct {
	// Directory holds current, a link to the directory in which certificate.pem (leaf
	// first) and key.pem belong together. It belongs to the user that starts keyd. The
	// server's certificate is the one whose files tls.certificate and tls.key name.
	Directory string `yaml:"directory"`

	Mount string `yaml:"mount"` // of the PKI engine; pki when it is not set
	Role  string `yaml:"role"`

	CommonName string   `yaml:"common_name"`
	DNSNames   []string `yaml:"dns_sans"`
	Addresses  []string `yaml:"ip_sans"`
	URIs       []string `yaml:"uri_sans"`

	// TTL is the lifetime to ask for, 10s to 2 years. It is renewed before two thirds of it
	// are over.
	TTL Duration `yaml:"ttl"`

	// Authority holds the authorities, in PEM, to one of which the certificate must lead.
	Authority string `yaml:"authority"`

	// Owner is whose key.pem is, by name or number, and Mode its mode, "0600" or "0640";
	// the front's user, or the one that starts keyd, and "0600" when they are not set.
	Owner string `yaml:"owner"`
	Mode  string `yaml:"mode"`
}

// Files of a VaultCertificate, below its directory.
const (
	VaultCurrent        = "current"
	VaultCertificatePEM = "certificate.pem"
	VaultKeyPEM         = "key.pem"
)

// Certificate and Key are the paths under which others find the pair.
func (v VaultCertificate) Certificate() string {
	return filepath.Join(v.Directory, VaultCurrent, VaultCertificatePEM)
}

// Key is the path of the private key.
func (v VaultCertificate) Key() string { return filepath.Join(v.Directory, VaultCurrent, VaultKeyPEM) }

// InUse reports whether Vault is asked for anything.
func (v Vault) InUse() bool { return v.Address != "" }

// Server returns the index of the certificate that the front serves with, or -1.
func (c *Config) Server() int {
	return slices.IndexFunc(c.Vault.Certificates, func(v VaultCertificate) bool {
		return v.Certificate() == filepath.Clean(c.TLS.Certificate)
	})
}

// The forms of what becomes part of a path of Vault's interface.
var (
	vaultPath  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*$`)
	vaultName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	vaultField = regexp.MustCompile(`^[ -~]{1,128}$`)
	hostName   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
)

// MaxVaultCertificates bounds the certificates.
const MaxVaultCertificates = 16

// vaultDefaults fills in what is not set.
func (c *Config) vaultDefaults() {
	set := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	v := &c.Vault
	if c.Token.PINVault != nil {
		set(&c.Token.PINVault.Mount, "secret")
		set(&c.Token.PINVault.Field, "pin")
	}
	if !v.InUse() {
		return
	}
	set(&v.AppRole.Mount, "approle")
	if v.StartTimeout == 0 {
		v.StartTimeout = Duration(time.Minute)
	}
	if v.Interval == 0 {
		v.Interval = Duration(time.Minute)
	}
	for i := range v.Certificates {
		set(&v.Certificates[i].Mount, "pki")
		set(&v.Certificates[i].Mode, "0600")
	}
}

// validateVault checks the section, and what else refers to it.
func (c *Config) validateVault() error {
	v := c.Vault
	if p := c.Token.PINVault; p != nil {
		switch {
		case c.Token.PINFile != "":
			return errors.New("token: name pin_file or pin_vault, not both")
		case !v.InUse():
			return errors.New("token.pin_vault: vault.address is missing")
		case !vaultPath.MatchString(p.Mount) || !vaultPath.MatchString(p.Path):
			return errors.New("token.pin_vault: mount and path are names with / between them, without data/")
		case !vaultField.MatchString(p.Field):
			return errors.New("token.pin_vault: field is the name of a field")
		case p.Version < 0:
			return errors.New("token.pin_vault: version is a number from 1, or missing for the newest")
		}
	}
	if !v.InUse() {
		if v.CA != "" || v.TokenFile != "" || v.AppRole != (AppRole{}) || len(v.Certificates) > 0 || v.Namespace != "" {
			return errors.New("vault.address is missing")
		}
		return nil
	}
	if c.Token.PINVault == nil && len(v.Certificates) == 0 {
		return errors.New("vault: nothing is asked of it: set token.pin_vault or vault.certificates, or leave vault out")
	}
	if err := v.validate(); err != nil {
		return fmt.Errorf("vault.%w", err)
	}
	for _, p := range []string{v.CA, v.TokenFile, v.AppRole.SecretIDFile} {
		if p != "" && inside(p, c.State) {
			return fmt.Errorf("vault: %q must not lie in state: the front writes there", p)
		}
	}
	if err := c.ownDirectories(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, certificate := range v.Certificates {
		if err := certificate.validate(); err != nil {
			return fmt.Errorf("vault.certificates[%d].%w", i, err)
		}
		dir := filepath.Clean(certificate.Directory)
		switch {
		case seen[dir]:
			return fmt.Errorf("vault.certificates[%d].directory: %q is named twice", i, dir)
		case inside(dir, c.State) || inside(c.State, dir):
			return fmt.Errorf("vault.certificates[%d].directory: %q must not lie in state, nor state in it: the front writes there", i, dir)
		}
		seen[dir] = true
		if (certificate.Certificate() == filepath.Clean(c.TLS.Certificate)) != (certificate.Key() == filepath.Clean(c.TLS.Key)) {
			return fmt.Errorf("tls.certificate and tls.key must both be Vault's: %s and %s", certificate.Certificate(), certificate.Key())
		}
	}
	if i := c.Server(); i >= 0 {
		if s := v.Certificates[i]; s.Owner != "" {
			return fmt.Errorf("vault.certificates[%d].owner: the server's key is the front's: leave owner out", i)
		} else if len(s.DNSNames)+len(s.Addresses) == 0 {
			return fmt.Errorf("vault.certificates[%d]: the server's certificate needs dns_sans or ip_sans: the hosts under which clients connect", i)
		}
	}
	return nil
}

// ownDirectories keeps what the unlock process may change apart from everything else.
func (c *Config) ownDirectories() error {
	v := c.Vault
	others := []string{c.Policy, c.TLS.ClientCA, c.Token.Library, c.Velocity.File, v.CA, v.TokenFile}
	if c.Token.PINFile != Prompt {
		others = append(others, c.Token.PINFile)
	}
	others = append(append(others, c.Token.Files...), c.Token.Directories...)
	type place struct{ name, path string }
	var own []place
	if v.AppRole.Wrapped {
		own = append(own, place{"vault.approle.secret_id_file", filepath.Dir(v.AppRole.SecretIDFile)})
	} else {
		others = append(others, v.AppRole.SecretIDFile)
	}
	for i, certificate := range v.Certificates {
		own = append(own, place{fmt.Sprintf("vault.certificates[%d].directory", i), certificate.Directory})
		others = append(others, certificate.Authority)
	}
	for i, p := range own {
		for _, other := range others {
			if other != "" && inside(other, p.path) {
				return fmt.Errorf("%s: %s needs to be a directory of its own, since the unlock process may change what is in it: %q must not lie there", p.name, p.path, other)
			}
		}
		for k, q := range own {
			if i != k && filepath.Clean(p.path) != filepath.Clean(q.path) && inside(p.path, q.path) {
				return fmt.Errorf("%s: %q must not lie in %q", p.name, p.path, q.path)
			}
		}
	}
	return nil
}

func (v Vault) validate() error {
	if err := v.checkAddress(); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	for _, p := range []struct{ name, value string }{{"ca", v.CA}, {"token_file", v.TokenFile}, {"approle.secret_id_file", v.AppRole.SecretIDFile}} {
		if p.value != "" && !filepath.IsAbs(p.value) {
			return fmt.Errorf("%s: %q must be an absolute path", p.name, p.value)
		}
	}
	a := v.AppRole
	role := a.Role != "" || a.RoleID != "" || a.SecretIDFile != ""
	switch {
	case v.Namespace != "" && !vaultPath.MatchString(v.Namespace):
		return fmt.Errorf("namespace: %q is no namespace", v.Namespace)
	case role == (v.TokenFile != ""):
		return errors.New("token_file or vault.approle: name one of the two, by which keyd logs in")
	case role && (!vaultPath.MatchString(a.Mount) || !vaultName.MatchString(a.Role) || !vaultField.MatchString(a.RoleID) || a.SecretIDFile == ""):
		return errors.New("approle: role (its name), role_id and secret_id_file are needed")
	}
	if d := time.Duration(v.StartTimeout); d < time.Second || d > time.Hour {
		return errors.New("start_timeout must be between 1s and 1h")
	}
	if d := time.Duration(v.Interval); d < time.Second || d > time.Hour {
		return errors.New("interval must be between 1s and 1h")
	}
	if len(v.Certificates) > MaxVaultCertificates {
		return fmt.Errorf("certificates: %d; there can be %d", len(v.Certificates), MaxVaultCertificates)
	}
	return nil
}

// checkAddress wants a URL without anything that could hold a secret or a path.
func (v Vault) checkAddress() error {
	u, err := url.Parse(v.Address)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return errors.New("it must be https://HOST:PORT and nothing else")
	}
	if port := u.Port(); port == "" || port == "0" {
		return errors.New("the port is missing: https://HOST:8200")
	}
	host := u.Hostname()
	at, err := netip.ParseAddr(host)
	if err != nil && !hostName.MatchString(host) {
		return fmt.Errorf("%q is no host", host)
	}
	switch {
	case u.Scheme == "https":
		if v.CA == "" {
			return errors.New("https needs vault.ca, the authorities of Vault's certificate")
		}
	case u.Scheme != "http":
		return fmt.Errorf("%q is neither https nor http", u.Scheme)
	case err != nil || !at.Unmap().IsLoopback():
		return errors.New("http would send the PIN over the network unenciphered: use https; only a loopback address may do without")
	case v.CA != "":
		return errors.New("vault.ca is without effect with http")
	}
	return nil
}

func (v VaultCertificate) validate() error {
	for _, p := range []struct{ name, value string }{{"directory", v.Directory}, {"authority", v.Authority}} {
		if !filepath.IsAbs(p.value) {
			return fmt.Errorf("%s: %q must be an absolute path", p.name, p.value)
		}
	}
	switch {
	case filepath.Clean(v.Directory) == "/":
		return errors.New("directory: choose one that holds nothing else")
	case !vaultPath.MatchString(v.Mount) || !vaultName.MatchString(v.Role):
		return errors.New("role: mount and role are names of Vault's")
	case v.CommonName == "" && len(v.DNSNames)+len(v.Addresses)+len(v.URIs) == 0:
		return errors.New("common_name: it names nobody: set dns_sans, ip_sans, uri_sans or common_name")
	case v.CommonName != "" && !vaultField.MatchString(v.CommonName), len(v.CommonName) > 64:
		return errors.New("common_name: at most 64 printable characters")
	case v.Mode != "0600" && v.Mode != "0640":
		return errors.New(`mode: "0600" or "0640"`)
	}
	for _, name := range v.DNSNames {
		if !hostName.MatchString(strings.TrimPrefix(name, "*.")) || len(name) > 253 || net.ParseIP(name) != nil {
			return fmt.Errorf("dns_sans: %q is no DNS name", name)
		}
	}
	for _, a := range v.Addresses {
		if _, err := netip.ParseAddr(a); err != nil {
			return fmt.Errorf("ip_sans: %q is no IP address", a)
		}
	}
	for _, text := range v.URIs {
		if u, err := url.Parse(text); err != nil || u.Scheme == "" || u.Host == "" || strings.ContainsAny(text, ", ") || u.String() != text {
			return fmt.Errorf("uri_sans: %q is no URI such as spiffe://payments.example/switch/1", text)
		}
	}
	if d := time.Duration(v.TTL); d < 10*time.Second || d > 2*365*24*time.Hour {
		return errors.New("ttl must be between 10s and 17520h")
	}
	return nil
}
