package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/development/injecting"
	"keyd/voidtoken"
)

func voidCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "void",
		GroupID: "client",
		Short:   "Void requests: a payment is taken back, by a PIN or an approval",
		Args:    cobra.NoArgs,
		RunE:    needsSubcommand,
	}
	c.AddCommand(voidPrepare(), voidCreate(), voidQR(), voidScan(), voidAuthorize(), voidApprove(), voidConfirm(), voidCancel(), voidShow(), voidToken(), voidList(), voidWatch(), voidVerify())
	return c
}

func voidPrepare() *cobra.Command {
	return prepares(&cobra.Command{
		Use:   "prepare",
		Short: "Make a development service ready to void payments",
		Long: `Does what officers do for a service in production: it has the development officers make the key
pairs that the policy names, void-tokens, void-codes and void-page, by the same ceremonies as
elsewhere, and writes the public keys of the first two (DIR/voids), as switches and scanners get
them. What is there stays.`,
		Example: `  keyd void prepare --dir ./dev`,
	}, injecting.PrepareVoids)
}

// oneVoid wants the identifier of one void.
func oneVoid(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one void (keyd void list): %s", c.UseLine())
	}
	return nil
}

// requestID holds the flag of a request's identifier.
type requestID struct{ id string }

func (r *requestID) flags(c *cobra.Command) {
	c.Flags().StringVar(&r.id, "request-id", "", "identifier of the request: the same again gets the same answer (default: a new one)")
}

func (r *requestID) value() string {
	if r.id != "" {
		return r.id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// payment holds the flags of what a switch knows of a payment.
type payment struct {
	merchant, paidAt, category string
	amount                     int64
	currency                   int32
	settled, voided            bool
}

func (p *payment) flags(c *cobra.Command) {
	p.optional(c)
	for _, name := range []string{"merchant", "amount"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
}

// optional are the same flags, where a switch may know better.
func (p *payment) optional(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.merchant, "merchant", "", "the merchant")
	f.Int64Var(&p.amount, "amount", 0, "of the payment, in minor units: 12300 for 123.00 CNY")
	f.Int32Var(&p.currency, "currency", int32(voidtoken.CNY), "of the payment: the number of ISO 4217")
	f.StringVar(&p.paidAt, "paid-at", "", "when it was paid, as 2026-01-02T15:04:05Z (default: now)")
	f.BoolVar(&p.settled, "settled", false, "it went into settlement")
	f.BoolVar(&p.voided, "voided", false, "it was reversed already")
	f.StringVar(&p.category, "fee-category", "", "of the fee table of the policy: standard, debit, qr, …")
}

func (p *payment) message() (*keydv1.PaymentFacts, error) {
	at := time.Now()
	if p.paidAt != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, p.paidAt); err != nil {
			return nil, errors.New("--paid-at is a time like 2026-01-02T15:04:05Z")
		}
	}
	return &keydv1.PaymentFacts{
		Merchant: p.merchant, Amount: p.amount, Currency: p.currency, PaidAt: timestamppb.New(at), Settled: &p.settled, Voided: &p.voided, FeeCategory: p.category,
	}, nil
}

// oneLine reads one line of standard input.
func oneLine(what string) (string, error) {
	const most = 8 << 10
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, most)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", fmt.Errorf("standard input has no line with %s", what)
	}
	return line, nil
}

func voidState(v *keydv1.Void) string { return strings.ToLower(v.GetState().String()) }

// outcome is what the last event came to, and why the rules refuse it where they do.
func outcome(v *keydv1.Void) string {
	return strings.TrimSpace(printable(v.GetResult()) + " " + printable(v.GetRefusal()))
}

func writeVoid(w io.Writer, v *keydv1.Void) {
	if v.GetVoidId() == "" {
		row(w, "no void", outcome(v))
		row(w, "next", printable(strings.Join(v.GetNext(), ", ")))
		return
	}
	row(w, "void", printable(v.VoidId))
	row(w, "state", voidState(v)+" ("+outcome(v)+")")
	row(w, "merchant", printable(v.Merchant))
	row(w, "terminal", printable(v.Terminal))
	row(w, "payment", printable(v.Reference))
	row(w, "amount", amountOf(v))
	row(w, "fee", fmt.Sprint(v.Fee))
	row(w, "tries left", fmt.Sprint(v.TriesLeft))
	row(w, "methods", methodSets(v.Methods))
	for _, a := range v.Authorizations {
		row(w, "authorised", a.Method.String()+" by "+printable(a.Subject))
	}
	row(w, "created", at(v.CreatedAt))
	row(w, "changed", at(v.ChangedAt))
	row(w, "expires", at(v.ExpiresAt))
	if v.ConfirmBy != nil {
		row(w, "confirm by", at(v.ConfirmBy))
	}
	row(w, "next", printable(strings.Join(v.Next, ", ")))
}

func amountOf(v *keydv1.Void) string {
	return voidtoken.Currency(v.GetCurrency()).Format(v.GetAmount())
}

func methodSets(sets []*keydv1.VoidMethods) string {
	var out []string
	for _, set := range sets {
		var names []string
		for _, m := range set.GetMethods() {
			names = append(names, m.String())
		}
		out = append(out, strings.Join(names, "+"))
	}
	return strings.Join(out, " or ")
}

