package config_test

import (
	"strings"
	"testing"
	"time"

	"keyd/config"
)

const good = `listen: 127.0.0.1:7443
state: /var/lib/keyd/front
policy: /etc/keyd/policy.yaml
tls:
  certificate: /etc/keyd/server.crt
  key: /etc/keyd/server.key
  client_ca: /etc/keyd/clients.crt
token:
  library: /usr/lib/softhsm/libsofthsm2.so
  label: keyd
  pin_file: prompt
  environment:
    SOFTHSM2_CONF: /etc/keyd/softhsm2.conf
users:
  front: keyd-front
  module: keyd-module
operation_timeout: 1500ms
`

func TestParseFillsInDefaults(t *testing.T) {
	c, err := config.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Modules != 2 || c.Token.Sessions != 4 || time.Duration(c.OperationTimeout) != 1500*time.Millisecond || time.Duration(c.DrainTimeout) != 10*time.Second {
		t.Errorf("%+v", c)
	}
}

func TestParseIsStrict(t *testing.T) {
	change := func(old, fresh string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the sample", old)
		}
		return strings.Replace(good, old, fresh, 1)
	}
	for name, c := range map[string]struct{ file, want string }{
		"unknown key":         {change("policy:", "polcy:"), "[3:"},
		"unknown nested key":  {change("  label:", "  lable:"), "[10:"},
		"wrong type":          {good + "modules: many\n", "[18:"},
		"missing":             {change("state: /var/lib/keyd/front\n", ""), "state is missing"},
		"relative path":       {change("/etc/keyd/policy.yaml", "policy.yaml"), "absolute path"},
		"policy in state":     {change("/etc/keyd/policy.yaml", "/var/lib/keyd/front/policy.yaml"), "must not lie in state"},
		"address":             {change("127.0.0.1:7443", "7443"), "HOST:PORT"},
		"too many modules":    {good + "modules: 65\n", "modules"},
		"no duration":         {change("1500ms", "soon"), "duration"},
		"too long a duration": {change("1500ms", "2h"), "operation_timeout"},
		"one user":            {change("  module: keyd-module\n", ""), "both"},
		"the same user":       {change("keyd-module", "keyd-front"), "two users"},
		"variable":            {change("SOFTHSM2_CONF:", "A-B:"), "variable"},
		"too large":           {good + "#" + strings.Repeat("x", config.MaxSize), "bytes"},
	} {
		got, err := config.Parse([]byte(c.file))
		if err == nil || got != nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not say %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := config.Parse(b); err != nil && c != nil {
			t.Error("a configuration beside an error")
		}
	})
}
