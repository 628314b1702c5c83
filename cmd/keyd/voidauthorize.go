package main

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// fieldsOf are the fields of a void as the service has it, which have to be those that were named. The
// digest is made here, of what is shown.
func (p *payment) fieldsOf(v *keydv1.Void, named string) (fields voidtoken.Fields, digest [sha256.Size]byte, err error) {
	fields = voidtoken.Fields{Void: v.GetVoidId(), Merchant: v.GetMerchant(), Terminal: v.GetTerminal(), Reference: v.GetReference(), Amount: v.GetAmount(), Currency: voidtoken.Currency(v.GetCurrency())}
	if fields.Void != named || fields.Merchant != p.merchant || fields.Amount != p.amount || int32(fields.Currency) != p.currency {
		return fields, digest, errors.New("the service has another void, merchant, amount or currency than was named")
	}
	digest, err = fields.Digest()
	return fields, digest, err
}

func writeAuthorized(w io.Writer, a *keydv1.AuthorizeVoidResponse) {
	writeVoid(w, a.Void)
	row(w, "verified", fmt.Sprint(a.Verified))
	if a.Token != "" {
		row(w, "token", printable(a.Token))
	}
}

func voidAuthorize() *cobra.Command {
	var conn connection
	var out output
	var facts payment
	var id requestID
	var pad pinPad
	var card cardholder
	var name, terminal string
	c := &cobra.Command{
		Use:   "authorize VOID",
		Short: "Authorise a void by a supervisor's PIN, and a cardholder's, entered at a simulated terminal",
		Long: `Reads the supervisor's PIN (without echo from a terminal, else one line of standard input), enciphers
it as the terminal's PIN pad does, binds it to this void by a MAC under the same key serial number,
and sends both. When the PIN is right it prints the void token for the switch.

With --cardholder it reads the cardholder's PIN after it, a second line of standard input, and
enciphers that at another PIN pad, under a key for such PINs. keyd verifies it by a Visa PVV or an
IBM 3624 offset. Both come in one request, and which of them was wrong is not said.`,
		Example: `  keyd void authorize 0a1b… --merchant m-17 --amount 12300 --name dora --state ./dev/terminals/supervisor.json --bdk bdk-supervisor --dir ./dev
  keyd void authorize 0a1b… --merchant m-17 --amount 300000 --name dora --state ./dev/terminals/supervisor.json --bdk bdk-supervisor \
      --cardholder 4564320000980369 --cardholder-state ./dev/terminals/aes.json --cardholder-bdk bdk-aes --verification-key pvk-visa --pvv 3856 --dir ./dev`,
		Args: oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	facts.flags(c)
	id.flags(c)
	pad.flags(c)
	card.flags(c)
	card.padFlags(c)
	c.Flags().StringVar(&name, "name", "", "the supervisor")
	c.Flags().StringVar(&terminal, "terminal", "", "the terminal, of a supervisor of one (default: every one of the merchant)")
	if err := c.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		said, err := facts.message()
		if err != nil {
			return err
		}
		s := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: facts.merchant, Terminal: terminal, Name: name}
		if err := s.Validate(); err != nil {
			return err
		}
		cardholders, err := card.message()
		if err != nil {
			return err
		}
		calls, err := conn.open()
		if err != nil {
			return err
		}
		defer calls.Close() //nolint:errcheck // the answers are there
		client := keydv1.NewVoidServiceClient(calls)
		v, err := client.GetVoid(cmd.Context(), &keydv1.GetVoidRequest{VoidId: args[0]})
		if err != nil {
			return err
		}
		_, digest, err := facts.fieldsOf(v, args[0])
		if err != nil {
			return err
		}
		labels := []string{"PIN for " + amountOf(v) + " of " + printable(v.Merchant)}
		if cardholders != nil {
			labels = append(labels, "Cardholder's PIN")
		}
		typed, err := readPINs(labels...)
		defer func() {
			for _, pin := range typed {
				clear(pin)
			}
		}()
		if err != nil {
			return err
		}
		request := &keydv1.AuthorizeVoidRequest{RequestId: id.value(), VoidId: args[0], Payment: said}
		first, err := pad.bound(s.Number(), typed[0], digest)
		if err != nil {
			return err
		}
		first.Whose = &keydv1.VoidPinEntry_Supervisor{Supervisor: &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: s.Merchant, Terminal: s.Terminal, Name: s.Name}}
		if request.Pins = append(request.Pins, first); cardholders != nil {
			second, err := card.pad.bound(card.pan, typed[1], digest)
			if err != nil {
				return err
			}
			second.Whose = &keydv1.VoidPinEntry_Cardholder{Cardholder: cardholders}
			request.Pins = append(request.Pins, second)
		}
		a, err := client.AuthorizeVoid(cmd.Context(), request)
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { writeAuthorized(w, a) })
	}
	return c
}

func voidApprove() *cobra.Command {
	var conn connection
	var out output
	var facts payment
	var id requestID
	var key signingKey
	var certificate string
	var validFor time.Duration
	var yes bool
	c := &cobra.Command{
		Use:   "approve VOID",
		Short: "Approve a void, as a supervisor elsewhere",
		Long: `Shows the void, signs it with the approver's own key, and hands the approval in. When it counts, it
prints the void token for the switch. What is signed is what is shown.`,
		Example: `  keyd void approve 0a1b… --merchant m-17 --amount 12300 --officer-key anna.key --certificate anna.crt --dir ./dev`,
		Args:    oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	facts.flags(c)
	id.flags(c)
	key.flags(c)
	f := c.Flags()
	f.StringVar(&certificate, "certificate", "", "PEM file of the approver's certificate and its issuers")
	f.DurationVar(&validFor, "valid-for", 5*time.Minute, "how long the approval is good, at most 24h")
	f.BoolVar(&yes, "yes", false, "do not ask")
	if err := c.MarkFlagRequired("certificate"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		said, err := facts.message()
		if err != nil {
			return err
		}
		if validFor <= 0 || validFor > pinrecord.MaxApproval {
			return errors.New("--valid-for is at most 24h")
		}
		by, err := readApprover(certificate)
		if err != nil {
			return err
		}
		calls, err := conn.open()
		if err != nil {
			return err
		}
		defer calls.Close() //nolint:errcheck // the answers are there
		client := keydv1.NewVoidServiceClient(calls)
		v, err := client.GetVoid(cmd.Context(), &keydv1.GetVoidRequest{VoidId: args[0]})
		if err != nil {
			return err
		}
		fields, digest, err := facts.fieldsOf(v, args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "void %s\nof payment %s at merchant %s, terminal %s\namount %s\napprover %s\n", fields.Void, fields.Reference, fields.Merchant, fields.Terminal, fields.Currency.Format(fields.Amount), by.ID)
		signed, err := by.sign(&key, !yes, func(signer crypto.Signer, chain [][]byte) (pinrecord.Signed, error) {
			return pinrecord.SignVoid(signer, chain, digest, time.Now().Add(validFor).Unix())
		})
		if err != nil {
			return err
		}
		a, err := client.ApproveVoid(cmd.Context(), &keydv1.ApproveVoidRequest{
			RequestId: id.value(), VoidId: args[0], Payment: said, Approval: &keydv1.PinApproval{Document: signed.Document, Signature: signed.Signature, Certificates: signed.Certificates},
		})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { writeAuthorized(w, a) })
	}
	return c
}
