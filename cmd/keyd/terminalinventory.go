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
	"keyd/terminals/batch"
)

// terminalInventory are the commands about the terminals that a service knows.
func terminalInventory() []*cobra.Command {
	return []*cobra.Command{
		terminalRegister(), terminalImport(), terminalList(), terminalShow(), terminalHistory(),
		terminalSuspend(), terminalResume(), terminalRetire(), terminalReplace(), terminalRenew(),
	}
}

// oneTerminal wants the identifier of one terminal.
func oneTerminal(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one terminal (keyd terminal list): %s", c.UseLine())
	}
	return nil
}

func terminalStates() []string { return []string{"registered", "suspended", "retired", "replaced"} }

func terminalRegister() *cobra.Command {
	var conn connection
	var out output
	var certificate string
	request := &keydv1.RegisterTerminalRequest{}
	c := &cobra.Command{
		Use:   "register ID",
		Short: "Register a terminal",
		Long: `Registers a terminal. Its identifier has 1 to 64 letters, digits and ._- and stays its own for
ever. The certificate file has, in PEM, the device's certificate and then its issuers; it is
checked against the roots for terminals that officers trust. Without one the terminal is known,
but gets no key before keyd terminal renew has given it a certificate.

A terminal that is registered with the same content already is left as it is.`,
		Example: `  keyd terminal register t-0001 --owner m-17 --model "P400 Plus" --serial 804-123 --dir ./dev
  keyd terminal register t-0002 --owner m-17 --model P400 --serial 804-124 \
    --certificate 804-124.pem --server keyd.example:7443 --ca ca.crt --cert op.crt --key op.key`,
		Args: oneTerminal,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	f := c.Flags()
	f.StringVar(&request.Owner, "owner", "", "the merchant whose terminal it is")
	f.StringVar(&request.Model, "model", "", "model of the device")
	f.StringVar(&request.SerialNumber, "serial", "", "serial number of the device")
	f.StringVar(&request.Site, "site", "", "where it stands")
	f.StringVar(&certificate, "certificate", "", "PEM file of the device's certificate and its issuers")
	f.BoolVar(&request.ValidateOnly, "dry-run", false, "have everything checked, and nothing kept")
	for _, name := range []string{"owner", "model", "serial"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined above
		}
	}
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		request.TerminalId = args[0]
		if certificate != "" {
			if request.Certificates, err = certificateFile(certificate); err != nil {
				return err
			}
		}
		a, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.RegisterTerminal, request)
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			switch {
			case a.Unchanged:
				row(w, "registered already, nothing has changed")
			case request.ValidateOnly:
				row(w, "it can be registered; nothing was kept")
			}
			writeTerminal(w, a.Terminal)
		})
	}
	return c
}

// certificateFile reads certificates in DER from a PEM file.
func certificateFile(path string) ([][]byte, error) {
	text, err := readCertificateFile(path)
	if err != nil {
		return nil, err
	}
	ders, err := batch.Certificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ders, nil
}

// readCertificateFile reads a file, and little more than can be certificates.
func readCertificateFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, batch.MaxPEM+1))
}

