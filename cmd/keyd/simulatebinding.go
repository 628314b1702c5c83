package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/simulator"
	"keyd/tr34"
)

// leaving are the flags of a terminal that is taken from its host.
type leaving struct {
	simulated
	request, token, reason string
}

func (l *leaving) flags(c *cobra.Command) {
	l.simulated.flags(c)
	l.conn.flags(c, "officer-1")
	f := c.Flags()
	f.StringVar(&l.request, "request", "", "file that is made for the terminal's random token (RT_KRD), for an operator")
	f.StringVar(&l.token, "token", "", "file with the token that the operator has had made")
	f.StringVar(&l.reason, "reason", "", "why, for the terminal's history")
	c.MarkFlagsMutuallyExclusive("request", "token")
}

// run does one of three: writes the terminal's random token, takes a token, or has the operator
// whose certificate is given make it in between.
func (l *leaving) run(rebind bool, ask func(random []byte) (*keydv1.BindingToken, error)) error {
	d := l.device()
	take := d.Unbind
	if rebind {
		take = d.Rebind
	}
	if l.token != "" {
		token, err := readSmall(l.token, tr34.MaxToken)
		if err == nil {
			err = take(token)
		}
		if err != nil {
			return err
		}
		return showDevice(&l.simulated)
	}
	random, err := d.BindingRequest(rebind)
	if err != nil {
		return err
	}
	if l.request != "" {
		if err := writeNew(l.request, random, 0o644); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "the random token is in", l.request)
		return nil
	}
	token, err := ask(random)
	if err != nil {
		return err
	}
	if err := take(token.Token); err != nil {
		return err
	}
	return showDevice(&l.simulated)
}

// identifier is the terminal's.
func (l *leaving) identifier() (string, error) {
	i, err := simulator.OpenDevice(l.state).Info()
	if err != nil {
		return "", err
	}
	return i.Terminal, nil
}

func simulateUnbind() *cobra.Command {
	var l leaving
	c := &cobra.Command{
		Use:   "unbind",
		Short: "Take the terminal from its key host (TR-34)",
		Long: `The terminal makes a random token, an operator has keyd make the token by which it forgets its
host and all its keys, and the terminal takes it. With --dir, or a certificate, this is one
command; --request and --token are its two halves, between which keyd terminal unbind stands.`,
		Example: `  keyd terminal simulate unbind --state t-0001.json --dir ./dev
  keyd terminal simulate unbind --state t-0001.json --request t-0001.rt
  keyd terminal simulate unbind --state t-0001.json --token t-0001.ubt`,
		Args: cobra.NoArgs,
	}
	l.flags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		id, err := l.identifier()
		if err != nil {
			return err
		}
		return l.run(false, func(random []byte) (*keydv1.BindingToken, error) {
			return call(cmd, &l.conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.UnbindTerminal,
				&keydv1.UnbindTerminalRequest{TerminalId: id, RandomToken: random, Reason: l.reason})
		})
	}
	return c
}

func simulateRebind() *cobra.Command {
	var l leaving
	var certificate, list string
	c := &cobra.Command{
		Use:   "rebind",
		Short: "Have the terminal get another key host (TR-34)",
		Long: `As unbind, but the terminal is bound to another host afterwards, whose authority the terminal
believes, and officers too.`,
		Example: `  keyd terminal simulate rebind --state t-0001.json --certificate new-host.pem \
    --revocation-list hosts.crl --dir ./dev`,
		Args: cobra.NoArgs,
	}
	l.flags(c)
	c.Flags().StringVar(&certificate, "certificate", "", "PEM file of the other host's certificate and its issuers")
	c.Flags().StringVar(&list, "revocation-list", "", "file of the revocation list of the hosts' authority, PEM or DER")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		id, err := l.identifier()
		if err != nil {
			return err
		}
		return l.run(true, func(random []byte) (*keydv1.BindingToken, error) {
			if certificate == "" || list == "" {
				return nil, errors.New("name the other host with --certificate and --revocation-list")
			}
			request := &keydv1.RebindTerminalRequest{TerminalId: id, RandomToken: random, Reason: l.reason}
			var err error
			if request.Certificates, err = certificateFile(certificate); err != nil {
				return nil, err
			}
			if request.RevocationList, err = revocationFile(list, 16<<10); err != nil {
				return nil, err
			}
			return call(cmd, &l.conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.RebindTerminal, request)
		})
	}
	return c
}
