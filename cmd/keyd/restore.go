package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"keyd/audit"
	"keyd/ceremony"
	"keyd/config"
	"keyd/front"
	"keyd/hsm/module"
	"keyd/officer"
	"keyd/service"
)

func restoreCommand() *cobra.Command {
	var path, from string
	var logs []string
	r := service.Restoration{}
	c := &cobra.Command{
		Use:     "restore",
		GroupID: "service",
		Short:   "Restore the database from a backup, at the machine",
		Long: `Restores the database of a service that does not run, into an empty one, beside a token with
the master keys of the one that sealed the backup: the same token, if officers have decided
nothing since, or one that keyd init has been given the same shares. It takes the token's
PIN, like starting the service. Of a fleet no node may run, and the database is another,
empty one on the PostgreSQL server. Nothing is written before all of the backup is read and the
token has vouched for it; then all of it in one transaction.

keyd can be started then, and uses no key until as many officers as change the roster have
the register taken over, which they know by its digest (a ceremony of kind adopt). What was
stopped or deleted after the backup they name in the same definition.

Counters begin so that nothing that was used before is accepted again:

  --counters exhausted    no terminal's present key is used any more: each needs a new one
  --counters logged       as the audit log says that survived: nothing is lost. --audit-log is
                          its directory (audit, in state) or a copy of that, or its segments
                          one by one in their order. Segments from before the backup may be
                          missing. A log that does not verify, lacks a segment, or ends before
                          the backup, is refused
  --counters margin       each counter of the backup is raised by --margin transactions: a
                          terminal that did more since the backup is open to replay, one that
                          did fewer is refused until it has

  --tries spent           on a machine without velocity file every account's tries are used
                          up: no PIN is verified or translated for 24 to 28 hours, but of
                          accounts whose tries two people give back (keyd velocity)
  --tries anew            they begin anew: whoever guesses PINs has another day's tries

docs/backup.md has it step by step.`,
		Example: `  keyd restore --config /etc/keyd/keyd.yaml --backup keyd-2026-07-01.backup
  keyd restore --config /etc/keyd/keyd.yaml --backup keyd-2026-07-01.backup --counters logged --audit-log /var/lib/keyd/front/audit`,
		Args: cobra.NoArgs,
	}
	configFlag(c, &path)
	f := c.Flags()
	f.StringVar(&from, "backup", "", "the backup")
	f.StringVar(&r.Counters, "counters", front.CountersExhausted, "how counters of key serial numbers begin: exhausted, logged or margin")
	f.StringArrayVar(&logs, "audit-log", nil, "with --counters logged: the directory of the audit log of the keyd that made the backup, or its segments in their order; further ones of other nodes of its fleet")
	f.Uint64Var(&r.Margin, "margin", 0, "with --counters margin: transactions of each terminal")
	f.StringVar(&r.Tries, "tries", service.TriesSpent, "how accounts' tries begin where there is no velocity file: spent or anew")
	if err := c.MarkFlagRequired("backup"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case (r.Counters == front.CountersLogged) != (len(logs) > 0):
			return errors.New("--counters logged and --audit-log go together")
		case (r.Counters == front.CountersMargin) != (r.Margin > 0):
			return errors.New("--counters margin and --margin go together")
		case r.Counters != front.CountersExhausted && r.Counters != front.CountersLogged && r.Counters != front.CountersMargin:
			return fmt.Errorf("--counters is exhausted, logged or margin, not %q", r.Counters)
		case r.Tries != service.TriesSpent && r.Tries != service.TriesAnew:
			return fmt.Errorf("--tries is spent or anew, not %q", r.Tries)
		}
		loaded, err := config.Load(path)
		if err != nil {
			return err
		}
		if r.Backup, err = regular(from); err != nil {
			return err
		}
		defer r.Backup.Close() //nolint:errcheck // read only
		for _, path := range logs {
			names, err := segmentFiles(path)
			if err != nil {
				return err
			}
			for _, name := range names {
				file, err := regular(name)
				if err != nil {
					return err
				}
				defer file.Close() //nolint:errcheck // read only
				r.Logs = append(r.Logs, file)
			}
		}
		var register uint64
		var document string
		r.Log = logger()
		r.Found = func(found *front.Found, answer *module.CheckAnswer) {
			register, document = found.Trailer.Register, found.Trailer.Document
			writeFound(found, answer)
		}
		restored, tries, err := service.Restore(cmd.Context(), loaded, &r)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		row(w, "restored", fmt.Sprintf("with %d counters of key serial numbers (%s)", restored.Counters, counterWords(&r)))
		row(w, "tries", tries)
		if len(restored.Unknown) > 0 {
			row(w, "ATTENTION", "the audit log has key serial numbers of keys that came after the backup. Never load these again with the same value:")
			row(w, "", printable(strings.Join(restored.Unknown, ", ")))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Printf(`
Start keyd now. It uses no key until officers have the register taken over: they compare
its digest with the newest of their records, and carry out

  kind: adopt
  register: %s # version %d
  stopped: [NAME?version=N, …]   # what was stopped or deleted since, if anything
`, document, register)
		return nil
	}
	return c
}

func counterWords(r *service.Restoration) string {
	if r.Counters == front.CountersMargin {
		return fmt.Sprintf("raised by %d transactions", r.Margin)
	}
	return r.Counters
}

// segmentFiles are the segments of an audit log in a directory, or one that is named itself.
func segmentFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	return audit.Segments(path)
}

// regular opens a file that others read later, more than once.
func regular(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// writeFound writes what is about to be restored.
func writeFound(found *front.Found, answer *module.CheckAnswer) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush() //nolint:errcheck // nothing depends on it
	row(w, "backup", fmt.Sprintf("sealed at %s, by the module with the identity %s", officer.At(found.Said.Time), printable(ceremony.FormatFingerprint(ceremony.Digest(found.Said.Key)))))
	token := "has the same master keys, and takes the register over"
	if answer.Same {
		token = "has this register"
	}
	row(w, "token", token)
	row(w, "register", fmt.Sprintf("version %d, %s", found.Trailer.Register, ceremony.FormatFingerprint(found.Trailer.Document)))
	if found.Said.Document != found.Trailer.Document {
		row(w, "ATTENTION", fmt.Sprintf("the token had version %d when it sealed the backup", found.Said.Epoch))
	}
}
