package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/backup"
	"keyd/ceremony"
	"keyd/officer"
)

func backupCommand() *cobra.Command {
	var conn connection
	var out string
	var quiet bool
	c := &cobra.Command{
		Use:     "backup",
		GroupID: "service",
		Short:   "Make a backup of a running service, and look at one",
		Long: `Writes a backup of everything that keyd keeps in its database, of one moment, while keyd
serves: sealed keys, aliases, tags, usage, papers and records of ceremonies, the register of
officers and keys, the counters of key serial numbers; and the policy in force. There is no
secret in it: keys are sealed by the token. It says much that is nobody else's business all
the same.

The token signs it. It is of use beside a token with the same master keys only, and with as
many officers as change the roster: keyd restore, and docs/backup.md.

The file appears when all of it is there and on the disk, with mode 0600, and is never
written over.`,
		Example: `  keyd backup --out keyd-$(date +%F).backup --server keyd.example:7443 --ca ca.crt --cert backup.crt --key backup.key
  keyd backup verify keyd-2026-07-01.backup --server keyd.example:7443
  keyd backup show keyd-2026-07-01.backup -o json`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	f := c.Flags()
	f.StringVar(&out, "out", "", "file that is made")
	f.BoolVar(&quiet, "quiet", false, "say nothing while it is made")
	f.Lookup("timeout").DefValue = "1h0m0s"
	conn.timeout = time.Hour
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return errors.New("name the file that is to be made: --out FILE")
		}
		return makeBackup(cmd.Context(), &conn, out, quiet)
	}
	c.AddCommand(backupShow(), backupVerify())
	return c
}

// makeBackup writes beside the file that is wanted, and gives it its name when it is whole.
func makeBackup(ctx context.Context, conn *connection, path string, quiet bool) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists, and is not overwritten: choose another name", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name()) // ours
		}
	}()
	size, err := receiveBackup(ctx, conn, f, quiet)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := readBackup(f)
	if err != nil {
		return fmt.Errorf("what the service has sent: %w", err)
	}
	// A link is made only where there is nothing; renaming would write over.
	if err := errors.Join(f.Sync(), os.Link(f.Name(), path)); err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row(w, "backup", fmt.Sprintf("%s, %d bytes", path, size))
	writeBackup(w, r)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println("\nCompare the identity with the one that the officers have confirmed: keyd backup verify " + path + " --server …")
	return nil
}

// receiveBackup writes what the service sends.
func receiveBackup(ctx context.Context, conn *connection, to io.Writer, quiet bool) (size int64, err error) {
	calls, err := conn.open()
	if err != nil {
		return 0, err
	}
	defer calls.Close() //nolint:errcheck // everything was received, or nothing counts
	ctx, cancel := context.WithTimeout(ctx, conn.timeout)
	defer cancel()
	why := func(err error) error { return conn.why(ctx, calls.config, err) }
	stream, err := keydv1.NewBackupServiceClient(calls.ClientConn).CreateBackup(ctx, &keydv1.CreateBackupRequest{})
	if err != nil {
		return 0, why(err)
	}
	said := time.Now()
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, why(err)
		}
		if _, err := to.Write(part.Part); err != nil {
			return 0, err
		}
		size += int64(len(part.Part))
		if !quiet && time.Since(said) > 2*time.Second {
			said = time.Now()
			fmt.Fprintf(os.Stderr, "%d MB\n", size>>20) //nolint:errcheck // how far it is
		}
	}
}

// readBackup reads a whole backup.
func readBackup(from io.Reader) (*backup.Reader, error) {
	r, err := backup.NewReader(from)
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return r, nil
}

