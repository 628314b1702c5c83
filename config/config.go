// Package config is the configuration of keyd serve: one strict YAML file. The
// comments of [Config] are its manual. An unknown key, a missing one or one of the
// wrong type is an error with its line.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
)

// Config is a whole configuration.
type Config struct {
	// Listen is the address of the gRPC service, HOST:PORT. Needed.
	Listen string `yaml:"listen"`

	// State is the directory of the front: its database and its audit log. It belongs
	// to the front's user and to nobody else. Needed.
	State string `yaml:"state"`

	// Database is where the front keeps keys, counters and ceremonies: a file in State when
	// it is not set.
	Database Database `yaml:"database"`

	// Fleet is about several keyds on one database. Needed with database.postgres.
	Fleet Fleet `yaml:"fleet"`

	// Policy is the file that says who may do what. Needed.
	Policy string `yaml:"policy"`

	TLS   TLS   `yaml:"tls"`
	Token Token `yaml:"token"`
	Vault Vault `yaml:"vault"`

	// Modules is the number of module processes, 1 to 64; 2 when it is not set. Each
	// is a client of the token of its own: SoftHSM runs the calls of one process one at
	// a time, so more modules use more cores.
	Modules int `yaml:"modules"`

	// Users separates the processes when keyd is started as root.
	Users Users `yaml:"users"`

	// KSN is about key serial numbers of keys whose KSNs are checked.
	KSN KSN `yaml:"ksn"`

	// Velocity limits how often the PIN of one account may be tried.
	Velocity Velocity `yaml:"velocity"`

	// Ledger is the file in which the modules remember for good which device an initial key
	// belongs to; it is made when it is missing. The state directory's path with ".ledger" when
	// it is not set.
	Ledger string `yaml:"ledger"`

	// Audit is about the audit log, which is in the directory audit of State.
	Audit Audit `yaml:"audit"`

	// Admin is a second listener for this machine: metrics, health, profiles.
	Admin Admin `yaml:"admin"`

	// Web is a listener for the pages that codes and links open on phones.
	Web Web `yaml:"web"`

	// Tracing sends spans of requests to an OpenTelemetry collector.
	Tracing Tracing `yaml:"tracing"`

	// OperationTimeout is how long an operation may take in a module before the caller
	// is told UNAVAILABLE and the module is replaced; 2s when it is not set.
	OperationTimeout Duration `yaml:"operation_timeout"`

	// RestartPause is how long a process that keeps failing waits at most before it is started
	// again, 100ms to 1m; 5s when it is not set.
	RestartPause Duration `yaml:"restart_pause"`

	// DrainTimeout is how long requests that are under way may take when keyd stops;
	// 10s when it is not set.
	DrainTimeout Duration `yaml:"drain_timeout"`
}

// Database is a database that several keyds share. Without it the front has an SQLite file of
// its own.
type Database struct {
	Postgres *Postgres `yaml:"postgres"`
}

// Postgres is a PostgreSQL database, of version 13 or newer.
type Postgres struct {
	// Hosts are IP:PORT, of a server and its standbys: the one that takes writes is used. The
	// front connects to these ports and to no other; it cannot look a name up.
	Hosts []string `yaml:"hosts"`

	Database string `yaml:"database"` // its name
	User     string `yaml:"user"`

	// PasswordFile holds the password on one line, readable by the front's user alone. Not
	// needed where the server takes Certificate.
	PasswordFile string `yaml:"password_file"`

	// CA holds the authorities of the server's certificate, in PEM, whose name must be the
	// host's address. Only a loopback address needs none.
	CA string `yaml:"ca"`

	// Certificate and Key identify the front to the server, both in PEM; both or neither.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`

	// Connections bounds the connections of this front, 4 to 200; 16 when it is not set.
	Connections int `yaml:"connections"`
}

// Fleet is several keyds on one database, whose tokens have the same master keys.
type Fleet struct {
	// Node is this keyd's name among them, which no other has: up to 64 letters, digits,
	// hyphens and dots.
	Node string `yaml:"node"`

	// Size is how many there are at most, 1 to 64. Each lets an account have its share of the
	// velocity limits, since each counts for itself; at least one try each. Needed.
	Size int `yaml:"size"`
}

// Split returns limits that several nodes keep together, for one of them: its share, rounded
// down, but one at least.
func (l Limits) Split(nodes int) Limits {
	share := func(n Limit) Limit {
		if n <= 0 { // unlimited, or a development service's
			return n
		}
		return max(n/Limit(max(nodes, 1)), 1)
	}
	return Limits{share(l.Minute), share(l.Hour), share(l.Day)}
}

// TLS holds the files of the front's mutual TLS 1.3, all in PEM.
type TLS struct {
	Certificate string `yaml:"certificate"` // the server's chain, leaf first
	Key         string `yaml:"key"`         // its private key, readable by the front's user alone
	ClientCA    string `yaml:"client_ca"`   // the authorities whose clients are let in
}

