// Package postgrestest runs PostgreSQL for tests: Debian's package, in a folder in memory, on
// an address of this machine that only the test has. A test can kill it, start it again, put a
// proxy before it that cuts or falls silent, and have a standby take over.
//
// Only tests use this package, and the load generator ([StartIn]).
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Names that the servers know.
const (
	User     = "keyd"
	Password = "a password for tests"
)

// unprivileged is who runs the server where the test is root, as whom it does not start.
const unprivileged = 65534

// patience is how long a server may take to start or to end.
const patience = time.Minute

// Server is a PostgreSQL server.
type Server struct {
	Address      string // IP:PORT
	SocketDir    string
	PasswordFile string

	folder  string
	host    string
	command *exec.Cmd
	log     *os.File
	ended   chan struct{} // closed when the process has ended
	names   atomic.Uint64
}

// addresses makes the address of each server of this process another one.
var addresses atomic.Uint32

// bin returns the folder of the newest version that is installed.
func bin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	newest, folder := 0, ""
	for _, path := range found {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err == nil && version > newest {
			newest, folder = version, filepath.Dir(path)
		}
	}
	if folder == "" {
		return "", errors.New("postgrestest: PostgreSQL is not installed; run scripts/install-deps.sh test")
	}
	return folder, nil
}

// Start makes a cluster and starts its server; settings are lines of postgresql.conf. Stop
// ends and removes it.
func Start(settings ...string) (*Server, error) {
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = ""
	}
	return StartIn(parent, settings...)
}

