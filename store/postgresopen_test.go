package store_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyd/store"
	"keyd/store/postgrestest"
	"keyd/store/storetest"
)

// refused checks that options open nothing, and that the error names neither the password nor
// anything that was stored.
func refused(t *testing.T, o store.PostgresOptions, want error) {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), o)
	if !errors.Is(err, want) || s != nil {
		t.Errorf("OpenPostgres = %v, %v, want %v", s, err, want)
	}
	if err != nil && (strings.Contains(err.Error(), postgrestest.Password) || strings.Contains(err.Error(), "canary")) {
		t.Errorf("the error says too much: %v", err)
	}
}

func execute1(t *testing.T, s *postgrestest.Server, database, statement string) {
	t.Helper()
	if err := s.Execute(t.Context(), database, statement); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, mode os.FileMode, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPostgresOptions(t *testing.T) {
	good := store.PostgresOptions{Hosts: []string{"/run/nowhere"}, Database: "keyd", User: "keyd"}
	password := write(t, 0o600, postgrestest.Password)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*store.PostgresOptions)
		want   error
	}{
		"no host":              {func(o *store.PostgresOptions) { o.Hosts = nil }, store.ErrInvalid},
		"many hosts":           {func(o *store.PostgresOptions) { o.Hosts = make([]string, store.MaxPostgresHosts+1) }, store.ErrInvalid},
		"name":                 {func(o *store.PostgresOptions) { o.Hosts = []string{"localhost:5432"} }, store.ErrInvalid},
		"no port":              {func(o *store.PostgresOptions) { o.Hosts = []string{"127.0.0.1"} }, store.ErrInvalid},
		"port 0":               {func(o *store.PostgresOptions) { o.Hosts = []string{"127.0.0.1:0"} }, store.ErrInvalid},
		"any address":          {func(o *store.PostgresOptions) { o.Hosts = []string{"0.0.0.0:5432"} }, store.ErrInvalid},
		"zone":                 {func(o *store.PostgresOptions) { o.Hosts = []string{"[fe80::1%lo]:5432"} }, store.ErrInvalid},
		"two in one":           {func(o *store.PostgresOptions) { o.Hosts = []string{"127.0.0.1:1,127.0.0.1:2"} }, store.ErrInvalid},
		"relative":             {func(o *store.PostgresOptions) { o.Hosts = []string{"run"} }, store.ErrInvalid},
		"unclean":              {func(o *store.PostgresOptions) { o.Hosts = []string{"/run/../x"} }, store.ErrInvalid},
		"URL":                  {func(o *store.PostgresOptions) { o.Hosts = []string{"postgres://127.0.0.1:5432/x"} }, store.ErrInvalid},
		"far without CA":       {func(o *store.PostgresOptions) { o.Hosts = []string{"192.0.2.1:5432"} }, store.ErrInvalid},
		"mapped without CA":    {func(o *store.PostgresOptions) { o.Hosts = []string{"[::ffff:192.0.2.1]:5432"} }, store.ErrInvalid},
		"no database":          {func(o *store.PostgresOptions) { o.Database = "" }, store.ErrInvalid},
		"database with spaces": {func(o *store.PostgresOptions) { o.Database = "a password=x" }, store.ErrInvalid},
		"long user":            {func(o *store.PostgresOptions) { o.User = strings.Repeat("u", 64) }, store.ErrInvalid},
		"certificate alone":    {func(o *store.PostgresOptions) { o.CertificateFile = password }, store.ErrInvalid},
		"key alone":            {func(o *store.PostgresOptions) { o.KeyFile = password }, store.ErrInvalid},
		"no CA":                {func(o *store.PostgresOptions) { o.CertificateFile, o.KeyFile = password, password }, store.ErrInvalid},
		"CA that is none":      {func(o *store.PostgresOptions) { o.CAFile = password }, store.ErrInvalid},
		"missing password":     {func(o *store.PostgresOptions) { o.PasswordFile = "/nowhere" }, store.ErrInvalid},
		"password in a pipe":   {func(o *store.PostgresOptions) { o.PasswordFile = fifo }, store.ErrInvalid},
		"password for others":  {func(o *store.PostgresOptions) { o.PasswordFile = write(t, 0o640, "x") }, store.ErrInsecure},
		"empty password":       {func(o *store.PostgresOptions) { o.PasswordFile = write(t, 0o600, "\n") }, store.ErrInvalid},
		"two passwords":        {func(o *store.PostgresOptions) { o.PasswordFile = write(t, 0o600, "a\nb\n") }, store.ErrInvalid},
		"long password":        {func(o *store.PostgresOptions) { o.PasswordFile = write(t, 0o600, strings.Repeat("x", 1025)) }, store.ErrInvalid},
		"one connection":       {func(o *store.PostgresOptions) { o.MaxConnections = 1 }, store.ErrInvalid},
		"many connections":     {func(o *store.PostgresOptions) { o.MaxConnections = store.MaxPostgresConnections + 1 }, store.ErrInvalid},
		"nobody there":         {func(*store.PostgresOptions) {}, store.ErrUnreachable},
		"closed port":          {func(o *store.PostgresOptions) { o.Hosts = []string{"127.0.0.1:1"} }, store.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			refused(t, o, c.want)
		})
	}
}

