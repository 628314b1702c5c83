package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/terminals/batch"
)

func terminalImport() *cobra.Command {
	var conn connection
	var out output
	var dryRun bool
	c := &cobra.Command{
		Use:   "import FILE.csv",
		Short: "Register the terminals of a CSV file, and report on every row",
		Long: `Registers every terminal of a CSV file, in UTF-8 with commas. Its first line names the columns,
in any order:

  id           1 to 64 letters, digits and ._-
  owner        the merchant, likewise
  model        1 to 64 printable ASCII characters
  serial       likewise
  site         where it stands; may be left out
  certificate  PEM, or the path of a PEM file from the CSV file's folder; may be left out
  key_set      the key set by which it gets keys; may be left out

The report has every row: registered, unchanged (it was registered with the same content
already), or failed and why. With --dry-run the service checks every row and keeps nothing.
What passes by itself (no database, no audit log, too many requests) is waited for, for some
seconds. An import that broke off is run again: what was registered is unchanged.

Exit status:
  0  every row is registered
  1  a row failed, or the file cannot be read to its end
  3  keyd refuses altogether: the policy, or the client certificate
  4  no keyd answers`,
		Example: `  keyd terminal import terminals.csv --dry-run --dir ./dev
  keyd terminal import terminals.csv --dir ./dev -o json`,
		Args: oneFile,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "have every row checked, and nothing kept")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // read only
		rows, err := batch.NewReader(f, besides(args[0]))
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		calls, err := conn.open()
		if err != nil {
			return err
		}
		defer calls.Close() //nolint:errcheck // the answers are there
		report := importReport{DryRun: dryRun, Rows: []batch.Result{}}
		shown := progress{out: os.Stderr, on: term.IsTerminal(int(os.Stderr.Fd()))}
		report.Counts, err = batch.Run(cmd.Context(), rows, registering(keydv1.NewTerminalServiceClient(calls), dryRun), func(r batch.Result) {
			report.Rows = append(report.Rows, r)
			shown.row(r.Outcome == batch.Failed)
		})
		shown.end()
		if err := report.print(asJSON); err != nil {
			return err
		}
		switch {
		case err != nil:
			return fmt.Errorf("%s, which was not read to its end: %w", args[0], err)
		case report.Counts.Failed > 0:
			return fmt.Errorf("%d of %d rows failed", report.Counts.Failed, len(report.Rows))
		}
		return nil
	}
	return c
}

// besides opens files of certificates by their paths from the folder of another file.
func besides(file string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
		return readCertificateFile(path)
	}
}

// refusedRows are the reasons that are about a row, and not about the next one too.
var refusedRows = []fault.Reason{
	fault.RequestInvalid, fault.CertificateInvalid, fault.CertificateRole, fault.CertificateExpired, fault.CertificateUntrusted,
	fault.CertificateRevoked, fault.TerminalExists, fault.PublicKeyKnown, fault.Conflict, fault.KeySetNotFound,
}

// passingReasons are those that pass by themselves. A row may be sent again: one that was
// registered meanwhile is unchanged.
var passingReasons = []fault.Reason{fault.StoreUnavailable, fault.AuditUnavailable, fault.RateLimited}

// importPauses are the pauses between the tries of one row.
var importPauses = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}

func registering(client keydv1.TerminalServiceClient, dryRun bool) func(context.Context, *batch.Row) (bool, error) {
	return func(ctx context.Context, r *batch.Row) (bool, error) {
		request := &keydv1.RegisterTerminalRequest{
			TerminalId: r.ID, Owner: r.Owner, Model: r.Model, SerialNumber: r.Serial, Site: r.Site, Certificates: r.Certificates, ValidateOnly: dryRun,
		}
		a, err := patiently(ctx, func() (*keydv1.RegisterTerminalResponse, error) { return client.RegisterTerminal(ctx, request) })
		if err != nil || r.KeySet == "" || a.GetTerminal().GetKeySet() == r.KeySet {
			return a.GetUnchanged(), err
		}
		if dryRun {
			return false, keySetIsThere(ctx, client, r.KeySet)
		}
		_, err = patiently(ctx, func() (*keydv1.Terminal, error) {
			return client.AssignKeySet(ctx, &keydv1.AssignKeySetRequest{TerminalId: r.ID, KeySet: r.KeySet})
		})
		return false, err
	}
}

// patiently asks again for a while after what passes by itself. What is about the row is a
// [batch.Refused].
func patiently[T any](ctx context.Context, ask func() (T, error)) (answer T, err error) {
	answer, err = ask()
	for _, pause := range importPauses {
		if !refusedFor(err, passingReasons) {
			break
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(pause):
		}
		answer, err = ask()
	}
	var refused refusal
	if errors.As(err, &refused) && refusedFor(err, refusedRows) {
		return answer, batch.Refused{Why: refused.Error()}
	}
	return answer, err
}

// keySetIsThere is what assigning a key set would find out.
func keySetIsThere(ctx context.Context, client keydv1.TerminalServiceClient, name string) error {
	sets, err := patiently(ctx, func() (*keydv1.ListKeySetsResponse, error) {
		return client.ListKeySets(ctx, &keydv1.ListKeySetsRequest{})
	})
	if err != nil {
		return err
	}
	for _, set := range sets.GetKeySets() {
		if set.GetName() == name {
			return nil
		}
	}
	return batch.Refused{Why: "there is no key set of that name: keyd terminal keyset list shows them"}
}

// refusedFor reports whether a call was refused for one of some reasons.
func refusedFor(err error, reasons []fault.Reason) bool {
	var refused refusal
	return errors.As(err, &refused) && slices.ContainsFunc(reasons, func(f fault.Reason) bool { return f.String() == refused.reason })
}

// importReport is what became of a file.
type importReport struct {
	DryRun bool           `json:"dry_run"` // nothing was kept: what is registered would be
	Counts batch.Counts   `json:"counts"`
	Rows   []batch.Result `json:"rows"`
}

func (r *importReport) print(asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row(w, "LINE", "TERMINAL", "RESULT", "WHY")
	for _, one := range r.Rows {
		result := string(one.Outcome)
		if r.DryRun && one.Outcome == batch.Registered {
			result = "would be registered"
		}
		row(w, fmt.Sprint(one.Line), dash(printable(one.ID)), result, dash(printable(one.Problem)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	registered := "registered"
	if r.DryRun {
		registered = "would be registered"
	}
	_, err := fmt.Printf("\n%d %s, %d unchanged, %d failed\n", r.Counts.Registered, registered, r.Counts.Unchanged, r.Counts.Failed)
	return err
}

// progress shows on a terminal how many rows are done.
type progress struct {
	out          io.Writer
	on           bool
	rows, failed int
	last         time.Time
}

func (p *progress) row(failed bool) {
	p.rows++
	if failed {
		p.failed++
	}
	if now := time.Now(); p.on && now.Sub(p.last) >= 100*time.Millisecond {
		p.last = now
		fmt.Fprintf(p.out, "\r%d rows, %d failed", p.rows, p.failed) //nolint:errcheck // it is shown again
	}
}

// end wipes the line.
func (p *progress) end() {
	if p.on && !p.last.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K") //nolint:errcheck // what comes next says the same
	}
}