// Admin is plain HTTP without authentication for programs on this machine: /metrics for
// Prometheus, /healthz, /readyz, /debug/pprof/.
type Admin struct {
	// Listen is IP:PORT, of a loopback address. Nothing is served when it is not set.
	Listen string `yaml:"listen"`
}

// Web is HTTPS, TLS 1.2 or newer, without client certificates, for phones at the host that the policy
// names (voids.code_host). Nothing is served when Listen is not set, and only refusals where the policy
// lets nothing be done on phones.
type Web struct {
	// Listen is HOST:PORT.
	Listen string `yaml:"listen"`

	// Certificate and Key are the files, in PEM, with which phones are shown the host's name: one of
	// an authority that phones believe. They are read again with those of TLS.
	Certificate string `yaml:"certificate"` // the chain, leaf first
	Key         string `yaml:"key"`         // readable by the front's user alone
}

// Tracing is about OpenTelemetry traces. Nothing is traced, and the front can connect to
// nothing, when OTLP is not set.
type Tracing struct {
	// OTLP is IP:PORT of a collector that takes OTLP over gRPC. The front connects to that
	// port and to no other; it cannot look a name up.
	OTLP string `yaml:"otlp"`

	// CA holds the authorities of the collector's certificate, in PEM. Without it the spans
	// go unenciphered, which only a loopback address is allowed.
	CA string `yaml:"ca"`

	// Sample is the share of requests that are traced, above 0 and at most 1; 0.01 when it
	// is not set.
	Sample float64 `yaml:"sample"`
}

// Token is where the module finds its keys.
type Token struct {
	// Library is the PKCS#11 library, an absolute path.
	Library string `yaml:"library"`

	// Parameters is what the library is initialised with, where it takes parameters
	// (NSS softokn: configdir='sql:/var/lib/keyd/token' and more, up to 4,096 bytes). It
	// must hold no secret: it stands on a command line.
	Parameters string `yaml:"parameters"`

	// Label is the token's label.
	Label string `yaml:"label"`

	// PINFile holds the token's user PIN on one line, readable by the user that starts
	// keyd alone. "prompt" asks for it on the terminal instead.
	PINFile string `yaml:"pin_file"`

	// PINVault is where Vault has the PIN, in place of PINFile.
	PINVault *PINVault `yaml:"pin_vault"`

	// Sessions is the number of PKCS#11 sessions of each module, 1 to 256; 4 when it
	// is not set. What is queued is carried out together on one session, and several
	// sessions work side by side where the token does: a network HSM does, SoftHSM does
	// not, and is fastest with 1.
	Sessions int `yaml:"sessions"`

	// CachedKeys bounds the unsealed keys that each module keeps in the token as
	// session objects; 16384 when it is not set.
	CachedKeys int `yaml:"cached_keys"`

	// DerivedKeys bounds the AES DUKPT derivation keys that each module keeps likewise;
	// 8192 when it is not set. A terminal in use takes as many as its counter has
	// one-bits, and one; SoftHSM needs 8 KiB for each.
	DerivedKeys int `yaml:"derived_keys"`

	// Directories are what the library may read and write: the token's store. Nothing
	// else of the file system is open to the module but the libraries themselves.
	Directories []string `yaml:"directories"`

	// Files are what the library may read: its configuration.
	Files []string `yaml:"files"`

	// Environment is the library's environment, SOFTHSM2_CONF for one. It must hold no
	// secret.
	Environment map[string]string `yaml:"environment"`

	// ConnectPorts are the TCP ports that the library may connect to, for a network
	// HSM. Without any the module cannot make a socket.
	ConnectPorts []uint16 `yaml:"connect_ports"`
}

// KSN is about DUKPT keys whose header demands that a terminal's counter only grows.
type KSN struct {
	// RetryWindow is how long the answer to a request is kept, enciphered, for an
	// identical retry: at least this long and at most twice as long, 1s to 10m; 1m when
	// it is not set.
	RetryWindow Duration `yaml:"retry_window"`

	// MaxJump is how far a counter may be ahead of the last one accepted, 1 to 2^31;
	// 65536 when it is not set, which no terminal exceeds by counting on.
	MaxJump uint32 `yaml:"max_jump"`
}

// Velocity limits tries. The modules count, and remember in a file that the front
// cannot reach.
type Velocity struct {
	// File is what the modules share; it is made when it is missing. The state
	// directory's path with ".velocity" when it is not set.
	File string `yaml:"file"`

	// Entries is for how many accounts the file has room, a power of two from 1024 to
	// 2^26; 2^20 when it is not set. Each takes 128 bytes. When there are more in a day
	// they share entries, and are limited sooner.
	Entries int `yaml:"entries"`

	// Verify limits the verifications under one verification key of one account; 10 a
	// minute, 60 an hour, 200 a day when it is not set.
	Verify Limits `yaml:"verify"`

	// Translate limits the translations of one account's PIN; 30 a minute, 300 an hour,
	// 1000 a day when it is not set.
	Translate Limits `yaml:"translate"`

	// Card limits the verifications of one card verification value, which has three
	// digits only; 5 a minute, 20 an hour, 50 a day when it is not set.
	Card Limits `yaml:"card"`
}

