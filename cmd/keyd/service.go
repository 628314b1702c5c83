package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"keyd/config"
	"keyd/development"
	"keyd/service"
)

// rootContext is the parent of every command's context.
var rootContext = context.Background()

// logger writes JSON lines to standard error.
func logger() *slog.Logger { return slog.New(slog.NewJSONHandler(os.Stderr, nil)) }

func devCommand() *cobra.Command {
	var dir, listen, adminListen, trace, keys, token string
	var limits config.Velocity
	var postgres config.Postgres
	var pause time.Duration
	c := &cobra.Command{
		Use:     "dev",
		GroupID: "service",
		Short:   "Run a ready development service in a directory",
		Long: `Makes a directory into a complete service and runs it: a token, a CA and client
certificates (DIR/certs/), sample keys, a policy, simulated terminals. When it can be
used, standard output says

  ready HOST:PORT

and nothing else; logs go to standard error. SIGTERM or Ctrl-C ends it with status 0. An
existing directory is used again, with the token that it has.

Every sample key is published: this is no place for a real key.`,
		Example: `  keyd dev --dir ./dev --listen 127.0.0.1:7443
  keyd dev --dir ./dev --listen 127.0.0.1:0 --keys keys.json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "directory of the service")
	f.StringVar(&listen, "listen", "127.0.0.1:7443", "HOST:PORT to listen on; port 0 takes a free one")
	f.StringVar(&token, "token", "", "softhsm (SoftHSM, unless the directory has another) or nss (NSS softokn, which has mechanisms that SoftHSM does not have)")
	f.StringVar(&adminListen, "admin", "", "IP:PORT of a loopback address for metrics, health and profiles (/metrics, /readyz, /debug/pprof/)")
	f.StringVar(&trace, "trace", "", "IP:PORT of an OpenTelemetry collector (OTLP over gRPC) on this machine; every request is traced")
	f.StringVar(&keys, "keys", "", "JSON file of known test keys to load (docs/test-keys.md); replaces keys of the same names")
	f.Var((*configLimits)(&limits.Verify), "verify-limits", "limit verifications of one account's PIN per minute, hour and day, 0 for no limit (keyd serve limits them by default)")
	f.Var((*configLimits)(&limits.Translate), "translate-limits", "limit translations of one account's PIN likewise")
	f.Var((*configLimits)(&limits.Card), "card-limits", "limit verifications of one card verification value likewise")
	f.StringArrayVar(&postgres.Hosts, "postgres", nil, "IP:PORT of a PostgreSQL server on this machine, for its database in place of an SQLite file; with --postgres-password-file")
	f.StringVar(&postgres.Database, "postgres-database", "keyd", "with --postgres: the database's name")
	f.StringVar(&postgres.User, "postgres-user", "keyd", "with --postgres: the user's name")
	f.StringVar(&postgres.PasswordFile, "postgres-password-file", "", "with --postgres, which needs it: file with the user's password")
	f.DurationVar(&pause, "restart-pause", 5*time.Second, "how long a process that keeps failing waits at most before it is started again")
	if err := c.MarkFlagRequired("dir"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := config.CheckAdmin(adminListen); err != nil {
			return fmt.Errorf("--admin: %w", err)
		}
		if len(postgres.Hosts) > 0 && postgres.PasswordFile == "" {
			return errors.New("--postgres needs --postgres-password-file: a file with the password of the user (--postgres-user)")
		}
		s, err := development.Prepare(dir, listen, token)
		if err != nil {
			return err
		}
		defer s.Close() //nolint:errcheck // ends the lock
		s.Config.Velocity.Verify, s.Config.Velocity.Translate, s.Config.Velocity.Card = limits.Verify, limits.Translate, limits.Card
		s.Config.Admin.Listen, s.Config.Tracing.OTLP = adminListen, trace
		s.Config.RestartPause = config.Duration(pause)
		if len(postgres.Hosts) > 0 {
			if err := s.UsePostgres(postgres); err != nil {
				return err
			}
		}
		log := logger()
		reload, stop := reloads()
		defer stop()
		var input *os.File
		if keys != "" {
			if input, err = os.Open(keys); err != nil {
				return fmt.Errorf("--keys: %w", err)
			}
			defer input.Close() //nolint:errcheck // read by the provisioning process alone
		}
		return service.Run(cmd.Context(), s.Config, service.Options{
			Development: true,
			SampleKeys:  s.New,
			TestKeys:    input,
			Roster:      s.Roster,
			Log:         log,
			Reload:      reload,
			OnAdmin:     onAdmin(log),
			OnReady: func(bound net.Addr) {
				address := service.Address(listen, bound)
				if err := s.Ready(address); err != nil {
					fmt.Fprintln(os.Stderr, "keyd:", err)
				}
				fmt.Println("ready", address)
			},
		})
	}
	return c
}

// reloads delivers SIGHUP. One that comes while another waits is the same.
func reloads() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGHUP)
	return c, func() { signal.Stop(c) }
}

func onAdmin(log *slog.Logger) func(net.Addr) {
	return func(at net.Addr) { log.Info("metrics, health and profiles", "address", at.String()) }
}

// configFlag is the flag of commands that work from a configuration file.
func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", "", "configuration file (keyd config check FILE looks at it)")
	if err := c.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined above
	}
}

func serveCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "serve",
		GroupID: "service",
		Short:   "Run the service from a configuration file",
		Long: `Starts the supervisor, which starts one front and the modules, each confined, and keeps
them running. SIGTERM drains and ends with status 0. SIGHUP has policy, server certificate
and key, and client authorities read again; what is wrong with them is logged, and the old
stay in use. docs/operations.md has the details.

Status 78 means that another start cannot help before something is corrected, a wrong PIN
for one; the last lines on standard error say what.

A token that carries the development mark is refused.`,
		Example: "  keyd config check /etc/keyd/keyd.yaml && keyd serve --config /etc/keyd/keyd.yaml",
		Args:    cobra.NoArgs,
	}
	configFlag(c, &path)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := config.Load(path)
		if err != nil {
			return err
		}
		log := logger()
		reload, stop := reloads()
		defer stop()
		return service.Run(cmd.Context(), loaded, service.Options{
			Log:     log,
			Reload:  reload,
			OnAdmin: onAdmin(log),
			OnReady: func(bound net.Addr) { log.Info("serving", "address", bound.String()) },
		})
	}
	return c
}

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", GroupID: "service", Short: "Look at a configuration file", Args: cobra.NoArgs, RunE: needsSubcommand}
	c.AddCommand(&cobra.Command{
		Use:     "check FILE",
		Short:   "Say what is wrong with a configuration before a restart does",
		Example: "  keyd config check /etc/keyd/keyd.yaml",
		Long: `Reads the file as keyd serve does and looks at everything it names: certificates and their
dates, the policy, the accounts, the PKCS#11 library, who may read what. It does not
touch the token. Status 0 means that keyd serve will not stumble over any of these.`,
		Args: oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			loaded, err := config.Load(args[0])
			if err != nil {
				return err
			}
			problems := service.Check(loaded)
			for _, p := range problems {
				fmt.Fprintln(os.Stderr, "-", p)
			}
			if len(problems) > 0 {
				return fmt.Errorf("%s: %d to mend", args[0], len(problems))
			}
			fmt.Println(args[0] + ": good")
			return nil
		},
	})
	return c
}
