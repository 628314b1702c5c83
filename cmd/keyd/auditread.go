package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/fault"
	"keyd/server"
)

// wanted chooses entries.
type wanted struct {
	seq, first, last          uint64
	since, until              string
	identity, key, method     string
	decision, reason, request string
	sinceTime, untilTime      time.Time
	chosen                    bool // by anything but the number of them
}

func (w *wanted) flags(c *cobra.Command) {
	f := c.Flags()
	f.Uint64Var(&w.seq, "seq", 0, "the entry of this number")
	f.Uint64Var(&w.first, "from", 0, "entries from this number on")
	f.Uint64Var(&w.last, "to", 0, "entries up to this number")
	f.StringVar(&w.since, "since", "", "entries from this date or time on, UTC (2026-01-31, 2026-01-31T12:00:00Z)")
	f.StringVar(&w.until, "until", "", "entries before this date or time")
	f.StringVar(&w.identity, "who", "", "entries of callers whose identity holds this text")
	f.StringVar(&w.key, "key", "", "entries about the key of this name")
	f.StringVar(&w.method, "method", "", "entries whose method holds this text")
	f.StringVar(&w.decision, "decision", "", "allowed, denied, failed or event")
	f.StringVar(&w.reason, "reason", "", "entries with this reason, PIN_BLOCK_INVALID for one")
	f.StringVar(&w.request, "request-id", "", "the entry of the request with this identifier, which the caller was told")
	c.MarkFlagsMutuallyExclusive("seq", "from")
	c.MarkFlagsMutuallyExclusive("seq", "to")
}

func (w *wanted) check() (err error) {
	if w.since != "" {
		if w.sinceTime, err = readMoment("since", w.since); err != nil {
			return err
		}
	}
	if w.until != "" {
		if w.untilTime, err = readMoment("until", w.until); err != nil {
			return err
		}
	}
	switch audit.Decision(w.decision) {
	case "", audit.Allowed, audit.Denied, audit.Failed, audit.Event:
	default:
		return fmt.Errorf("--decision is allowed, denied, failed or event, not %q", w.decision)
	}
	if w.reason != "" && !isReason(w.reason) {
		return fmt.Errorf("there is no reason %q: docs/errors.md has them all", w.reason)
	}
	if w.last > 0 && w.first > w.last {
		return errors.New("--from is after --to")
	}
	if w.since != "" && w.until != "" && !w.sinceTime.Before(w.untilTime) {
		return errors.New("--until is not after --since")
	}
	if w.seq > 0 {
		w.first, w.last = w.seq, w.seq
	}
	w.chosen = *w != wanted{}
	return nil
}

// isReason reports whether an entry can have this reason.
func isReason(name string) bool {
	return name == server.ReasonCancelled || name == server.ReasonDeadline ||
		slices.ContainsFunc(fault.Table[:], func(r fault.Row) bool { return r.Name == name })
}

func (w *wanted) matches(r audit.Record) bool {
	about := w.key == ""
	for _, k := range r.Keys {
		about = about || k.Name == w.key
	}
	return about && r.Seq >= w.first && (w.last == 0 || r.Seq <= w.last) &&
		(w.since == "" || !r.Time.Before(w.sinceTime)) && (w.until == "" || r.Time.Before(w.untilTime)) &&
		strings.Contains(r.Identity, w.identity) && strings.Contains(r.Method, w.method) &&
		(w.decision == "" || string(r.Decision) == w.decision) && (w.reason == "" || r.Reason == w.reason) &&
		(w.request == "" || r.RequestID == w.request)
}

func auditShow() *cobra.Command {
	var log logFile
	var last int
	var want wanted
	var out output
	c := &cobra.Command{
		Use:   "show",
		Short: "Show entries, chosen by number, time, caller, key, decision or request",
		Long: `Shows entries of the log: the newest ones, or those that all given flags choose; of these
--last shows the newest. DETAIL is keyd's own sentence, which the caller never sees: what
the policy lacks, for one. --output json has the lines as they are in the log. Each entry
is checked and its link to the one before it, but not the whole log: see keyd audit verify.`,
		Example: `  keyd audit show --file /var/lib/keyd/front/audit --last 100
  keyd audit show --file /var/lib/keyd/front/audit --request-id 01JB4K7R9X2M5N8P
  keyd audit show --file ./copy --since 2026-01-31 --until 2026-02-01 --decision denied
  keyd audit show --dir ./dev -o json`,
		Args: cobra.NoArgs,
	}
	log.required(c)
	want.flags(c)
	c.Flags().IntVarP(&last, "last", "n", 20, "how many at most; 0 for all that were chosen")
	out.flag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := want.check(); err != nil {
			return err
		}
		if last < 0 || last == 0 && !want.chosen {
			return errors.New("--last must be 1 or more")
		}
		json, err := out.json()
		if err != nil {
			return err
		}
		records, err := choose(log.path(), want, last)
		if err != nil {
			return err
		}
		e := newEntries(json)
		for _, r := range records {
			if err := e.print(r); err != nil {
				return err
			}
		}
		return e.flush()
	}
	return c
}