func openBackup(path string) (*backup.Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	r, err := readBackup(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// shown is a backup as scripts get it.
type shown struct {
	Digest   string              `json:"digest"`
	Identity officer.Fingerprint `json:"identity"`
	Header   *backup.Header      `json:"header"`
	Counts   backup.Counts       `json:"counts"`
	Register uint64              `json:"register"`
	Document string              `json:"document"`
	Sealed   *ceremony.Backup    `json:"sealed"`
	Newer    bool                `json:"register_went_on"` // while the backup was made
}

func describeBackup(r *backup.Reader) (*shown, error) {
	said, key, _ := r.Seal()
	print, err := ceremony.KeyFingerprint(key)
	if err != nil {
		return nil, err
	}
	identity, err := officer.ParseFingerprint(print)
	if err != nil {
		return nil, err
	}
	t := r.Trailer()
	return &shown{
		Digest: said.Digest, Identity: identity, Header: r.Header(), Counts: t.Counts,
		Register: t.Register, Document: t.Document, Sealed: said, Newer: said.Document != t.Document,
	}, nil
}

// writeBackup writes it for people.
func writeBackup(w io.Writer, r *backup.Reader) {
	s, err := describeBackup(r)
	if err != nil {
		row(w, "error", err.Error())
		return
	}
	row(w, "digest", ceremony.FormatFingerprint(s.Digest))
	row(w, "sealed", fmt.Sprintf("at %s, by the module with this identity:", officer.At(s.Sealed.Time)))
	row(w, "identity", s.Identity.String())
	row(w, "master keys", fmt.Sprintf("generation %d, check value %s", s.Sealed.Generation, s.Sealed.Masters))
	row(w, "register", fmt.Sprintf("version %d, %s", s.Register, ceremony.FormatFingerprint(s.Document)))
	if s.Newer {
		row(w, "", fmt.Sprintf("ATTENTION: the token had version %d, %s", s.Sealed.Epoch, ceremony.FormatFingerprint(s.Sealed.Document)))
	}
	row(w, "keyd", printable(s.Header.Version)+orNothing(", node ", printable(s.Header.Node)))
	row(w, "audit log", fmt.Sprintf("entry %d, %s", s.Header.AuditSeq, printable(s.Header.AuditHash)))
	c := s.Counts
	row(w, "holds", fmt.Sprintf("%d versions of keys, %d aliases, %d tags, %d ceremonies", c.Keys, c.Aliases, c.Tags, c.Ceremonies))
	row(w, "", fmt.Sprintf("%d counters of key serial numbers, and %d rows that raise them", c.Counters, c.Advances))
	row(w, "", fmt.Sprintf("%d terminals, and %d events of theirs", c.Terminals, c.Events))
	row(w, "", fmt.Sprintf("a policy of %d bytes", len(s.Header.Policy)))
}

func orNothing(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

func backupShow() *cobra.Command {
	var out output
	var policy bool
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "Show what a backup holds",
		Long: `Reads a whole backup and shows where it comes from and what it holds. It says whether the
backup is whole and its signature is good, by the identity that the backup itself names:
whose that is, keyd backup verify says.`,
		Example: `  keyd backup show keyd-2026-07-01.backup
  keyd backup show keyd-2026-07-01.backup --policy >policy.yaml`,
		Args: oneFile,
	}
	out.flag(c)
	c.Flags().BoolVar(&policy, "policy", false, "print the policy in it, and nothing else")
	c.RunE = func(_ *cobra.Command, args []string) error {
		r, err := openBackup(args[0])
		if err != nil {
			return err
		}
		if policy {
			_, err := os.Stdout.Write(r.Header().Policy)
			return err
		}
		return printBackup(&out, r)
	}
	return c
}

func printBackup(out *output, r *backup.Reader) error {
	asJSON, err := out.json()
	if err != nil {
		return err
	}
	if asJSON {
		s, err := describeBackup(r)
		if err != nil {
			return err
		}
		return printJSON(s)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	writeBackup(w, r)
	return w.Flush()
}

func backupVerify() *cobra.Command {
	var out output
	var by expect
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a backup, without any service",
		Long: `Reads a whole backup and checks that it is, byte for byte, what a module has signed: the
module that you name with --identity, or that you have confirmed for --server in your own
file (--known). The signature says when and by which token it was sealed. What is in it is
the service's word, as the database was; its keys and its register are authenticated each by
itself when it is restored.`,
		Example: `  keyd backup verify keyd-2026-07-01.backup --server keyd.example:7443
  keyd backup verify keyd-2026-07-01.backup --identity "1F2A 77B0 …"`,
		Args: oneFile,
	}
	by.flags(c)
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		expected, err := by.fingerprint()
		if err != nil {
			return err
		}
		r, err := openBackup(args[0])
		if err != nil {
			return err
		}
		s, err := describeBackup(r)
		if err != nil {
			return err
		}
		if !s.Identity.Equal(expected) {
			return exitError{fmt.Errorf("%s: it was sealed by a module with another identity, %s", args[0], s.Identity), exitNotBelieved}
		}
		return printBackup(&out, r)
	}
	return c
}
