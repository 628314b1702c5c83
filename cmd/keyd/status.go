package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
)

func statusCommand() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "status",
		GroupID: "client",
		Short:   "Say what is wrong, what is running, and how it is confined",
		Long: `Says first what is wrong, the worst at the top, then how everything stands. --output json
has the same (problems[].severity, .text).

With --custody it says, in place of how everything stands, which operations stay inside the
token at hand and which have a clear value in a module's memory, and why. --output json has that
in any case (tokens[].operations[].operation, .custody, .why).

Exit status:
  0  all is well; there may be notes
  1  the question could not be put: a wrong flag, a file that is missing
  3  keyd refuses to say: the policy, or the client certificate
  4  no keyd answers, or none that --ca vouches for
  5  requests are served, but something is to be mended (WARNING)
  6  requests are refused, some or all (CRITICAL); without any details if the audit log
     cannot be written`,
		Example: `  keyd status --dir ./dev --as auditor
  keyd status --dir ./dev --as auditor --custody
  keyd status --server keyd.example:7443 --ca ca.crt --cert monitor.crt --key monitor.key -o json`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "auditor")
	out.flag(c)
	custody := c.Flags().Bool("custody", false, "list which operations stay inside the token, and why others do not")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var s *keydv1.GetStatusResponse
		err := conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
			s, err = keydv1.NewStatusServiceClient(c).GetStatus(ctx, &keydv1.GetStatusRequest{})
			return err
		})
		if err != nil {
			return noAnswer(err)
		}
		if err := out.print(s, func(w io.Writer) {
			if writeHealth(w, s.Problems); *custody {
				writeCustody(w, s.Tokens)
				return
			}
			writeStatus(w, s)
		}); err != nil {
			return err
		}
		return statusExit(s.Problems)
	}
	return c
}

// Exit statuses of keyd status beyond those of every call (3 and 4).
const (
	exitWarning  = 5
	exitCritical = 6
)

// statusExit is the worst problem as an exit status. The first problem is the worst.
func statusExit(problems []*keydv1.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	switch problems[0].Severity {
	case keydv1.Problem_CRITICAL:
		return exitError{errors.New("requests are refused, some or all"), exitCritical}
	case keydv1.Problem_WARNING:
		return exitError{errors.New("something is to be mended"), exitWarning}
	}
	return nil
}

// noAnswer is the error of a question that was not answered. What cannot be recorded is not
// done, and that is true of this question too: then it says how the service is.
func noAnswer(err error) error {
	var refused refusal
	if errors.As(err, &refused) && refused.reason == fault.AuditUnavailable.String() {
		return exitError{err, exitCritical}
	}
	return err
}

func writeStatus(w io.Writer, s *keydv1.GetStatusResponse) {
	kind := "production"
	if s.Development {
		kind = "development: the keys are known, and a software token is no protection"
	}
	row(w, "keyd", s.Version)
	row(w, "kind", kind)
	row(w, "policy", inUse(s.Policy.GetDigest(), s.Policy.GetLoadedAt(), s.Policy.GetLastFailure()))
	row(w, "certificate", inUse("serial "+s.Tls.GetSerial()+", until "+at(s.Tls.GetNotAfter()), s.Tls.GetLoadedAt(), s.Tls.GetLastFailure()))
	row(w, "client authorities", fmt.Sprintf("%d, the first expires %s", s.Tls.GetClientAuthorities(), at(s.Tls.GetClientAuthoritiesUntil())))
	if p := s.Pages; p != nil {
		row(w, "pages", inUse("serial "+p.Serial+", until "+at(p.NotAfter), p.LoadedAt, p.LastFailure))
	}
	writeVault(w, s.Vault)
	row(w, "custody", custodyLine(s.Tokens))
	row(w, "connections", fmt.Sprint(s.Connections))
	row(w, "keys", fmt.Sprint(s.Keys))
	if n := s.KeySerialNumbers; n != nil {
		row(w, "KSNs", fmt.Sprintf("%d accepted since the start; %d sequences in memory%s", n.Accepted, n.Sequences, failing(n.Failing)))
	}
	row(w, "audit", fmt.Sprintf("%d entries, head %.16s", s.AuditEntries, s.AuditHead))
	row(w, "checkpoint", signedUpTo(s.AuditLog))
	if len(s.Nodes) > 0 {
		row(w)
		writeNodes(w, s.Nodes)
	}
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
		row(w, "  register", registerVersion(t))
		row(w, "  unsealed keys", fmt.Sprintf("%d, and %d derived", t.CachedKeys, t.DerivedKeys))
		row(w, "  tries", tries(t.Velocity))
		row(w, "  failed calls", tokenErrors(t.Errors))
		row(w, "  self-tests", fmt.Sprintf("%d passed", len(t.SelfTests)))
		row(w, "  erasure", t.Erasure)
		row(w, "  confinement", measures(t.Confinement))
	}
	row(w)
	row(w, "front confinement", measures(s.FrontConfinement))
}

