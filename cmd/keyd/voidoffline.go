package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyd/voids/code"
	"keyd/voidtoken"
)

func voidQR() *cobra.Command {
	var format, to, host string
	var scale int
	var ascii, inverse bool
	c := &cobra.Command{
		Use:   "qr",
		Short: "Draw a code as a QR symbol",
		Long: `Reads a code, or its URL, from one line of standard input, and draws it: as text for this
terminal, or as PNG or SVG into a file. Nothing is asked of a service.`,
		Example: `  echo "$CODE" | keyd void qr
  echo "$CODE" | keyd void qr --url void.example.com
  echo "$CODE" | keyd void qr --format png --scale 8 --out code.png`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&format, "format", "text", "text, png or svg")
	f.StringVar(&to, "out", "", "file to write, which does not exist yet; needed for png and svg")
	f.StringVar(&host, "url", "", "draw the code as the URL that a phone opens, at this host (code_host of the policy)")
	f.IntVar(&scale, "scale", 8, "pixels per module of a PNG, 1 to 64")
	f.BoolVar(&ascii, "ascii", false, "text without UTF-8")
	f.BoolVar(&inverse, "inverse", false, "text without colours, for a dark background")
	completeFlag(c, "format", "text", "png", "svg")
	c.RunE = func(*cobra.Command, []string) error {
		text, err := oneLine("the code")
		if err != nil {
			return err
		}
		if host != "" {
			p, err := code.Scan(text, host)
			if err == nil {
				text, err = p.URL(host)
			}
			if err != nil {
				return err
			}
		}
		s, err := code.NewSymbol(text)
		if err != nil {
			return err
		}
		var picture []byte
		switch format {
		case "text":
			style := code.TerminalStyle{ASCII: ascii}
			if inverse {
				style.Colours = code.LightOnDark
			}
			drawn, err := s.Terminal(style)
			if err != nil {
				return err
			}
			picture = []byte(drawn)
		case "png":
			if picture, err = s.PNG(scale); err != nil {
				return err
			}
		case "svg":
			picture = s.SVG()
		default:
			return errors.New("--format is text, png or svg")
		}
		if to != "" {
			return writeNew(to, picture, 0o644)
		}
		if format != "text" {
			return errors.New("name the file for the picture: --out")
		}
		_, err = os.Stdout.Write(picture)
		return err
	}
	return c
}

func voidVerify() *cobra.Command {
	var keyFile string
	var sets []string
	var currency int32
	var expected voidtoken.Expected
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check a void token, as a switch does, without a service",
		Long: `Reads a void token from one line of standard input and checks it against the signers' public keys
and against what the switch itself knows of the payment: all of it has to be said. That a token
is used once is for the switch to see to, by the void's identifier.`,
		Example: `  keyd void verify --keys void-tokens.pem --void 0a1b… --merchant m-17 --terminal t-1 --reference pay-0001 --amount 12300 \
      --methods SUPERVISOR_PIN --methods REMOTE_APPROVAL < token`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&keyFile, "keys", "", "PEM file of the signers' public keys")
	f.StringVar(&expected.Void, "void", "", "identifier of the void")
	f.StringVar(&expected.Merchant, "merchant", "", "the merchant of the payment")
	f.StringVar(&expected.Terminal, "terminal", "", "the terminal that asks")
	f.StringVar(&expected.Reference, "reference", "", "of the payment")
	f.Int64Var(&expected.Amount, "amount", 0, "in minor units")
	f.Int32Var(&currency, "currency", int32(voidtoken.CNY), "the number of ISO 4217")
	f.StringArrayVar(&sets, "methods", nil, "a set of methods that suffices, with + between them; may be repeated")
	for _, name := range []string{"keys", "void", "merchant", "terminal", "reference", "amount", "methods"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(*cobra.Command, []string) error {
		text, err := readBounded(keyFile, voidtoken.MaxKeyFile)
		if err != nil {
			return err
		}
		known, err := voidtoken.ParseKeys(text)
		if err != nil {
			return fmt.Errorf("%s: %w", keyFile, err)
		}
		if expected.Currency = voidtoken.Currency(currency & 0xffff); int32(expected.Currency) != currency {
			return errors.New("--currency is the number of a currency (ISO 4217)")
		}
		for _, set := range sets {
			var methods []voidtoken.Method
			for name := range strings.SplitSeq(set, "+") {
				methods = append(methods, voidtoken.Method(name))
			}
			expected.Methods = append(expected.Methods, methods)
		}
		token, err := oneLine("the token")
		if err != nil {
			return err
		}
		got, err := voidtoken.Verify(token, known, expected, time.Now())
		if err != nil {
			return err
		}
		for _, a := range got.Authorizations {
			fmt.Printf("good until %s: %s by %s\n", time.Unix(got.ExpiresAt, 0).UTC().Format(time.RFC3339), a.Method, a.Subject)
		}
		return nil
	}
	return c
}
