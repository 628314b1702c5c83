package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/checkpoint"
)

func auditVerify() *cobra.Command {
	var log logFile
	var trust trusted
	var proof, export string
	var noted []string
	var out output
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check every entry, the tree over them and every checkpoint",
		Long: `Reads the whole log, or a copy of it, and checks each entry, its link to the one before, the
tree over all of them, and each checkpoint: its signature, and that it was signed over these
entries. No service need run. Segments may be missing; with the file "tree" beside them
the others are proven all the same.

A log that was put back as a whole, checkpoints and all, is good in itself: give a checkpoint
that was noted elsewhere with --checkpoint. Whose signature it is, you say with --identity,
--fingerprint or --module; otherwise the key that lies with the log is taken and its
fingerprint printed.

--proof verifies what keyd audit prove has written, --export what keyd audit export has.

Exit status: 0 where nothing is wrong, 1 where something is, or a file cannot be read. Status 0
does not say whose signature it is, nor that all was proven: "result" does, and with -o json
"good", which is true only where a key that you named has signed and everything was proven.`,
		Example: `  keyd audit verify --file ./copy --identity module.pem --checkpoint noted.txt
  keyd audit verify --dir ./dev -o json
  keyd audit verify --proof entry-4711.json --fingerprint "1F2A 77B0 ..."
  keyd audit verify --export ./january --identity module.pem`,
		Args: cobra.NoArgs,
	}
	log.flags(c)
	f := c.Flags()
	f.StringArrayVar(&noted, "checkpoint", nil, "a checkpoint that was noted elsewhere (may be repeated)")
	f.StringVar(&proof, "proof", "", "the proof of an entry, in place of a log")
	f.StringVar(&export, "export", "", "the directory of an export, in place of a log")
	c.MarkFlagsOneRequired("file", "dir", "proof", "export")
	c.MarkFlagsMutuallyExclusive("file", "dir", "proof", "export")
	trust.flags(c)
	out.flag(c)
	c.RunE = func(*cobra.Command, []string) error {
		json, err := out.json()
		if err != nil {
			return err
		}
		believed, err := trust.load()
		if err != nil {
			return err
		}
		var points []*checkpoint.Checkpoint
		for _, file := range noted {
			point, err := readCheckpoint(file)
			if err != nil {
				return err
			}
			points = append(points, point)
		}
		switch {
		case (proof != "" || export != "") && len(points) > 0:
			return errors.New("--checkpoint is held against a log, not against a proof or an export")
		case proof != "":
			return verifyProof(proof, believed, json)
		case export != "":
			return verifyExport(export, believed, json)
		}
		report, err := audit.VerifyDir(log.path(), believed, points...)
		if err != nil {
			return err
		}
		if json {
			return printJSON(reportJSON(report))
		}
		return table(func(w io.Writer) { writeReport(w, report) })
	}
	return c
}

func writeReport(w io.Writer, r *audit.Report) {
	row(w, "log", r.Origin)
	row(w, "entries", fmt.Sprintf("%d, in %d segments", r.Entries, len(r.Segments)))
	row(w, "first", r.First.Format(time.RFC3339))
	row(w, "last", r.Last.Format(time.RFC3339))
	row(w, "head", fmt.Sprintf("entry %d, %s", r.Head.Seq, r.Head.Hash))
	for _, d := range []audit.Decision{audit.Allowed, audit.Denied, audit.Failed, audit.Event} {
		row(w, string(d), fmt.Sprint(r.Decisions[d]))
	}
	row(w, "checkpoints", fmt.Sprintf("%d, all good", r.Checkpoints))
	if r.Newest != nil {
		row(w, "newest", fmt.Sprintf("of entry %d, root %s", r.Newest.Size, r.Newest.Root))
	}
	for _, k := range r.Keys {
		row(w, "signed by", signedBy(k))
	}
	if r.Uncovered > 0 {
		row(w, "not covered", fmt.Sprintf("%d entries behind the newest checkpoint: nothing is signed for them yet", r.Uncovered))
	}
	ranges := func(name, why string, list []audit.Range) {
		if len(list) > 0 {
			var text []string
			for _, m := range list {
				text = append(text, fmt.Sprintf("%d to %d", m.First, m.Last))
			}
			row(w, name, strings.Join(text, ", ")+why)
		}
	}
	ranges("not here", " (segments that are elsewhere)", r.Missing)
	ranges("not proven", " (linked to each other, but what is before them is missing: verify them with the file \"tree\")", r.Unproven)
	if r.Unchecked > 0 {
		row(w, "unchecked", fmt.Sprintf("%d checkpoints whose entries are not here", r.Unchecked))
	}
	row(w, "result", result(r))
}