// choose reads what is wanted, the newest so many; all for 0.
func choose(path string, want wanted, last int) ([]audit.Record, error) {
	if !want.chosen {
		return audit.Tail(path, last)
	}
	r, err := audit.OpenReader(path, want.first)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // read only
	var records []audit.Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) || err == nil && want.last > 0 && rec.Seq > want.last {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		if !want.matches(rec) {
			continue
		}
		if records = append(records, rec); last > 0 && len(records) > last {
			records = records[1:]
		}
	}
}

func auditTail() *cobra.Command {
	var log logFile
	var conn connection
	var last int
	var follow bool
	var out output
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest entries, and what comes",
		Long: `Shows the newest entries of the log, and with -f those that come, until it is interrupted.
It reads the files, or asks a service (--server with a client certificate whose identity may
call AuditService): each question is an entry of the log itself, so with -f against a
service there is one every two seconds.`,
		Example: `  keyd audit tail --file /var/lib/keyd/front/audit -f
  keyd audit tail --dir ./dev -n 5
  keyd audit tail --server keyd.example:7443 --ca ca.crt --cert auditor.crt --key auditor.key`,
		Args: cobra.NoArgs,
	}
	log.flags(c)
	serverFlags(c, &conn)
	c.Flags().IntVarP(&last, "last", "n", 20, "how many of those that are there")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	out.flag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if last < 1 || last > 1000 {
			return errors.New("--last must be 1 to 1000")
		}
		json, err := out.json()
		if err != nil {
			return err
		}
		e := newEntries(json)
		if conn.server != "" {
			return tailService(c.Context(), &conn, e, uint32(last), follow)
		}
		if log.path() == "" {
			return errNoLog
		}
		return tailFiles(c.Context(), log.path(), e, last, follow)
	}
	return c
}

// serverFlags are those of a service without a development service's directory, which --dir
// names for its files.
func serverFlags(c *cobra.Command, conn *connection) {
	f := c.Flags()
	f.StringVar(&conn.server, "server", "", "HOST:PORT of a service, in place of files")
	f.StringVar(&conn.ca, "ca", "", "PEM file of the authority that signed the server's certificate")
	f.StringVar(&conn.cert, "cert", "", "PEM file of the client certificate")
	f.StringVar(&conn.key, "key", "", "PEM file of the client's private key")
	f.DurationVar(&conn.timeout, "timeout", 5*time.Second, "how long to wait for each answer")
	c.MarkFlagsMutuallyExclusive("server", "file")
	c.MarkFlagsMutuallyExclusive("server", "dir")
}

// How often it is looked whether something has come: in the files, and at a service.
const (
	lookAtFiles   = 300 * time.Millisecond
	lookAtService = 2 * time.Second
)

// pause waits, and says whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func tailFiles(ctx context.Context, path string, e *entries, last int, follow bool) error {
	records, err := audit.Tail(path, last)
	if err != nil {
		return err
	}
	next := uint64(1)
	for _, r := range records {
		if err := e.print(r); err != nil {
			return err
		}
		next = r.Seq + 1
	}
	if err := e.flush(); err != nil || !follow {
		return err
	}
	r, err := audit.OpenReader(path, next)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			if err := e.flush(); err != nil {
				return err
			}
			if !pause(ctx, lookAtFiles) {
				return nil
			}
			continue
		case err != nil:
			return err
		case rec.Seq < next: // it was there before
			continue
		}
		if err := e.print(rec); err != nil {
			return err
		}
	}
}

func tailService(ctx context.Context, conn *connection, e *entries, last uint32, follow bool) error {
	calls, err := conn.open()
	if err != nil {
		return err
	}
	defer calls.Close() //nolint:errcheck // nothing is sent any more
	client := keydv1.NewAuditServiceClient(calls)
	request := &keydv1.ListEntriesRequest{MaxResults: last}
	for {
		answer, err := client.ListEntries(ctx, request)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, line := range answer.Entries {
			rec, err := audit.ParseEntry(line)
			if err != nil {
				return fmt.Errorf("what the service shows is no entry: %w", err)
			}
			if err := e.print(rec); err != nil {
				return err
			}
		}
		if err := e.flush(); err != nil || !follow && answer.Next > answer.Size {
			return err
		}
		request = &keydv1.ListEntriesRequest{First: answer.Next, MaxResults: 1000}
		if answer.Next > answer.Size && !pause(ctx, lookAtService) {
			return nil
		}
	}
}
