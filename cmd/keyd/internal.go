package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"keyd/config"
	"keyd/development"
	"keyd/front"
	"keyd/hsm/module"
	"keyd/supervisor/child"
	"keyd/supervisor/unlock"
	"keyd/vault"
)

// internalCommand holds what the supervisor starts. The descriptors that their flags
// name are inherited; typed by a person, these commands do nothing useful.
func internalCommand() *cobra.Command {
	c := &cobra.Command{Use: "internal", Hidden: true, Short: "Processes that the supervisor starts"}
	c.AddCommand(internalUnlock(), internalRenew(), internalProvision(), internalInit(), internalCheckBackup(), internalRestore(), internalPermit(), internalModule(), internalFront())
	return c
}

// permanent ends a process with the status that tells the supervisor not to try again.
func permanent(err error) error {
	if err == nil {
		return nil
	}
	return exitError{err, child.ExitPermanent}
}

func internalUnlock() *cobra.Command {
	var pinFile, label string
	var pinFD int
	c := &cobra.Command{Use: "unlock", Args: cobra.NoArgs}
	f := c.Flags()
	f.StringVar(&pinFile, "pin-file", "", "file with the token PIN, or prompt")
	f.StringVar(&label, "label", "", "token label, for the prompt")
	f.IntVar(&pinFD, "pin-fd", -1, "")
	v := vaultFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		switch pinFile {
		case "": // Vault has it
		case config.Prompt:
			err = unlock.FromTerminal(label, pinFD)
		default:
			err = unlock.FromFile(pinFile, pinFD)
		}
		if err != nil || v.options < 0 {
			return permanent(err)
		}
		process, err := v.process("unlock")
		if err != nil {
			return permanent(err)
		}
		process.PINFD = pinFD
		if err := vault.Start(cmd.Context(), process); !vault.IsAway(err) {
			return permanent(err)
		} else {
			return err // a service manager may try again
		}
	}
	return c
}

// vaultDescriptors are what a process that asks Vault inherits.
type vaultDescriptors struct{ options, login, report int }

func vaultFlags(c *cobra.Command) *vaultDescriptors {
	v := &vaultDescriptors{}
	f := c.Flags()
	f.IntVar(&v.options, "input-fd", -1, "")
	f.IntVar(&v.login, "login-fd", -1, "")
	f.IntVar(&v.report, "report-fd", -1, "")
	return v
}

func (v *vaultDescriptors) process(name string) (vault.Process, error) {
	input, told := os.NewFile(uintptr(v.options), "options"), os.NewFile(uintptr(v.report), "report")
	if input == nil || told == nil {
		return vault.Process{}, errors.New("no descriptors for options and report")
	}
	o, err := vault.ReadOptions(input)
	return vault.Process{Options: o, PINFD: -1, SessionFD: v.login, Report: told, Log: logger().With("process", name)}, err
}

// internalRenew says by its status what has changed, see package child.
func internalRenew() *cobra.Command {
	c := &cobra.Command{Use: "renew", Args: cobra.NoArgs}
	v := vaultFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		process, err := v.process("renew")
		if err != nil {
			return err
		}
		done, err := vault.Renew(cmd.Context(), process)
		switch {
		case err != nil:
			return err
		case done.Changed && done.Failed:
			os.Exit(child.ExitRenewedInPart)
		case done.Changed:
			os.Exit(child.ExitRenewed)
		case done.Failed:
			os.Exit(1) // its log says why
		}
		return nil
	}
	return c
}

// moduleFlags are those of the processes that open the token.
func moduleFlags(c *cobra.Command) *module.Options {
	o := &module.Options{}
	f := c.Flags()
	f.IntVar(&o.ControlFD, "control-fd", -1, "")
	f.IntVar(&o.PINFD, "pin-fd", -1, "")
	f.StringVar(&o.Library, "library", "", "")
	f.StringVar(&o.Parameters, "parameters", "", "")
	f.StringVar(&o.Label, "label", "", "")
	f.IntVar(&o.Sessions, "sessions", 4, "")
	f.IntVar(&o.CachedKeys, "cached-keys", 16384, "")
	f.IntVar(&o.DerivedKeys, "derived-keys", 8192, "")
	f.DurationVar(&o.StuckAfter, "stuck-after", 2*time.Second, "")
	f.BoolVar(&o.Development, "development", false, "")
	f.BoolVar(&o.Separated, "separated", false, "")
	f.StringArrayVar(&o.Directories, "directory", nil, "")
	f.StringArrayVar(&o.Files, "file", nil, "")
	f.Var((*ports)(&o.Connect), "connect", "")
	f.IntVar(&o.EpochFD, "epoch-fd", -1, "")
	f.IntVar(&o.CheckpointsFD, "checkpoints-fd", -1, "")
	f.IntVar(&o.LedgerFD, "ledger-fd", -1, "")
	f.IntVar(&o.Velocity.FD, "velocity-fd", -1, "")
	f.StringVar(&o.Velocity.Boot, "boot-id", "", "")
	f.Var((*velocityLimit)(&o.Velocity.Limits.Verification), "verify-limits", "")
	f.Var((*velocityLimit)(&o.Velocity.Limits.Translation), "translate-limits", "")
	f.Var((*velocityLimit)(&o.Velocity.Limits.Card), "card-limits", "")
	return o
}

