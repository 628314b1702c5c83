// Command keyd is the payment-HSM front: service, officers' and operators' command
// line, and simulated terminal in one binary. Each file here is a command group that
// reads flags and calls a package; what is decided is decided there.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"keyd/officer"
	"keyd/supervisor"
)

// version is set by the linker (make build).
var version = "development build"

func main() {
	ctx, stop := signal.NotifyContext(rootContext, os.Interrupt, unix.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:   "keyd",
		Short: "The payment-HSM front: DUKPT, PIN translation and PIN verification on any PKCS#11 token",
		Long: `keyd gives switches, security officers and terminals the operations of a payment
HSM over gRPC, on any PKCS#11 token, and lets no clear PIN or key out of the
hardware boundary.

Try it:              keyd dev --dir ./dev --listen 127.0.0.1:7443
Run it:              keyd serve --config /etc/keyd/keyd.yaml
What is running:     keyd status --dir ./dev --as auditor`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(
		&cobra.Group{ID: "service", Title: "The service:"},
		&cobra.Group{ID: "officers", Title: "Security officers and their keys:"},
		&cobra.Group{ID: "client", Title: "Clients of a running service:"},
	)
	root.AddCommand(
		devCommand(), serveCommand(), initCommand(), configCommand(), auditCommand(), policyCommand(), velocityCommand(), fleetCommand(), authorityCommand(), backupCommand(), restoreCommand(),
		officerCommand(), ceremonyCommand(), keyCommand(),
		statusCommand(), callCommand(), terminalCommand(), voidCommand(), pinCommand(),
		internalCommand(),
	)
	if err := root.ExecuteContext(ctx); err != nil {
		code := 1
		var exit exitError
		var ended *supervisor.EndError
		switch {
		case errors.As(err, &exit):
			code = exit.code
		case errors.Is(err, officer.ErrNotBelieved) || errors.Is(err, officer.ErrIdentityChanged) || errors.Is(err, officer.ErrRosterChanged):
			code = exitNotBelieved
		case errors.As(err, &ended) && ended.Permanent:
			code = supervisor.ExitPermanent // a service manager must not try again: the token may lock
		}
		fmt.Fprintln(os.Stderr, "keyd:", err)
		os.Exit(code)
	}
}

// exitError ends the process with a status of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// needsSubcommand is what a command group does by itself: fail.
func needsSubcommand(c *cobra.Command, _ []string) error {
	return fmt.Errorf("name what to do: %s --help lists it", c.CommandPath())
}

// oneFile wants the name of one file.
func oneFile(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one file: %s", c.UseLine())
	}
	return nil
}

// buildVersion returns the version and, for a plain go build, the revision.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	return version + " (" + info.GoVersion + ")"
}
