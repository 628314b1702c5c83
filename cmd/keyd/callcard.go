package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

// card holds the flags of what a card verification value is made of.
type card struct{ kind, expiry, service string }

func (v *card) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&v.kind, "kind", "cvv2", "cvv, cvv2 or icvv")
	f.StringVar(&v.expiry, "expiry", "", "expiry date, 4 digits: YYMM for cvv and icvv, usually MMYY for cvv2")
	f.StringVar(&v.service, "service-code", "", "cvv: service code on the stripe, 3 digits")
}

func (v *card) message() (*keydv1.CardValidationMethod, error) {
	if v.kind != "cvv" && v.service != "" {
		return nil, fmt.Errorf("a %s has no service code of the card's", v.kind)
	}
	switch v.kind {
	case "cvv":
		return &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Cvv{Cvv: &keydv1.Cvv{CardExpiryDate: v.expiry, ServiceCode: v.service}}}, nil
	case "cvv2":
		return &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Cvv2{Cvv2: &keydv1.Cvv2{CardExpiryDate: v.expiry}}}, nil
	case "icvv":
		return &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Icvv{Icvv: &keydv1.Icvv{CardExpiryDate: v.expiry}}}, nil
	}
	return nil, fmt.Errorf("kind %q is none of cvv, cvv2, icvv", v.kind)
}

func callGenerateCVV() *cobra.Command {
	var conn connection
	var out output
	var value card
	request := &keydv1.GenerateCardValidationDataRequest{}
	c := &cobra.Command{
		Use:     "generate-cvv",
		Short:   "Make a card verification value (DataService.GenerateCardValidationData)",
		Example: `  keyd call generate-cvv --dir ./dev --cvk cvk --pan 4564320000980369 --kind cvv2 --expiry 1228`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	value.flags(c)
	c.Flags().StringVar(&request.KeyId, "cvk", "", "name of the key: C0")
	c.Flags().StringVar(&request.PrimaryAccountNumber, "pan", "", "primary account number with its check digit")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if request.Method, err = value.message(); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewDataServiceClient, keydv1.DataServiceClient.GenerateCardValidationData, request)
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) {
			row(w, "value", answer.ValidationData)
			row(w, "key check value", answer.KeyCheckValue)
			row(w, "custody", answer.Custody.String())
		})
	}
	return c
}

func callVerifyCVV() *cobra.Command {
	var conn connection
	var out output
	var value card
	request := &keydv1.VerifyCardValidationDataRequest{}
	c := &cobra.Command{
		Use:   "verify-cvv",
		Short: "Verify a card verification value (DataService.VerifyCardValidationData)",
		Long: `Prints whether the value is the card's. A wrong one is an answer: the command ends with
status 0.`,
		Example: `  keyd call verify-cvv --dir ./dev --cvk cvk --pan 4564320000980369 --kind cvv2 --expiry 1228 --value 652`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	value.flags(c)
	c.Flags().StringVar(&request.KeyId, "cvk", "", "name of the key: C0")
	c.Flags().StringVar(&request.PrimaryAccountNumber, "pan", "", "primary account number with its check digit")
	c.Flags().StringVar(&request.ValidationData, "value", "", "the value, 3 digits")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if request.Method, err = value.message(); err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewDataServiceClient, keydv1.DataServiceClient.VerifyCardValidationData, request)
		if err != nil {
			return err
		}
		return out.print(answer, verdict(answer))
	}
	return c
}
