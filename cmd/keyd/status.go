package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

func statusCommand() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "status",
		GroupID: "client",
		Short:   "Show what is running, and how it is confined",
		Example: `  keyd status --dir ./dev --as auditor
  keyd status --server keyd.example:7443 --ca ca.crt --cert monitor.crt --key monitor.key -o json`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "auditor")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var s *keydv1.GetStatusResponse
		err := conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
			s, err = keydv1.NewStatusServiceClient(c).GetStatus(ctx, &keydv1.GetStatusRequest{})
			return err
		})
		if err != nil {
			return err
		}
		return out.print(s, func(w io.Writer) { writeStatus(w, s) })
	}
	return c
}

func writeStatus(w io.Writer, s *keydv1.GetStatusResponse) {
	kind := "production"
	if s.Development {
		kind = "development: the keys are known, and a software token is no protection"
	}
	row(w, "keyd", s.Version)
	row(w, "kind", kind)
	row(w, "keys", fmt.Sprint(s.Keys))
	if n := s.KeySerialNumbers; n != nil {
		row(w, "KSNs", fmt.Sprintf("%d accepted since the start; %d sequences in memory%s", n.Accepted, n.Sequences, failing(n.Failing)))
	}
	row(w, "audit", fmt.Sprintf("%d entries, head %.16s", s.AuditEntries, s.AuditHead))
	row(w)
	row(w, "PROCESS", "PID", "STATE", "RESTARTS", "SINCE (UTC)", "LAST EXIT")
	for _, p := range s.Processes {
		name := p.Role
		if p.Role == "module" {
			name = fmt.Sprintf("module %d", p.Index)
		}
		row(w, name, fmt.Sprint(p.Pid), p.State, fmt.Sprint(p.Restarts), p.Since.AsTime().Format(time.DateTime), dash(p.LastExit))
	}
	for _, t := range s.Tokens {
		row(w)
		row(w, fmt.Sprintf("token of module %d", t.Module), fmt.Sprintf("%s (%s %s)", t.Label, t.Manufacturer, t.Model))
		row(w, "  master keys", fmt.Sprintf("generation %d", t.Generation))
		row(w, "  unsealed keys", fmt.Sprintf("%d, and %d derived", t.CachedKeys, t.DerivedKeys))
		row(w, "  tries", tries(t.Velocity))
		row(w, "  self-tests", fmt.Sprintf("%d passed", len(t.SelfTests)))
		row(w, "  erasure", t.Erasure)
		row(w, "  confinement", measures(t.Confinement))
	}
	row(w)
	row(w, "front confinement", measures(s.FrontConfinement))
}

// tries says how the tries for a PIN are limited.
func tries(v *keydv1.Velocity) string {
	if v == nil {
		return "not limited"
	}
	text := fmt.Sprintf("verify %s, translate %s; %d refused; %d of %d entries in use",
		limits(v.Verifications), limits(v.Translations), v.Refusals, v.InUse, v.Entries)
	if v.Crowded > 0 {
		text += fmt.Sprintf("; accounts had to share %d times: raise velocity.entries", v.Crowded)
	}
	if v.PresumedUntil != nil {
		text += "; stricter until " + v.PresumedUntil.AsTime().Format(time.DateTime) + " UTC, after a loss of power"
	}
	return text + failing(v.Failing)
}

func limits(l *keydv1.Limits) string {
	one := func(n uint32, per string) string {
		if n == 0 {
			return "any/" + per
		}
		return fmt.Sprintf("%d/%s", n, per)
	}
	return one(l.GetMinute(), "minute") + " " + one(l.GetHour(), "hour") + " " + one(l.GetDay(), "day")
}

func failing(why string) string {
	if why == "" {
		return ""
	}
	return "; FAILING: " + why
}

// measures lists what is on, and says why of what is not.
func measures(list []*keydv1.Measure) string {
	var on, rest []string
	for _, m := range list {
		if m.State == "on" {
			on = append(on, m.Name)
			continue
		}
		rest = append(rest, fmt.Sprintf("%s %s (%s)", m.Name, m.State, m.Detail))
	}
	text := strings.Join(on, ", ")
	if len(rest) > 0 {
		text += "; " + strings.Join(rest, "; ")
	}
	return text
}
