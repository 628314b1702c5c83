package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyagreement"
	"keyd/simulator"
	"keyd/terminals/keysetfile"
)

func terminalSimulate() *cobra.Command {
	c := &cobra.Command{
		Use:   "simulate",
		Short: "A terminal in software, which does what real firmware does",
		Long: `A simulated terminal: it has a key pair, a certificate and a state file of its own, gets its
keys from keyd over the network, confirms them, and enciphers PINs and authenticates messages
with them. It can be stopped at any point, and goes on from its file, which holds its keys in
the clear.

In a development service:
  keyd terminal simulate prepare --dir ./dev
  keyd terminal simulate new t-0001 --state t-0001.json --key-set dev-aes --dir ./dev
  keyd terminal simulate keys --state t-0001.json --dir ./dev
  echo 2205 | keyd terminal simulate transaction --state t-0001.json --format 4 \
      --pan 4564320000980369 --verify-as switch --dir ./dev`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(
		simulatePrepare(), simulateNew(), simulateCertify(), simulateShow(), simulateBind(), simulateKeys(), simulateConfirm(), simulateSignIn(),
		simulatePIN(), simulateMAC(), simulateTransaction(), simulateVoid(), simulateUnbind(), simulateRebind(),
	)
	return c
}

// simulated is a simulated terminal that a command is about, and how it reaches keyd.
type simulated struct {
	conn  connection
	state string
	out   output
}

// flags are those of every command about one terminal.
func (s *simulated) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.state, "state", "", "the terminal's state file")
	if err := c.MarkFlagRequired("state"); err != nil {
		panic(err) // the flag is defined above
	}
	s.out.flag(c)
}

// online adds those of commands that ask keyd: as the terminal itself, with its own certificate,
// or as a carrier who passes its messages on.
func (s *simulated) online(c *cobra.Command) {
	s.flags(c)
	s.conn.flags(c, "")
	c.Flags().Lookup("as").Usage = "with --dir: a carrier's identity, a name in DIR/certs (default: the terminal's own certificate)"
	c.Flags().Lookup("cert").Usage = "PEM file of a carrier's certificate (default: the terminal's own certificate)"
	c.Flags().Lookup("key").Usage = "PEM file of the carrier's private key"
	s.conn.own = func() (tls.Certificate, error) { return s.device().TLSCertificate() }
}

func (s *simulated) device() *simulator.Device { return simulator.OpenDevice(s.state) }

// ask calls TerminalService.
func (s *simulated) ask(cmd *cobra.Command, do func(context.Context, keydv1.TerminalServiceClient) error) error {
	return s.conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) error {
		return do(ctx, keydv1.NewTerminalServiceClient(c))
	})
}

// print writes what a command says: rows for people, or a value for scripts.
func (s *simulated) print(value any, table func(io.Writer)) error {
	asJSON, err := s.out.json()
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(value)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// methodFlag is a method of injection.
type methodFlag struct{ name string }

func (m *methodFlag) flag(c *cobra.Command, usage string) {
	c.Flags().StringVar(&m.name, "method", "key-agreement", usage)
	completeFlag(c, "method", keysetfile.Methods()...)
}

func (m *methodFlag) method() (keydv1.InjectionMethod, error) { return keysetfile.Method(m.name) }

func curveNamed(name string) (keyagreement.Curve, error) {
	if name == "" {
		return 0, nil
	}
	for _, c := range []keyagreement.Curve{keyagreement.P256, keyagreement.P384, keyagreement.P521} {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("--curve is P-256, P-384 or P-521, not %q", name)
}
