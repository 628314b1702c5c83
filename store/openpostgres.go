package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"golang.org/x/sys/unix"
)

//go:embed postgresmigrations/*.sql
var postgresMigrations embed.FS

// Limits and defaults of [PostgresOptions].
const (
	MaxPostgresHosts          = 8
	DefaultPostgresPort       = 5432
	DefaultPostgresConnection = 8
	MaxPostgresConnections    = 64
	oldestPostgres            = 13
)

// PostgresOptions say where the database is and how keyd gets in. Nothing else is read:
// neither the environment nor files in the home directory.
type PostgresOptions struct {
	// Hosts are the servers, at least one: IP:PORT, for IPv6 [IP]:PORT, or the absolute
	// path of the directory with a server's socket, for port 5432. No name is looked up.
	// The first that takes writes is used.
	Hosts    []string
	Database string // its name
	User     string // whom keyd is to the server: the owner of the schema keyd, or one who may create it

	// PasswordFile has the user's password, in one line; nobody else may read it. ""
	// where the server asks for none, since it knows the certificate or the socket's peer.
	// Other than by scram-sha-256 the password is never sent.
	PasswordFile string

	// CAFile has the certificates, in PEM, of which one signed that of the server, which
	// names the server's IP. It is needed where a host is not on this machine.
	CAFile string

	// CertificateFile and KeyFile are keyd's, in PEM; both or neither. Nobody else may
	// read the key.
	CertificateFile, KeyFile string

	MaxConnections int // 0: DefaultPostgresConnection

	// WithoutFsync accepts a server that may lose what it acknowledged. It is for tests.
	WithoutFsync bool
}

