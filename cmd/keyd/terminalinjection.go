package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
	"keyd/receipt"
	"keyd/terminals/keysetfile"
)

func terminalInjection() *cobra.Command {
	c := &cobra.Command{
		Use:   "injection",
		Short: "Injections: what keys a terminal was given, and the proof of it",
		Args:  cobra.NoArgs,
		RunE:  needsSubcommand,
	}
	c.AddCommand(injectionList(), injectionShow(), injectionExport(), injectionVerify())
	return c
}

func injectionList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list TERMINAL",
		Short:   "List the injections of a terminal, the newest first",
		Example: `  keyd terminal injection list t-0001 --dir ./dev`,
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
		client, all := keydv1.NewTerminalServiceClient(calls), new(keydv1.ListInjectionsResponse)
		request := &keydv1.ListInjectionsRequest{TerminalId: args[0], PageSize: 1000}
		for {
			page, err := client.ListInjections(cmd.Context(), request)
			if err != nil {
				return err
			}
			all.Injections = append(all.Injections, page.Injections...)
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "INJECTION", "STATE", "METHOD", "KEY SET", "CREATED (UTC)", "CONFIRMED (UTC)", "NUMBERS")
			for _, i := range all.Injections {
				row(w, printable(i.InjectionId), strings.ToLower(i.State.String()), keysetfile.MethodName(i.Method), fmt.Sprintf("%s/%d", printable(i.KeySet), i.KeySetVersion),
					moment(i.CreatedAt), moment(i.ConfirmedAt), dash(numbers(i)))
			}
		})
	}
	return c
}

// numbers lists the key serial numbers of an injection.
func numbers(i *keydv1.Injection) string {
	var all []string
	for _, k := range i.Keys {
		if len(k.KeySerialNumber) > 0 {
			all = append(all, fmt.Sprintf("%X", k.KeySerialNumber))
		}
	}
	return strings.Join(all, ",")
}

func injectionShow() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "show TERMINAL INJECTION",
		Short:   "Show an injection with its keys",
		Example: `  keyd terminal injection show t-0001 4be1…9c --dir ./dev`,
		Args:    twoArgs("name the terminal and the injection (keyd terminal injection list)"),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeTerminals(&conn, 1, keydv1.Terminal_STATE_UNSPECIFIED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		i, err := getInjection(cmd, &conn, args)
		if err != nil {
			return err
		}
		return out.print(i, func(w io.Writer) { writeInjection(w, i) })
	}
	return c
}

func getInjection(cmd *cobra.Command, conn *connection, args []string) (*keydv1.Injection, error) {
	return call(cmd, conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.GetInjection, &keydv1.GetInjectionRequest{TerminalId: args[0], InjectionId: args[1]})
}

func writeInjection(w io.Writer, i *keydv1.Injection) {
	row(w, "injection", printable(i.InjectionId))
	row(w, "terminal", printable(i.TerminalId))
	row(w, "state", strings.ToLower(i.State.String()))
	row(w, "method", keysetfile.MethodName(i.Method))
	row(w, "key set", fmt.Sprintf("%s, version %d", printable(i.KeySet), i.KeySetVersion))
	row(w, "created", at(i.CreatedAt))
	row(w, "confirm by", at(i.ConfirmBy))
	row(w, "confirmed", at(i.ConfirmedAt))
	for _, k := range i.Keys {
		text := fmt.Sprintf("%s, %s, check value %s", printable(k.Usage), keyKind(k.Algorithm, k.Length), dash(printable(k.KeyCheckValue)))
		if k.KeyId != "" {
			text += fmt.Sprintf(", %X of %s?version=%d", k.KeySerialNumber, printable(k.KeyId), k.Version)
		}
		row(w, "key "+printable(k.Name), text)
	}
}

