package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/terminals"
)

// Sizes of revocation lists, in bytes.
const (
	maxRevocationList  = 8 << 20
	revocationListPart = 32 << 10
)

func terminalRevocation() *cobra.Command {
	c := &cobra.Command{
		Use:   "revocation",
		Short: "Revocation lists of the authorities of terminals",
		Long: `The lists that makers of terminals publish. A terminal whose certificate, or that of an issuer,
is on the newest list gets no keys.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(revocationSet(), revocationList())
	return c
}

func revocationSet() *cobra.Command {
	var conn connection
	var out output
	var issuer string
	c := &cobra.Command{
		Use:   "set FILE",
		Short: "Take a newer revocation list",
		Long: `Takes a revocation list (PEM or DER, at most 8 MiB) of an authority that officers believe for
terminals, or of an issuer whose certificate, and those above it, are in the --issuer file. One
that is older than what is there is refused.`,
		Example: `  keyd terminal revocation set maker.crl --dir ./dev
  keyd terminal revocation set model-7.crl --issuer model-7-issuers.pem --dir ./dev`,
		Args: oneFile,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&issuer, "issuer", "", "PEM file of the issuer's certificate and those above it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := revocationFile(args[0], maxRevocationList)
		if err != nil {
			return err
		}
		var issuers [][]byte
		if issuer != "" {
			if issuers, err = certificateFile(issuer); err != nil {
				return err
			}
		}
		var a *keydv1.RevocationList
		err = conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
			a, err = sendRevocationList(ctx, keydv1.NewTerminalServiceClient(c), list, issuers)
			return err
		})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			row(w, "issuer", printable(a.Issuer))
			row(w, "  public key", fmt.Sprintf("%x", a.IssuerKeySha256))
			row(w, "number", dash(printable(a.Number)))
			row(w, "certificates", fmt.Sprint(a.Entries))
			row(w, "of", at(a.ThisUpdate))
			row(w, "the next", at(a.NextUpdate))
		})
	}
	return c
}

// sendRevocationList sends a list in parts.
func sendRevocationList(ctx context.Context, c keydv1.TerminalServiceClient, list []byte, issuers [][]byte) (*keydv1.RevocationList, error) {
	stream, err := c.SetRevocationList(ctx)
	if err != nil {
		return nil, err
	}
	for first := true; first || len(list) > 0; first = false {
		part := &keydv1.SetRevocationListRequest{Data: list[:min(len(list), revocationListPart)]}
		if first {
			part.Issuers = issuers
		}
		list = list[len(part.Data):]
		if stream.Send(part) != nil {
			break // the answer says why
		}
	}
	return stream.CloseAndRecv()
}

func revocationList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the revocation lists",
		Example: `  keyd terminal revocation list --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.ListRevocationLists, &keydv1.ListRevocationListsRequest{})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			row(w, "OF (UTC)", "EXPIRES (UTC)", "CERTIFICATES", "NUMBER", "ISSUER KEY", "ISSUER")
			for _, l := range a.RevocationLists {
				row(w, moment(l.ThisUpdate), moment(l.NextUpdate), fmt.Sprint(l.Entries), dash(printable(l.Number)), terminals.IssuerLabel(l.IssuerKeySha256), printable(l.Issuer))
			}
		})
	}
	return c
}
