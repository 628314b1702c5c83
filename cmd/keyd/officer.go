package main

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keyd/ceremony"
	"keyd/officer"
)

func officerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "officer",
		GroupID: "officers",
		Short:   "An officer's own key, and whom the officer trusts",
		Long: `A security officer signs with a key of their own, in a file under a passphrase or on a
smart card, and remembers which module and which roster they have confirmed. Begin with
keyd officer key, hand in the public key, and confirm the module with keyd officer trust.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(officerKeyCommand(), officerShow(), officerTrust(), officerRoster(), officerAccept())
	return c
}

func officerKeyCommand() *cobra.Command {
	var key signingKey
	var out output
	var path string
	var unprotected bool
	c := &cobra.Command{
		Use:   "key --new FILE",
		Short: "Make an officer's signing key",
		Long: `Makes a signing key (ECDSA P-384) in FILE under a passphrase, and writes its public half to
FILE.pub, which is handed in for the roster. Read the fingerprint to whoever takes it in,
by telephone. A file that exists is never overwritten.`,
		Example: `  keyd officer key --new ~/.config/keyd/officer.key
  keyd officer key --new alice.key --passphrase-fd 3 3<passphrase.txt`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&path, "new", "", "file that is made, and FILE.pub beside it")
	f.BoolVar(&unprotected, "unprotected", false, "without a passphrase, for development: whoever reads the file signs as the officer")
	key.passphraseFlag(c)
	out.flag(c)
	c.MarkFlagsMutuallyExclusive("unprotected", "passphrase-fd")
	if err := c.MarkFlagRequired("new"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(*cobra.Command, []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		if _, err := os.Lstat(path + ".pub"); err == nil {
			return fmt.Errorf("%s.pub exists: choose another name", path)
		}
		public, err := makeKey(path, unprotected, &key)
		if err != nil {
			return err
		}
		text, err := officer.PublicPEM(public)
		if err != nil {
			return err
		}
		if err := writeNew(path+".pub", text, 0o644); err != nil {
			return err
		}
		return printFingerprint(public, asJSON, path, path+".pub")
	}
	return c
}

func makeKey(path string, unprotected bool, key *signingKey) (crypto.PublicKey, error) {
	if unprotected {
		return officer.CreateUnprotectedKey(path)
	}
	if _, err := os.Lstat(path); err == nil { // before anybody types
		return nil, fmt.Errorf("%s: %w: a key is never overwritten; choose another name", path, fs.ErrExist)
	}
	if err := officer.Guard(); err != nil {
		return nil, err
	}
	var passphrase []byte
	var err error
	if key.passphraseFD >= 0 {
		ask, forget, failed := key.passphrase("")
		if failed != nil {
			return nil, failed
		}
		defer forget()
		passphrase, err = ask()
	} else {
		err = officer.Ask(func(t *officer.Terminal) error {
			passphrase, err = t.Passphrase("Passphrase for "+path, true)
			return err
		})
	}
	defer clear(passphrase)
	if err != nil {
		return nil, err
	}
	return officer.CreateKey(path, passphrase)
}

func printFingerprint(public crypto.PublicKey, asJSON bool, file, publicFile string) error {
	digest, err := ceremony.KeyFingerprint(public)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(struct {
			File        string `json:"key_file,omitempty"`
			Public      string `json:"public_key_file,omitempty"`
			Fingerprint string `json:"fingerprint"`
		}{file, publicFile, ceremony.FormatFingerprint(digest)})
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if file != "" {
		row(w, "key", file)
	}
	if publicFile != "" {
		row(w, "public key", publicFile)
	}
	row(w, "fingerprint", ceremony.FormatFingerprint(digest))
	return w.Flush()
}

func officerShow() *cobra.Command {
	var key signingKey
	var out output
	c := &cobra.Command{
		Use:   "show [PUBLIC-KEY-FILE]",
		Short: "Show the fingerprint of an officer's key",
		Long: `Shows the fingerprint of a key file, of a card, or of a public key that somebody has handed
