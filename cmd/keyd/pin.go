package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/development/injecting"
	"keyd/pinrecord"
)

func pinCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "pin",
		GroupID: "client",
		Short:   "PINs and passkeys of supervisors, and PINs of cardholders where keyd keeps them",
		Args:    cobra.NoArgs,
		RunE:    needsSubcommand,
	}
	c.AddCommand(pinPrepare(), pinApprove(), pinCode(), pinBegin(), pinUnblock(), pinSet(), pinVerify(), pinChange(), pinRevoke(), pinStatus(), pinList(), pinHistory())
	return c
}

// subject holds the flags that say whose PIN it is.
type subject struct {
	merchant, terminal, name string
	kind                     string
	cardholder               bool
}

// kinds are the values of --kind.
var kinds = map[string]pinrecord.Kind{"supervisor": pinrecord.Supervisor, "cardholder": pinrecord.Cardholder, "passkey": pinrecord.Passkey}

// kindFlags are the flags that say what it is that the subject has.
func (s *subject) kindFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.kind, "kind", "supervisor", "what it is: a supervisor's PIN, a cardholder's, or the passkey on a supervisor's phone (supervisor, cardholder, passkey)")
	f.BoolVar(&s.cardholder, "cardholder", false, "it is a cardholder's, and no supervisor's: --kind cardholder")
	completeFlag(c, "kind", "supervisor\ta supervisor's PIN", "cardholder\ta cardholder's PIN", "passkey\tthe passkey on a supervisor's phone")
	c.MarkFlagsMutuallyExclusive("kind", "cardholder")
}

func (s *subject) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.merchant, "merchant", "", "the merchant")
	f.StringVar(&s.terminal, "terminal", "", "the terminal, of a supervisor of one (default: every one of the merchant)")
	f.StringVar(&s.name, "name", "", "whose PIN it is: a name, and no card number")
	s.kindFlags(c)
	if err := c.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag is defined above
	}
}

func (s *subject) record() (*pinrecord.Subject, error) {
	kind, ok := kinds[s.kind]
	if !ok {
		return nil, errors.New("--kind is supervisor, cardholder or passkey")
	}
	r := &pinrecord.Subject{Kind: kind, Merchant: s.merchant, Terminal: s.terminal, Name: s.name}
	if s.cardholder {
		r.Kind = pinrecord.Cardholder
	}
	return r, r.Validate()
}

func (s *subject) message() (*keydv1.PinSubject, error) {
	r, err := s.record()
	if err != nil {
		return nil, err
	}
	return &keydv1.PinSubject{Kind: keydv1.PinSubject_Kind(keydv1.PinSubject_Kind_value[string(r.Kind)]), Merchant: r.Merchant, Terminal: r.Terminal, Name: r.Name}, nil
}

func pinPrepare() *cobra.Command {
	return prepares(&cobra.Command{
		Use:   "prepare",
		Short: "Make a development service ready to keep PINs",
		Long: `Does what operators and officers do for a service in production: it makes an authority of
approvers and two of those, anna and bert (DIR/approvers), and has the development officers
believe the authority, by the same ceremony as elsewhere. What is there stays.`,
		Example: `  keyd pin prepare --dir ./dev`,
	}, injecting.PrepareApprovers)
}

func pinRevoke() *cobra.Command {
	var conn connection
	var out output
	var whose subject
	var reason string
	c := &cobra.Command{
		Use:   "revoke",
		Short: "End a PIN at once and for good",
		Long: `Ends a PIN, or a code that is pending, on every front at once. It needs no approval, and cannot be
taken back: another PIN is a reset.`,
		Example: `  keyd pin revoke --merchant m-17 --name dora --reason "has left" --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	whose.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for its history")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := whose.message()
		if err != nil {
			return err
		}
		r, err := call(cmd, &conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.RevokePin, &keydv1.RevokePinRequest{Subject: s, Reason: reason})
		if err != nil {
			return err
		}
		return out.print(r, pinTable(r))
	}
	return c
}

func pinStatus() *cobra.Command {
	var conn connection
	var out output
	var whose subject
	c := &cobra.Command{
		Use: "status", Short: "Show how a PIN stands",
		Example: `  keyd pin status --merchant m-17 --name dora --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	whose.flags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := whose.message()
		if err != nil {
			return err
		}
		r, err := call(cmd, &conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.GetPinRecord, &keydv1.GetPinRecordRequest{Subject: s})
		if err != nil {
			return err
		}
		return out.print(r, pinTable(r))
	}
	return c
}