func terminalList() *cobra.Command {
	var conn connection
	var out output
	var which string
	var most int
	request := &keydv1.ListTerminalsRequest{}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the terminals, or some of them",
		Example: `  keyd terminal list --dir ./dev --as auditor
  keyd terminal list --dir ./dev --owner m-17 --state suspended -o json`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	f := c.Flags()
	f.StringVar(&request.Owner, "owner", "", "those of this owner only")
	f.StringVar(&request.Model, "model", "", "those of this model only")
	f.StringVar(&which, "state", "", strings.Join(terminalStates(), ", ")+" only")
	f.IntVar(&most, "limit", 0, "at most so many; 0 for all")
	completeFlag(c, "state", terminalStates()...)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		state, ok := keydv1.Terminal_State_value[strings.ToUpper(which)]
		if which != "" && (!ok || state == 0) {
			return fmt.Errorf("--state is one of %s", strings.Join(terminalStates(), ", "))
		}
		if most < 0 {
			return fmt.Errorf("--limit is 0, for all, or more")
		}
		request.State = keydv1.Terminal_State(state)
		calls, err := conn.open()
		if err != nil {
			return err
		}
		defer calls.Close() //nolint:errcheck // the answers are there
		client, all := keydv1.NewTerminalServiceClient(calls), new(keydv1.ListTerminalsResponse)
		for {
			request.PageSize = 1000
			if most > 0 {
				request.PageSize = int32(min(1000, most-len(all.Terminals)))
			}
			page, err := client.ListTerminals(cmd.Context(), request)
			if err != nil {
				return err
			}
			all.Terminals = append(all.Terminals, page.Terminals...)
			if request.PageToken = page.NextPageToken; request.PageToken == "" || len(all.Terminals) == most {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "TERMINAL", "OWNER", "MODEL", "SERIAL", "STATE", "CERTIFICATE UNTIL", "SITE")
			for _, t := range all.Terminals {
				until := "-"
				if t.Certificate != nil {
					until = t.Certificate.NotAfter.AsTime().Format(time.DateOnly)
				}
				row(w, printable(t.TerminalId), printable(t.Owner), printable(t.Model), printable(t.SerialNumber), terminalState(t), until, dash(printable(t.Site)))
			}
		})
	}
	return c
}

func terminalState(t *keydv1.Terminal) string {
	state := strings.ToLower(t.State.String())
	if t.ReplacedBy != "" {
		state += " by " + printable(t.ReplacedBy)
	}
	return state
}

func writeTerminal(w io.Writer, t *keydv1.Terminal) {
	row(w, "terminal", printable(t.TerminalId))
	row(w, "state", terminalState(t))
	row(w, "owner", printable(t.Owner))
	row(w, "model", printable(t.Model))
	row(w, "serial number", printable(t.SerialNumber))
	row(w, "site", dash(printable(t.Site)))
	row(w, "key set", dash(printable(t.KeySet)))
	row(w, "registered", at(t.RegisteredAt))
	row(w, "changed", at(t.ChangedAt))
	c := t.Certificate
	if c == nil {
		row(w, "certificate", "none: it gets no key")
		return
	}
	row(w, "certificate", printable(c.Subject))
	row(w, "  valid", at(c.NotBefore)+" to "+at(c.NotAfter))
	row(w, "  SHA-256", fmt.Sprintf("%x", c.CertificateSha256))
	row(w, "  public key", fmt.Sprintf("%x", c.PublicKeySha256))
	row(w, "  issuers", fmt.Sprintf("%d given", len(c.Issuers)))
}

func terminalShow() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all that the inventory has of a terminal",
		Example: `  keyd terminal show t-0001 --dir ./dev`,
		Args:    oneTerminal,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeTerminals(&conn, 1, keydv1.Terminal_STATE_UNSPECIFIED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.GetTerminal, &keydv1.GetTerminalRequest{TerminalId: args[0]})
		if err != nil {
			return err
		}
		return out.print(t, func(w io.Writer) { writeTerminal(w, t) })
	}
	return c
}

func terminalHistory() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "history ID",
		Short:   "List what happened to a terminal, the oldest first",
		Example: `  keyd terminal history t-0001 --dir ./dev`,
		Args:    oneTerminal,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeTerminals(&conn, 1, keydv1.Terminal_STATE_UNSPECIFIED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		calls, err := conn.open()
		if err != nil {
			return err
		}
		defer calls.Close() //nolint:errcheck // the answers are there
		client, all := keydv1.NewTerminalServiceClient(calls), new(keydv1.ListTerminalEventsResponse)
		request := &keydv1.ListTerminalEventsRequest{TerminalId: args[0], PageSize: 1000}
		for {
			page, err := client.ListTerminalEvents(cmd.Context(), request)
			if err != nil {
				return err
			}
			all.Events = append(all.Events, page.Events...)
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "", "AT (UTC)", "WHAT", "BY", "DETAIL")
			for _, e := range all.Events {
				row(w, fmt.Sprint(e.Number), moment(e.At), printable(e.Kind), dash(printable(e.Actor)), dash(printable(e.Detail)))
			}
		})
	}
	return c
}