in. It is what the roster and keyd officer trust show for that officer.`,
		Example: `  keyd officer show --officer-key ~/.config/keyd/officer.key
  keyd officer show --card /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so --card-token Alice
  keyd officer show alice.key.pub`,
		Args: cobra.MaximumNArgs(1),
	}
	key.flags(c)
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		if len(args) == 1 {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			public, err := officer.ParsePublicPEM(text)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return printFingerprint(public, asJSON, "", args[0])
		}
		signer, end, err := key.open()
		if err != nil {
			return err
		}
		defer end()
		return printFingerprint(signer.Public(), asJSON, key.file, "")
	}
	return c
}

func officerTrust() *cobra.Command {
	var d desk
	var identity, roster, record string
	c := &cobra.Command{
		Use:   "trust",
		Short: "Confirm a module and its officers",
		Long: `Shows the fingerprints of the module's identity and of its roster, and the officers with
theirs. Compare them with what the other officers were shown, by telephone or on paper;
the service itself could show anything. What you confirm is kept in the file --known, and
every other command demands it.

When the officers have changed the roster, the record of that ceremony is proof enough:
with --record nobody need be called, since the officers you trust have signed it.`,
		Example: `  keyd officer trust --server keyd.example:7443 --ca ca.crt --cert alice.crt --key alice.tls.key
  keyd officer trust --server keyd.example:7443 … --record change.record`,
		Args: cobra.NoArgs,
	}
	d.readFlags(c)
	c.Flags().StringVar(&identity, "identity", "", "the identity's fingerprint as you have it from elsewhere, in place of the question")
	c.Flags().StringVar(&roster, "roster", "", "the roster's fingerprint likewise")
	c.Flags().StringVar(&record, "record", "", "record of the ceremony that changed the roster you have confirmed, in place of the question")
	c.MarkFlagsMutuallyExclusive("record", "identity")
	c.MarkFlagsMutuallyExclusive("record", "roster")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s, m, err := d.module(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeModule(w, m)
		if err := w.Flush(); err != nil {
			return err
		}
		if record != "" {
			if err := s.proven(m, record); err != nil {
				return fmt.Errorf("%s: %w", record, err)
			}
			fmt.Printf("the roster is confirmed as %q in %s, as the officers before have signed\n", s.name, d.known)
			return nil
		}
		before := s.known.Check(s.name, m.Identity, m.Roster)
		if before == nil && identity == "" && roster == "" {
			fmt.Printf("\nyou have confirmed both before, as %q in %s\n", s.name, d.known)
			return nil
		}
		if before != nil && !errors.Is(before, officer.ErrUnknown) {
			fmt.Fprintf(os.Stderr, "\nATTENTION: %v\n", before)
		}
		if err := officer.ConfirmModule("\nDo the other officers see the same identity and roster? (yes)", m.Identity, m.Roster, identity, roster); err != nil {
			return err
		}
		if err := s.known.Trust(s.name, m.Identity, m.Roster); err != nil {
			return err
		}
		fmt.Printf("confirmed as %q in %s\n", s.name, d.known)
		return nil
	}
	return c
}

// proven confirms a roster that the officers of the one before have signed for.
func (s *session) proven(m *officer.Module, record string) error {
	text, err := os.ReadFile(record)
	if err != nil {
		return err
	}
	identity, roster, err := s.known.Confirmed(s.name)
	if err != nil {
		return err
	}
	if !m.Identity.Equal(identity) {
		return s.known.Check(s.name, m.Identity, m.Roster)
	}
	account, err := officer.VerifyRecordFile(text, identity)
	if err != nil {
		return err
	}
	if err := account.Brings(roster, m.Roster); err != nil {
		return err
	}
	return s.known.Trust(s.name, m.Identity, m.Roster)
}

// writeModule writes what a module says of itself.
func writeModule(w io.Writer, m *officer.Module) {
	row(w, "identity", m.Identity.String())
	row(w, "roster", m.Roster.String())
	if m.Said.Development {
		row(w, "kind", "development: the keys are known, and a software token is no protection")
	}
	row(w, "register", fmt.Sprintf("version %d, %s", m.Said.Epoch, printable(ceremony.FormatFingerprint(m.Said.Document))))
	row(w, "signed at", officer.At(m.Said.Time))
	row(w, "master keys", fmt.Sprintf("generation %d, check value %s", m.Said.Generation, m.Said.Masters))
	switch {
	case m.Restored:
		row(w, "restored", fmt.Sprintf("the database comes from a backup, with register %d, %s: no key is used until officers have that taken over (kind: adopt)", m.WaitingVersion, printable(ceremony.FormatFingerprint(m.Waiting))))
	case m.Waiting != "":
		row(w, "waiting", fmt.Sprintf("the database has register %d of another token, %s: no key is used until this token joins those that go by it (kind: join; adopt only if that token is lost)", m.WaitingVersion, printable(ceremony.FormatFingerprint(m.Waiting))))
	}
	row(w)
	row(w, "OFFICER", "KEY", "IDENTITY")
	for i := range m.Officers.Officers {
		o := &m.Officers.Officers[i]
		row(w, o.Name, officer.KeyPrint(o).String(), o.Identity)
	}
	row(w)
	writeLines(w, officer.DescribeQuorum(&m.Officers.Quorum))
}

func writeLines(w io.Writer, lines []officer.Line) {
	for _, l := range lines {
		row(w, l.Name, l.Text)
	}
}

func officerRoster() *cobra.Command {
	var d desk
	var out output
	var asYAML bool
	var keysDir string
	c := &cobra.Command{
		Use:   "roster",
		Short: "Show the officers and their quorum, as the module signed them",
		Long: `Shows the roster of a module that you have confirmed, and version and digest of the register