// OpenPostgres opens the database, and makes the schema keyd in it where there is none. It
// brings an older schema up to date, which other fronts wait for, and refuses a newer one
// with [ErrNewer].
//
// The other errors are [ErrInvalid] and [ErrInsecure] for the options, and what is said by
// [ErrUnreachable], [ErrDenied], [ErrUntrusted], [ErrUnsuitable], [ErrReadOnly], [ErrLocked],
// [ErrFull], [ErrNotDatabase], [ErrCorrupt] and [ErrFailed]. What is refused was not changed.
func OpenPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	s := &Postgres{name: "postgres " + strings.Join(o.Hosts, ",") + "/" + o.Database}
	s.tables.engine = s
	config, err := o.config()
	if err != nil {
		return nil, s.fail(err)
	}
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, s.fail(classifyPostgres(ctx, err))
	}
	s.db = stdlib.OpenDBFromPool(s.pool)
	if err := s.open(ctx); err != nil {
		err = s.fail(classifyPostgres(ctx, err))
		_ = s.db.Close() // the first error is the one to report
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// config makes the driver's configuration. The driver reads the environment while it parses
// one; everything that it can find there is set here, before or after.
func (o *PostgresOptions) config() (*pgxpool.Config, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	// "service" is all that cannot be set to nothing: of a file without any there is none.
	c, err := pgxpool.ParseConfig("host=/nowhere port=1 user=x password=x dbname=x passfile=/dev/null servicefile=/dev/null sslmode=disable " +
		"sslcert='' sslkey='' sslrootcert='' sslpassword='' sslnegotiation=postgres sslsni=0 sslcertmode=allow connect_timeout=1 " +
		"target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=scram-sha-256")
	if err != nil {
		return nil, fmt.Errorf("%w: unset PGSERVICE, PGSSLCERTMODE and the other PG variables, which keyd does not use", ErrInvalid)
	}
	password, err := o.password()
	if err != nil {
		return nil, err
	}
	secure, err := o.tls()
	if err != nil {
		return nil, err
	}
	conn := c.ConnConfig
	conn.Database, conn.User, conn.Password = o.Database, o.User, password
	conn.Fallbacks = nil
	for i, h := range o.Hosts {
		host, port, local, err := splitHost(h)
		if err != nil {
			return nil, err
		}
		var config *tls.Config
		if secure != nil && !filepath.IsAbs(host) {
			config = secure.Clone()
			config.ServerName = host
		} else if !local {
			return nil, fmt.Errorf("%w: host %s: a server on another machine needs a CA file", ErrInvalid, h)
		}
		if i == 0 {
			conn.Host, conn.Port, conn.TLSConfig = host, port, config
			continue
		}
		conn.Fallbacks = append(conn.Fallbacks, &pgconn.FallbackConfig{Host: host, Port: port, TLSConfig: config})
	}
	conn.RequireAuth = "none"
	if password != "" {
		conn.RequireAuth = "scram-sha-256"
	}
	conn.ConnectTimeout = dialTimeout
	conn.DialFunc = dial
	conn.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	conn.MaxProtocolMessageBodyLen = 64 << 20
	conn.RuntimeParams = map[string]string{
		"application_name":                    "keyd",
		"client_encoding":                     "UTF8",
		"search_path":                         "keyd, pg_temp",
		"timezone":                            "UTC",
		"default_transaction_isolation":       "read committed",
		"statement_timeout":                   strconv.FormatInt((6 * callTimeout).Milliseconds(), 10),
		"lock_timeout":                        strconv.FormatInt(lockTimeout.Milliseconds(), 10),
		"idle_in_transaction_session_timeout": strconv.FormatInt(idleTimeout.Milliseconds(), 10),
		"tcp_user_timeout":                    strconv.FormatInt(silence.Milliseconds(), 10), // the server notices a front that is gone
	}
	conn.ValidateConnect = o.validateServer
	conn.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	c.MaxConns = int32(o.MaxConnections)
	if c.MaxConns == 0 {
		c.MaxConns = DefaultPostgresConnection
	}
	c.MinConns, c.MinIdleConns = 0, 0
	c.MaxConnLifetime, c.MaxConnLifetimeJitter = time.Hour, 5*time.Minute
	c.MaxConnIdleTime, c.HealthCheckPeriod = 10*time.Minute, time.Minute
	c.PingTimeout = time.Second
	return c, nil
}

func (o *PostgresOptions) validate() error {
	switch {
	case len(o.Hosts) == 0 || len(o.Hosts) > MaxPostgresHosts:
		return fmt.Errorf("%w: there are 1 to %d hosts", ErrInvalid, MaxPostgresHosts)
	case !validPostgresName(o.Database) || !validPostgresName(o.User):
		return fmt.Errorf("%w: the database and the user have names of 1 to 63 printable ASCII characters without spaces", ErrInvalid)
	case (o.CertificateFile == "") != (o.KeyFile == ""):
		return fmt.Errorf("%w: a certificate needs its key, and a key its certificate", ErrInvalid)
	case o.CertificateFile != "" && o.CAFile == "":
		return fmt.Errorf("%w: a certificate needs a CA file, by which the server is known", ErrInvalid)
	case o.MaxConnections < 0 || o.MaxConnections > MaxPostgresConnections || o.MaxConnections == 1:
		return fmt.Errorf("%w: there are 2 to %d connections at most", ErrInvalid, MaxPostgresConnections)
	}
	return nil
}

func validPostgresName(name string) bool { return validName(name) && len(name) <= 63 }

// splitHost returns where a server is, and whether that is on this machine.
func splitHost(h string) (host string, port uint16, local bool, err error) {
	if filepath.IsAbs(h) {
		if filepath.Clean(h) != h || len(h) > 90 || strings.ContainsAny(h, "\x00\n,") {
			return "", 0, false, fmt.Errorf("%w: host %q: the path of a socket's directory is absolute, clean, and has at most 90 bytes", ErrInvalid, h)
		}
		return h, DefaultPostgresPort, true, nil
	}
	at, err := netip.ParseAddrPort(h)
	if err != nil || at.Port() == 0 || at.Addr().Zone() != "" || at.Addr().IsUnspecified() {
		return "", 0, false, fmt.Errorf("%w: host %q is neither IP:PORT nor the path of a socket's directory: names are not looked up", ErrInvalid, h)
	}
	return at.Addr().String(), at.Port(), at.Addr().Unmap().IsLoopback(), nil
}

// password reads the file, "" without one.
func (o *PostgresOptions) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	b, err := readPrivate(o.PasswordFile, 1024)
	if err != nil {
		return "", err
	}
	defer clear(b)
	password := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if password == "" || strings.ContainsAny(password, "\x00\r\n") {
		return "", fmt.Errorf("%w: %s: the password is one line that is not empty", ErrInvalid, o.PasswordFile)
	}
	return password, nil
}

// tls returns what all hosts have in common, nil without a CA file.
func (o *PostgresOptions) tls() (*tls.Config, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := readFile(o.CAFile, 1<<20)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s has no certificate in PEM", ErrInvalid, o.CAFile)
	}
	if o.CertificateFile == "" {
		return config, nil
	}
	certificate, err := readFile(o.CertificateFile, 1<<20)
	if err != nil {
		return nil, err
	}
	key, err := readPrivate(o.KeyFile, 1<<20)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil { // its text is dropped: it is about a key
		return nil, fmt.Errorf("%w: %s and %s are not a certificate and its key in PEM", ErrInvalid, o.CertificateFile, o.KeyFile)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// readPrivate is [readFile] of a file that nobody else has access to.
func readPrivate(path string, most int64) ([]byte, error) {
	return read(path, most, func(info fs.FileInfo) error {
		if info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s: %w", path, ErrInsecure)
		}
		return nil
	})
}

func readFile(path string, most int64) ([]byte, error) {
	return read(path, most, func(fs.FileInfo) error { return nil })
}