// changeTerminal makes a command that changes the state of one terminal, which is in a state
// before.
func changeTerminal(c *cobra.Command, before keydv1.Terminal_State, method func(keydv1.TerminalServiceClient, context.Context, *keydv1.ChangeTerminalRequest, ...grpc.CallOption) (*keydv1.Terminal, error)) *cobra.Command {
	var conn connection
	var out output
	request := &keydv1.ChangeTerminalRequest{}
	c.Args = oneTerminal
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&request.Reason, "reason", "", "why, for the terminal's history")
	c.ValidArgsFunction = completeTerminals(&conn, 1, before)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		request.TerminalId = args[0]
		t, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, method, request)
		if err != nil {
			return err
		}
		return out.print(t, func(w io.Writer) { writeTerminal(w, t) })
	}
	return c
}

func terminalSuspend() *cobra.Command {
	return changeTerminal(&cobra.Command{
		Use:     "suspend ID",
		Short:   "Take a terminal out of service for a time",
		Example: `  keyd terminal suspend t-0001 --reason "lost, perhaps" --dir ./dev`,
	}, keydv1.Terminal_REGISTERED, keydv1.TerminalServiceClient.SuspendTerminal)
}

func terminalResume() *cobra.Command {
	return changeTerminal(&cobra.Command{
		Use:     "resume ID",
		Short:   "Take a suspended terminal into service again",
		Example: `  keyd terminal resume t-0001 --reason "found" --dir ./dev`,
	}, keydv1.Terminal_SUSPENDED, keydv1.TerminalServiceClient.ResumeTerminal)
}

func terminalRetire() *cobra.Command {
	return changeTerminal(&cobra.Command{
		Use:   "retire ID",
		Short: "Take a terminal out of service for good",
		Long: `Takes a terminal out of service for good. It never comes back, and neither its identifier nor
its public key is ever registered again.`,
		Example: `  keyd terminal retire t-0001 --reason "scrapped" --dir ./dev`,
	}, keydv1.Terminal_STATE_UNSPECIFIED, keydv1.TerminalServiceClient.RetireTerminal)
}

func terminalReplace() *cobra.Command {
	var conn connection
	var out output
	request := &keydv1.ReplaceTerminalRequest{}
	c := &cobra.Command{
		Use:   "replace ID NEW",
		Short: "Take a terminal out of service for good, since another took its place",
		Long: `Takes a terminal out of service for good, and notes which one took its place: a registered one
of the same owner. The old one never comes back; the new one is what it was.`,
		Example: `  keyd terminal replace t-0001 t-0002 --reason "broken" --dir ./dev`,
		Args:    twoArgs("name the terminal and the one that takes its place"),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&request.Reason, "reason", "", "why, for the terminal's history")
	c.ValidArgsFunction = completeTerminals(&conn, 2, keydv1.Terminal_REGISTERED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		request.TerminalId, request.ReplacedBy = args[0], args[1]
		t, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.ReplaceTerminal, request)
		if err != nil {
			return err
		}
		return out.print(t, func(w io.Writer) { writeTerminal(w, t) })
	}
	return c
}

func terminalRenew() *cobra.Command {
	var conn connection
	var out output
	var certificate string
	c := &cobra.Command{
		Use:   "renew ID",
		Short: "Give a terminal its first certificate, or a new one over the same public key",
		Long: `Gives a terminal its first certificate, or another one over the public key that it has. A
device with another key pair is another terminal: register it, and replace the old one.`,
		Example: `  keyd terminal renew t-0001 --certificate 804-123.pem --server keyd.example:7443 \
    --ca ca.crt --cert op.crt --key op.key`,
		Args: oneTerminal,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&certificate, "certificate", "", "PEM file of the device's certificate and its issuers")
	if err := c.MarkFlagRequired("certificate"); err != nil {
		panic(err) // the flag is defined above
	}
	c.ValidArgsFunction = completeTerminals(&conn, 1, keydv1.Terminal_STATE_UNSPECIFIED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ders, err := certificateFile(certificate)
		if err != nil {
			return err
		}
		request := &keydv1.RenewTerminalCertificateRequest{TerminalId: args[0], Certificates: ders}
		t, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.RenewTerminalCertificate, request)
		if err != nil {
			return err
		}
		return out.print(t, func(w io.Writer) { writeTerminal(w, t) })
	}
	return c
}
