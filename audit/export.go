package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/checkpoint"
)

// Files of an export.
const (
	exportManifest   = "manifest.json"
	exportLines      = "entries.jsonl"
	exportTable      = "entries.csv"
	exportCheckpoint = "checkpoint.txt"
	exportKey        = "module.pem"
	exportReadme     = "README.txt"
)

// Manifest ties an export to a checkpoint.
type Manifest struct {
	Version  int       `json:"version"` // 1
	Origin   string    `json:"origin"`
	From     time.Time `json:"from"`     // the period, this moment included
	Until    time.Time `json:"until"`    // and this one not
	First    uint64    `json:"first"`    // number of the first entry
	Last     uint64    `json:"last"`     // and of the last
	LeftOut  uint64    `json:"left_out"` // entries of the period behind the checkpoint
	Segments []struct {
		Name   string `json:"name"`
		SHA256 string `json:"sha256"`
	} `json:"segments"` // that the entries were in, as whole files

	// Before is the tree over the entries in front of the first: the roots of its complete
	// subtrees, the largest first. With the entries it makes the tree over the last one, which
	// the proof ties to the checkpoint.
	Before      []checkpoint.Hash `json:"before"`
	Consistency []checkpoint.Hash `json:"consistency"` // RFC 6962 §2.1.2

	Files map[string]string `json:"files"` // SHA-256 of each, hex
}

const manifestVersion = 1

// maxManifest bounds an encoded manifest, in bytes: of some 100,000 segments.
const maxManifest = 16 << 20

var (
	// ErrExport says that a directory is no export, or not the one that was made.
	ErrExport = errors.New("this is no export of an audit log as it was made")
	// ErrNoEntries says that there is nothing to export.
	ErrNoEntries = errors.New("the log has no entries of that period that a checkpoint covers")
)

// Export writes the entries of a period from the files of a log, or of a copy, into a new
// directory: as they are and as a table, with what ties them to a signed checkpoint, and a
// sheet that says what it is. Entries are in the order of their numbers; the period is from
// the first entry that is not before it to the last that is. Nothing is left behind if it
// fails.
func Export(dir, into string, from, until time.Time) (m *Manifest, err error) {
	at, err := openProven(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close() //nolint:errcheck // read only
	if m, err = span(dir, from, until, at.point.Size); err != nil {
		return nil, err
	}
	m.Origin = at.point.Origin
	before, err := frontierAt(m.First-1, at.hashes)
	if err != nil {
		return nil, err
	}
	m.Before = before.tops
	if m.Consistency, err = consistency(m.Last, at.point.Size, at.hashes); err != nil {
		return nil, err
	}
	err = os.Mkdir(into, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("export: %w: name a directory that is to be made, or take that one away", err)
	}
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(into))
		}
	}()
	w := &exporting{into: into, m: m}
	if err := w.entries(dir); err != nil {
		return nil, err
	}
	if err := w.segments(dir); err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{exportCheckpoint: at.point.Note, exportKey: at.pem, exportReadme: []byte(m.readme(at.point))} {
		if err := w.file(name, content); err != nil {
			return nil, err
		}
	}
	encoded, err := m.encode()
	if err != nil {
		return nil, err
	}
	if err := w.file(exportManifest, encoded); err != nil {
		return nil, err
	}
	delete(m.Files, exportManifest) // which cannot hold its own digest
	// What is handed over verifies.
	if _, _, _, err := VerifyExport(into, Trust{}); err != nil {
		return nil, fmt.Errorf("the export does not verify, so the log is damaged (keyd audit verify says where): %w", err)
	}
	return m, syncDirectory(filepath.Dir(into))
}

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// span finds the entries of a period, up to the one that a checkpoint covers.
func span(dir string, from, until time.Time, covered uint64) (*Manifest, error) {
	list, err := given(dir)
	if err != nil {
		return nil, err
	}
	start := uint64(0) // of the last segment that begins before the period
	for _, s := range list {
		f, err := openReading(s.path)
		if err != nil {
			return nil, err
		}
		rec, err := firstRecord(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(s.path), err)
		}
		if rec.Time.Before(from) || start == 0 {
			start = s.first
		}
	}
	r, err := OpenReader(dir, start)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // read only
	m := &Manifest{Version: manifestVersion, From: from.UTC(), Until: until.UTC()}
	seen := start - 1
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		within := !rec.Time.Before(from) && rec.Time.Before(until)
		if rec.Seq != seen+1 && (m.First > 0 || within) {
			return nil, fmt.Errorf("the entries %d to %d are not in %s: bring their segments back from the archive", seen+1, rec.Seq-1, dir)
		}
		seen = rec.Seq
		if !within {
			continue
		}
		if rec.Seq > covered {
			m.LeftOut++
			continue
		}
		if m.First == 0 {
			m.First = rec.Seq
		}
		m.Last = rec.Seq
	}
	if m.First == 0 {
		return nil, ErrNoEntries
	}
	return m, nil
}

