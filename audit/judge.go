package audit

import (
	"fmt"

	"keyd/checkpoint"
)

// ParseEntry reads a line of the log, without its line feed. The error is [ErrEntry].
func ParseEntry(line string) (Record, error) {
	rec, problem := parseLine([]byte(line))
	if problem != "" {
		return Record{}, fmt.Errorf("%w: %s", ErrEntry, problem)
	}
	return rec, nil
}

// Judge reads a checkpoint and says who signed it: one of the keys that came with it, in PEM,
// or one that is believed.
func Judge(text, keys []byte, trust Trust) (*checkpoint.Checkpoint, KeyReport, error) {
	c, err := checkpoint.Parse(text)
	if err != nil {
		return nil, KeyReport{}, err
	}
	beside, err := checkpoint.ParseKeys(keys)
	if err != nil {
		return nil, KeyReport{}, err
	}
	key, err := trust.signer(c, beside)
	if err != nil {
		return nil, KeyReport{}, err
	}
	return c, key, nil
}

// NewestCheckpoint returns the newest checkpoint in the directory of a log, and who signed it.
// It says nothing of the entries: that does [VerifyDir].
func NewestCheckpoint(dir string, trust Trust) (*checkpoint.Checkpoint, KeyReport, error) {
	at, err := openProven(dir)
	if err != nil {
		return nil, KeyReport{}, err
	}
	defer at.Close() //nolint:errcheck // read only
	return Judge(at.point.Note, at.pem, trust)
}
