package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

func keyCSR() *cobra.Command {
	var conn connection
	var out output
	var file string
	subject := new(keydv1.CertificateSubject)
	c := &cobra.Command{
		Use:   "csr NAME",
		Short: "Make a certificate request for a key pair in the token",
		Long: `Has the token sign a certificate request (PKCS #10) for a key pair that may sign, of usage
S0, S1 or S2. The private key stays in the token.`,
		Example: `  keyd key create kdh-sign --usage S0 --algorithm R --length 384 --mode S --dir ./dev
  keyd key csr kdh-sign --common-name "KDH 1" --organization "Bank" --out kdh.csr --dir ./dev`,
		Args: oneKey,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	f := c.Flags()
	f.StringVar(&subject.CommonName, "common-name", "", "whom the certificate is for")
	f.StringVar(&subject.Organization, "organization", "", "organization")
	f.StringVar(&subject.OrganizationalUnit, "unit", "", "organizational unit")
	f.StringVar(&subject.Country, "country", "", "country, two letters")
	f.StringVar(&subject.StateOrProvince, "province", "", "state or province")
	f.StringVar(&subject.City, "city", "", "city")
	f.StringSliceVar(&subject.DnsNames, "dns", nil, "DNS names")
	f.StringVar(&file, "out", "", "file that is made for the request, in PEM (default: standard output)")
	c.ValidArgsFunction = completeKeys(&conn, 0)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if subject.CommonName == "" {
			return errors.New("a certificate is for somebody: --common-name")
		}
		answer, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.GetCertificateSigningRequest,
			&keydv1.GetCertificateSigningRequestRequest{KeyId: args[0], CertificateSubject: subject})
		if err != nil {
			return err
		}
		if file != "" {
			if err := writeNew(file, []byte(answer.CertificateSigningRequest), 0o644); err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, "the request is in", file)
			return nil
		}
		return out.print(answer, func(w io.Writer) { fmt.Fprint(w, answer.CertificateSigningRequest) }) //nolint:errcheck // to the table's buffer
	}
	return c
}
