package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

func authorityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "authority",
		GroupID: "officers",
		Short:   "Decide whose certificates are believed: those of terminals, and of other hosts",
		Long: `A terminal gets keys only if its certificate ends at an authority that officers have decided
to believe: the root of the terminal's maker, or a certificate below it. The module checks that
itself. One officer alone can end the belief.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(authorityList(), authorityTrust(), authorityDistrust())
	return c
}

func authorityList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the authorities that are believed",
		Example: `  keyd authority list --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var r *keydv1.ListAuthoritiesResponse
		err := conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
			r, err = keydv1.NewCeremonyServiceClient(c).ListAuthorities(ctx, &keydv1.ListAuthoritiesRequest{})
			return err
		})
		if err != nil {
			return err
		}
		return out.print(r, func(w io.Writer) {
			if len(r.Authorities) == 0 {
				row(w, "no authority is believed: no terminal gets keys (keyd authority trust)")
				return
			}
			row(w, "USES", "VALID UNTIL", "SUBJECT", "FINGERPRINT")
			for _, a := range r.Authorities {
				row(w, strings.Join(a.Uses, ", "), a.NotAfter.AsTime().Format(time.DateOnly), printable(a.Subject), ceremony.FormatFingerprint(a.Fingerprint))
			}
		})
	}
	return c
}

func authorityTrust() *cobra.Command {
	k := new(keyChange)
	var uses []string
	c := k.command("trust FILE", "Have certificates believed that end at an authority",
		`Has the module believe an authority, whose certificate is in FILE (PEM or DER): chains of
certificates may end there, and need not go further. Compare its fingerprint with what its
owner has published; the command shows it before you approve.`,
		`  keyd authority trust maker-root.pem --use terminals --dir ./dev
  keyd authority trust host-root.pem --use hosts --dir ./dev`, ceremony.Trust)
	c.Flags().StringSliceVar(&uses, "use", nil, "what the certificates are for: terminals, hosts, approvers")
	instead(c, "use")
	completeFlag(c, "use", ceremony.UseTerminals+"\tdevices that get keys", ceremony.UseHosts+"\thosts that distribute keys", ceremony.UseApprovers+"\tpeople who approve PINs of supervisors, and voids")
	c.ValidArgsFunction = nil
	c.RunE = k.run(func(_ context.Context, _ *session, file string) (*ceremony.Definition, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if len(uses) == 0 {
			return nil, fmt.Errorf("say what the certificates are for: --use %s", strings.Join(ceremony.Uses, " or --use "))
		}
		a, err := ceremony.ParseAuthority(text, uses)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return &ceremony.Definition{Kind: ceremony.Trust, Authority: a}, nil
	})
	return c
}

func authorityDistrust() *cobra.Command {
	k := new(keyChange)
	c := k.command("distrust FINGERPRINT", "End the belief in an authority at once; one officer can",
		`Ends the belief in an authority: no certificate that ends there is believed, from that moment
on. keyd authority list shows the fingerprints.`,
		`  keyd authority distrust "A993 A7D8 …" --reason "INC-2041" --dir ./dev --as officer-1 --yes`, ceremony.Distrust)
	c.ValidArgsFunction = nil
	c.RunE = k.run(func(_ context.Context, _ *session, fingerprint string) (*ceremony.Definition, error) {
		return &ceremony.Definition{Kind: ceremony.Distrust, Distrusted: []string{ceremony.NormalFingerprint(fingerprint)}}, nil
	})
	return c
}
