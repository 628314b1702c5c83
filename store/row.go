package store

import (
	"math"
	"time"
)

// row is the columns of a row as they come; see scan. What is not of its type, or outside its
// range, makes the whole row corrupt.
type row struct {
	values  []any
	corrupt bool
}

func readRow(from scanner, n int) (*row, error) {
	values, err := columns(from, n)
	if err != nil {
		return nil, err
	}
	return &row{values: values}, nil
}

func (r *row) text(i int) string { return column[string](r, i) }

// bytes is nil where there are none: the databases differ in that.
func (r *row) bytes(i int) []byte {
	b := column[[]byte](r, i)
	if len(b) == 0 {
		return nil
	}
	return b
}

func (r *row) number(i int) uint64 {
	n := column[int64](r, i)
	r.corrupt = r.corrupt || n < 0
	return uint64(n)
}

func (r *row) small(i int) uint32 {
	n := r.number(i)
	r.corrupt = r.corrupt || n > math.MaxUint32
	return uint32(n)
}

func (r *row) time(i int) time.Time { return time.UnixMicro(column[int64](r, i)).UTC() }

// timeOrNone is the zero time where the column is 0; see micros.
func (r *row) timeOrNone(i int) time.Time {
	if column[int64](r, i) == 0 {
		return time.Time{}
	}
	return r.time(i)
}

// end returns [ErrCorrupt] unless every column was what it should be, and so is the record.
func (r *row) end(invalid error) error {
	if r.corrupt || invalid != nil {
		return ErrCorrupt
	}
	return nil
}

func column[T any](r *row, i int) T {
	v, ok := r.values[i].(T)
	r.corrupt = r.corrupt || !ok
	return v
}

// micros is a time as it is stored, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