// result is the verdict in one line.
func result(r *audit.Report) string {
	switch {
	case r.Newest == nil:
		return "the entries are linked to each other; no checkpoint says that none is missing at the end"
	case len(r.Unproven) > 0:
		return "what is here is whole in itself, and some of it is not proven"
	case !r.Vouched():
		return "GOOD, if the fingerprint is that of your module"
	}
	return "GOOD"
}

// verifiedReport is a report for scripts.
type verifiedReport struct {
	Result      string                    `json:"result"`
	Good        bool                      `json:"good"` // proven, by a module that somebody vouches for
	Log         string                    `json:"log"`
	Entries     uint64                    `json:"entries"`
	First       time.Time                 `json:"first"`
	Last        time.Time                 `json:"last"`
	HeadSeq     uint64                    `json:"head_seq"`
	HeadHash    string                    `json:"head_hash"`
	TreeSize    uint64                    `json:"tree_size"`
	TreeRoot    string                    `json:"tree_root,omitempty"`
	Decisions   map[audit.Decision]uint64 `json:"decisions"`
	Checkpoints int                       `json:"checkpoints"`
	Newest      string                    `json:"newest_checkpoint,omitempty"`
	NewestSize  uint64                    `json:"newest_checkpoint_size"`
	NotCovered  uint64                    `json:"not_covered"`
	Unchecked   int                       `json:"unchecked_checkpoints"`
	Keys        []audit.KeyReport         `json:"keys"`
	Segments    []audit.SegmentReport     `json:"segments"`
	NotHere     []audit.Range             `json:"not_here"`
	NotProven   []audit.Range             `json:"not_proven"`
}

func reportJSON(r *audit.Report) verifiedReport {
	v := verifiedReport{
		Result: result(r), Good: r.Vouched() && len(r.Unproven) == 0, Log: r.Origin, Entries: r.Entries, First: r.First, Last: r.Last,
		HeadSeq: r.Head.Seq, HeadHash: r.Head.Hash.String(), TreeSize: r.Tree.Size, Decisions: r.Decisions, Checkpoints: r.Checkpoints,
		NotCovered: r.Uncovered, Unchecked: r.Unchecked, Keys: r.Keys, Segments: r.Segments, NotHere: r.Missing, NotProven: r.Unproven,
	}
	if r.Tree.Size > 0 {
		v.TreeRoot = r.Tree.Root.String()
	}
	if r.Newest != nil {
		v.Newest, v.NewestSize = string(r.Newest.Note), r.Newest.Size
	}
	return v
}

