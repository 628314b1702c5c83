package audit

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/checkpoint"
)

// EntryProof is one entry with what proves that it is in the log: somebody who has nothing
// else can verify it.
type EntryProof struct {
	Version    int               `json:"version"` // 1
	Seq        uint64            `json:"seq"`
	Line       string            `json:"line"`       // the entry as it stands in the log
	Proof      []checkpoint.Hash `json:"proof"`      // inclusion proof (RFC 6962 §2.1.1)
	Checkpoint string            `json:"checkpoint"` // signed
	Module     string            `json:"module"`     // the key that signed, in PEM; believed by nobody for being here
}

const proofVersion = 1

// MaxProofFile bounds an encoded proof, in bytes.
const MaxProofFile = 256 << 10

// ErrProofFile says that a file is no proof of an entry.
var ErrProofFile = errors.New("this is no proof of an audit entry")

// Encode returns the proof as JSON, with a line feed.
func (p *EntryProof) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode proof: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseProof reads what [EntryProof.Encode] returns, and nothing else. The error is
// [ErrProofFile].
func ParseProof(b []byte) (*EntryProof, error) {
	p := new(EntryProof)
	if err := decodeExactly(b, p, MaxProofFile); err != nil {
		return nil, ErrProofFile
	}
	again, err := p.Encode()
	if err != nil || !bytes.Equal(again, b) || p.Version != proofVersion {
		return nil, ErrProofFile
	}
	return p, nil
}

// decodeExactly decodes one JSON value without unknown fields.
func decodeExactly(b []byte, into any, most int) error {
	if len(b) > most {
		return fmt.Errorf("more than %d bytes", most)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// Prove proves an entry from the files of a log, or of a copy: its segment, the newest
// checkpoint, and the file of hashes. No service need run. Who wants to be sure of the rest
// calls [VerifyDir].
func Prove(dir string, seq uint64) (*EntryProof, error) {
	at, err := openProven(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close() //nolint:errcheck // read only
	if seq == 0 {
		return nil, errors.New("there is no entry 0: the first one has the number 1")
	}
	if seq > at.point.Size {
		return nil, uncovered(dir, seq, at.point.Size)
	}
	r, err := OpenReader(dir, seq)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // read only
	rec, err := r.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if rec.Seq != seq {
		return nil, fmt.Errorf("the segment with entry %d is not in %s: bring it back from the archive", seq, dir)
	}
	line := rec.Line()
	proof, err := tlog.ProveRecord(int64(at.point.Size), int64(seq-1), at.hashes)
	if err != nil {
		return nil, err
	}
	if err := at.point.Has(seq, line, proof); err != nil {
		return nil, fmt.Errorf("entry %d: %w: verify the log (keyd audit verify)", seq, err)
	}
	return &EntryProof{Version: proofVersion, Seq: seq, Line: string(line), Proof: proof, Checkpoint: string(at.point.Note), Module: string(at.pem)}, nil
}

// uncovered says why an entry behind the newest checkpoint is not proven: it is not there, or
// not signed yet.
func uncovered(dir string, seq, covered uint64) error {
	newest, err := Tail(dir, 1)
	if err != nil {
		return err
	}
	if n := len(newest); n == 0 || newest[n-1].Seq < seq {
		last := covered
		if n > 0 {
			last = max(last, newest[n-1].Seq)
		}
		return fmt.Errorf("the log has no entry %d: its newest one is %d", seq, last)
	}
	return fmt.Errorf("entry %d is behind the newest checkpoint, which is of entry %d: wait for the next one (a minute at most while keyd runs)", seq, covered)
}

// Verify checks an entry's proof: it is in the log that the checkpoint is of, at its place.
// It returns the entry, the checkpoint and who signed it.
func (p *EntryProof) Verify(trust Trust) (Record, *checkpoint.Checkpoint, KeyReport, error) {
	fail := func(err error) (Record, *checkpoint.Checkpoint, KeyReport, error) {
		return Record{}, nil, KeyReport{}, err
	}
	rec, problem := parseLine([]byte(p.Line))
	if problem != "" || rec.Seq != p.Seq {
		return fail(fmt.Errorf("%w: its line is no entry of that number", ErrProofFile))
	}
	c, err := checkpoint.Parse([]byte(p.Checkpoint))
	if err != nil {
		return fail(err)
	}
	keys, err := checkpoint.ParseKeys([]byte(p.Module))
	if err != nil {
		return fail(err)
	}
	key, err := trust.signer(c, keys)
	if err != nil {
		return fail(err)
	}
	if err := c.Has(p.Seq, []byte(p.Line), p.Proof); err != nil {
		return fail(err)
	}
	return rec, c, key, nil
}

// proven is what the files of a log prove with.
type proven struct {
	point  *checkpoint.Checkpoint // the newest
	pem    []byte                 // of the key that signed it
	hashes hashFile
	file   *os.File
}

func (p *proven) Close() error { return p.file.Close() }

func openProven(dir string) (*proven, error) {
	text, err := readSmall(filepath.Join(dir, checkpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no checkpoint in %s: keyd makes one once a module is ready; copy the whole directory", dir)
	}
	if err != nil {
		return nil, err
	}
	p := new(proven)
	if p.point, err = checkpoint.Parse(text); err != nil {
		return nil, fmt.Errorf("%s: %w", checkpointFile, err)
	}
	beside, err := readSmall(filepath.Join(dir, keysFile))
	if err != nil {
		return nil, fmt.Errorf("the key of the checkpoint: %w", err)
	}
	keys, err := checkpoint.ParseKeys(beside)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keysFile, err)
	}
	var by *ecdsa.PublicKey
	for _, key := range keys {
		if p.point.Verify(key) == nil {
			by = key
		}
	}
	if _, err := (Trust{}).judge(p.point, by); err != nil {
		return nil, err
	}
	if p.pem, err = checkpoint.KeyPEM(by); err != nil {
		return nil, err
	}
	if p.file, err = openReading(filepath.Join(dir, treeFile)); err != nil {
		return nil, fmt.Errorf("the hashes of the log: %w: copy the file too", err)
	}
	p.hashes = hashFile{p.file}
	root, err := tlog.TreeHash(int64(p.point.Size), p.hashes)
	if err == nil && root != p.point.Root {
		err = fmt.Errorf("%w: the file of hashes (%s) does not fit the newest checkpoint", ErrChain, treeFile)
	}
	if err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	return p, nil
}
