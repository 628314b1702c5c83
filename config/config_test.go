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

// fleet is a shared database, and a node of three.
const fleet = "database: {postgres: {hosts: ['127.0.0.1:5432'], database: keyd, user: keyd, password_file: /etc/keyd/pg}}\nfleet: {node: keyd-a, size: 3}"

// shared is a shared database beside the given part, or a whole of both.
func shared(part string) string {
	if strings.HasPrefix(part, "database:") {
		return part + "\n"
	}
	database, _, _ := strings.Cut(fleet, "\n")
	return database + "\n" + part + "\n"
}

func TestParseFleet(t *testing.T) {
	c, err := config.Parse([]byte(good + shared(fleet)))
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Database.Postgres; p.Connections != 16 || p.Hosts[0] != "127.0.0.1:5432" || c.Fleet != (config.Fleet{Node: "keyd-a", Size: 3}) {
		t.Errorf("%+v, %+v", p, c.Fleet)
	}
}

func TestNodesKeepLimitsTogether(t *testing.T) {
	l := config.Limits{Minute: 10, Hour: 60, Day: config.Unlimited}
	if none := (config.Limits{}); none.Split(3) != none {
		t.Errorf("no limits: %v", none.Split(3))
	}
	for nodes, want := range map[int]config.Limits{0: l, 1: l, 3: {Minute: 3, Hour: 20, Day: config.Unlimited}, 64: {Minute: 1, Hour: 1, Day: config.Unlimited}} {
		if got := l.Split(nodes); got != want {
			t.Errorf("%d nodes: %v, want %v", nodes, got, want)
		}
	}
}

func TestParseFillsInDefaults(t *testing.T) {
	c, err := config.Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if c.Modules != 2 || c.Token.Sessions != 4 || time.Duration(c.OperationTimeout) != 1500*time.Millisecond || time.Duration(c.DrainTimeout) != 10*time.Second {
		t.Errorf("%+v", c)
	}
}