func verifyProof(file string, trust audit.Trust, json bool) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	p, err := audit.ParseProof(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	rec, c, key, err := p.Verify(trust)
	if err != nil {
		return err
	}
	if json {
		return printJSON(struct {
			Good  bool            `json:"good"`
			Log   string          `json:"log"`
			Seq   uint64          `json:"seq"`
			Size  uint64          `json:"checkpoint_size"`
			Entry string          `json:"entry"`
			Key   audit.KeyReport `json:"key"`
		}{key.Trusted, c.Origin, rec.Seq, c.Size, p.Line, key})
	}
	return table(func(w io.Writer) {
		row(w, "log", c.Origin)
		row(w, "entry", fmt.Sprintf("%d of the %d that the checkpoint covers", rec.Seq, c.Size))
		row(w, "time", rec.Time.Format(time.RFC3339Nano))
		row(w, "who", dash(printable(rec.Identity)))
		row(w, "what", dash(printable(rec.Method)))
		row(w, "decision", strings.TrimSpace(string(rec.Decision)+" "+rec.Reason))
		row(w, "detail", dash(printable(rec.Detail)))
		row(w, "signed by", signedBy(key))
		row(w, "result", vouched(key))
	})
}

func vouched(k audit.KeyReport) string {
	if k.Trusted {
		return "GOOD"
	}
	return "GOOD, if the fingerprint is that of your module"
}

func verifyExport(dir string, trust audit.Trust, json bool) error {
	m, c, key, err := audit.VerifyExport(dir, trust)
	if err != nil {
		return err
	}
	if json {
		return printJSON(struct {
			Good     bool            `json:"good"`
			Manifest *audit.Manifest `json:"manifest"`
			Size     uint64          `json:"checkpoint_size"`
			Key      audit.KeyReport `json:"key"`
		}{key.Trusted, m, c.Size, key})
	}
	return table(func(w io.Writer) {
		writeManifest(w, m)
		row(w, "checkpoint", fmt.Sprintf("of entry %d", c.Size))
		row(w, "signed by", signedBy(key))
		row(w, "result", vouched(key))
	})
}

func writeManifest(w io.Writer, m *audit.Manifest) {
	row(w, "log", m.Origin)
	row(w, "period", fmt.Sprintf("%s to %s", audit.Beginning(m.From), m.Until.Format(time.RFC3339)))
	row(w, "entries", fmt.Sprintf("%d to %d", m.First, m.Last))
	if m.LeftOut > 0 {
		row(w, "left out", fmt.Sprintf("%d newer ones of the period, which no checkpoint covers yet", m.LeftOut))
	}
}

func auditProve() *cobra.Command {
	var log logFile
	var seq uint64
	var file string
	c := &cobra.Command{
		Use:   "prove",
		Short: "Write the proof of one entry to a file",
		Long: `Writes one entry with what proves that it is in the log at its place: the hashes beside it in
the tree, and the newest checkpoint. Whoever gets the file needs nothing else of the log to
verify it (keyd audit verify --proof), and learns nothing of other entries.`,
		Example: `  keyd audit prove --file /var/lib/keyd/front/audit --seq 4711 --out entry-4711.json
  keyd audit prove --dir ./dev --seq 1`,
		Args: cobra.NoArgs,
	}
	log.required(c)
	c.Flags().Uint64Var(&seq, "seq", 0, "number of the entry")
	c.Flags().StringVar(&file, "out", "", "file to write, which must not exist; standard output without it")
	_ = c.MarkFlagRequired("seq") // the flag is there
	c.RunE = func(*cobra.Command, []string) error {
		p, err := audit.Prove(log.path(), seq)
		if err != nil {
			return err
		}
		b, err := p.Encode()
		if err != nil {
			return err
		}
		return writeOut(file, b)
	}
	return c
}

// writeOut writes a new file, or standard output if it has no name.
func writeOut(path string, b []byte) error {
	if path == "" {
		_, err := os.Stdout.Write(b)
		return err
	}
	return writeNew(path, b, 0o600)
}

