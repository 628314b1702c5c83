package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"keyd/audit"
	"keyd/checkpoint"
	"keyd/officer"
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "audit",
		GroupID: "service",
		Short:   "Read, verify, prove and export the audit log",
		Long: `The audit log is a directory of segments: files of JSON lines, each with the hash of the
one before. Over all lines stands a Merkle tree, and of that the modules sign checkpoints
about once a minute, each only if it has everything that the last one had.

These commands read the files themselves, or a copy of them; no service need run. tail and
checkpoint can ask a service instead. docs/audit.md says what the log proves and what not.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(auditTail(), auditShow(), auditVerify(), auditProve(), auditCheckpoint(), auditExport())
	return c
}

// logFile is the audit log named by --file or --dir.
type logFile struct{ file, dir string }

func (l *logFile) flags(c *cobra.Command) {
	c.Flags().StringVar(&l.file, "file", "", "the audit log, or a copy of it: its directory, or one segment")
	c.Flags().StringVar(&l.dir, "dir", "", "directory of a development service, in place of --file")
	c.MarkFlagsMutuallyExclusive("file", "dir")
}

func (l *logFile) required(c *cobra.Command) {
	l.flags(c)
	c.MarkFlagsOneRequired("file", "dir")
}

func (l *logFile) path() string {
	if l.dir != "" {
		return filepath.Join(l.dir, "front", audit.DirectoryName)
	}
	return l.file
}

// trusted says which keys of modules are believed.
type trusted struct {
	identities   []string
	fingerprints []string
	module       string
	known        string
}

func (t *trusted) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&t.identities, "identity", nil, "PEM file with the module's public key, which you have from somebody you believe (may be repeated)")
	f.StringArrayVar(&t.fingerprints, "fingerprint", nil, "fingerprint of the module's key, as officers confirmed it (may be repeated)")
	f.StringVar(&t.module, "module", "", "a module that you have confirmed as an officer, by its name in --known")
	f.StringVar(&t.known, "known", "", "file of the modules that you have confirmed (default ~/.config/keyd/known.json)")
}

func (t *trusted) load() (trust audit.Trust, err error) {
	for _, file := range t.identities {
		text, err := os.ReadFile(file)
		if err != nil {
			return trust, err
		}
		keys, err := checkpoint.ParseKeys(text)
		if err != nil {
			return trust, fmt.Errorf("%s: %w", file, err)
		}
		trust.Keys = append(trust.Keys, keys...)
	}
	for _, text := range t.fingerprints {
		f, err := officer.ParseFingerprint(text)
		if err != nil {
			return trust, err
		}
		trust.Fingerprints = append(trust.Fingerprints, fmt.Sprintf("%x", f[:]))
	}
	if t.module == "" {
		return trust, nil
	}
	file := t.known
	if file == "" {
		if file, err = officer.DefaultKnown(); err != nil {
			return trust, err
		}
	}
	known, err := officer.Load(file)
	if err != nil {
		return trust, err
	}
	identity, _, err := known.Confirmed(t.module)
	if err != nil {
		return trust, err
	}
	trust.Fingerprints = append(trust.Fingerprints, fmt.Sprintf("%x", identity[:]))
	return trust, nil
}

// signedBy says whose signature it is, and whether anybody vouches for that.
func signedBy(k audit.KeyReport) string {
	f, err := officer.ParseFingerprint(k.Fingerprint)
	if err != nil {
		return k.Fingerprint
	}
	if k.Trusted {
		return f.String()
	}
	return f.String() + " (the key came with the log: compare the fingerprint with what officers confirmed, or give --identity)"
}

// table writes rows of names and values.
func table(rows func(io.Writer)) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	rows(w)
	return w.Flush()
}

// entries prints entries, as a table or as the lines of the log.
type entries struct {
	json bool
	w    *tabwriter.Writer
}

func newEntries(json bool) *entries {
	e := &entries{json: json, w: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	if !json {
		row(e.w, "SEQ", "TIME (UTC)", "WHO", "WHAT", "DECISION", "REASON", "KEYS", "PAN", "HASH", "DETAIL")
	}
	return e
}

func (e *entries) print(r audit.Record) error {
	if e.json {
		_, err := fmt.Printf("%s\n", r.Line())
		return err
	}
	var keys []string
	for _, k := range r.Keys {
		if k.Name != "" {
			keys = append(keys, printable(k.Name))
		}
	}
	detail := r.Detail
	if r.Log != "" {
		detail += ": " + r.Log
	}
	row(e.w, fmt.Sprint(r.Seq), r.Time.Format(time.DateTime), dash(printable(strings.TrimPrefix(r.Identity, "spiffe://"))), dash(printable(r.Method)),
		string(r.Decision), dash(r.Reason), dash(strings.Join(keys, " > ")), dash(r.PAN.String()), r.Hash.String()[:12], dash(printable(detail)))
	return nil
}

// flush prints what waits for its columns.
func (e *entries) flush() error { return e.w.Flush() }

// readMoment reads a time of a flag: a date, or RFC 3339.
func readMoment(flag, text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("--%s is a date (2026-01-31) or a time (2026-01-31T12:00:00Z), not %q", flag, text)
}

// printable keeps what is no letter of a line away from the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// readCheckpoint reads a checkpoint that was kept.
func readCheckpoint(file string) (*checkpoint.Checkpoint, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c, err := checkpoint.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

var errNoLog = errors.New("name the log with --file or --dir, or a service with --server")

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
