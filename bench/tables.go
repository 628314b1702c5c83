package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// table is a table of results. The first column is text, the others are figures.
type table struct {
	Title  string
	Note   string
	Header []string
	Rows   [][]string
}

// text prints the table for a terminal.
func (t table) text(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "\n%s\n", t.Title); err != nil {
		return err
	}
	var aligned strings.Builder
	w := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := 0
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		width = max(width, len([]rune(row[0])))
	}
	for _, row := range append([][]string{t.Header}, t.Rows...) {
		first := row[0] + strings.Repeat(" ", width-len([]rune(row[0])))
		fmt.Fprintf(w, "  %s\t%s\t\n", first, strings.Join(row[1:], "\t")) //nolint:errcheck // a strings.Builder takes everything
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if t.Note != "" {
		aligned.WriteString("  " + t.Note + "\n")
	}
	_, err := io.WriteString(out, aligned.String())
	return err
}

// Markdown returns the table for a page.
func (t table) Markdown() string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.Header)
	b.WriteString("|---" + strings.Repeat("|--:", len(t.Header)-1) + "|\n")
	for _, row := range t.Rows {
		line(row)
	}
	if t.Note != "" {
		b.WriteString("\n" + t.Note + "\n")
	}
	return b.String()
}

func ms(v float64) string  { return fmt.Sprintf("%.2f", v) }
func us(v float64) string  { return fmt.Sprintf("%.1f", v) }
func mib(v float64) string { return fmt.Sprintf("%.0f", v) }

