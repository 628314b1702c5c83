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
)

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "audit",
		GroupID: "service",
		Short:   "Read and verify the audit log",
		Long: `The audit log is a file of JSON lines, each with the hash of the one before. These
commands read the file itself, or a copy of it; no service need run.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(auditShow(), auditVerify())
	return c
}

// logFile is the audit log named by --file or --dir.
type logFile struct{ file, dir string }

func (l *logFile) flags(c *cobra.Command) {
	c.Flags().StringVar(&l.file, "file", "", "the audit log, or a copy of it")
	c.Flags().StringVar(&l.dir, "dir", "", "directory of a development service, in place of --file")
	c.MarkFlagsOneRequired("file", "dir")
	c.MarkFlagsMutuallyExclusive("file", "dir")
}

func (l *logFile) path() string {
	if l.dir != "" {
		return filepath.Join(l.dir, "front", "audit.log")
	}
	return l.file
}

func auditShow() *cobra.Command {
	var log logFile
	var last int
	var out output
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the newest entries",
		Long: `Shows the newest entries of the log. DETAIL is keyd's own sentence, which the caller never
sees: what the policy lacks, for one. --output json has the lines as they are in the log,
with the request identifier that the caller was told.`,
		Example: `  keyd audit show --file /var/lib/keyd/front/audit.log --last 100
  keyd audit show --dir ./dev -o json`,
		Args: cobra.NoArgs,
	}
	log.flags(c)
	c.Flags().IntVarP(&last, "last", "n", 20, "how many")
	out.flag(c)
	c.RunE = func(*cobra.Command, []string) error {
		if last < 1 {
			return errors.New("--last must be 1 or more")
		}
		records, err := audit.Tail(log.path(), last)
		if err != nil {
			return err
		}
		json, err := out.json()
		if err != nil {
			return err
		}
		if json { // the lines as they are in the log
			for _, r := range records {
				fmt.Printf("%s\n", r.Line())
			}
			return nil
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		row(w, "SEQ", "TIME (UTC)", "WHO", "WHAT", "DECISION", "REASON", "KEYS", "PAN", "HASH", "DETAIL")
		for _, r := range records {
			var keys []string
			for _, k := range r.Keys {
				if k.Name != "" {
					keys = append(keys, k.Name)
				}
			}
			row(w, fmt.Sprint(r.Seq), r.Time.Format(time.DateTime), dash(strings.TrimPrefix(r.Identity, "spiffe://")), dash(r.Method),
				string(r.Decision), dash(r.Reason), dash(strings.Join(keys, " > ")), dash(r.PAN.String()), r.Hash.String()[:12], dash(printable(r.Detail)))
		}
		return w.Flush()
	}
	return c
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

func auditVerify() *cobra.Command {
	var log logFile
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check every entry and every link of the log",
		Long: `Reads the whole log, or a copy of it, and checks each entry and its link to the one before.
Compare the head that it prints with one noted elsewhere: a log that was cut at its end is
good in itself.`,
		Args: cobra.NoArgs,
	}
	log.flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		f, err := os.Open(log.path())
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // read only
		report, err := audit.Verify(f)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeReport(w, report)
		return w.Flush()
	}
	return c
}

func writeReport(w io.Writer, r audit.Report) {
	row(w, "entries", fmt.Sprint(r.Entries))
	if r.Entries > 0 {
		row(w, "first", r.First.Format(time.RFC3339))
		row(w, "last", r.Last.Format(time.RFC3339))
	}
	row(w, "head", r.Head.Hash.String())
	for _, d := range []audit.Decision{audit.Allowed, audit.Denied, audit.Failed, audit.Event} {
		row(w, string(d), fmt.Sprint(r.Decisions[d]))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
