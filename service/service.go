// Package service turns a configuration into running processes: what the supervisor
// starts, under which users, with which directories. keyd serve and keyd dev call it;
// each child's own life is described where it lives (front, hsm/module,
// supervisor/unlock).
package service

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyd/config"
	"keyd/front"
	"keyd/supervisor"
	"keyd/supervisor/notify"
)

// Options are what is decided outside the configuration.
type Options struct {
	// Development asks for a token with the dev mark, reflection, and provisioning of
	// the token at start.
	Development bool

	// SampleKeys, with Development, loads the sample keys first.
	SampleKeys bool

	// TestKeys, with Development, is a file of known keys to load. This process passes
	// it on without reading it.
	TestKeys *os.File

	// Roster, with Development, is the officers of a new token (ceremony.Roster, encoded).
	Roster []byte

	// OnReady is called once with the address when the service can be used.
	OnReady func(net.Addr)

	// OnAdmin is called once with the address of the second listener, if there is one.
	OnAdmin func(net.Addr)

	// Reload asks for policy, certificate, key and client authorities to be read again at
	// each value. May be nil.
	Reload <-chan os.Signal

	Log *slog.Logger
}

// Run runs the service until ctx ends.
func Run(ctx context.Context, c *config.Config, o Options) error {
	users, err := separate(c, o)
	if err != nil {
		return err
	}
	manager, err := notify.FromEnvironment()
	if err != nil {
		return err
	}
	defer manager.Close() //nolint:errcheck // nothing is waiting in it
	s := supervisor.Config{
		Unlock:       supervisor.Command{Args: unlockArgs(c)},
		Front:        supervisor.Command{Args: frontArgs(c, o, users), User: users.front},
		Module:       supervisor.Command{Args: moduleArgs("module", c, o, users), Env: environment(c), User: users.module},
		Modules:      c.Modules,
		Listen:       c.Listen,
		DrainTimeout: time.Duration(c.DrainTimeout),
		LongestPause: time.Duration(c.RestartPause),
		Admin:        c.Admin.Listen,
		Web:          c.Web.Listen,
		OnReady:      o.OnReady,
		OnAdmin:      o.OnAdmin,
		Files:        reloadable(c),
		Reload:       o.Reload,
		Notify:       manager,
		Logger:       o.Log,
	}
	if o.Development {
		s.Provision = &supervisor.Command{
			Args: append(moduleArgs("provision", c, o, users), "--samples="+strconv.FormatBool(o.SampleKeys), "--roster="+base64.StdEncoding.EncodeToString(o.Roster)), Env: environment(c), User: users.module, Input: o.TestKeys,
		}
	}
	page, err := withPage(&s)
	if err != nil {
		return err
	}
	defer page.Close() //nolint:errcheck // gone with the last descriptor
	signed, err := withCheckpoints(c, &s)
	if err != nil {
		return err
	}
	defer signed.Close() //nolint:errcheck // what modules wrote there is on the disk
	allotted, err := withLedger(c, &s)
	if err != nil {
		return err
	}
	defer allotted.Close() //nolint:errcheck // what modules wrote there is on the disk
	vaultFiles, err := withVault(c, users, &s)
	if err != nil {
		return err
	}
	defer vaultFiles.Close() //nolint:errcheck // gone with the last descriptor
	end, err := withVelocity(c, &s)
	if err != nil {
		return err
	}
	return errors.Join(supervisor.Run(ctx, s), end())
}

// reloadable is what can be replaced while the service runs.
func reloadable(c *config.Config) []supervisor.Reloadable {
	list := []supervisor.Reloadable{
		{Name: front.FilePolicy, Path: c.Policy},
		{Name: front.FileCertificate, Path: c.TLS.Certificate, Renewed: true},
		{Name: front.FileKey, Path: c.TLS.Key, Renewed: true},
		{Name: front.FileClientCA, Path: c.TLS.ClientCA, Renewed: true},
	}
	if c.Web.Listen != "" {
		shared := filepath.Clean(c.Web.Certificate) == filepath.Clean(c.TLS.Certificate) // the server's, which Vault may renew
		list = append(list,
			supervisor.Reloadable{Name: front.FileWebCertificate, Path: c.Web.Certificate, Renewed: shared},
			supervisor.Reloadable{Name: front.FileWebKey, Path: c.Web.Key, Renewed: shared})
	}
	return list
}

