package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// comparison is two binaries that took turns at an operation, so that whatever else the
// machine did met them alike.
type comparison struct {
	With        string  `json:"with"` // the other binary
	This        figures `json:"this"`
	Other       figures `json:"other"`
	RatePercent float64 `json:"rate_percent"` // what the other's rate is above this one's, of the other's
}

// theOther is what -against names.
const theOther = "the other binary"

// turns is how often each of two binaries is measured.
const turns = 6

// comparisons measures what the audit log costs and, if asked to, another binary.
func (r *runner) comparisons() error {
	if r.wants("audit log on and off") {
		for _, other := range []struct {
			name, file string
			source     []byte
		}{{"no audit log of requests", "audit/within.go", unlogged}, {"an audit log that is not durable", "audit/sync.go", unsynced}} {
			r.say("    building keyd with %s", other.name)
			binary, err := buildReplaced(r.ctx, r.dir, other.file, other.source)
			if err != nil {
				return err
			}
			if err := r.compare(other.name, binary); err != nil {
				return err
			}
		}
	}
	if r.against != "" && r.wants("against another binary") {
		return r.compare(theOther, r.against)
	}
	return nil
}

// compare has the first service and one of another binary take turns.
func (r *runner) compare(name, binary string) (err error) {
	s, err := startService(r.ctx, &r.options, binary, filepath.Join(r.dir, "other"), fixedKeys(r.ksn))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop(), os.RemoveAll(filepath.Join(r.dir, "other"))) }()
	other, _, err := newTarget(r.ctx, &r.options, s)
	if err != nil {
		return err
	}
	for _, w := range []*workload{r.tdes, r.zone} {
		same, err := newWorkload(w.operation, w.incoming, r.terminals, r.age, r.cards)
		if err != nil {
			return err
		}
		c := comparison{With: name}
		for range turns {
			for _, side := range []struct {
				target
				w     *workload
				total *figures
			}{{r.service, w, &c.This}, {other, same, &c.Other}} {
				f, err := side.measureClosed(r.ctx, side.w, unary, r.underWay, r.length/2, false)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", name, w.operation, err)
				}
				add(side.total, &f, turns)
			}
		}
		c.This.Name, c.Other.Name = w.operation.String(), w.operation.String()+", "+name
		c.RatePercent = 100 * (1 - c.This.Rate/c.Other.Rate)
		r.told(c.This)
		r.told(c.Other)
		r.results.Compared = append(r.results.Compared, c)
	}
	return nil
}

//go:embed replaced/within.go.txt
var unlogged []byte

//go:embed replaced/sync.go.txt
var unsynced []byte

// buildReplaced builds keyd with another source in the place of a file, which is given
// from the module's directory.
func buildReplaced(ctx context.Context, dir, file string, source []byte) (string, error) {
	keyd, other, overlay := filepath.Join(dir, "keyd-replaced"), filepath.Join(dir, "replaced.go"), filepath.Join(dir, "overlay.json")
	module, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	replaced := filepath.Join(filepath.Dir(string(module)), file)
	if _, err := os.Stat(replaced); err != nil { // or nothing would be replaced
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {replaced: other}})
	if err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(other, source, 0o644), os.WriteFile(overlay, list, 0o644)); err != nil {
		return "", err
	}
	if err := buildKeyd(ctx, keyd, "-overlay", overlay, "-ldflags", "-X main.version=measured"); err != nil {
		return "", fmt.Errorf("with another %s: %w", file, err)
	}
	return keyd, nil
}