type exporting struct {
	into string
	m    *Manifest
}

// file writes a small file, and its digest into the manifest.
func (w *exporting) file(name string, content []byte) error {
	out, err := w.create(name)
	if err != nil {
		return err
	}
	if _, err := out.Write(content); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

// summed is a file of an export that is being written.
type summed struct {
	w    *exporting
	name string
	file *os.File
	sum  hash.Hash
}

func (w *exporting) create(name string) (*summed, error) {
	f, err := os.OpenFile(filepath.Join(w.into, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return &summed{w, name, f, sha256.New()}, nil
}

func (s *summed) Write(b []byte) (int, error) {
	_, _ = s.sum.Write(b) // never fails
	return s.file.Write(b)
}

func (s *summed) Close() error {
	if s.w.m.Files == nil {
		s.w.m.Files = make(map[string]string)
	}
	s.w.m.Files[s.name] = hex.EncodeToString(s.sum.Sum(nil))
	if err := errors.Join(s.file.Sync(), s.file.Close()); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// entries writes the entries, as they are and as a table.
func (w *exporting) entries(dir string) (err error) {
	r, err := OpenReader(dir, w.m.First)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read only
	lines, err := w.create(exportLines)
	if err != nil {
		return err
	}
	table, err := w.create(exportTable)
	if err != nil {
		return errors.Join(err, lines.Close())
	}
	defer func() { err = errors.Join(err, lines.Close(), table.Close()) }()
	out := newTable(table)
	for seq := w.m.First; seq <= w.m.Last; seq++ {
		rec, err := r.Next()
		if err != nil {
			return err
		}
		if _, err := lines.Write(append(rec.Line(), '\n')); err != nil {
			return err
		}
		if err := out.add(rec); err != nil {
			return err
		}
	}
	return out.end()
}

// segments notes the digests of the files that the entries were in.
func (w *exporting) segments(dir string) error {
	list, err := given(dir)
	if err != nil {
		return err
	}
	for i, s := range list {
		if s.first > w.m.Last || i+1 < len(list) && list[i+1].first <= w.m.First {
			continue
		}
		f, err := openReading(s.path)
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read audit log: %w", err)
		}
		w.m.Segments = append(w.m.Segments, struct {
			Name   string `json:"name"`
			SHA256 string `json:"sha256"`
		}{filepath.Base(s.path), hex.EncodeToString(sum.Sum(nil))})
	}
	return nil
}

// byteOrderMark, in UTF-8, has spreadsheets take a table for what it is encoded in.
const byteOrderMark = "\ufeff"

// table writes entries as CSV (RFC 4180), in UTF-8.
type table struct{ w *csv.Writer }

var columns = []string{
	"seq", "time_utc", "identity", "event", "outcome", "reason", "rule",
	"resources", "account", "custody", "journal", "request_id", "detail",
}

func newTable(w io.Writer) table {
	_, _ = io.WriteString(w, byteOrderMark) // an error comes again with the first row
	t := table{csv.NewWriter(w)}
	t.w.UseCRLF = true
	_ = t.w.Write(columns) // the error comes with end
	return t
}

func (t table) add(r Record) error {
	var keys []string
	for _, k := range r.Keys {
		text := k.Name
		if k.Version != 0 {
			text += " v" + strconv.FormatUint(uint64(k.Version), 10)
		}
		for _, more := range []struct{ name, value string }{{"usage", k.Usage}, {"kcv", k.KCV}, {"ksn", k.KSN}} {
			if more.value != "" {
				text += " " + more.name + " " + more.value
			}
		}
		keys = append(keys, text)
	}
	journal := ""
	if r.Journal != 0 {
		journal = strconv.FormatUint(r.Journal, 10)
	}
	row := []string{
		strconv.FormatUint(r.Seq, 10), r.Time.Format(time.RFC3339Nano), r.Identity, r.Method, string(r.Decision), r.Reason, r.Rule,
		strings.Join(keys, "; "), r.PAN.String(), r.Custody, journal, r.RequestID, r.Detail,
	}
	for i := range row {
		row[i] = cell(row[i])
	}
	return t.w.Write(row)
}

func (t table) end() error {
	t.w.Flush()
	return t.w.Error()
}

// cell keeps a spreadsheet from taking a text for a formula: what begins like one gets an
// apostrophe before it. Control characters, of which none helps a reader, become a question
// mark.
func cell(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if strings.IndexAny(strings.TrimLeft(text, " \u00a0\u3000"), "=+-@＝＋－＠") == 0 {
		return "'" + text
	}
	return text
}

// VerifyExport verifies an export without the log: every entry, both files of them, and that
// the checkpoint is of a log that has exactly these entries at these places. It returns what
// the export says of itself, the checkpoint and who signed it. The error wraps [ErrExport],
// [ErrChain], or one of package checkpoint.
func VerifyExport(dir string, trust Trust) (*Manifest, *checkpoint.Checkpoint, KeyReport, error) {
	fail := func(err error) (*Manifest, *checkpoint.Checkpoint, KeyReport, error) {
		return nil, nil, KeyReport{}, err
	}
	encoded, err := readBounded(filepath.Join(dir, exportManifest), maxManifest)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrExport, err))
	}
	m := new(Manifest)
	if err := decodeExactly(encoded, m, maxManifest); err != nil {
		return fail(fmt.Errorf("%w: %s", ErrExport, exportManifest))
	}
	if again, err := m.encode(); err != nil || !bytes.Equal(again, encoded) || m.Version != manifestVersion || m.First == 0 || m.Last < m.First || m.Last > checkpoint.MaxSize {
		return fail(fmt.Errorf("%w: %s", ErrExport, exportManifest))
	}
	small := make(map[string][]byte)
	for _, name := range []string{exportCheckpoint, exportKey, exportReadme} {
		if small[name], err = readSmall(filepath.Join(dir, name)); err != nil {
			return fail(fmt.Errorf("%w: %w", ErrExport, err))
		}
		if sum := sha256.Sum256(small[name]); hex.EncodeToString(sum[:]) != m.Files[name] {
			return fail(fmt.Errorf("%w: %s was changed", ErrExport, name))
		}
	}
	c, err := checkpoint.Parse(small[exportCheckpoint])
	if err != nil {
		return fail(err)
	}
	keys, err := checkpoint.ParseKeys(small[exportKey])
	if err != nil {
		return fail(err)
	}
	key, err := trust.signer(c, keys)
	if err != nil {
		return fail(err)
	}
	if c.Origin != m.Origin {
		return fail(fmt.Errorf("%w: the checkpoint is of another log", ErrExport))
	}
	last, err := m.entries(dir)
	if err != nil {
		return fail(err)
	}
	if err := c.Follows(last, m.Consistency); err != nil {
		return fail(fmt.Errorf("the entries are not those of the log: %w", err))
	}
	return m, c, key, nil
}

