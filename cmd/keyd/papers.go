package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"keyd/ceremony"
	"keyd/officer"
)

// How a ceremony is shown to people.

// report says what a ceremony has come to.
func (s *session) report(p *officer.Papers, out *output) error {
	return out.print(p.Message, func(w io.Writer) {
		row(w, "ceremony", p.Opening.ID)
		row(w, "kind", strings.TrimSpace(string(p.Definition.Kind)+" "+p.Definition.Subject().String()))
		row(w, "state", state(p))
		switch {
		case p.CheckValue != "" && p.HasCheckValue() && p.Open(time.Now()):
			row(w, "check value", "is known, and not shown here: who approves types it from the letter")
		case p.CheckValue != "":
			row(w, "check value", p.CheckValue+" ("+p.Vouched+")")
		}
		if p.Record != nil && p.Record.Outcome.Masters != "" {
			row(w, "master keys", "check value "+p.Record.Outcome.Masters+" (signed by the module)")
		}
		s.writeNext(w, p)
	})
}

func state(p *officer.Papers) string {
	switch {
	case p.Record != nil:
		return fmt.Sprintf("COMPLETED at %s, epoch %d (signed by the module)", officer.At(p.Record.Time), p.Record.Outcome.Epoch)
	case p.Open(time.Now()):
		return "OPEN until " + officer.At(p.Opening.Expires)
	}
	return p.State.String() + " (the service's word)"
}

// writeNext says who is missing, and what they do.
func (s *session) writeNext(w io.Writer, p *officer.Papers) {
	if !p.Open(time.Now()) {
		return
	}
	row(w, "waits for", officer.Lacks(p.Missing().Components, p.Missing().Approvals))
	action, names := p.Waiting(s.Module.Officers)
	if len(names) == 0 {
		return
	}
	row(w, "of", strings.Join(names, ", "))
	what := "approve " + p.Opening.ID
	if action == ceremony.Submit {
		what = "submit " + p.Opening.ID + " --definition FILE"
	}
	row(w, "next", "keyd ceremony "+what+s.desk.asAnother(names))
}

// asAnother returns the flags with which another officer finds the service.
func (d *desk) asAnother(names []string) string {
	if d.conn.dir == "" {
		return fmt.Sprintf(" --server %s --ca CA --cert CERT --key KEY --officer-key FILE", d.conn.server)
	}
	as := names[0]
	for _, n := range names {
		if n != d.conn.as {
			as = n
			break
		}
	}
	return fmt.Sprintf(" --dir %s --as %s", d.conn.dir, as)
}

// review shows papers before an officer signs something about them: beside the answer where
// that is for a script. Without the check value of the whole key where the officer is about
// to type that from the letter.
func review(out *output, p *officer.Papers, hide bool) error {
	asJSON, err := out.json()
	if err != nil {
		return err
	}
	var to io.Writer = os.Stdout
	if asJSON {
		to = os.Stderr
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	writePapers(w, p, hide)
	return w.Flush()
}

// asksCheckValue reports whether an approval asks for the check value of the whole key.
func asksCheckValue(p *officer.Papers, a *approvalFlags) bool {
	return a.checkValue == "" && p.HasCheckValue()
}

// hidden stands for a check value that is to come from the letter.
const hidden = "(in the letter)"

// writePapers writes a ceremony for people.
func writePapers(w io.Writer, p *officer.Papers, hide bool) {
	o := p.Opening
	row(w, "ceremony", o.ID)
	row(w, "state", state(p))
	row(w, "begun", fmt.Sprintf("%s by %s", officer.At(o.Opened), o.Officer))
	row(w, "definition", ceremony.FormatFingerprint(o.Definition))
	row(w)
	lines := officer.Describe(p.Definition)
	for i := range lines {
		if hide && lines[i].Name == officer.CheckValueLine {
			lines[i].Text = hidden
		}
	}
	writeLines(w, lines)
	row(w)
	if p.Unchecked != "" {
		row(w, "statements", p.Unchecked)
		return
	}
	writeStatements(w, p.Checked, hide)
	if p.CheckValue != "" && !hide {
		row(w, "check value", p.CheckValue+" of the whole key ("+p.Vouched+")")
	}
	if r := p.Record; r != nil {
		writeOutcome(w, &r.Outcome)
	}
	if p.KeyBlock != "" {
		row(w, "key block", p.KeyBlock)
	}
}

// writeStatements writes who has signed what.
func writeStatements(w io.Writer, c *ceremony.Checked, hide bool) {
	sorted := slices.Clone(c.Submissions)
	slices.SortFunc(sorted, func(a, b *ceremony.Statement) int { return a.Index - b.Index })
	for _, s := range sorted {
		name := fmt.Sprintf("component %d", s.Index)
		if c.Definition.MasterKeys != nil {
			name = officer.PlaceName(c.Definition, s.Index)
		}
		row(w, name, fmt.Sprintf("by %s at %s, check value %s", s.Officer, officer.At(s.Time), s.CheckValue))
	}
	for _, a := range c.Approvals {
		text := fmt.Sprintf("by %s at %s", a.Officer, officer.At(a.Time))
		if a.CheckValue != "" && !hide {
			text += ", check value " + a.CheckValue
		}
		row(w, "approved", text)
	}
	m := c.Missing()
	if m.Components > 0 {
		row(w, "components missing", fmt.Sprintf("%d of %d", m.Components, c.Opening.Need.Components))
	}
	if m.Approvals > 0 {
		row(w, "approvals missing", fmt.Sprintf("%d of %d", m.Approvals, c.Opening.Need.Approvals))
	}
}

func writeOutcome(w io.Writer, o *ceremony.Outcome) {
	row(w, "epoch", fmt.Sprint(o.Epoch))
	if o.Document != "" {
		row(w, "register", printable(ceremony.FormatFingerprint(o.Document)))
	}
	if o.Key != nil {
		row(w, "key", o.Key.String())
	}
	if o.Block != "" {
		row(w, "key block", "SHA-256 "+ceremony.FormatFingerprint(o.Block))
	}
	if o.Masters != "" {
		row(w, "master keys", "check value "+o.Masters)
	}
}