func TestParseKeepsDefaultsBesideWhatIsSet(t *testing.T) {
	c, err := config.Parse([]byte(good + "drain_timeout: 0s\nksn:\n  max_jump: 7\nvelocity:\n  translate:\n    hour: 99\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.DrainTimeout != 0 {
		t.Errorf("drain_timeout is %v, 0s is written", time.Duration(c.DrainTimeout))
	}
	if c.KSN.MaxJump != 7 || time.Duration(c.KSN.RetryWindow) != time.Minute {
		t.Errorf("ksn: %+v", c.KSN)
	}
	if v := c.Velocity; v.Entries != 1<<20 || v.Verify != (config.Limits{Minute: 10, Hour: 60, Day: 200}) || v.Translate != (config.Limits{Minute: 30, Hour: 99, Day: 1000}) || v.Card != (config.Limits{Minute: 5, Hour: 20, Day: 50}) {
		t.Errorf("velocity: %+v", v)
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
		"unknown key":               {change("policy:", "polcy:"), "[3:"},
		"unknown nested key":        {change("  label:", "  lable:"), "[10:"},
		"wrong type":                {good + "modules: many\n", "[18:"},
		"missing":                   {change("state: /var/lib/keyd/front\n", ""), "state is missing"},
		"relative path":             {change("/etc/keyd/policy.yaml", "policy.yaml"), "absolute path"},
		"policy in state":           {change("/etc/keyd/policy.yaml", "/var/lib/keyd/front/policy.yaml"), "must not lie in state"},
		"address":                   {change("127.0.0.1:7443", "7443"), "HOST:PORT"},
		"too many modules":          {good + "modules: 65\n", "modules"},
		"no duration":               {change("1500ms", "soon"), "duration"},
		"too long a duration":       {change("1500ms", "2h"), "operation_timeout"},
		"a jump of nothing":         {good + "ksn:\n  max_jump: 0\n", "ksn.max_jump"},
		"no retry window":           {good + "ksn:\n  retry_window: 0s\n", "ksn.retry_window"},
		"no room":                   {good + "velocity:\n  entries: 0\n", "velocity.entries"},
		"a limit of nothing":        {good + "velocity:\n  verify:\n    minute: 0\n", "limit"},
		"limits in disorder":        {good + "velocity:\n  verify:\n    minute: 61\n", "61 a minute, 60 an hour"},
		"fleet without a database":  {good + "fleet: {node: a, size: 3}\n", "database.postgres"},
		"a database without a node": {good + shared("fleet: {size: 3}"), "fleet.node"},
		"a node of many words":      {good + shared("fleet: {node: 'a b', size: 3}"), "fleet.node"},
		"a fleet of no size":        {good + shared("fleet: {node: a}"), "fleet.size"},
		"a fleet too large":         {good + shared("fleet: {node: a, size: 65}"), "fleet.size"},
		"a host to look up":         {good + shared(strings.Replace(fleet, "127.0.0.1:5432", "db.example:5432", 1)), "database.postgres.hosts"},
		"no port":                   {good + shared(strings.Replace(fleet, "127.0.0.1:5432", "127.0.0.1:0", 1)), "database.postgres.hosts"},
		"unprotected":               {good + shared(strings.Replace(fleet, "127.0.0.1:5432", "192.0.2.1:5432", 1)), "database.postgres.ca"},
		"no secret":                 {good + shared(strings.Replace(fleet, "password_file: /etc/keyd/pg", "connections: 8", 1)), "database.postgres.password_file"},
		"certificate, no key":       {good + shared(strings.Replace(fleet, "password_file: /etc/keyd/pg", "certificate: /etc/keyd/pg.crt", 1)), "certificate and key"},
		"certificate, no ca":        {good + shared(strings.Replace(fleet, "password_file: /etc/keyd/pg", "certificate: /c, key: /k", 1)), "database.postgres.ca"},
		"few connections":           {good + shared(strings.Replace(fleet, "user: keyd", "user: keyd, connections: 3", 1)), "database.postgres.connections"},
		"a password for the front":  {good + shared(strings.Replace(fleet, "/etc/keyd/pg", "/var/lib/keyd/front/pg", 1)), "must not lie in state"},
		"web without a certificate": {good + "web: {listen: '0.0.0.0:443', key: /etc/keyd/web.key}\n", "web.certificate and web.key"},
		"web without a key":         {good + "web: {listen: '0.0.0.0:443', certificate: /etc/keyd/web.crt}\n", "web.certificate and web.key"},
		"web without a listener":    {good + "web: {certificate: /etc/keyd/web.crt, key: /etc/keyd/web.key}\n", "web.listen is missing"},
		"web without a port":        {good + "web: {listen: host, certificate: /etc/keyd/web.crt, key: /etc/keyd/web.key}\n", "HOST:PORT"},
		"web's key somewhere":       {good + "web: {listen: '0.0.0.0:443', certificate: /etc/keyd/web.crt, key: web.key}\n", "absolute path"},
		"web's key in state":        {good + "web: {listen: '0.0.0.0:443', certificate: /etc/keyd/web.crt, key: /var/lib/keyd/front/web.key}\n", "state"},
		"admin for all":             {good + "admin: {listen: 0.0.0.0:9464}\n", "no loopback address"},
		"admin for the net":         {good + "admin: {listen: '192.0.2.1:9464'}\n", "no loopback address"},
		"admin by name":             {good + "admin: {listen: localhost:9464}\n", "IP:PORT"},
		"collector by name":         {good + "tracing: {otlp: collector:4317}\n", "cannot look a name up"},
		"collector far away":        {good + "tracing: {otlp: 192.0.2.1:4317}\n", "unenciphered"},
		"collector's port":          {good + "tracing: {otlp: 127.0.0.1:0}\n", "IP:PORT"},
		"ca for nothing":            {good + "tracing: {ca: /etc/keyd/ca.crt}\n", "without effect"},
		"a share of nothing":        {good + "tracing: {otlp: 127.0.0.1:4317, sample: 0}\n", "sample"},
		"one user":                  {change("  module: keyd-module\n", ""), "both"},
		"the same user":             {change("keyd-module", "keyd-front"), "two users"},
		"parameters":                {change("  label:", "  parameters: \"a\\nb\"\n  label:"), "token.parameters"},
		"variable":                  {change("SOFTHSM2_CONF:", "A-B:"), "variable"},
		"too large":                 {good + "#" + strings.Repeat("x", config.MaxSize), "bytes"},
	} {
		got, err := config.Parse([]byte(c.file))
		if err == nil || got != nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q does not say %q", name, err, c.want)
		}
	}
}

func TestAdminAndTracing(t *testing.T) {
	c, err := config.Parse([]byte(good + "admin: {listen: '[::1]:9464'}\ntracing: {otlp: 192.0.2.1:4317, ca: /etc/keyd/collector.crt}\n"))
	if err != nil || c.Admin.Listen != "[::1]:9464" || c.Tracing.Sample != 0.01 {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := config.Parse([]byte(good)); err != nil || c.Admin.Listen != "" || c.Tracing.OTLP != "" {
		t.Errorf("%+v, %v", c, err)
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
