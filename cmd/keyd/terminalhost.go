package main

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/tr34"
)

// terminalKeys are the commands about which keys terminals get, and what they got.
func terminalKeys() []*cobra.Command {
	return []*cobra.Command{terminalHost(), terminalKeySet(), terminalRevocation(), terminalInjection(), terminalUnbind(), terminalRebind()}
}

func terminalHost() *cobra.Command {
	c := &cobra.Command{
		Use:   "host",
		Short: "Key hosts: what terminals get their keys from",
		Long: `A key host is a key pair in the token with its certificates, which terminals check before they
take a key: of an elliptic curve for key agreement, of RSA for TR-34. Officers make the pair
(keyd key create, usage S0), an authority that the terminals believe certifies it (keyd key
csr).`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(terminalHostSet(), terminalHostList())
	return c
}

func terminalHostSet() *cobra.Command {
	var conn connection
	var out output
	var certificate, list string
	host := &keydv1.KeyHost{}
	c := &cobra.Command{
		Use:   "set NAME",
		Short: "Add a key host, or give one other certificates",
		Long: `Adds a key host. The certificate file has, in PEM, the host's certificate and then its issuers
without the root. The revocation list is that of the hosts' authority; TR-34 takes one, and
terminals want one that is valid: give a newer one in time. For an RSA pair the credential
token (CT_KDH) is made of both.`,
		Example: `  keyd terminal host set kdh-ec --pair kdh-ec --certificate kdh-ec.pem --dir ./dev
  keyd terminal host set kdh-rsa --pair kdh-rsa --certificate kdh-rsa.pem --revocation-list hosts.crl --dir ./dev`,
		Args: oneName("key host", "keyd terminal host list"),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	f := c.Flags()
	f.StringVar(&host.KeyId, "pair", "", "name of the key pair (usage S0)")
	f.StringVar(&certificate, "certificate", "", "PEM file of the host's certificate and its issuers")
	f.StringVar(&list, "revocation-list", "", "file of the revocation list of the hosts' authority, PEM or DER")
	for _, name := range []string{"pair", "certificate"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		host.Name = args[0]
		if host.Certificates, err = certificateFile(certificate); err != nil {
			return err
		}
		if list != "" {
			if host.RevocationList, err = revocationFile(list, 16<<10); err != nil {
				return err
			}
		}
		if host.CredentialToken, err = credentialToken(host); err != nil {
			return fmt.Errorf("%s: %w", certificate, err)
		}
		a, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.SetKeyHost, &keydv1.SetKeyHostRequest{KeyHost: host})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { writeKeyHost(w, a) })
	}
	return c
}

// credentialToken makes CT_KDH for a host with an RSA pair.
func credentialToken(h *keydv1.KeyHost) ([]byte, error) {
	c, err := x509.ParseCertificate(h.Certificates[0])
	if err != nil {
		return nil, err
	}
	if _, ok := c.PublicKey.(*rsa.PublicKey); !ok {
		return nil, nil
	}
	if len(h.RevocationList) == 0 {
		return tr34.CredentialToken(c)
	}
	return tr34.CredentialToken(c, h.RevocationList)
}

// revocationFile reads a revocation list in PEM or DER of at most so many bytes, and returns DER.
func revocationFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, 2*most+1))
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s: the list has more than %d bytes", path, most)
	}
	if _, err := x509.ParseRevocationList(b); err != nil {
		return nil, fmt.Errorf("%s is no revocation list: %w", path, err)
	}
	return b, nil
}

// oneName wants one name of a kind, which list shows.
func oneName(kind, list string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("name one %s (%s): %s", kind, list, c.UseLine())
		}
		return nil
	}
}

func writeKeyHost(w io.Writer, h *keydv1.KeyHost) {
	row(w, "key host", printable(h.Name))
	row(w, "key pair", printable(h.KeyId))
	subject, until, print := describeHost(h)
	row(w, "certificate", subject)
	row(w, "  valid until", until)
	row(w, "  SHA-256", print)
	row(w, "  issuers", fmt.Sprintf("%d given", max(0, len(h.Certificates)-1)))
	row(w, "revocation list", listState(h.RevocationList))
	if len(h.CredentialToken) > 0 {
		row(w, "credential token", fmt.Sprintf("%d bytes (CT_KDH of TR-34)", len(h.CredentialToken)))
	}
	row(w, "changed", at(h.ChangedAt))
}

func describeHost(h *keydv1.KeyHost) (subject, until, print string) {
	if len(h.Certificates) == 0 {
		return "-", "-", "-"
	}
	c, err := x509.ParseCertificate(h.Certificates[0])
	if err != nil {
		return "cannot be read", "-", "-"
	}
	return printable(c.Subject.String()), c.NotAfter.UTC().Format(time.DateOnly), fmt.Sprintf("%x", sha256.Sum256(c.Raw))
}

// hostEnd is when the first of a host's certificates, or its revocation list, expires.
func hostEnd(h *keydv1.KeyHost) string {
	var first time.Time
	earlier := func(at time.Time) {
		if !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	for _, der := range h.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "cannot be read"
		}
		earlier(c.NotAfter)
	}
	if len(h.RevocationList) > 0 {
		l, err := x509.ParseRevocationList(h.RevocationList)
		if err != nil {
			return "cannot be read"
		}
		earlier(l.NextUpdate)
	}
	if first.IsZero() {
		return "-"
	}
	return first.UTC().Format(time.DateTime)
}

func listState(der []byte) string {
	if len(der) == 0 {
		return "none"
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return "cannot be read"
	}
	return "until " + l.NextUpdate.UTC().Format(time.DateTime) + " UTC"
}

func terminalHostList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the key hosts",
		Example: `  keyd terminal host list --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.ListKeyHosts, &keydv1.ListKeyHostsRequest{})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			row(w, "HOST", "KEY PAIR", "EXPIRES (UTC)", "CERTIFICATE UNTIL", "REVOCATION LIST", "SUBJECT")
			for _, h := range a.KeyHosts {
				subject, until, _ := describeHost(h)
				row(w, printable(h.Name), printable(h.KeyId), hostEnd(h), until, listState(h.RevocationList), subject)
			}
		})
	}
	return c
}