func internalModule() *cobra.Command {
	c := &cobra.Command{Use: "module", Args: cobra.NoArgs}
	o := moduleFlags(c)
	index := c.Flags().Int("module", 0, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "module", "module", *index)
		if len(o.Directories) > 0 {
			defer startProfile(o.Directories[0], fmt.Sprintf("module-%d", *index))()
		}
		return moduleExit(module.Run(*o))
	}
	return c
}

func internalProvision() *cobra.Command {
	var outputFD, inputFD int
	var samples bool
	c := &cobra.Command{Use: "provision", Args: cobra.NoArgs}
	o := moduleFlags(c)
	f := c.Flags()
	f.IntVar(&outputFD, "output-fd", -1, "")
	f.IntVar(&inputFD, "input-fd", -1, "")
	f.BoolVar(&samples, "samples", false, "")
	f.BytesBase64Var(&o.Roster, "roster", nil, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "provision")
		var keys []io.Reader
		if samples {
			keys = append(keys, bytes.NewReader(development.SampleKeys))
		}
		if inputFD >= 0 {
			keys = append(keys, os.NewFile(uintptr(inputFD), "--keys"))
		}
		out := os.NewFile(uintptr(outputFD), "provisioned keys")
		if out == nil {
			return permanent(errors.New("no output descriptor"))
		}
		return moduleExit(module.Provision(*o, keys, out))
	}
	return c
}

func internalInit() *cobra.Command {
	var outputFD, inputFD int
	c := &cobra.Command{Use: "init", Args: cobra.NoArgs}
	o := moduleFlags(c)
	f := c.Flags()
	f.IntVar(&outputFD, "output-fd", -1, "")
	f.IntVar(&inputFD, "input-fd", -1, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "init")
		in, out := os.NewFile(uintptr(inputFD), "request"), os.NewFile(uintptr(outputFD), "answer")
		if in == nil || out == nil {
			return permanent(errors.New("no descriptors for request and answer"))
		}
		return moduleExit(module.Initialise(*o, in, out))
	}
	return c
}

func internalCheckBackup() *cobra.Command {
	var outputFD, inputFD int
	c := &cobra.Command{Use: "check-backup", Args: cobra.NoArgs}
	o := moduleFlags(c)
	f := c.Flags()
	f.IntVar(&outputFD, "output-fd", -1, "")
	f.IntVar(&inputFD, "input-fd", -1, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "check-backup")
		in, out := os.NewFile(uintptr(inputFD), "request"), os.NewFile(uintptr(outputFD), "answer")
		if in == nil || out == nil {
			return permanent(errors.New("no descriptors for request and answer"))
		}
		return moduleExit(module.CheckBackup(*o, in, out))
	}
	return c
}

func internalRestore() *cobra.Command {
	var o front.Restoring
	c := &cobra.Command{Use: "restore", Args: cobra.NoArgs}
	f := c.Flags()
	f.StringVar(&o.State, "state", "", "")
	databaseFlags(c, &o.Options)
	f.IntVar(&o.BackupFD, "backup-fd", -1, "")
	f.IntVar(&o.OutputFD, "output-fd", -1, "")
	f.IntSliceVar(&o.LogFDs, "log-fd", nil, "")
	f.StringVar(&o.Digest, "digest", "", "")
	f.StringVar(&o.Counters, "counters", "", "")
	f.Uint64Var(&o.Margin, "margin", 0, "")
	f.StringVar(&o.Tries, "tries", "", "")
	f.BoolVar(&o.Rehearse, "rehearse", false, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "restore")
		return permanent(front.Restore(o))
	}
	return c
}