func voidCreate() *cobra.Command {
	var conn connection
	var out output
	var facts payment
	var id requestID
	request := &keydv1.CreateVoidRequest{}
	c := &cobra.Command{
		Use:   "create",
		Short: "Create a void request and its code",
		Long: `Creates a void request by what the switch knows of the payment, and prints the code that is
shown (keyd void qr draws it), and the same as the URL that a phone opens, where the policy has pages
for phones. Where the rules refuse the void, it says why and what to do.`,
		Example: `  keyd void create --merchant m-17 --terminal t-1 --reference pay-0001 --amount 12300 --fee-category standard --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	facts.flags(c)
	id.flags(c)
	f := c.Flags()
	f.StringVar(&request.Terminal, "terminal", "", "the terminal that asks")
	f.StringVar(&request.Reference, "reference", "", "of the payment")
	f.BoolVar(&request.Slip, "slip", false, "make a code for paper as well, which authorises nothing")
	for _, name := range []string{"terminal", "reference"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if request.Payment, err = facts.message(); err != nil {
			return err
		}
		request.RequestId, request.Merchant, request.Amount, request.Currency = id.value(), facts.merchant, facts.amount, facts.currency
		a, err := call(cmd, &conn, keydv1.NewVoidServiceClient, keydv1.VoidServiceClient.CreateVoid, request)
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			writeVoid(w, a.Void)
			if a.Code == "" {
				return
			}
			row(w, "code", printable(a.Code))
			row(w, "code until", at(a.CodeExpiresAt))
			if a.CodeUrl != "" {
				row(w, "code as URL", printable(a.CodeUrl))
			}
			if a.SlipCode != "" {
				row(w, "code on paper", printable(a.SlipCode))
			}
		})
	}
	return c
}

func voidScan() *cobra.Command {
	var conn connection
	var out output
	var id requestID
	request := &keydv1.ScanVoidRequest{}
	c := &cobra.Command{
		Use:     "scan",
		Short:   "Burn a code that was scanned",
		Long:    `Reads the code, or its URL, from one line of standard input, as a scanner types it.`,
		Example: `  echo "$CODE" | keyd void scan --merchant m-17 --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	id.flags(c)
	c.Flags().StringVar(&request.Merchant, "merchant", "", "whose terminal has scanned it")
	if err := c.MarkFlagRequired("merchant"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if request.Code, err = oneLine("the code"); err != nil {
			return err
		}
		request.RequestId = id.value()
		v, err := call(cmd, &conn, keydv1.NewVoidServiceClient, keydv1.VoidServiceClient.ScanVoid, request)
		if err != nil {
			return err
		}
		return out.print(v, func(w io.Writer) { writeVoid(w, v) })
	}
	return c
}

func voidConfirm() *cobra.Command {
	var conn connection
	var out output
	var id requestID
	var not bool
	c := &cobra.Command{
		Use:     "confirm VOID",
		Short:   "Say, as the switch, that the payment was reversed",
		Example: `  keyd void confirm 0a1b… --dir ./dev`,
		Args:    oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	id.flags(c)
	c.Flags().BoolVar(&not, "not-reversed", false, "it was not reversed, and will not be")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := call(cmd, &conn, keydv1.NewVoidServiceClient, keydv1.VoidServiceClient.ConfirmVoid, &keydv1.ConfirmVoidRequest{RequestId: id.value(), VoidId: args[0], Reversed: !not})
		if err != nil {
			return err
		}
		return out.print(v, func(w io.Writer) { writeVoid(w, v) })
	}
	return c
}

func voidCancel() *cobra.Command {
	var conn connection
	var out output
	var id requestID
	c := &cobra.Command{
		Use:     "cancel VOID",
		Short:   "Give a void up that is not authorised yet",
		Example: `  keyd void cancel 0a1b… --dir ./dev`,
		Args:    oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	id.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := call(cmd, &conn, keydv1.NewVoidServiceClient, keydv1.VoidServiceClient.CancelVoid, &keydv1.CancelVoidRequest{RequestId: id.value(), VoidId: args[0]})
		if err != nil {
			return err
		}
		return out.print(v, func(w io.Writer) { writeVoid(w, v) })
	}
	return c
}

func voidToken() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:   "token VOID",
		Short: "Get, as the switch, the token of a void that is authorised",
		Long: `Prints the token of a void that is authorised, however that was done: on a phone, say, while the
terminal waits (keyd void watch). Of any other it prints how the void stands, and there is no token.`,
		Example: `  keyd void token 0a1b… --dir ./dev`,
		Args:    oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := call(cmd, &conn, keydv1.NewVoidServiceClient, keydv1.VoidServiceClient.GetVoidToken, &keydv1.GetVoidTokenRequest{VoidId: args[0]})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			writeVoid(w, a.Void)
			if a.Token != "" {
				row(w, "token", printable(a.Token))
			}
		})
	}
	return c
}

func voidShow() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "show VOID",
		Short:   "Show a void",
		Example: `  keyd void show 0a1b… --dir ./dev`,
		Args:    oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := call(cmd, &conn, keydv1.NewVoidServiceClient, keydv1.VoidServiceClient.GetVoid, &keydv1.GetVoidRequest{VoidId: args[0]})
		if err != nil {
			return err
		}
		return out.print(v, func(w io.Writer) { writeVoid(w, v) })
	}
	return c
}
