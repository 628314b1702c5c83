package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"keyd/audit"
)

func auditExport() *cobra.Command {
	var log logFile
	var since, until, into string
	var out output
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the entries of a period for an assessor, with proof",
		Long: `Writes the entries of a period into a new directory: as a table (CSV) and as the log has them
(JSON lines), with the newest checkpoint and what ties the entries to it, and a sheet that says
in plain words what it is, how to verify it, and which items of PCI DSS v4.0.1 10.2 and 10.3
each column serves. Verify it with keyd audit verify --export, anywhere.

Segments of the period that are in the archive have to be brought back first. Nothing is
written over, and nothing is left if it fails.`,
		Example: `  keyd audit export --file /var/lib/keyd/front/audit --since 2026-01-01 --until 2026-02-01 \
      --into ./january
  keyd audit export --dir ./dev --into ./export`,
		Args: cobra.NoArgs,
	}
	log.required(c)
	f := c.Flags()
	f.StringVar(&since, "since", "", "first moment of the period, UTC (2026-01-31, 2026-01-31T12:00:00Z); the beginning of the log without it")
	f.StringVar(&until, "until", "", "the moment after its end; now without it")
	f.StringVar(&into, "into", "", "directory to make")
	_ = c.MarkFlagRequired("into") // the flag is there
	out.flag(c)
	c.RunE = func(*cobra.Command, []string) (err error) {
		json, err := out.json()
		if err != nil {
			return err
		}
		var from time.Time
		to := time.Now().UTC()
		if since != "" {
			if from, err = readMoment("since", since); err != nil {
				return err
			}
		}
		if until != "" {
			if to, err = readMoment("until", until); err != nil {
				return err
			}
		}
		if !from.Before(to) {
			return errors.New("the period ends before it begins")
		}
		m, err := audit.Export(log.path(), into, from, to)
		if err != nil {
			return err
		}
		if json {
			return printJSON(m)
		}
		return table(func(w io.Writer) {
			writeManifest(w, m)
			row(w, "written", fmt.Sprintf("%s: give all of it to the assessor", into))
		})
	}
	return c
}