func pinList() *cobra.Command {
	var conn connection
	var out output
	request := &keydv1.ListPinRecordsRequest{}
	c := &cobra.Command{
		Use: "list", Short: "List the PINs of a merchant, and how they stand",
		Example: `  keyd pin list --merchant m-17 --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&request.Merchant, "merchant", "", "the merchant")
	if err := c.MarkFlagRequired("merchant"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		all := &keydv1.ListPinRecordsResponse{}
		for {
			a, err := call(cmd, &conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.ListPinRecords, request)
			if err != nil {
				return err
			}
			all.Records = append(all.Records, a.Records...)
			if request.PageToken = a.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "NAME", "KIND", "TERMINAL", "STATE", "VERSION", "TRIES LEFT")
			for _, r := range all.Records {
				s := r.Subject
				row(w, printable(s.GetName()), strings.ToLower(s.GetKind().String()), printable(s.GetTerminal()), word(r.State.String()), fmt.Sprint(r.Version), fmt.Sprint(r.TriesLeft))
			}
		})
	}
	return c
}

func pinHistory() *cobra.Command {
	var conn connection
	var out output
	var whose subject
	c := &cobra.Command{
		Use: "history", Short: "Show what happened to a PIN",
		Example: `  keyd pin history --merchant m-17 --name dora --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	whose.flags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := whose.message()
		if err != nil {
			return err
		}
		request, all := &keydv1.ListPinEventsRequest{Subject: s}, &keydv1.ListPinEventsResponse{}
		for {
			a, err := call(cmd, &conn, keydv1.NewPinRecordServiceClient, keydv1.PinRecordServiceClient.ListPinEvents, request)
			if err != nil {
				return err
			}
			all.Events = append(all.Events, a.Events...)
			if request.PageToken = a.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "NUMBER", "AT", "WHAT", "WHO", "DETAIL")
			for _, e := range all.Events {
				row(w, fmt.Sprint(e.Number), instant(e.At), printable(e.Kind), printable(e.Actor), printable(e.Detail))
			}
		})
	}
	return c
}

// pinTable writes how a PIN stands.
func pinTable(r *keydv1.PinRecord) func(io.Writer) {
	return func(w io.Writer) {
		row(w, "name", printable(r.GetSubject().GetName()))
		row(w, "kind", strings.ToLower(r.GetSubject().GetKind().String()))
		row(w, "merchant", printable(r.GetSubject().GetMerchant()))
		if t := r.GetSubject().GetTerminal(); t != "" {
			row(w, "terminal", printable(t))
		}
		row(w, "number", printable(r.GetNumber()))
		row(w, "state", word(r.GetState().String()))
		row(w, "version", fmt.Sprint(r.GetVersion()))
		if r.GetSubject().GetKind() != keydv1.PinSubject_PASSKEY { // nobody guesses one
			row(w, "tries left", fmt.Sprint(r.GetTriesLeft()))
		}
		if r.GetCodeExpiresAt() != nil {
			row(w, "code good until", instant(r.CodeExpiresAt))
		}
		if r.GetNotAfter() != nil {
			row(w, "PIN good until", instant(r.NotAfter))
		}
		row(w, "changed", instant(r.GetChangedAt()))
	}
}

func word(state string) string { return strings.ToLower(strings.ReplaceAll(state, "_", " ")) }

func instant(t *timestamppb.Timestamp) string { return t.AsTime().UTC().Format(time.RFC3339) }