of officers and keys that its token pins, all of which the module has signed. A register that
waits for a token to join or to take it over is the service's word: compare its digest with
what a node shows that goes by it already. --yaml writes it as a definition of
kind change, to be edited and begun with keyd ceremony begin; --keys also writes the
officers' public keys, which such a definition names.`,
		Example: `  keyd officer roster --dir ./dev
  keyd officer roster --dir ./dev --yaml --keys ./keys > change.yaml`,
		Args: cobra.NoArgs,
	}
	d.readFlags(c)
	out.flag(c)
	c.Flags().BoolVar(&asYAML, "yaml", false, "write it as a definition of kind change")
	c.Flags().StringVar(&keysDir, "keys", "", "with --yaml: directory into which the public keys are written, NAME.pub")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		s, err := d.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		m := s.Module
		switch {
		case asYAML:
			if err := writeKeys(keysDir, m.Officers); err != nil {
				return err
			}
			_, err := fmt.Print(officer.RosterYAML(m.Officers, func(name string) string { return filepath.Join(keysDir, name+".pub") }))
			return err
		case asJSON:
			return printJSON(struct {
				Identity officer.Fingerprint `json:"identity"`
				Roster   officer.Fingerprint `json:"roster"`
				Epoch    uint64              `json:"epoch"`
				Register string              `json:"register"` // its digest
				SignedAt time.Time           `json:"signed_at"`
				Officers []ceremony.Officer  `json:"officers"`
				Quorum   ceremony.Quorum     `json:"quorum"`
			}{m.Identity, m.Roster, m.Said.Epoch, m.Said.Document, time.Unix(m.Said.Time, 0).UTC(), m.Officers.Officers, m.Officers.Quorum})
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeModule(w, m)
		return w.Flush()
	}
	return c
}

// writeKeys writes the officers' public keys into a directory, if one is named.
func writeKeys(dir string, roster *ceremony.Roster) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for i := range roster.Officers {
		o := &roster.Officers[i]
		key, err := o.Verifier()
		if err != nil {
			return err
		}
		text, err := officer.PublicPEM(key)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, o.Name+".pub")
		if there, err := os.ReadFile(path); err == nil && string(there) == string(text) {
			continue
		}
		if err := writeNew(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
