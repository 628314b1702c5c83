package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/tr34"
)

// binding are the flags of what takes a terminal from its host.
type binding struct {
	conn                connection
	random, out, reason string
}

func (b *binding) flags(c *cobra.Command) {
	b.conn.flags(c, "officer-1")
	f := c.Flags()
	f.StringVar(&b.random, "random-token", "", "file with the terminal's random token (RT_KRD)")
	f.StringVar(&b.out, "out", "", "file that is made for the token")
	f.StringVar(&b.reason, "reason", "", "why, for the terminal's history")
	for _, name := range []string{"random-token", "out"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.ValidArgsFunction = completeTerminals(&b.conn, 1, keydv1.Terminal_STATE_UNSPECIFIED)
}

// run makes the file first: once the token is made, the terminal's keys are over.
func (b *binding) run(ask func(random []byte) (*keydv1.BindingToken, error)) error {
	random, err := readSmall(b.random, tr34.MaxToken)
	if err != nil {
		return err
	}
	if _, err := tr34.ReadRandomToken(random); err != nil {
		return fmt.Errorf("%s: %w", b.random, err)
	}
	file, err := createNew(b.out, 0o644)
	if err != nil {
		return err
	}
	token, err := ask(random)
	if err != nil {
		file.discard()
		return err
	}
	if err := file.finish(token.Token); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "the token is in", b.out+": the terminal's keys are over here, and there once it has the token")
	return nil
}

func terminalUnbind() *cobra.Command {
	var b binding
	c := &cobra.Command{
		Use:   "unbind ID",
		Short: "Make the token by which a terminal forgets its key host (TR-34)",
		Long: `Makes the token (UBT_KDH of TR-34) by which a terminal forgets its key host and all keys that
it has from it. It is for the random token that the terminal has made for this, and for no
other time. The terminal's keys are over here at once, whether it gets the token or not.`,
		Example: `  keyd terminal unbind t-0001 --random-token t-0001.rt --out t-0001.ubt --reason "sold" --dir ./dev`,
		Args:    oneTerminal,
	}
	b.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return b.run(func(random []byte) (*keydv1.BindingToken, error) {
			return call(cmd, &b.conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.UnbindTerminal,
				&keydv1.UnbindTerminalRequest{TerminalId: args[0], RandomToken: random, Reason: b.reason})
		})
	}
	return c
}

func terminalRebind() *cobra.Command {
	var b binding
	var certificate, list string
	c := &cobra.Command{
		Use:   "rebind ID",
		Short: "Make the token by which a terminal gets another key host (TR-34)",
		Long: `Makes the token (RBT_KDH of TR-34) by which a terminal forgets its key host and all keys that
it has from it, and is bound to another host: one of somebody else, or a new key pair of
yours. That host's certificate must end at an authority that officers believe for hosts (keyd
authority trust --use hosts).`,
		Example: `  keyd terminal rebind t-0001 --random-token t-0001.rt --certificate new-host.pem \
    --revocation-list hosts.crl --out t-0001.rbt --dir ./dev`,
		Args: oneTerminal,
	}
	b.flags(c)
	c.Flags().StringVar(&certificate, "certificate", "", "PEM file of the other host's certificate and its issuers")
	c.Flags().StringVar(&list, "revocation-list", "", "file of the revocation list of the hosts' authority, PEM or DER")
	for _, name := range []string{"certificate", "revocation-list"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		request := &keydv1.RebindTerminalRequest{TerminalId: args[0], Reason: b.reason}
		var err error
		if request.Certificates, err = certificateFile(certificate); err != nil {
			return err
		}
		if request.RevocationList, err = revocationFile(list, 16<<10); err != nil {
			return err
		}
		return b.run(func(random []byte) (*keydv1.BindingToken, error) {
			request.RandomToken = random
			return call(cmd, &b.conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.RebindTerminal, request)
		})
	}
	return c
}
