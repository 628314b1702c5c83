package audit

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/checkpoint"
)

// Trust says which keys of modules are believed. Without any, the keys that lie beside the
// log are taken, and the report says that nobody vouches for them.
type Trust struct {
	Keys         []*ecdsa.PublicKey // believed
	Fingerprints []string           // of keys that are believed ([checkpoint.Fingerprint])
}

// given reports whether there is anything to go by.
func (t Trust) given() bool { return len(t.Keys)+len(t.Fingerprints) > 0 }

// judge says what is to be thought of the key that signed a checkpoint, nil if no key at hand
// did.
func (t Trust) judge(c *checkpoint.Checkpoint, by *ecdsa.PublicKey) (KeyReport, error) {
	if by == nil {
		return KeyReport{}, fmt.Errorf("checkpoint of entry %d: %w: no key at hand has signed it (it names key %08x)", c.Size, checkpoint.ErrSignature, c.KeyID())
	}
	fingerprint, err := checkpoint.Fingerprint(by)
	if err != nil {
		return KeyReport{}, err
	}
	trusted := slices.Contains(t.Fingerprints, fingerprint) || slices.ContainsFunc(t.Keys, func(k *ecdsa.PublicKey) bool { return k.Equal(by) })
	if !trusted && t.given() {
		return KeyReport{}, fmt.Errorf("checkpoint of entry %d: %w: it is signed by %s, which you do not vouch for", c.Size, checkpoint.ErrSignature, fingerprint)
	}
	return KeyReport{Fingerprint: fingerprint, Trusted: trusted}, nil
}

// signer finds who signed a checkpoint, among keys that come with it and those believed.
func (t Trust) signer(c *checkpoint.Checkpoint, beside []*ecdsa.PublicKey) (KeyReport, error) {
	for _, key := range slices.Concat(t.Keys, beside) {
		if c.Verify(key) == nil {
			k, err := t.judge(c, key)
			k.Checkpoints = 1
			return k, err
		}
	}
	return t.judge(c, nil)
}

// Report is what [VerifyDir] found in a good log.
type Report struct {
	Origin    string
	Segments  []SegmentReport
	Missing   []Range // entries of segments that were not there, between the first of all and the newest
	Entries   uint64  // that were read
	First     time.Time
	Last      time.Time
	Head      Head // the newest entry
	Decisions map[Decision]uint64

	Tree        checkpoint.Tree        // over all entries; of size 0 if it cannot be computed
	Checkpoints int                    // that are good
	Newest      *checkpoint.Checkpoint // nil if there is none
	Uncovered   uint64                 // entries behind the newest checkpoint, for which nothing is signed yet
	Keys        []KeyReport
	Unproven    []Range // entries that were read but not held against any tree: what is before them is missing
	Unchecked   int     // checkpoints with a good signature over a tree that could not be computed
}