// Nothing comes from the environment or the home directory.
func TestPostgresReadsNoEnvironment(t *testing.T) {
	server := sharedServer(t)
	o := newDatabase(t, server)
	o.Hosts, o.PasswordFile = []string{server.Address}, server.PasswordFile
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.WriteFile(filepath.Join(home, ".pgpass"), []byte("*:*:*:*:"+postgrestest.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"PGHOST": "192.0.2.1", "PGPORT": "1", "PGDATABASE": "other", "PGUSER": "other", "PGPASSWORD": "other", "PGPASSFILE": filepath.Join(home, ".pgpass"),
		"PGAPPNAME": "other", "PGCONNECT_TIMEOUT": "bad", "PGSSLMODE": "bad", "PGSSLKEY": "/nowhere", "PGSSLCERT": "/nowhere", "PGSSLROOTCERT": "/nowhere",
		"PGSSLSNI": "bad", "PGSSLNEGOTIATION": "bad", "PGTARGETSESSIONATTRS": "bad", "PGTZ": "bad", "PGOPTIONS": "-c synchronous_commit=off",
		"PGMINPROTOCOLVERSION": "bad", "PGMAXPROTOCOLVERSION": "bad", "PGCHANNELBINDING": "bad", "PGREQUIREAUTH": "bad", "PGSERVICEFILE": "/nowhere",
		"PGSSLCERTMODE": "bad", "PGSSLPASSWORD": "bad",
	} {
		t.Setenv(name, value)
	}
	s := openPostgres(t, o)
	put(t, s, storetest.Record("zpk", 1))
	// The password is nowhere but in its file.
	o.PasswordFile = ""
	refused(t, o, store.ErrDenied)
	t.Setenv("PGPASSWORD", postgrestest.Password)
	refused(t, o, store.ErrDenied)
	// A service cannot be overruled: it is refused.
	t.Setenv("PGSERVICE", "x")
	refused(t, o, store.ErrInvalid)
}

func TestPostgresRefusesServers(t *testing.T) {
	server := ownServer(t)
	o := newDatabase(t, server)
	password := o
	password.Hosts, password.PasswordFile = []string{server.Address}, write(t, 0o600, "canary")
	refused(t, password, store.ErrDenied)
	missing := o
	missing.Database = "missing"
	refused(t, missing, store.ErrDenied)
	if _, err := store.OpenPostgres(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a database that is not there: %v", err)
	}
	nobody := o
	nobody.User = "nobody_else"
	refused(t, nobody, store.ErrDenied)

	execute1(t, server, "postgres", "CREATE ROLE guest LOGIN")
	guest := o
	guest.User = "guest"
	refused(t, guest, store.ErrDenied) // who may not create the schema

	execute1(t, server, "postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
	latin := o
	latin.Database = "latin"
	refused(t, latin, store.ErrUnsuitable)

	execute1(t, server, "postgres", "ALTER DATABASE "+o.Database+" SET default_transaction_read_only = on")
	refused(t, o, store.ErrReadOnly)
	execute1(t, server, "postgres", "ALTER DATABASE "+o.Database+" RESET default_transaction_read_only")
	put(t, openPostgres(t, o), storetest.Record("zpk", 1))

	// Passwords that can be read on the way, or tried off line, are not sent.
	hba := filepath.Join(server.Folder(), "data", "pg_hba.conf")
	for _, method := range []string{"password", "md5"} {
		before, err := os.ReadFile(hba)
		if err != nil {
			t.Fatal(err)
		}
		execute1(t, server, "postgres", "SET password_encryption = 'md5'; ALTER ROLE keyd PASSWORD '"+postgrestest.Password+"'")
		if err := os.WriteFile(hba, []byte("local all all trust\nhost all all 127.0.0.0/8 "+method+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		execute1(t, server, "postgres", "SELECT pg_reload_conf()")
		execute1(t, server, "postgres", "SELECT pg_sleep(0.2)")
		tcp := o
		tcp.Hosts, tcp.PasswordFile = []string{server.Address}, server.PasswordFile
		refused(t, tcp, store.ErrDenied)
		if err := os.WriteFile(hba, before, 0o600); err != nil {
			t.Fatal(err)
		}
		execute1(t, server, "postgres", "SET password_encryption = 'scram-sha-256'; ALTER ROLE keyd PASSWORD '"+postgrestest.Password+"'")
		execute1(t, server, "postgres", "SELECT pg_reload_conf()")
	}

	for _, setting := range []string{"fsync = off", "full_page_writes = off"} {
		name, _, _ := strings.Cut(setting, " ")
		if err := errors.Join(server.Configure(setting), server.Shut(), server.Launch()); err != nil {
			t.Fatal(err)
		}
		refused(t, o, store.ErrUnsuitable)
		tests := o
		tests.WithoutFsync = true
		s := openPostgres(t, tests)
		if _, err := s.Get(t.Context(), "zpk"); err != nil {
			t.Error(err)
		}
		if err := server.Configure(name + " = on"); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever the server's, the database's and the user's defaults, a commit waits for the disk;
// and where it waits for more, that stays.
func TestPostgresCommitsAreSynchronous(t *testing.T) {
	server := ownServer(t)
	o := newDatabase(t, server)
	for set, want := range map[string]string{"off": "on", "local": "on", "remote_write": "on", "on": "on", "remote_apply": "remote_apply"} {
		execute1(t, server, "postgres", fmt.Sprintf("ALTER ROLE keyd SET synchronous_commit = '%s'", set))
		s := openPostgres(t, o)
		put(t, s, storetest.Record(set, 1))
		// A trigger tells what the session has.
		execute1(t, server, o.Database, fmt.Sprintf(`CREATE OR REPLACE FUNCTION check_commit() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF current_setting('synchronous_commit') <> '%s' THEN RAISE EXCEPTION 'x'; END IF; RETURN NEW; END $$;
			DROP TRIGGER IF EXISTS check_commit ON keyd.keys; DROP TRIGGER IF EXISTS check_commit ON keyd.counter_journal;
			CREATE TRIGGER check_commit BEFORE INSERT ON keyd.keys FOR EACH ROW EXECUTE FUNCTION check_commit();
			CREATE TRIGGER check_commit BEFORE INSERT ON keyd.counter_journal FOR EACH ROW EXECUTE FUNCTION check_commit();`, want))
		put(t, s, storetest.Record(set+"-again", 1))
		known, _ := newest(t, s)
		if err := s.ExtendJournal(t.Context(), known, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return []byte("row"), nil }); err != nil {
			t.Errorf("%s: %v", set, err)
		}
		execute1(t, server, o.Database, "DROP TRIGGER check_commit ON keyd.keys; DROP TRIGGER check_commit ON keyd.counter_journal")
	}
}

func TestPostgresRefusesSchemas(t *testing.T) {
	server := sharedServer(t)
	relations := func(o store.PostgresOptions) string {
		t.Helper()
		c, err := server.Connect(t.Context(), o.Database)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(t.Context())
		var all string
		err = c.QueryRow(t.Context(), `SELECT coalesce(string_agg(n.nspname || '.' || c.relname, ',' ORDER BY 1), '') FROM pg_class c
			JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'`).Scan(&all)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for name, c := range map[string]struct {
		spoil string
		sound bool // keyd's before it is spoilt
		want  error
	}{
		"another's table":      {"CREATE SCHEMA keyd; CREATE TABLE keyd.accounts (id int)", false, store.ErrNotDatabase},
		"another's view":       {"CREATE SCHEMA keyd; CREATE VIEW keyd.accounts AS SELECT 1", false, store.ErrNotDatabase},
		"another goose's":      {"CREATE SCHEMA keyd; CREATE TABLE keyd.goose_db_version (id int); CREATE TABLE keyd.accounts (id int)", false, store.ErrNotDatabase},
		"tables without goose": {"DROP TABLE keyd.goose_db_version", true, store.ErrNotDatabase},
		"newer":                {"INSERT INTO keyd.goose_db_version (version_id, is_applied) VALUES (99999, true)", true, store.ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			o := newDatabase(t, server)
			if c.sound {
				closeStore(t, openPostgres(t, o))
			}
			execute1(t, server, o.Database, c.spoil)
			before := relations(o)
			for range 2 {
				refused(t, o, c.want)
			}
			if after := relations(o); after != before {
				t.Errorf("there is %s, before it was %s", after, before)
			}
		})
	}
	// Beside others' tables in other schemas, also of the same names, keyd is at home.
	o := newDatabase(t, server)
	execute1(t, server, o.Database, "CREATE TABLE public.keys (id int); CREATE TABLE public.goose_db_version (id int); CREATE SCHEMA keyd")
	s := openPostgres(t, o)
	put(t, s, storetest.Record("zpk", 1))
	execute1(t, server, o.Database, "INSERT INTO public.keys VALUES (1); INSERT INTO public.goose_db_version VALUES (1)")
}

// Fronts that start at once on an empty database do not collide.
func TestPostgresOpenedManyTimesAtOnce(t *testing.T) {
	o := newDatabase(t, sharedServer(t))
	var wait sync.WaitGroup
	for i := range 6 {
		wait.Go(func() {
			s, err := store.OpenPostgres(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(s.Put(t.Context(), storetest.Record(fmt.Sprint("key-", i), 1)), s.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if l, err := openPostgres(t, o).List(t.Context(), "", 10); err != nil || len(l) != 6 {
		t.Errorf("List = %d, %v", len(l), err)
	}
}

// authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, certificate: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.certificate, a.certificate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.file = write(t, 0o644, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return a
}

func (a *authority) sign(t *testing.T, name string, ip net.IP) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

func TestPostgresTLS(t *testing.T) {
	server := ownServer(t)
	o := newDatabase(t, server)
	o.Hosts, o.PasswordFile = []string{server.Address}, server.PasswordFile
	ca, other := newAuthority(t), newAuthority(t)
	o.CAFile = ca.file
	refused(t, o, store.ErrDenied) // it has no TLS: what was demanded is not given up
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	install := func(a *authority, ip net.IP) {
		t.Helper()
		certificate, key := a.sign(t, "server", ip)
		for name, content := range map[string]string{"server.crt": certificate, "server.key": key} {
			if err := server.WriteFile(name, content); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(server.WriteFile("ca.crt", readAll(t, ca.file)), server.Configure("ssl = on", "ssl_ca_file = 'ca.crt'"), server.Shut(), server.Launch()); err != nil {
			t.Fatal(err)
		}
	}
	install(other, net.ParseIP(host))
	refused(t, o, store.ErrUntrusted)
	install(ca, net.ParseIP("192.0.2.1"))
	refused(t, o, store.ErrUntrusted)
	install(ca, net.ParseIP(host))
	put(t, openPostgres(t, o), storetest.Record("zpk", 1))

	// By certificate, without a password.
	if err := server.WriteFile("pg_hba.conf", "local all all trust\nhostssl all keyd 127.0.0.0/8 cert\n"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(server.Shut(), server.Launch()); err != nil {
		t.Fatal(err)
	}
	o.PasswordFile = ""
	refused(t, o, store.ErrDenied)
	certificate, key := ca.sign(t, "keyd", nil)
	o.CertificateFile, o.KeyFile = write(t, 0o644, certificate), write(t, 0o600, key)
	s := openPostgres(t, o)
	if _, err := s.Get(t.Context(), "zpk"); err != nil {
		t.Error(err)
	}
	wrong := o
	certificate, key = ca.sign(t, "someone", nil)
	wrong.CertificateFile, wrong.KeyFile = write(t, 0o644, certificate), write(t, 0o600, key)
	refused(t, wrong, store.ErrDenied)
	certificate, key = other.sign(t, "keyd", nil)
	wrong.CertificateFile, wrong.KeyFile = write(t, 0o644, certificate), write(t, 0o600, key)
	// In TLS 1.3 the server refuses a certificate when the client is ready and sends already (RFC 8446 §4.4.2.4): the
	// connection may be reset before the client has read why. Each try fails, and one of them says so.
	for try := 0; ; try++ {
		s, err := store.OpenPostgres(t.Context(), wrong)
		if errors.Is(err, store.ErrDenied) && s == nil {
			break
		}
		if !errors.Is(err, store.ErrUnreachable) || s != nil || try == 50 {
			t.Fatalf("a certificate of another authority: %v, %v", s, err)
		}
	}
	wrong.KeyFile = write(t, 0o640, key)
	refused(t, wrong, store.ErrInsecure)
	wrong.KeyFile = o.KeyFile
	refused(t, wrong, store.ErrInvalid)
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPostgresEndedContextOpensNothing(t *testing.T) {
	o := newDatabase(t, sharedServer(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := store.OpenPostgres(ctx, o); !errors.Is(err, context.Canceled) || s != nil {
		t.Errorf("OpenPostgres = %v, %v, want context.Canceled", s, err)
	}
}