// The flags of the internal commands are read in cmd/keyd/internal.go.

func unlockArgs(c *config.Config) []string {
	return []string{"internal", "unlock", "--pin-file", c.Token.PINFile, "--label", c.Token.Label}
}

func frontArgs(c *config.Config, o Options, u processUsers) []string {
	args := []string{
		"internal", "front",
		"--state", c.State,
		"--policy", c.Policy,
		"--certificate", c.TLS.Certificate,
		"--key", c.TLS.Key,
		"--client-ca", c.TLS.ClientCA,
		"--operation-timeout", time.Duration(c.OperationTimeout).String(),
		"--drain-timeout", time.Duration(c.DrainTimeout).String(),
		"--retry-window", time.Duration(c.KSN.RetryWindow).String(),
		"--max-jump", strconv.FormatUint(uint64(c.KSN.MaxJump), 10),
		"--audit-segment-size", strconv.FormatInt(c.Audit.SegmentSize, 10),
		"--audit-segment-age", time.Duration(c.Audit.SegmentAge).String(),
		"--audit-node=" + c.Audit.Node,
		"--development=" + strconv.FormatBool(o.Development),
		"--separated=" + strconv.FormatBool(u.separated()),
	}
	args = append(args, databaseArgs(c)...)
	if w := c.Web; w.Listen != "" {
		args = append(args, "--web-certificate", w.Certificate, "--web-key", w.Key)
	}
	if t := c.Tracing; t.OTLP != "" {
		args = append(args, "--trace-collector", t.OTLP, "--trace-ca", t.CA, "--trace-sample", strconv.FormatFloat(t.Sample, 'g', -1, 64))
	}
	return args
}

// databaseArgs say where the database of a front is, if it is not a file of its own.
func databaseArgs(c *config.Config) []string {
	p := c.Database.Postgres
	if p == nil {
		return nil
	}
	args := []string{
		"--node", c.Fleet.Node, "--postgres-database", p.Database, "--postgres-user", p.User, "--postgres-password-file", p.PasswordFile,
		"--postgres-ca", p.CA, "--postgres-certificate", p.Certificate, "--postgres-key", p.Key, "--postgres-connections", strconv.Itoa(p.Connections),
	}
	for _, h := range p.Hosts {
		args = append(args, "--postgres-host", h)
	}
	return args
}

func moduleArgs(command string, c *config.Config, o Options, u processUsers) []string {
	args := []string{
		"internal", command,
		"--library", c.Token.Library,
		"--parameters=" + c.Token.Parameters,
		"--label", c.Token.Label,
		"--sessions", strconv.Itoa(c.Token.Sessions),
		"--cached-keys", strconv.Itoa(c.Token.CachedKeys),
		"--derived-keys", strconv.Itoa(c.Token.DerivedKeys),
		"--stuck-after", time.Duration(c.OperationTimeout).String(),
		"--development=" + strconv.FormatBool(o.Development),
		"--separated=" + strconv.FormatBool(u.separated()),
	}
	for _, d := range c.Token.Directories {
		args = append(args, "--directory", d)
	}
	for _, f := range c.Token.Files {
		args = append(args, "--file", f)
	}
	for _, p := range c.Token.ConnectPorts {
		args = append(args, "--connect", strconv.Itoa(int(p)))
	}
	return args
}

// environment is the token library's. Asynchronous preemption is off, because its
// signals would write registers of the library's computation to signal stacks; and a
// crash prints no trace, because its words of arguments could be a secret's.
func environment(c *config.Config) []string {
	env := []string{"GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=none"}
	for name, value := range c.Token.Environment {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// Address returns how clients on this machine reach a bound address.
func Address(listen string, bound net.Addr) string {
	_, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return bound.String()
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "" || strings.Trim(host, "0.:") == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