func (r *results) Operations() table {
	t := table{
		Title:  fmt.Sprintf("Highest rate: %d calls under way on %d connections, %s terminals", r.Setup.Calls, r.Setup.Connections, number(float64(r.Setup.Terminals))),
		Header: []string{"operation", "mode", "ops/s", "p50 ms", "p99 ms", "p99.9 ms", "front µs", "modules µs", "client µs", "bare token/s", "ratio", "for calls made/s", "ratio"},
		Note:   "µs: processor time an operation. Bare token: for the calls of the operation made one by one, with nothing kept; then for the calls that keyd has made, which take several blocks and use derived keys again.",
	}
	for _, f := range slices.Concat(r.Empty, r.Closed) {
		row := []string{f.Operation, f.Mode, number(f.Rate), ms(f.P50), ms(f.P99), ms(f.P999), us(sum(f.CPU, "front")), us(sum(f.CPU, "module")), us(f.CPU["client"]), "", "", "", ""}
		if f.BareRate > 0 {
			row[9], row[10] = number(f.BareRate), ms(f.Ratio)
			row[11], row[12] = number(f.MadeRate), ms(f.MadeRatio)
		} else {
			row[7] = ""
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (r *results) Latencies() table {
	t := table{
		Title:  "Latency at a fixed rate, from when a request was due",
		Header: []string{"operation", "mode", "due/s", "ops/s", "p50 ms", "p99 ms", "p99.9 ms", "longest ms", "generator late p99 ms"},
		Note:   "A quarter, half and three quarters of the highest rate above and, for TDES DUKPT, of the rates that are the goal. The generator's own lateness is part of the latencies.",
	}
	for _, f := range r.Paced {
		t.Rows = append(t.Rows, []string{f.Operation, f.Mode, number(f.Target), number(f.Rate), ms(f.P50), ms(f.P99), ms(f.P999), ms(f.Max), ms(f.Late)})
	}
	return t
}

func (r *results) BareToken() table {
	t := table{
		Title:  "Bare token: one process, one session, one call after the other",
		Header: []string{"calls", "µs", "a second"},
		Note:   "The lower rows are the sums of an operation's calls, made one by one and with nothing kept from one operation to the next.",
	}
	row := func(name string, us float64) {
		t.Rows = append(t.Rows, []string{name, fmt.Sprintf("%.1f", us), number(1e6 / us)})
	}
	row("DES3 ECB, 1 block", r.Token.TDES1)
	row("DES3 ECB, 16 blocks", r.Token.TDES16)
	row("DES3 ECB, 64 blocks", r.Token.TDES64)
	row("AES ECB, 1 block", r.Token.AES1)
	row("AES derive and destroy", r.Token.Derive)
	for _, c := range r.Calls {
		row(fmt.Sprintf("%s: %.2f derive, %.0f AES, %.0f DES3", c.Operation, c.Calls.Derive, c.Calls.AES, c.Calls.TDES), 1e6/c.Rate)
	}
	return t
}

func (r *results) DUKPT() table {
	d := r.Derivations
	return table{
		Title:  "DUKPT derivations, from BDK to PIN key, random counters, one processor",
		Header: []string{"scheme", "where", "a second", "mean steps"},
		Note:   "Steps: one-bits of the counter (TDES), keys derived (AES).",
		Rows: [][]string{
			{"TDES", "software", number(d.TDES), us(d.TDESBits)},
			{"AES", "software", number(d.AES), us(d.AESSteps)},
			{"AES", "token", number(d.AESToken), us(d.AESSteps)},
		},
	}
}

func (r *results) KSNChecks() table {
	t := table{
		Title:  "KSN checks on and off: TDES DUKPT → zone by stream, in turns",
		Header: []string{"KSN checks", "ops/s", "p50 ms", "p99 ms", "front µs", "modules µs", "client µs"},
	}
	for _, f := range r.KSN {
		t.Rows = append(t.Rows, []string{strings.TrimPrefix(f.Name, "KSN checks "), number(f.Rate), ms(f.P50), ms(f.P99), us(sum(f.CPU, "front")), us(sum(f.CPU, "module")), us(f.CPU["client"])})
	}
	if c := r.KSNCost; c != nil {
		t.Note = fmt.Sprintf("KSN checks cost %.1f %% of the rate; %.1f µs of the front's processor time an operation, %.1f µs of front and modules together.", c.RatePercent, c.FrontUS, c.AllUS)
	}
	return t
}

func (r *results) Comparisons() table {
	t := table{
		Title:  "Two binaries, unary, in turns",
		Header: []string{"operation", "compared with", "ops/s", "the other's", "cost %", "front µs", "the other's", "modules µs", "the other's", "client µs", "the other's"},
		Note:   "Cost: what is missing of the other's rate.",
	}
	for _, c := range r.Compared {
		t.Rows = append(t.Rows, []string{
			c.This.Operation, c.With, number(c.This.Rate), number(c.Other.Rate), us(c.RatePercent), us(sum(c.This.CPU, "front")), us(sum(c.Other.CPU, "front")),
			us(sum(c.This.CPU, "module")), us(sum(c.Other.CPU, "module")), us(c.This.CPU["client"]), us(c.Other.CPU["client"]),
		})
	}
	return t
}

func (r *results) ByTerminals() table {
	t := table{
		Title:  "Number of terminals, by stream; memory is what is resident afterwards",
		Header: []string{"operation", "terminals", "calls under way", "uses of each", "ops/s", "p50 ms", "p99 ms", "ratio", "front MiB", "modules MiB", "client MiB"},
		Note:   "A terminal has one call under way at most, so a few terminals cannot load keyd: look at the latency there. Each was used at least once; what keyd keeps of a terminal helps only where it is used again.",
	}
	for _, f := range r.Terminals {
		t.Rows = append(t.Rows, []string{f.Operation, number(float64(f.Terminals)), fmt.Sprint(f.UnderWay), uses(f), number(f.Rate), ms(f.P50), ms(f.P99), ms(f.Ratio), mib(sum(f.Memory, "front")), modulesMiB(f), mib(f.Memory["client"])})
	}
	return t
}

func (r *results) ByKeys() table {
	t := table{
		Title:  "Number of keys: zone → zone between random keys, by stream",
		Header: []string{"keys", "ops/s", "p50 ms", "p99 ms", "ratio", "front µs", "modules µs", "front MiB", "modules MiB"},
	}
	for _, f := range r.Keys {
		t.Rows = append(t.Rows, []string{number(float64(f.Keys)), number(f.Rate), ms(f.P50), ms(f.P99), ms(f.Ratio), us(sum(f.CPU, "front")), us(sum(f.CPU, "module")), mib(sum(f.Memory, "front")), modulesMiB(f)})
	}
	return t
}

func (r *results) Enrolments() table {
	t := table{Header: []string{"step", "terminals", "a second", "p50 ms", "p99 ms"}}
	e := r.Enrolment
	if e == nil {
		return t
	}
	t.Title = fmt.Sprintf("%s terminals get their keys, %d at once, each with a connection of its own", number(float64(e.Terminals)), e.AtOnce)
	for _, s := range e.Steps {
		t.Rows = append(t.Rows, []string{s.Name, number(float64(s.Count)), us(s.Rate), ms(s.P50), ms(s.P99)})
	}
	t.Note = fmt.Sprintf("To get keys: connect with the maker's certificate, check the host, ask, open, confirm. %s of the terminals have RSA keys (2,048 bits), the others keys on P-256. Afterwards keyd had all %s injections as confirmed; %s statements verified under the identity of the service's token; no two of %s initial keys were the same. %.0f s in all.",
		number(float64(e.RSA)), number(float64(e.Terminals)), number(float64(e.Proven)), number(float64(e.Keys)), e.Seconds)
	return t
}

// uses is how often each terminal was used on average.
func uses(f figures) string {
	each := float64(f.Count) / float64(f.Terminals)
	if each < 10 {
		return us(each)
	}
	return number(each)
}

// modulesMiB is the memory of each module.
func modulesMiB(f figures) string {
	var names, sizes []string
	for name := range f.Memory {
		if strings.HasPrefix(name, "module") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		sizes = append(sizes, mib(f.Memory[name]))
	}
	return strings.Join(sizes, " + ")
}

func (r *results) Profile() table {
	t := table{
		Title:  "Where the front's processor time went, from a CPU profile of the whole run",
		Header: []string{"part, with what it calls", "share %"},
		Note:   "The parts may call each other. The profile costs a few per cent itself.",
	}
	if s := r.Shares; s != nil {
		t.Rows = [][]string{
			{"gRPC transport and TLS", us(s.GRPC)}, {"audit", us(s.Audit)}, {"ksn", us(s.KSN)}, {"store", us(s.Store)}, {"garbage collection", us(s.GC)},
		}
	}
	return t
}

// tables are all that have rows, in the order in which they are read.
func (r *results) tables() []table {
	var all []table
	for _, t := range []table{r.Goals(), r.Operations(), r.Latencies(), r.BareToken(), r.DUKPT(), r.KSNChecks(), r.Comparisons(), r.ByTerminals(), r.ByKeys(), r.Enrolments(), r.RecordPINs(), r.VoidFlows(), r.Profile()} {
		if len(t.Rows) > 0 {
			all = append(all, t)
		}
	}
	return all
}

// printTables prints everything for a person.
func printTables(out io.Writer, r *results) error {
	m := r.Machine
	if _, err := fmt.Fprintf(out, "keyd %s, %d modules; %d processors (%s), %.0f GiB, Linux %s; fdatasync p50 %.2f ms, p99 %.2f ms; %s, SoftHSM %s\nload generator, keyd and token share the processors; %.1f s each; counters up to %s; KSN checks: %s\n",
		m.Keyd, r.Setup.Modules, m.Processors, m.Model, m.MemoryGiB, m.Kernel, m.Sync50, m.Sync99, m.Go, m.SoftHSM,
		r.Setup.Seconds, number(float64(r.Setup.Age)), r.Setup.KSN); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "other programs took up to %.0f %% of the processors while something was measured\n", r.Others()); err != nil {
		return err
	}
	for _, t := range r.tables() {
		if err := t.text(out); err != nil {
			return err
		}
	}
	return nil
}