func read(path string, most int64, check func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // it never waits for the other end of a named pipe
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer func() { _ = f.Close() }() // nothing was written through it
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	case !info.Mode().IsRegular() || info.Size() > most:
		return nil, fmt.Errorf("%w: %s is not a file of at most %d bytes", ErrInvalid, path, most)
	}
	if err := check(info); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return b, nil
}

// dial connects, and notices when the other end is gone.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5},
		Control: func(network, _ string, c syscall.RawConn) error {
			if !strings.HasPrefix(network, "tcp") {
				return nil
			}
			var set error
			err := c.Control(func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
			})
			return errors.Join(err, set)
		},
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &quietConn{Conn: conn}, nil
}

// quietConn ends a reading or writing in which nothing happens for too long, whatever the
// deadline that its user set.
type quietConn struct {
	net.Conn

	mu          sync.Mutex
	read, write time.Time // the user's deadlines
}

func (c *quietConn) Read(b []byte) (int, error) {
	c.limit(&c.read, c.Conn.SetReadDeadline)
	return c.Conn.Read(b)
}

func (c *quietConn) Write(b []byte) (int, error) {
	c.limit(&c.write, c.Conn.SetWriteDeadline)
	return c.Conn.Write(b)
}

func (c *quietConn) limit(users *time.Time, set func(time.Time) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now().Add(silence)
	if !users.IsZero() && users.Before(at) {
		at = *users
	}
	_ = set(at) // of a connection that is closed the reading says so
}

func (c *quietConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *quietConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.Conn.SetReadDeadline(t)
}

func (c *quietConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.Conn.SetWriteDeadline(t)
}

// serverQuestion also sees to it that a commit is on the disk before it is acknowledged,
// whatever the server, the database or the user have as their default.
const serverQuestion = `SELECT current_setting('server_version_num'), current_setting('server_encoding'),
	current_setting('fsync'), current_setting('full_page_writes'), current_setting('transaction_read_only'), pg_is_in_recovery()::text,
	set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)`

// validateServer refuses a server that is not to be used, and then the next is tried.
func (o *PostgresOptions) validateServer(ctx context.Context, c *pgconn.PgConn) error {
	results, err := c.Exec(ctx, serverQuestion).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 7 {
		return ErrFailed
	}
	row := results[0].Rows[0]
	version, err := strconv.Atoi(string(row[0]))
	switch {
	case err != nil || version < oldestPostgres*10_000:
		return fmt.Errorf("%w: it is older than PostgreSQL %d", ErrUnsuitable, oldestPostgres)
	case string(row[1]) != "UTF8":
		return fmt.Errorf("%w: the encoding of the database is not UTF8; create it anew with ENCODING 'UTF8'", ErrUnsuitable)
	case !o.WithoutFsync && (string(row[2]) != "on" || string(row[3]) != "on"):
		return fmt.Errorf("%w: fsync or full_page_writes is off, so that it may lose what it acknowledged; turn both on", ErrUnsuitable)
	case string(row[4]) != "off" || string(row[5]) != "false":
		return ErrReadOnly
	}
	return nil
}

// open makes the schema, or brings it up to date.
func (s *Postgres) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 6*callTimeout)
	defer cancel()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	// Fronts that start at once wait for each other. The lock goes with the connection.
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_lock(%d, %d)", lockClass, schemaLock)); err != nil {
		return err
	}
	err = s.migrate(ctx, conn)
	if _, e := conn.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_unlock(%d, %d)", lockClass, schemaLock)); err == nil {
		err = e
	}
	return err
}

// Questions about what is in the schema.
const (
	hasSchema = `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'keyd')`

	countRelations = `SELECT count(*), count(*) FILTER (WHERE c.relname IN ('goose_db_version', 'counter_journal', 'receipt_keys'))
		FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'keyd' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`
)

// migrate has a fixed order: nothing is written before the schema is known to be keyd's and
// not newer.
func (s *Postgres) migrate(ctx context.Context, conn *sql.Conn) error {
	var there bool
	if err := conn.QueryRowContext(ctx, hasSchema).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := conn.ExecContext(ctx, "CREATE SCHEMA keyd"); err != nil {
			return err
		}
	}
	var all, own int64
	if err := conn.QueryRowContext(ctx, countRelations).Scan(&all, &own); err != nil {
		return err
	}
	// A migration is one transaction but for goose's own table, which may be there alone.
	switch {
	case all > 1 && own != 3, all == 1 && own != 1:
		return ErrNotDatabase
	}
	folder, err := fs.Sub(postgresMigrations, "postgresmigrations")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, s.db, folder, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	current, target, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case current > target:
		return ErrNewer
	}
	_, err = p.Up(ctx)
	return err
}