// StartIn is [Start] with the folder in another one, which everybody may pass through: on a disk, say,
// where it matters what a commit costs.
func StartIn(parent string, settings ...string) (*Server, error) {
	s, err := newServer(parent)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		s.run("initdb", "-D", s.Data(), "-U", User, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
			"--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile="+s.PasswordFile),
		s.configure(settings...),
	)
	if err == nil {
		err = s.appendTo("pg_hba.conf", "host all "+User+" 127.0.0.0/8 scram-sha-256", "host replication "+User+" 127.0.0.0/8 scram-sha-256")
	}
	if err == nil {
		err = s.Launch()
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func newServer(parent string) (*Server, error) {
	folder, err := os.MkdirTemp(parent, "keyd-postgres-")
	if err != nil {
		return nil, err
	}
	// Every process has some addresses of its own: the port is always the one that the
	// name of the socket has.
	n := addresses.Add(1)
	pid := uint32(os.Getpid())
	s := &Server{
		folder: folder, host: fmt.Sprintf("127.%d.%d.%d", 16+(pid>>14+n*8)%224, pid>>7&0x7f, 1+pid&0x7f),
		SocketDir: folder, PasswordFile: filepath.Join(folder, "password"),
	}
	s.Address = s.host + ":5432"
	if err = os.WriteFile(s.PasswordFile, []byte(Password+"\n"), 0o600); err == nil {
		s.log, err = os.OpenFile(filepath.Join(folder, "log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err == nil && os.Geteuid() == 0 {
		err = errors.Join(os.Chown(folder, unprivileged, unprivileged), os.Chown(s.PasswordFile, unprivileged, unprivileged))
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Data is the directory of all that the server keeps.
func (s *Server) Data() string { return filepath.Join(s.folder, "data") }

// program returns a command of PostgreSQL that runs as who may.
func (s *Server) program(name string, args ...string) (*exec.Cmd, error) {
	folder, err := bin()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(folder, name), args...)
	cmd.Dir, cmd.Env = s.folder, []string{"PATH=" + folder + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "PGPASSFILE=" + filepath.Join(s.folder, "passfile")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: unprivileged, Gid: unprivileged}
	}
	return cmd, nil
}

func (s *Server) run(name string, args ...string) error {
	cmd, err := s.program(name, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postgrestest: %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// configure adds to postgresql.conf; of a setting the last line counts.
func (s *Server) configure(settings ...string) error {
	return s.appendTo("postgresql.conf", append([]string{
		"listen_addresses = '" + s.host + "'", "port = 5432", "unix_socket_directories = '" + s.SocketDir + "'",
		"max_connections = 60", "shared_buffers = 32MB", "max_wal_size = 256MB", "wal_level = replica", "max_wal_senders = 4", "hot_standby = on",
	}, settings...)...)
}

// Configure adds settings, which count from the next start or [Server.Reload].
func (s *Server) Configure(settings ...string) error {
	return s.appendTo("postgresql.conf", settings...)
}

func (s *Server) appendTo(name string, lines ...string) error {
	f, err := os.OpenFile(filepath.Join(s.Data(), name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + strings.Join(lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// Launch starts the server, and waits until it answers.
func (s *Server) Launch() error {
	deadline := time.Now().Add(patience)
	for {
		cmd, err := s.program("postgres", "-D", s.Data())
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = s.log, s.log
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait() // how it ends is in its log
			close(ended)
		}()
		s.command, s.ended = cmd, ended
		for s.isRunning() && time.Now().Before(deadline) {
			if s.Execute(context.Background(), "postgres", "SELECT 1") == nil {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(s.log.Name())
			return fmt.Errorf("postgrestest: the server does not start: %s", log[max(0, len(log)-2000):])
		}
		time.Sleep(50 * time.Millisecond) // what is left of one that was killed ends first
	}
}

func (s *Server) isRunning() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// Kill ends all processes of the server as the loss of power does.
func (s *Server) Kill() error {
	if s.command == nil || !s.isRunning() {
		return nil
	}
	// No child may go on when the parent is stopped, and then none is born.
	parent := s.command.Process.Pid
	if err := syscall.Kill(parent, syscall.SIGSTOP); err != nil {
		return err
	}
	for _, child := range children(parent) {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if err := syscall.Kill(parent, syscall.SIGKILL); err != nil {
		return err
	}
	<-s.ended
	return nil
}

// Pause stops all processes of the server: it keeps its connections and says nothing.
func (s *Server) Pause() error { return s.signalAll(syscall.SIGSTOP) }

// Resume goes on after [Server.Pause].
func (s *Server) Resume() error { return s.signalAll(syscall.SIGCONT) }

func (s *Server) signalAll(sig syscall.Signal) error {
	parent := s.command.Process.Pid
	for _, p := range append([]int{parent}, children(parent)...) {
		if err := syscall.Kill(p, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func children(parent int) (found []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// After the name, which is in parentheses, come the state and the parent.
		rest := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && len(rest) > 1 && rest[1] == strconv.Itoa(parent) {
			found = append(found, pid)
		}
	}
	return found
}

// Shut ends the server in good order, but without waiting for its clients.
func (s *Server) Shut() error {
	if s.command == nil || !s.isRunning() {
		return nil
	}
	if err := s.command.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(patience):
		return errors.Join(errors.New("postgrestest: the server does not end"), s.Kill())
	}
}

// Stop ends the server and removes all of it.
func (s *Server) Stop() error {
	var errs []error
	if s.command != nil {
		errs = append(errs, s.Kill())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.folder))...)
}

// Reload has the server read its settings again.
func (s *Server) Reload() error { return s.command.Process.Signal(syscall.SIGHUP) }

// Execute carries out a statement past keyd, as the superuser.
func (s *Server) Execute(ctx context.Context, database, statement string) error {
	c, err := s.Connect(ctx, database)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, statement)
	return errors.Join(err, c.Close(ctx))
}

// Connect opens a connection past keyd, as the superuser.
func (s *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=5432 user=%s dbname=%s sslmode=disable connect_timeout=10", s.SocketDir, User, database))
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// Dump returns all that a database holds, as text.
func (s *Server) Dump(database string) ([]byte, error) {
	cmd, err := s.program("pg_dump", "--host", s.SocketDir, "--username", User, database)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("postgrestest: pg_dump: %w", err)
	}
	return out, nil
}

// Create makes an empty database, and returns its name.
func (s *Server) Create(ctx context.Context) (string, error) {
	name := fmt.Sprintf("keyd_%d", s.names.Add(1))
	return name, s.Execute(ctx, "postgres", "CREATE DATABASE "+name)
}

// Standby starts a second server that follows this one. Commits wait until it has them.
func (s *Server) Standby() (*Server, error) {
	second, err := newServer(filepath.Dir(s.folder))
	if err != nil {
		return nil, err
	}
	pass := filepath.Join(second.folder, "passfile")
	err = os.WriteFile(pass, fmt.Appendf(nil, "*:*:*:%s:%s\n", User, Password), 0o600)
	if err == nil && os.Geteuid() == 0 {
		err = os.Chown(pass, unprivileged, unprivileged)
	}
	if err == nil {
		err = second.run("pg_basebackup", "-D", second.Data(), "-d",
			fmt.Sprintf("host=%s port=5432 user=%s passfile=%s application_name=second", s.host, User, pass), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	}
	if err == nil {
		err = second.configure("synchronous_standby_names = ''")
	}
	if err == nil {
		err = second.Launch()
	}
	if err == nil {
		err = errors.Join(s.Configure("synchronous_standby_names = 'second'"), s.Reload())
	}
	if err == nil {
		err = s.await("postgres", "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
	}
	if err != nil {
		return nil, errors.Join(err, second.Stop())
	}
	return second, nil
}

// Promote has a standby take writes.
func (s *Server) Promote() error {
	if err := s.Execute(context.Background(), "postgres", "SELECT pg_promote(true, 60)"); err != nil {
		return err
	}
	return s.await("postgres", "SELECT NOT pg_is_in_recovery()")
}

// await waits until a question is answered with true.
func (s *Server) await(database, question string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := s.Connect(ctx, database)
	if err != nil {
		return err
	}
	for {
		var yes bool
		if err := c.QueryRow(ctx, question).Scan(&yes); err != nil || yes {
			return errors.Join(err, c.Close(ctx))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Folder is where a server has its files.
func (s *Server) Folder() string { return s.folder }

// WriteFile writes a file into the server's data folder, for the server alone.
func (s *Server) WriteFile(name, content string) error {
	path := filepath.Join(s.Data(), name)
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, 0o600)); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		return os.Chown(path, unprivileged, unprivileged)
	}
	return nil
}
