package server

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"keyd/fault"
)

// What is written comes out in parts of one size, and the last one; whoever does not read on
// loses the backup, and the database is not held for longer.
func TestBackupParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &parts{ctx: t.Context(), draining: make(chan struct{}), ready: make(chan []byte, backupParts)}
		want := bytes.Repeat([]byte("0123456789"), backupPart/4)
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 777)
			if _, err := p.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		close(p.ready)
		var got []byte
		for part := range p.ready {
			if len(part) > backupPart {
				t.Errorf("a part of %d bytes", len(part))
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes came out, %d went in", len(got), len(want))
		}
	})
	for name, c := range map[string]struct {
		end  func(cancel func(), draining chan struct{})
		want func(error) bool
	}{
		"not read":   {func(func(), chan struct{}) {}, func(err error) bool { return fault.Of(err).Reason == fault.Conflict }},
		"gone":       {func(cancel func(), _ chan struct{}) { cancel() }, func(err error) bool { return errors.Is(err, context.Canceled) }},
		"keyd stops": {func(_ func(), d chan struct{}) { close(d) }, func(err error) bool { return fault.Of(err).Reason == fault.ModuleUnavailable }},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			draining := make(chan struct{})
			p := &parts{ctx: ctx, draining: draining, ready: make(chan []byte, 1)}
			began := time.Now()
			if _, err := p.Write(make([]byte, backupPart)); err != nil {
				t.Fatal(err) // there is room for one
			}
			c.end(cancel, draining)
			_, err := p.Write(make([]byte, backupPart))
			if !c.want(err) || time.Since(began) > backupPatience {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		})
	}
}
