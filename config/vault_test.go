package config_test

import (
	"strings"
	"testing"
	"time"

	"keyd/config"
)

const vault = `vault:
  address: https://vault.example:8200
  ca: /etc/keyd/vault-ca.crt
  approle: {role: keyd, role_id: 7d3b5c1e-0000-0000-0000-000000000000, secret_id_file: /etc/keyd/vault/secret-id, wrapped: true}
  certificates:
    - directory: /var/lib/keyd/tls
      role: keyd-server
      dns_sans: [keyd.example]
      ip_sans: ["192.0.2.7", "2001:db8::7"]
      ttl: 24h
      authority: /etc/keyd/pki.crt
    - {directory: /var/lib/keyd/monitor, role: keyd-client, uri_sans: ["spiffe://payments.example/monitoring"], ttl: 24h, authority: /etc/keyd/pki.crt, owner: monitor, mode: "0640"}
`

// vaulted is good with a Vault for PIN and certificates.
var vaulted = strings.NewReplacer(
	"pin_file: prompt", "pin_vault: {path: keyd/token}",
	"/etc/keyd/server.crt", "/var/lib/keyd/tls/current/certificate.pem",
	"/etc/keyd/server.key", "/var/lib/keyd/tls/current/key.pem",
).Replace(good) + vault

func TestVault(t *testing.T) {
	c, err := config.Parse([]byte(vaulted))
	if err != nil {
		t.Fatal(err)
	}
	v := c.Vault
	if !v.InUse() || c.Server() != 0 || v.AppRole.Mount != "approle" || time.Duration(v.StartTimeout) != time.Minute || time.Duration(v.Interval) != time.Minute {
		t.Errorf("%+v", v)
	}
	if p := c.Token.PINVault; p.Mount != "secret" || p.Field != "pin" || p.Path != "keyd/token" || p.Version != 0 {
		t.Errorf("%+v", p)
	}
	if v.Certificates[0].Mount != "pki" || v.Certificates[0].Mode != "0600" || v.Certificates[1].Mode != "0640" {
		t.Errorf("%+v", v.Certificates)
	}
	for name, file := range map[string]string{
		"certificates and a PIN that is typed": strings.Replace(vaulted, "pin_vault: {path: keyd/token}", "pin_file: prompt", 1),
		"a token":                              strings.Replace(vaulted, vault[strings.Index(vault, "  approle"):strings.Index(vault, "  certificates")], "  token_file: /etc/keyd/vault.token\n", 1),
		"on this machine":                      strings.Replace(vaulted, "https://vault.example:8200\n  ca: /etc/keyd/vault-ca.crt", "http://127.0.0.1:8200", 1),
	} {
		if _, err := config.Parse([]byte(file)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c, err := config.Parse([]byte(good)); err != nil || c.Vault.InUse() || c.Server() != -1 {
		t.Errorf("without: %+v, %v", c, err)
	}
}

func TestVaultIsStrict(t *testing.T) {
	for name, c := range map[string]struct{ old, fresh, want string }{
		"unknown key":            {"  ca: /etc", "  cacert: /etc", "cacert"},
		"no address":             {"  address: https://vault.example:8200\n", "", "vault.address is missing"},
		"no port":                {"vault.example:8200", "vault.example", "port is missing"},
		"unenciphered":           {"https://vault.example:8200\n  ca: /etc/keyd/vault-ca.crt", "http://192.0.2.1:8200", "unenciphered"},
		"unenciphered, by name":  {"https://vault.example:8200\n  ca: /etc/keyd/vault-ca.crt", "http://localhost:8200", "unenciphered"},
		"a password":             {"https://vault", "https://user:password@vault", "nothing else"},
		"a path":                 {"example:8200", "example:8200/v1", "nothing else"},
		"another scheme":         {"https://", "ftp://", "neither"},
		"no authority of its":    {"  ca: /etc/keyd/vault-ca.crt\n", "", "https needs vault.ca"},
		"two logins":             {"  approle:", "  token_file: /etc/keyd/token\n  approle:", "name one of the two"},
		"no role":                {"role: keyd,", "", "are needed"},
		"a role with a path":     {"role: keyd,", "role: ../keyd,", "are needed"},
		"a relative file":        {"secret_id_file: /etc/keyd/vault/secret-id", "secret_id_file: secret-id", "absolute path"},
		"secret-id in state":     {"/etc/keyd/vault/secret-id", "/var/lib/keyd/front/secret-id", "must not lie in state"},
		"the policy beside it":   {"/etc/keyd/vault/secret-id", "/etc/keyd/secret-id", "directory of its own"},
		"authority in its own":   {"/etc/keyd/pki.crt\n    -", "/var/lib/keyd/tls/pki.crt\n    -", "directory of its own"},
		"one in another":         {"/var/lib/keyd/monitor", "/var/lib/keyd/tls/monitor", "must not lie in"},
		"PIN twice":              {"pin_vault: {path", "pin_file: prompt\n  pin_vault: {path", "not both"},
		"no path of the PIN":     {"pin_vault: {path: keyd/token}", "pin_vault: {field: pin}", "mount and path"},
		"a path that climbs":     {"keyd/token", "../../sys/seal", "mount and path"},
		"a path with a query":    {"keyd/token", "keyd/token?version=1", "mount and path"},
		"a negative version":     {"{path: keyd/token}", "{path: keyd/token, version: -1}", "version"},
		"nobody named":           {"      dns_sans: [keyd.example]\n      ip_sans: [\"192.0.2.7\", \"2001:db8::7\"]\n", "", "names nobody"},
		"a name that is none":    {"[keyd.example]", "[keyd_example]", "no DNS name"},
		"an address that's none": {"192.0.2.7", "192.0.2.700", "no IP address"},
		"a URI that is none":     {"spiffe://payments.example/monitoring", "monitoring", "no URI"},
		"two URIs in one":        {"spiffe://payments.example/monitoring", "spiffe://payments.example/a,spiffe://payments.example/b", "no URI"},
		"too short a life":       {"ttl: 24h\n", "ttl: 1s\n", "ttl"},
		"a mode for all":         {`"0640"`, `"0644"`, "mode"},
		"the server's owner":     {"      ttl: 24h\n", "      ttl: 24h\n      owner: somebody\n", "leave owner out"},
		"only the certificate":   {"/var/lib/keyd/tls/current/key.pem", "/etc/keyd/server.key", "both be Vault's"},
		"the same directory":     {"/var/lib/keyd/monitor", "/var/lib/keyd/tls/", "named twice"},
		"a directory in state":   {"directory: /var/lib/keyd/monitor", "directory: /var/lib/keyd/front/tls", "must not lie in state"},
		"an interval of nothing": {"  certificates:", "  interval: 1ms\n  certificates:", "interval"},
		"a day at the start":     {"  certificates:", "  start_timeout: 24h\n  certificates:", "start_timeout"},
	} {
		if !strings.Contains(vaulted, c.old) {
			t.Fatalf("%q is not in the sample", c.old)
		}
		got, err := config.Parse([]byte(strings.Replace(vaulted, c.old, c.fresh, 1)))
		if err == nil || got != nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not say %q", name, err, c.want)
		}
	}
	nothing := strings.Replace(good, "users:", strings.SplitN(vault, "  certificates:", 2)[0]+"users:", 1)
	if _, err := config.Parse([]byte(nothing)); err == nil || !strings.Contains(err.Error(), "nothing is asked of it") {
		t.Errorf("a Vault for nothing: %v", err)
	}
}