func auditCheckpoint() *cobra.Command {
	var log logFile
	var conn connection
	var file, after string
	var trust trusted
	c := &cobra.Command{
		Use:   "checkpoint",
		Short: "Get the newest checkpoint, to note it elsewhere",
		Long: `Prints the newest checkpoint of the log, from its files or from a service, once it is
verified. Keep it where whoever administers the machine cannot write: on paper, in a ticket, on
another host. A log that was cut or put back as a whole shows only against a checkpoint
that was noted (keyd audit verify --checkpoint).

--after holds it against one that was noted before, and asks the service for the proof that
the log has only grown since.`,
		Example: `  keyd audit checkpoint --dir ./dev
  keyd audit checkpoint --file /var/lib/keyd/front/audit --identity module.pem --out noted.txt
  keyd audit checkpoint --server keyd.example:7443 --ca ca.crt --cert auditor.crt \
      --key auditor.key --identity module.pem --after noted.txt --out noted-today.txt`,
		Args: cobra.NoArgs,
	}
	log.flags(c)
	serverFlags(c, &conn)
	trust.flags(c)
	c.Flags().StringVar(&after, "after", "", "a checkpoint that was noted before, for --server")
	c.Flags().StringVar(&file, "out", "", "file to write, which must not exist; standard output without it")
	c.RunE = func(c *cobra.Command, _ []string) error {
		believed, err := trust.load()
		if err != nil {
			return err
		}
		var point *checkpoint.Checkpoint
		var key audit.KeyReport
		switch {
		case conn.server != "":
			point, key, err = fetchCheckpoint(c.Context(), &conn, believed, after)
		case after != "":
			return errors.New("--after asks a service; for files there is keyd audit verify --checkpoint")
		case log.path() == "":
			return errNoLog
		default:
			point, key, err = audit.NewestCheckpoint(log.path(), believed)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "keyd: of entry %d, signed by %s\n", point.Size, signedBy(key)) //nolint:errcheck // a remark
		return writeOut(file, point.Note)
	}
	return c
}

// fetchCheckpoint asks a service, and believes nothing of what it says.
func fetchCheckpoint(ctx context.Context, conn *connection, trust audit.Trust, after string) (*checkpoint.Checkpoint, audit.KeyReport, error) {
	fail := func(err error) (*checkpoint.Checkpoint, audit.KeyReport, error) {
		return nil, audit.KeyReport{}, err
	}
	calls, err := conn.open()
	if err != nil {
		return fail(err)
	}
	defer calls.Close() //nolint:errcheck // nothing is sent any more
	client := keydv1.NewAuditServiceClient(calls)
	answer, err := client.GetCheckpoint(ctx, &keydv1.GetCheckpointRequest{})
	if err != nil {
		return fail(err)
	}
	if answer.Checkpoint == "" {
		return fail(errors.New("the service has no checkpoint yet"))
	}
	point, key, err := audit.Judge([]byte(answer.Checkpoint), []byte(answer.PublicKey), trust)
	if err != nil || after == "" {
		return point, key, err
	}
	was, err := readCheckpoint(after)
	if err != nil {
		return fail(err)
	}
	if was.Origin != point.Origin {
		return fail(fmt.Errorf("%s is of another log: %s, and now there is %s", after, was.Origin, point.Origin))
	}
	if _, _, err := audit.Judge(was.Note, []byte(answer.PublicKey), trust); err != nil {
		return fail(fmt.Errorf("%s: %w", after, err))
	}
	if point.Size < was.Size {
		return fail(fmt.Errorf("%w: %d entries now, %d when %s was noted", checkpoint.ErrOlder, point.Size, was.Size, after))
	}
	proof, err := client.GetConsistencyProof(ctx, &keydv1.GetConsistencyProofRequest{From: was.Size, To: point.Size})
	if err != nil {
		return fail(err)
	}
	var hashes []checkpoint.Hash
	for _, h := range proof.Proof {
		if len(h) != len(checkpoint.Hash{}) {
			return fail(checkpoint.ErrInconsistent)
		}
		hashes = append(hashes, checkpoint.Hash(h))
	}
	if err := point.Follows(was.Tree, hashes); err != nil {
		return fail(fmt.Errorf("%w since %s was noted", err, after))
	}
	return point, key, nil
}
