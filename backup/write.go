package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"keyd/ceremony"
	"keyd/hsm"
	"keyd/ksn"
	"keyd/store"
)

// Sealer seals a backup; [hsm.Client] is one.
type Sealer interface {
	SealBackup(ctx context.Context, digest [sha256.Size]byte) (hsm.BackupSeal, error)
}

// ErrNoRegister says that the database has no register of officers and keys yet, so that there
// is nothing to restore later.
var ErrNoRegister = errors.New("the database has no register of officers and keys")

// Write writes a backup of a database to w, all but its seal, which it returns: without that
// the backup is none. It holds one moment of the database until it returns, so w must not
// block for long. An error of w is returned as it is.
func Write(ctx context.Context, w io.Writer, h *Header, database store.Backups, sealer Sealer) (seal []byte, t *Trailer, err error) {
	out := &writer{to: w, sum: sha256.New()}
	if err := out.write([]byte(magic)); err != nil {
		return nil, nil, err
	}
	if err := writeDocument(out, kindHeader, h); err != nil {
		return nil, nil, err
	}
	t = new(Trailer)
	if err := database.Export(ctx, func(i store.Item) error { return out.item(&i, t) }); err != nil {
		return nil, nil, err
	}
	if t.Register == 0 {
		return nil, nil, ErrNoRegister
	}
	if err := writeDocument(out, kindTrailer, t); err != nil {
		return nil, nil, err
	}
	sealed, err := sealer.SealBackup(ctx, [sha256.Size]byte(out.sum.Sum(nil)))
	if err != nil {
		return nil, nil, err
	}
	seal, err = document(nil, kindSeal, &ceremony.BackupSeal{Signed: ceremony.Signed(sealed.Signed), Code: sealed.Code})
	return seal, t, err
}

type writer struct {
	to     io.Writer
	sum    hash.Hash
	buffer []byte
}

func (w *writer) write(b []byte) error {
	w.sum.Write(b)
	_, err := w.to.Write(b)
	return err
}

func writeDocument[T any](w *writer, k kind, d *T) error {
	b, err := document(w.buffer[:0], k, d)
	if err != nil {
		return err
	}
	w.buffer = b
	return w.write(b)
}

// item writes an item, unless backups leave it out.
func (w *writer) item(given *store.Item, t *Trailer) error {
	i := &Item{Item: *given}
	switch {
	case i.Proposal != nil:
		return nil // no token has pinned it yet, or its officers have the record
	case i.Epoch != nil:
		t.Register, t.Document = i.Epoch.Version, ceremony.Digest(i.Epoch.Sealed)
	case i.Row != nil:
		a, err := advances(i.Row)
		if err != nil || len(a.Set) == 0 {
			return err
		}
		i = &Item{Advances: a}
	}
	b, err := encode(w.buffer[:0], i)
	if err != nil {
		return err
	}
	w.buffer = b
	if n := t.Counts.of(kind(b[0])); n != nil {
		*n++
	}
	return w.write(b)
}

// advances takes what a row of the journal says of counters, and leaves its receipts: they are
// answers to requests.
func advances(r *store.JournalRow) (*Advances, error) {
	a := &Advances{Number: r.Number}
	err := ksn.Advances(r.Number, r.Batch, func(sequence []byte, counter uint32) {
		a.Set = append(a.Set, Advance{[sequenceSize]byte(sequence), counter})
	})
	return a, err
}