// entries reads both files of entries and returns the tree that they make.
func (m *Manifest) entries(dir string) (checkpoint.Tree, error) {
	var none checkpoint.Tree
	top := frontier{size: m.First - 1, tops: append([]tlog.Hash(nil), m.Before...)}
	subtrees := 0
	for n := top.size; n > 0; n &= n - 1 {
		subtrees++
	}
	if subtrees != len(top.tops) {
		return none, fmt.Errorf("%w: %s", ErrExport, exportManifest)
	}
	f, err := openReading(filepath.Join(dir, exportLines))
	if err != nil {
		return none, fmt.Errorf("%w: %w", ErrExport, err)
	}
	defer f.Close() //nolint:errcheck // read only
	r := &Reader{file: f}
	lines, rows := sha256.New(), sha256.New()
	out := newTable(rows)
	for seq := m.First; seq <= m.Last; seq++ {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return none, fmt.Errorf("%w: %s ends before entry %d", ErrExport, exportLines, seq)
		}
		if err != nil {
			return none, fmt.Errorf("%s: %w", exportLines, err)
		}
		if rec.Seq != seq {
			return none, fmt.Errorf("%w: %s has entry %d where %d belongs", ErrExport, exportLines, rec.Seq, seq)
		}
		line := rec.Line()
		_, _ = lines.Write(append(line, '\n')) // a hash never fails
		top.add(tlog.RecordHash(line), func(tlog.Hash) {})
		if err := out.add(rec); err != nil {
			return none, err
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || len(r.buf) > 0 {
		return none, fmt.Errorf("%w: %s has more than the entries %d to %d", ErrExport, exportLines, m.First, m.Last)
	}
	if err := out.end(); err != nil {
		return none, err
	}
	if hex.EncodeToString(lines.Sum(nil)) != m.Files[exportLines] {
		return none, fmt.Errorf("%w: %s was changed", ErrExport, exportLines)
	}
	have, err := os.ReadFile(filepath.Join(dir, exportTable))
	if err != nil {
		return none, fmt.Errorf("%w: %w", ErrExport, err)
	}
	if sum := sha256.Sum256(have); !bytes.Equal(sum[:], rows.Sum(nil)) || hex.EncodeToString(sum[:]) != m.Files[exportTable] {
		return none, fmt.Errorf("%w: %s does not have what %s has", ErrExport, exportTable, exportLines)
	}
	return top.tree(), nil
}
