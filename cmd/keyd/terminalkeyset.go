package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/terminals/keysetfile"
)

func terminalKeySet() *cobra.Command {
	c := &cobra.Command{
		Use:   "keyset",
		Short: "Key sets: which keys terminals get, and how",
		Long: `A key set says which keys a terminal gets: its master key, initial keys for PINs and data, the
session keys of a sign-in, from which hosts and by which methods. It is kept as a YAML file
(docs/terminal-integrator.md); each change of it is a new version.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(keySetSet(), keySetShow(), keySetList(), keySetAssign())
	return c
}

func keySetSet() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:   "set FILE",
		Short: "Add a version of a key set, from a file",
		Long: `Adds the next version of the key set that the file describes. The very same content adds none.
Terminals that have keys keep them; the next time that they ask they get those of the new
version.`,
		Example: `  keyd terminal keyset set counter.yaml --dir ./dev`,
		Args:    oneFile,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		set, err := keysetfile.Read(args[0])
		if err != nil {
			return err
		}
		a, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.SetKeySet, &keydv1.SetKeySetRequest{KeySet: set})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { writeKeySet(w, a) })
	}
	return c
}

func writeKeySet(w io.Writer, s *keydv1.KeySet) {
	row(w, "key set", fmt.Sprintf("%s, version %d", printable(s.Name), s.Version))
	var names []string
	for _, m := range s.Methods {
		names = append(names, keysetfile.MethodName(m))
	}
	row(w, "methods", strings.Join(names, ", "))
	row(w, "host for key agreement", dash(printable(s.KeyAgreementHost)))
	row(w, "host for TR-34", dash(printable(s.Tr34Host)))
	if s.Tr34Profile != "" {
		row(w, "profile of TR-34", printable(s.Tr34Profile))
	}
	if m := s.MasterKey; m != nil {
		row(w, "master key", keyKind(m.Algorithm, m.Length)+map[bool]string{true: ", bare: session keys as cryptograms (outside PCI PIN 18-3)"}[m.Bare])
	}
	for _, k := range s.InitialKeys {
		numbers := fmt.Sprintf("%d to %d", k.First, k.Last)
		if k.Own {
			numbers = "the terminal's own"
		}
		row(w, "initial key "+printable(k.Name), fmt.Sprintf("of %s, numbers %X… %s", printable(k.KeyId), k.Prefix, numbers))
	}
	for _, k := range s.SessionKeys {
		row(w, "session key "+printable(k.Name), fmt.Sprintf("%s, %s, for %d hours", printable(k.Usage), keyKind(k.Algorithm, k.Length), k.Hours))
	}
	row(w, "created", at(s.CreatedAt))
}

// keyKind writes an algorithm with a length in bytes: TDES-128.
func keyKind(algorithm string, length uint32) string {
	name := map[string]string{"T": "TDES", "A": "AES"}[algorithm]
	if name == "" {
		name = printable(algorithm)
	}
	return fmt.Sprintf("%s-%d", name, 8*length)
}

func keySetShow() *cobra.Command {
	var conn connection
	var out output
	var file string
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show the newest version of a key set",
		Long: `Shows the newest version of a key set, or writes it to a file that keyd terminal keyset set
takes.`,
		Example: `  keyd terminal keyset show counter --dir ./dev
  keyd terminal keyset show counter --file counter.yaml --dir ./dev`,
		Args: oneName("key set", "keyd terminal keyset list"),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&file, "file", "", "YAML file that is made of it")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.ListKeySets, &keydv1.ListKeySetsRequest{})
		if err != nil {
			return err
		}
		for _, s := range all.KeySets {
			if s.Name != args[0] {
				continue
			}
			if file == "" {
				return out.print(s, func(w io.Writer) { writeKeySet(w, s) })
			}
			text, err := keysetfile.Write(s)
			if err != nil {
				return err
			}
			if err := writeNew(file, text, 0o644); err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, "the key set is in", file)
			return nil
		}
		return fmt.Errorf("there is no key set %q: keyd terminal keyset list shows them", args[0])
	}
	return c
}

func keySetList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the key sets, each in its newest version",
		Example: `  keyd terminal keyset list --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		a, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.ListKeySets, &keydv1.ListKeySetsRequest{})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) {
			row(w, "KEY SET", "VERSION", "METHODS", "MASTER KEY", "INITIAL KEYS", "SESSION KEYS", "CREATED (UTC)")
			for _, s := range a.KeySets {
				var names, initial, session []string
				for _, m := range s.Methods {
					names = append(names, keysetfile.MethodName(m))
				}
				for _, k := range s.InitialKeys {
					initial = append(initial, printable(k.Name))
				}
				for _, k := range s.SessionKeys {
					session = append(session, printable(k.Name))
				}
				row(w, printable(s.Name), fmt.Sprint(s.Version), strings.Join(names, ","), keyKind(s.MasterKey.GetAlgorithm(), s.MasterKey.GetLength()),
					dash(strings.Join(initial, ",")), dash(strings.Join(session, ",")), moment(s.CreatedAt))
			}
		})
	}
	return c
}

func keySetAssign() *cobra.Command {
	var conn connection
	var out output
	var none bool
	c := &cobra.Command{
		Use:   "assign TERMINAL [KEYSET]",
		Short: "Say which keys a terminal gets",
		Long: `Says which keys a terminal gets when it asks the next time; with --none it gets none. Keys that
it has stay.`,
		Example: `  keyd terminal keyset assign t-0001 counter --dir ./dev
  keyd terminal keyset assign t-0001 --none --dir ./dev`,
		Args: cobra.RangeArgs(1, 2),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().BoolVar(&none, "none", false, "it gets no keys")
	c.ValidArgsFunction = completeTerminals(&conn, 1, keydv1.Terminal_REGISTERED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if none == (len(args) == 2) {
			return fmt.Errorf("name a key set, or say --none: %s", cmd.UseLine())
		}
		request := &keydv1.AssignKeySetRequest{TerminalId: args[0]}
		if !none {
			request.KeySet = args[1]
		}
		t, err := call(cmd, &conn, keydv1.NewTerminalServiceClient, keydv1.TerminalServiceClient.AssignKeySet, request)
		if err != nil {
			return err
		}
		return out.print(t, func(w io.Writer) { writeTerminal(w, t) })
	}
	return c
}