// signedUpTo says how far the modules have signed the audit log.
func signedUpTo(l *keydv1.AuditLog) string {
	if l.GetCheckpointSize() == 0 {
		return "none of " + l.GetOrigin() + failing(l.GetFailing())
	}
	return fmt.Sprintf("of entry %d, at %s; %d entries behind it; %s%s", l.CheckpointSize, at(l.CheckpointAt), l.Uncovered, l.Origin, failing(l.Failing))
}

// writeVault says how Vault and its certificates stand, where there are any.
func writeVault(w io.Writer, v *keydv1.Vault) {
	if v == nil {
		return
	}
	row(w, "Vault", "looked at "+at(v.LookedAt)+", login until "+at(v.LoginUntil)+failing(v.Problem))
	for _, c := range v.Certificates {
		row(w, "  "+c.Directory, "serial "+dash(c.Serial)+", until "+at(c.NotAfter)+", renewed from "+at(c.RenewAt)+failing(c.Problem))
	}
}

// writeHealth says what is wrong before anything else.
func writeHealth(w io.Writer, problems []*keydv1.Problem) {
	words := map[keydv1.Problem_Severity]string{
		keydv1.Problem_CRITICAL: "CRITICAL", keydv1.Problem_WARNING: "WARNING", keydv1.Problem_NOTE: "note",
	}
	if statusExit(problems) == nil {
		row(w, "all is well")
	}
	for _, p := range problems {
		row(w, words[p.Severity]+": "+p.Text)
	}
	row(w)
}

// inUse says since when something is in use, and why nothing newer is.
func inUse(what string, since *timestamppb.Timestamp, failed *keydv1.FailedReload) string {
	text := what + ", since " + at(since)
	if failed != nil {
		text += "; NOT RELOADED at " + at(failed.At) + ": " + failed.Why
	}
	return text
}

func at(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.DateTime) + " UTC"
}

// registerVersion says which version of the register of officers and keys a module goes by.
func registerVersion(t *keydv1.Token) string {
	switch {
	case t.EpochLoaded == 0:
		return fmt.Sprintf("none; version %d is pinned", t.EpochPinned)
	case t.EpochLoaded != t.EpochPinned:
		return fmt.Sprintf("version %d, not the one that is pinned: %d", t.EpochLoaded, t.EpochPinned)
	}
	return fmt.Sprintf("version %d", t.EpochLoaded)
}

// tokenErrors lists the classes of which there were any.
func tokenErrors(list []*keydv1.TokenErrors) string {
	var some []string
	for _, e := range list {
		if e.Count > 0 {
			some = append(some, fmt.Sprintf("%d %s", e.Count, e.Class))
		}
	}
	if len(some) == 0 {
		return "none"
	}
	return strings.Join(some, ", ")
}

// tries says how the tries for PINs and card verification values are limited.
func tries(v *keydv1.Velocity) string {
	if v == nil {
		return "not limited"
	}
	text := fmt.Sprintf("verify %s, translate %s, cards %s; %d refused; %d of %d entries in use",
		limits(v.Verifications), limits(v.Translations), limits(v.Cards), v.Refusals, v.InUse, v.Entries)
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