// internalPermit reads the account from its input, so that no command line shows it.
func internalPermit() *cobra.Command {
	var outputFD, inputFD int
	var translations bool
	var valid time.Duration
	c := &cobra.Command{Use: "permit", Args: cobra.NoArgs}
	o := moduleFlags(c)
	f := c.Flags()
	f.IntVar(&outputFD, "output-fd", -1, "") // nothing is put out
	f.IntVar(&inputFD, "input-fd", -1, "")
	f.BoolVar(&translations, "translations", false, "")
	f.DurationVar(&valid, "valid", time.Hour, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "permit")
		in := os.NewFile(uintptr(inputFD), "account")
		if in == nil {
			return permanent(errors.New("no input descriptor"))
		}
		pan, err := io.ReadAll(io.LimitReader(in, 32))
		if err != nil {
			return permanent(err)
		}
		return moduleExit(module.Permit(*o, string(pan), translations, valid))
	}
	return c
}

func moduleExit(err error) error {
	if err == nil {
		return nil
	}
	return exitError{err, module.Exit(err)}
}

// databaseFlags say where the database of a front is, if it is not a file of its own.
func databaseFlags(c *cobra.Command, o *front.Options) {
	f := c.Flags()
	f.StringVar(&o.Node, "node", "", "")
	f.StringArrayVar(&o.Postgres.Hosts, "postgres-host", nil, "")
	f.StringVar(&o.Postgres.Database, "postgres-database", "", "")
	f.StringVar(&o.Postgres.User, "postgres-user", "", "")
	f.StringVar(&o.Postgres.PasswordFile, "postgres-password-file", "", "")
	f.StringVar(&o.Postgres.CAFile, "postgres-ca", "", "")
	f.StringVar(&o.Postgres.CertificateFile, "postgres-certificate", "", "")
	f.StringVar(&o.Postgres.KeyFile, "postgres-key", "", "")
	f.IntVar(&o.Postgres.MaxConnections, "postgres-connections", 16, "")
}

func internalFront() *cobra.Command {
	c := &cobra.Command{Use: "front", Args: cobra.NoArgs}
	o := front.Options{Version: buildVersion()}
	o.Trace.Version = o.Version
	f := c.Flags()
	f.IntVar(&o.ControlFD, "control-fd", -1, "")
	f.IntVar(&o.ListenFD, "listen-fd", -1, "")
	f.IntVar(&o.AdminFD, "admin-fd", -1, "")
	f.IntVar(&o.WebFD, "web-fd", -1, "")
	f.StringVar(&o.WebCertificate, "web-certificate", "", "")
	f.StringVar(&o.WebKey, "web-key", "", "")
	f.StringVar(&o.Trace.Collector, "trace-collector", "", "")
	f.StringVar(&o.Trace.Authority, "trace-ca", "", "")
	f.Float64Var(&o.Trace.Sample, "trace-sample", 0.01, "")
	f.IntVar(&o.ProvisionFD, "provision-fd", -1, "")
	f.IntVar(&o.VaultReportFD, "vault-report-fd", -1, "")
	f.StringVar(&o.State, "state", "", "")
	databaseFlags(c, &o)
	f.StringVar(&o.Policy, "policy", "", "")
	f.StringVar(&o.Certificate, "certificate", "", "")
	f.StringVar(&o.Key, "key", "", "")
	f.StringVar(&o.ClientCA, "client-ca", "", "")
	f.DurationVar(&o.OperationTimeout, "operation-timeout", 2*time.Second, "")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 10*time.Second, "")
	f.DurationVar(&o.RetryWindow, "retry-window", time.Minute, "")
	f.Uint32Var(&o.MaxJump, "max-jump", 1<<16, "")
	f.Int64Var(&o.Audit.SegmentSize, "audit-segment-size", 0, "")
	f.DurationVar(&o.Audit.SegmentAge, "audit-segment-age", 0, "")
	f.StringVar(&o.Audit.Node, "audit-node", "", "")
	f.BoolVar(&o.Development, "development", false, "")
	f.BoolVar(&o.Separated, "separated", false, "")
	c.RunE = func(*cobra.Command, []string) error {
		o.Log = logger().With("process", "front")
		defer startProfile(o.State, "front")()
		err := front.Run(o)
		if errors.Is(err, front.ErrSetUp) {
			return permanent(err)
		}
		return err
	}
	return c
}