func injectionExport() *cobra.Command {
	var conn connection
	var file string
	c := &cobra.Command{
		Use:   "export TERMINAL INJECTION",
		Short: "Write the module's statement on a confirmed injection to a file",
		Long: `Writes what proves an injection: what the terminal was given, the receipt that it has made
with one of these keys, and the signature of the module that has verified the receipt. There
is no key in it. keyd terminal injection verify checks it anywhere.`,
		Example: `  keyd terminal injection export t-0001 4be1…9c --file t-0001.injection --dir ./dev`,
		Args:    twoArgs("name the terminal and the injection (keyd terminal injection list)"),
	}
	conn.flags(c, "officer-1")
	c.Flags().StringVar(&file, "file", "", "file that is made (default: standard output)")
	c.ValidArgsFunction = completeTerminals(&conn, 1, keydv1.Terminal_STATE_UNSPECIFIED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		i, err := getInjection(cmd, &conn, args)
		if err != nil {
			return err
		}
		if len(i.Statement) == 0 {
			return fmt.Errorf("injection %s is %s: there is a statement once the terminal has confirmed it", args[1], strings.ToLower(i.State.String()))
		}
		return writeOut(file, i.Statement)
	}
	return c
}

// confirmedInjection is what a statement says, for scripts.
type confirmedInjection struct {
	Identity    officer.Fingerprint `json:"identity"`
	Record      receipt.Record      `json:"record"`
	ConfirmedAt time.Time           `json:"confirmed_at"`
}

func injectionVerify() *cobra.Command {
	var out output
	var by expect
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a statement on an injection, without any service",
		Long: `Verifies what keyd terminal injection export has written: that a module has signed that it
gave these keys to this device, and that the device has confirmed them. Which module it must
be by is what you say: with --identity, or as you have confirmed it for --server in your own
file (--known).`,
		Example: `  keyd terminal injection verify t-0001.injection --identity "1F2A 77B0 …"
  keyd terminal injection verify t-0001.injection --server keyd.example:7443`,
		Args: oneFile,
	}
	by.flags(c)
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		expected, err := by.fingerprint()
		if err != nil {
			return err
		}
		text, err := readSmall(args[0], receipt.MaxStatement)
		if err != nil {
			return err
		}
		said, err := receipt.Open(text)
		if err != nil {
			return exitError{fmt.Errorf("%s: %w", args[0], err), exitNotBelieved}
		}
		digest, err := ceremony.KeyFingerprint(said.Identity)
		if err != nil {
			return err
		}
		identity, err := officer.ParseFingerprint(digest)
		if err != nil {
			return err
		}
		if !identity.Equal(expected) {
			return exitError{fmt.Errorf("%s: it is signed by a module with another identity, %s", args[0], identity), exitNotBelieved}
		}
		if asJSON {
			return printJSON(confirmedInjection{identity, said.Record, time.Unix(said.At, 0).UTC()})
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeConfirmed(w, said, identity)
		return w.Flush()
	}
	return c
}

func writeConfirmed(w io.Writer, c *receipt.Confirmed, identity officer.Fingerprint) {
	r := &c.Record
	row(w, "the statement is good")
	row(w)
	row(w, "injection", r.Injection)
	row(w, "terminal", printable(r.Terminal))
	row(w, "device's public key", r.Device)
	row(w, "method", r.Method)
	row(w, "signed by the host pair", printable(r.Host))
	row(w, "given", officer.At(r.At))
	row(w, "confirmed", officer.At(c.At))
	for i := range r.Keys {
		k := &r.Keys[i]
		text := fmt.Sprintf("%s, %s, check value %s", printable(k.Usage), keyKind(k.Algorithm, uint32(k.Length)), k.CheckValue)
		if k.BDK != "" {
			text += fmt.Sprintf(", %s of %s?version=%d", printable(k.ID), printable(k.BDK), k.BDKVersion)
		}
		row(w, "key "+printable(k.Name), text)
	}
	row(w, "module", identity.String())
}

// readSmall reads a file of at most so many bytes.
func readSmall(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, nil
}
