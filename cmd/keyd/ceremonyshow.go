package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
)

func ceremonyShow() *cobra.Command {
	var d desk
	var out output
	var record, keyBlock string
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Show a ceremony's papers, and who is missing",
		Long: `Checks every signature of a ceremony's papers and shows what it does, who has signed what,
and who is missing. --record writes the module's record of a ceremony that was carried
out, which keyd ceremony verify can verify anywhere.`,
		Example: `  keyd ceremony show 4be1…9c --dir ./dev
  keyd ceremony show 4be1…9c --dir ./dev --record load-zmk.record`,
		Args: oneCeremony,
	}
	d.readFlags(c)
	out.flag(c)
	c.Flags().StringVar(&record, "record", "", "file that is made for the record")
	c.Flags().StringVar(&keyBlock, "key-block", "", "file that is made for the key block of an export")
	c.ValidArgsFunction = completeCeremonies(&d, keydv1.Ceremony_STATE_UNSPECIFIED)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := d.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		p, err := s.Papers(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if record != "" {
			text, err := p.RecordFile(s.Module)
			if err != nil {
				return err
			}
			if err := writeNew(record, text, 0o644); err != nil {
				return err
			}
		}
		if err := writeKeyBlock(keyBlock, p); err != nil {
			return err
		}
		return out.print(p.Message, func(w io.Writer) {
			writePapers(w, p, false)
			s.writeNext(w, p)
			if record != "" {
				row(w, "record", "written to "+record)
			}
			if keyBlock != "" {
				row(w, "key block", "written to "+keyBlock)
			}
		})
	}
	return c
}

// writeKeyBlock writes the key block of an export, if a file is named.
func writeKeyBlock(path string, p *officer.Papers) error {
	if path == "" {
		return nil
	}
	if p.KeyBlock == "" {
		return errors.New("the ceremony has no key block: it is no export, or was not carried out yet")
	}
	return writeNew(path, []byte(p.KeyBlock+"\n"), 0o600)
}

func ceremonyList() *cobra.Command {
	var d desk
	var out output
	var which string
	c := &cobra.Command{
		Use:   "list",
		Short: "List ceremonies, the newest first",
		Long: `Lists ceremonies as the service has them. Nothing in a list is signed: keyd ceremony show
checks the papers of one. Where several keyds share a database, NODE is the one whose token
has opened the ceremony: its papers go there (--server).`,
		Example: `  keyd ceremony list --dir ./dev --state open`,
		Args:    cobra.NoArgs,
	}
	d.readFlags(c)
	out.flag(c)
	c.Flags().StringVar(&which, "state", "", "open, completed, aborted or expired only")
	completeFlag(c, "state", ceremonyStates()...)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		wanted, ok := keydv1.Ceremony_State_value[strings.ToUpper(which)]
		if which != "" && (!ok || wanted == 0) {
			return fmt.Errorf("--state is one of %s", strings.Join(ceremonyStates(), ", "))
		}
		s, err := d.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		list, err := s.List(cmd.Context(), keydv1.Ceremony_State(wanted))
		if err != nil {
			return err
		}
		return out.print(list, func(w io.Writer) {
			fleet := slices.ContainsFunc(list.Ceremonies, func(one *keydv1.Ceremony) bool { return one.Node != "" })
			columns := []string{"CEREMONY", "KIND", "ABOUT", "STATE", "WAITS FOR", "OPENED", "EXPIRES"}
			if fleet {
				columns = append(columns, "NODE")
			}
			row(w, columns...)
			for _, one := range list.Ceremonies {
				waits := ""
				if one.State == keydv1.Ceremony_OPEN {
					waits = waiting(one)
				}
				columns = []string{printable(one.CeremonyId), printable(one.Kind), dash(printable(one.Subject)), one.State.String(), dash(waits), at(one.OpenedAt), at(one.ExpiresAt)}
				if fleet {
					columns = append(columns, dash(printable(one.Node)))
				}
				row(w, columns...)
			}
		})
	}
	return c
}

func ceremonyStates() []string { return []string{"open", "completed", "aborted", "expired"} }

func waiting(one *keydv1.Ceremony) string {
	return officer.Lacks(int(one.ComponentsMissing), int(one.ApprovalsMissing))
}

// verified is a verified record for scripts.
type verified struct {
	Identity   officer.Fingerprint   `json:"identity"`
	Roster     officer.Fingerprint   `json:"roster"`
	Opening    *ceremony.Opening     `json:"opening"`
	Definition *ceremony.Definition  `json:"definition"`
	Components []*ceremony.Statement `json:"components"`
	Approvals  []*ceremony.Statement `json:"approvals"`
	Outcome    ceremony.Outcome      `json:"outcome"`
	Time       time.Time             `json:"time"`
}

func ceremonyVerify() *cobra.Command {
	var out output
	var by expect
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify a record, without any service",
		Long: `Verifies a record that keyd ceremony show --record or keyd init has written: the module's
signature, every officer's signature, that each is about this ceremony, and that they were
enough by their roster. Then it says who did what, and when.

Which module it must be by is what you say: with --identity, or as you have confirmed it
for --server in your own file (--known).`,
		Example: `  keyd ceremony verify load-zmk.record --identity "1F2A 77B0 …"
  keyd ceremony verify load-zmk.record --server keyd.example:7443`,
		Args: oneFile,
	}
	by.flags(c)
	out.flag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		expected, err := by.fingerprint()
		if err != nil {
			return err
		}
		a, err := officer.VerifyRecordFile(text, expected)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if asJSON {
			return printJSON(verified{a.Identity, a.Roster, a.Checked.Opening, a.Checked.Definition, a.Checked.Submissions, a.Checked.Approvals, a.Outcome, time.Unix(a.Time, 0).UTC()})
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		writeAccount(w, a)
		return w.Flush()
	}
	return c
}

// writeAccount says who did what and when.
func writeAccount(w io.Writer, a *officer.Account) {
	o := a.Checked.Opening
	row(w, "the record is good")
	row(w)
	row(w, "ceremony", o.ID)
	by := "by " + o.Officer
	if o.Kind == ceremony.Init {
		by = "at the machine"
	}
	row(w, "begun", officer.At(o.Opened)+" "+by)
	writeStatements(w, a.Checked, false)
	row(w, "carried out", officer.At(a.Time))
	writeOutcome(w, &a.Outcome)
	if a.Outcome.CheckValue != "" {
		row(w, "check value", a.Outcome.CheckValue)
	}
	row(w, "module", a.Identity.String())
	row(w, "roster", a.Roster.String())
	for i := range a.Officers.Officers {
		of := &a.Officers.Officers[i]
		row(w, "  "+of.Name, officer.KeyPrint(of).String())
	}
	row(w)
	writeLines(w, officer.Describe(a.Checked.Definition))
}