// SegmentReport is a segment that was read.
type SegmentReport struct {
	Name   string `json:"name"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	SHA256 string `json:"sha256"` // of the file, hex
}

// Range is entries by number, both ends included.
type Range struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// KeyReport is a key that signed checkpoints.
type KeyReport struct {
	Fingerprint string `json:"fingerprint"` // hex
	Trusted     bool   `json:"trusted"`
	Checkpoints int    `json:"checkpoints"`
}

// Vouched reports whether somebody vouches for every key that signed.
func (r *Report) Vouched() bool {
	return len(r.Keys) > 0 && !slices.ContainsFunc(r.Keys, func(k KeyReport) bool { return !k.Trusted })
}

// VerifyDir verifies a log, or a copy of it: a directory, or one segment with what lies
// beside it. It reads every line, and holds lines, hashes and checkpoints against each other;
// noted are checkpoints that were kept elsewhere. Segments may be missing: with the file of
// hashes the others are proven all the same.
//
// An error says where and how the log is not what was written, or wraps [ErrCut],
// [checkpoint.ErrNote] or [checkpoint.ErrSignature]; there is no report then. Whoever may read
// the files may call it, and no service need run.
func VerifyDir(path string, trust Trust, noted ...*checkpoint.Checkpoint) (*Report, error) {
	list, err := given(path)
	if err != nil {
		return nil, err
	}
	v := &verifying{Report: Report{Decisions: make(map[Decision]uint64)}, dir: filepath.Dir(list[0].path), trust: trust}
	if err := v.readKeys(); err != nil {
		return nil, err
	}
	// Checkpoints first: what is written meanwhile has more entries, not fewer.
	if err := v.readCheckpoints(list, noted); err != nil {
		return nil, err
	}
	if err := v.openHashes(); err != nil {
		return nil, err
	}
	if v.hashes != nil {
		defer v.hashes.Close() //nolint:errcheck // read only
	}
	for _, s := range list {
		if err := v.segment(s); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(s.path), err)
		}
	}
	v.Head = v.chain.head
	if v.proven {
		v.Tree = v.top.tree()
	}
	if err := v.rest(); err != nil {
		return nil, err
	}
	return &v.Report, nil
}

// verifying is a verification under way.
type verifying struct {
	Report
	dir    string
	trust  Trust
	keys   []*ecdsa.PublicKey
	points []*checkpoint.Checkpoint // by size
	next   int                      // the first that was not reached
	late   []*checkpoint.Checkpoint // that lie in segments that are missing

	hashes *os.File // nil if there are none
	count  int64    // hashes in it

	chain  chain
	top    frontier
	proven bool // top is that of all entries up to the present one
}

func (v *verifying) readKeys() error {
	v.keys = slices.Clone(v.trust.Keys)
	b, err := readSmall(filepath.Join(v.dir, keysFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	beside, err := checkpoint.ParseKeys(b)
	if err != nil {
		return fmt.Errorf("%s: %w", keysFile, err)
	}
	v.keys = append(v.keys, beside...)
	return nil
}

func (v *verifying) readCheckpoints(list []segment, noted []*checkpoint.Checkpoint) error {
	for _, s := range list {
		all, rest, err := readList(s.list())
		if err != nil {
			return err
		}
		if rest > 0 {
			return fmt.Errorf("%s: %w: it ends within one (a loss of power leaves that in the newest list, until keyd has started again)", filepath.Base(s.list()), checkpoint.ErrNote)
		}
		v.points = append(v.points, all...)
	}
	alone, err := readSmall(filepath.Join(v.dir, checkpointFile))
	if err == nil {
		c, err := checkpoint.Parse(alone)
		if err != nil {
			return fmt.Errorf("%s: %w", checkpointFile, err)
		}
		if !slices.ContainsFunc(v.points, func(p *checkpoint.Checkpoint) bool { return bytes.Equal(p.Note, c.Note) }) {
			v.points = append(v.points, c)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	v.points = append(v.points, noted...)
	slices.SortStableFunc(v.points, func(a, b *checkpoint.Checkpoint) int {
		return int(min(max(int64(a.Size)-int64(b.Size), -1), 1))
	})
	return v.checkSignatures()
}

// checkSignatures checks the signature of every checkpoint, on all processors.
func (v *verifying) checkSignatures() error {
	by := make([]*ecdsa.PublicKey, len(v.points))
	var wait sync.WaitGroup
	work := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := range work {
				for _, key := range v.keys {
					if v.points[i].Verify(key) == nil {
						by[i] = key
						break
					}
				}
			}
		})
	}
	for i := range v.points {
		work <- i
	}
	close(work)
	wait.Wait()
	for i, c := range v.points {
		key, err := v.trust.judge(c, by[i])
		if err != nil {
			return err
		}
		at := slices.IndexFunc(v.Keys, func(k KeyReport) bool { return k.Fingerprint == key.Fingerprint })
		if at < 0 {
			at = len(v.Keys)
			v.Keys = append(v.Keys, key)
		}
		v.Keys[at].Checkpoints++
	}
	if n := len(v.points); n > 0 {
		v.Newest = v.points[n-1]
	}
	return nil
}

func (v *verifying) openHashes() error {
	f, err := openReading(filepath.Join(v.dir, treeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	size, err := regularSize(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	v.hashes, v.count = f, size/tlog.HashSize
	return nil
}

// segment reads one segment.
func (v *verifying) segment(s segment) error {
	f, err := openReading(s.path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	if expected := v.chain.head.Seq + 1; s.first != expected || s.first == 1 {
		if err := v.enter(s.first, expected); err != nil {
			return err
		}
	}
	sum := sha256.New()
	lines := bufio.NewReaderSize(io.TeeReader(f, sum), 64<<10)
	stored := v.stored(s.first)
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			if number == 1 {
				return v.chain.broken("the segment has no entry")
			}
			break
		}
		var rec Record
		switch {
		case err == nil && len(line) <= maxLine:
			rec, err = v.chain.next(line[:len(line)-1])
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
			err = v.chain.broken("longer than any entry")
		case errors.Is(err, io.EOF):
			err = v.chain.torn(len(line))
		default:
			return fmt.Errorf("read audit log: %w", err)
		}
		if err == nil && number == 1 {
			err = v.first(s, rec)
		}
		if err == nil {
			err = v.take(rec, line[:len(line)-1], stored)
		}
		var place *ChainError
		if errors.As(err, &place) {
			place.Line = number
		}
		if err != nil {
			return err
		}
	}
	v.Segments = append(v.Segments, SegmentReport{
		Name: filepath.Base(s.path), First: s.first, Last: v.chain.head.Seq, SHA256: hex.EncodeToString(sum.Sum(nil)),
	})
	return nil
}

// enter begins with a segment that does not follow the one before, because others are missing.
func (v *verifying) enter(first, expected uint64) error {
	if first < expected {
		return v.chain.broken(fmt.Sprintf("the segment is said to begin with entry %d", first))
	}
	if first > expected {
		v.Missing = append(v.Missing, Range{expected, first - 1})
	}
	for v.next < len(v.points) && v.points[v.next].Size < first {
		v.late = append(v.late, v.points[v.next])
		v.next++
	}
	v.chain = chain{head: Head{Seq: first - 1}, known: first == 1}
	v.top, v.proven = frontier{}, first == 1
	if first > 1 && v.hashes != nil && v.count >= tlog.StoredHashCount(int64(first-1)) {
		top, err := frontierAt(first-1, hashFile{v.hashes})
		if err != nil {
			return err
		}
		v.top, v.proven = top, true
	}
	return nil
}

// first checks the entry with which a segment begins.
func (v *verifying) first(s segment, rec Record) error {
	switch {
	case rec.Seq != s.first:
		return v.chain.broken(fmt.Sprintf("the segment is said to begin with entry %d and begins with %d", s.first, rec.Seq))
	case rec.Log == "":
		return v.chain.broken("the segment does not begin with the entry that names the log")
	case v.Origin != "" && v.Origin != rec.Log:
		return fmt.Errorf("%w: this segment is of %s, others are of %s", ErrCut, rec.Log, v.Origin)
	}
	v.Origin = rec.Log
	return nil
}

// stored returns what reads the stored hashes that follow from a segment's lines.
func (v *verifying) stored(first uint64) io.Reader {
	from := tlog.StoredHashCount(int64(first - 1))
	if v.hashes == nil || !v.proven || from >= v.count {
		return nil
	}
	return bufio.NewReaderSize(io.NewSectionReader(v.hashes, from*tlog.HashSize, (v.count-from)*tlog.HashSize), 64<<10)
}

// take takes an entry into report and tree.
func (v *verifying) take(rec Record, line []byte, stored io.Reader) (err error) {
	if v.Entries == 0 {
		v.First = rec.Time
	}
	v.Entries++
	v.Last = rec.Time
	v.Decisions[rec.Decision]++
	if !v.proven {
		if n := len(v.Unproven); n > 0 && v.Unproven[n-1].Last+1 == rec.Seq {
			v.Unproven[n-1].Last = rec.Seq
		} else {
			v.Unproven = append(v.Unproven, Range{rec.Seq, rec.Seq})
		}
		for v.next < len(v.points) && v.points[v.next].Size <= rec.Seq {
			v.late = append(v.late, v.points[v.next])
			v.next++
		}
		return nil
	}
	v.top.add(tlog.RecordHash(line), func(h tlog.Hash) {
		var was tlog.Hash
		if stored == nil || err != nil {
			return
		}
		if _, short := io.ReadFull(stored, was[:]); short == nil && was != h {
			err = fmt.Errorf("%w: the file of hashes (%s) does not fit entry %d: it was altered or damaged. Where all segments are there it can be removed while keyd is stopped, and is made anew", ErrChain, treeFile, rec.Seq)
		}
	})
	if err != nil {
		return err
	}
	for ; v.next < len(v.points) && v.points[v.next].Size == rec.Seq; v.next++ {
		if err := v.compare(v.points[v.next], v.top.tree()); err != nil {
			return err
		}
	}
	return nil
}

// compare holds a checkpoint against the tree over as many entries.
func (v *verifying) compare(c *checkpoint.Checkpoint, at checkpoint.Tree) error {
	switch {
	case c.Origin != v.Origin:
		return fmt.Errorf("%w: a checkpoint of %s lies with %s", ErrCut, c.Origin, v.Origin)
	case at != c.Tree:
		return fmt.Errorf("%w: the checkpoint of entry %d was signed over other entries than these", ErrCut, c.Size)
	}
	v.Checkpoints++
	return nil
}

// rest looks at the checkpoints that no entry that was read has reached.
func (v *verifying) rest() error {
	if v.next < len(v.points) {
		return fmt.Errorf("%w: it ends with entry %d, and a checkpoint of entry %d was signed", ErrCut, v.chain.head.Seq, v.points[v.next].Size)
	}
	for _, c := range v.late {
		if v.hashes == nil || v.count < tlog.StoredHashCount(int64(c.Size)) {
			if c.Origin != v.Origin {
				return fmt.Errorf("%w: a checkpoint of %s lies with %s", ErrCut, c.Origin, v.Origin)
			}
			v.Unchecked++
			continue
		}
		root, err := tlog.TreeHash(int64(c.Size), hashFile{v.hashes})
		if err != nil {
			return err
		}
		if err := v.compare(c, checkpoint.Tree{Size: c.Size, Root: root}); err != nil {
			return err
		}
	}
	covered := uint64(0)
	if v.Newest != nil {
		covered = v.Newest.Size
	}
	if v.Head.Seq > covered {
		v.Uncovered = v.Head.Seq - covered
	}
	return nil
}