// Audit is about the audit log. It is cut into segments; keyd deletes none.
type Audit struct {
	// SegmentSize is from how many bytes on a segment is closed, 1048576 (1 MiB) to 17179869184
	// (16 GiB); 67108864 (64 MiB) when it is not set. The newest one is read at each start, 64 MiB in about a second.
	SegmentSize int64 `yaml:"segment_size"`

	// SegmentAge is after how long it is, 1m to 8784h; 24h when it is not set.
	SegmentAge Duration `yaml:"segment_age"`

	// Node is a name for this host in the name of the log, lower-case letters, digits, dots and
	// hyphens; none when it is not set. It counts when a log is begun.
	Node string `yaml:"node"`

	// Checkpoints is the file in which the modules remember what checkpoints of the log they
	// have signed; it is made when it is missing. The state directory's path with
	// ".checkpoints" when it is not set.
	Checkpoints string `yaml:"checkpoints"`
}

// Limits are how often something may be done in any minute, hour and day.
type Limits struct {
	Minute Limit `yaml:"minute"`
	Hour   Limit `yaml:"hour"`
	Day    Limit `yaml:"day"`
}

// Limit is a number from 1 to 60000, or [Unlimited].
type Limit int

// Unlimited is no limit, "unlimited" in the file.
const Unlimited Limit = -1

// String returns the limit as the file has it.
func (l Limit) String() string {
	if l == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(int(l))
}

// UnmarshalYAML parses a limit.
func (l *Limit) UnmarshalYAML(b []byte) error {
	var text string
	if err := yaml.Unmarshal(b, &text); err == nil && text == "unlimited" {
		*l = Unlimited
		return nil
	}
	var n int
	if err := yaml.Unmarshal(b, &n); err != nil || n < 1 || n > MaxLimit {
		return fmt.Errorf("velocity: a limit is a number from 1 to %d, or unlimited", MaxLimit)
	}
	*l = Limit(n)
	return nil
}

// MaxLimit is the highest limit.
const MaxLimit = 60_000

// Users are the accounts, by name or number, under which the processes run when keyd
// is started as root. They must differ.
type Users struct {
	Front  string `yaml:"front"`
	Module string `yaml:"module"`
}

// Duration is a duration as Go writes it: "2s", "500ms".
type Duration time.Duration

// UnmarshalYAML parses a duration.
func (d *Duration) UnmarshalYAML(b []byte) error {
	var text string
	if err := yaml.Unmarshal(b, &text); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration (operation_timeout, drain_timeout, restart_pause, ksn.retry_window, audit.segment_age, vault): write 2s or 500ms", text)
	}
	*d = Duration(parsed)
	return nil
}

// MaxSize bounds a configuration, in bytes.
const MaxSize = 64 << 10

// Load reads a configuration and fills in what is not set. Errors name the file, the
// line and what to mend.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads a configuration. On error nothing is returned.
func Parse(b []byte) (c *Config, err error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("more than %d bytes", MaxSize)
	}
	c = defaults()
	if err := yaml.UnmarshalWithOptions(b, c, yaml.Strict()); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, false))
	}
	if c.Velocity.File == "" && c.State != "" {
		c.Velocity.File = filepath.Clean(c.State) + ".velocity"
	}
	if c.Ledger == "" && c.State != "" {
		c.Ledger = filepath.Clean(c.State) + ".ledger"
	}
	if c.Audit.Checkpoints == "" && c.State != "" {
		c.Audit.Checkpoints = filepath.Clean(c.State) + ".checkpoints"
	}
	c.vaultDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// defaults is what holds where the file is silent. A zero that is written is a zero.
func defaults() *Config {
	return &Config{
		Modules: 2,
		Token:   Token{Sessions: 4, CachedKeys: 16384, DerivedKeys: 8192},
		KSN:     KSN{RetryWindow: Duration(time.Minute), MaxJump: 1 << 16},
		Velocity: Velocity{
			Entries:   1 << 20,
			Verify:    Limits{10, 60, 200},
			Translate: Limits{30, 300, 1000},
			Card:      Limits{5, 20, 50},
		},
		Audit:            Audit{SegmentSize: 64 << 20, SegmentAge: Duration(24 * time.Hour)},
		Tracing:          Tracing{Sample: 0.01},
		OperationTimeout: Duration(2 * time.Second),
		RestartPause:     Duration(5 * time.Second),
		DrainTimeout:     Duration(10 * time.Second),
	}
}
