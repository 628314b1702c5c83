package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// maxLine bounds a line with its line feed, in bytes. It is more than the limits of
// [Entry] allow with every byte escaped.
const maxLine = 32 << 10

// Record is an entry in its place in the log.
type Record struct {
	Seq  uint64
	Time time.Time
	Entry
	Prev Hash // of the record before
	Hash Hash
}

type jsonLine struct {
	Version   int       `json:"v"`
	Seq       uint64    `json:"seq"`
	Time      string    `json:"time"`
	RequestID string    `json:"request_id"`
	Identity  string    `json:"identity"`
	Method    string    `json:"method"`
	Decision  Decision  `json:"decision"`
	Reason    string    `json:"reason"`
	Rule      string    `json:"rule"`
	Keys      []jsonKey `json:"keys"`
	PAN       PAN       `json:"pan"`
	Custody   string    `json:"custody"`
	Journal   uint64    `json:"journal"`
	Detail    string    `json:"detail"`
	Log       string    `json:"log"`
	Prev      string    `json:"prev"`
	Hash      string    `json:"hash"`
}

type jsonKey struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
	Usage   string `json:"usage"`
	KCV     string `json:"kcv"`
	KSN     string `json:"ksn"`
}

// parseLine reads a line without its line feed. It accepts exactly what appendLine
// writes: the record is encoded again and compared, hash included. The problem is
// empty if and only if the line is good.
func parseLine(line []byte) (_ Record, problem string) {
	if len(line) >= maxLine {
		return Record{}, "longer than any entry"
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	var in jsonLine
	if err := dec.Decode(&in); err != nil {
		return Record{}, "not an entry"
	}
	if _, err := dec.Token(); err != io.EOF {
		return Record{}, "more than an entry"
	}
	if in.Version != version {
		return Record{}, fmt.Sprintf("an entry of version %d, which another keyd wrote: that one reads and verifies it", in.Version)
	}
	at, err := time.Parse(time.RFC3339Nano, in.Time)
	if err != nil {
		return Record{}, "not an entry: no time"
	}
	rec := Record{Seq: in.Seq, Time: at.UTC(), Entry: in.entry()}
	if !parseHash(&rec.Prev, in.Prev) || !parseHash(&rec.Hash, in.Hash) {
		return Record{}, "not an entry: no hashes"
	}
	normal, err := rec.Entry.normalize()
	if err != nil {
		return Record{}, "holds what no entry may hold"
	}
	again, hash := appendLine(make([]byte, 0, len(line)+1), rec.Seq, rec.Time, appendBody(nil, &normal), rec.Prev)
	if hash != rec.Hash {
		return Record{}, "its hash does not fit its content"
	}
	if !bytes.Equal(again[:len(again)-1], line) {
		return Record{}, "not in the encoding of the log"
	}
	return rec, ""
}

func (in *jsonLine) entry() Entry {
	e := Entry{
		RequestID: in.RequestID, Identity: in.Identity, Method: in.Method,
		Decision: in.Decision, Reason: in.Reason, Rule: in.Rule,
		PAN: in.PAN, Custody: in.Custody, Journal: in.Journal, Detail: in.Detail, Log: in.Log,
	}
	for _, k := range in.Keys {
		e.Keys = append(e.Keys, Key(k))
	}
	return e
}

func parseHash(h *Hash, s string) bool {
	if len(s) != hex.EncodedLen(len(h)) {
		return false
	}
	_, err := hex.Decode(h[:], []byte(s))
	return err == nil
}

// Line returns the record as it stands in the log, without the line feed: what is hashed
// for the tree.
func (r Record) Line() []byte {
	line, _ := appendLine(nil, r.Seq, r.Time, appendBody(nil, &r.Entry), r.Prev)
	return line[:len(line)-1]
}
