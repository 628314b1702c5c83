package batch

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// MaxRows is the number of rows that a file can have.
const MaxRows = 2_000_000

// The columns of a file.
var (
	needed = []string{"id", "owner", "model", "serial"}
	known  = append(slices.Clone(needed), "site", "certificate", "key_set")
)

// Row is one terminal of a file.
type Row struct {
	Line         int // of the file, on which it begins
	ID           string
	Owner        string
	Model        string
	Serial       string
	Site         string
	Certificates [][]byte // DER, as [Certificates] returns them; none where the cell is empty
	KeySet       string   // by which it gets keys; empty for none

	// Problem says why the row cannot be used: a certificate that cannot be read, or
	// something that an earlier row has. It is empty where nothing is wrong so far.
	Problem string
}

// Reader reads a file row by row.
type Reader struct {
	csv  *csv.Reader
	open func(path string) ([]byte, error)
	at   map[string]int // where the columns are
	rows int

	ids  map[string]int            // lines, by identifier
	keys map[[sha256.Size]byte]int // lines, by public key
}

// NewReader reads the first line of a file. open returns the content of a file of certificates
// by the path that a row has.
func NewReader(r io.Reader, open func(path string) ([]byte, error)) (*Reader, error) {
	text := bufio.NewReader(r)
	if mark, err := text.Peek(3); err == nil && bytes.Equal(mark, []byte("\xEF\xBB\xBF")) { // as spreadsheets write it
		_, _ = text.Discard(3)
	}
	c := csv.NewReader(text)
	c.ReuseRecord = true
	head, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: its first line names the columns")
	}
	if err != nil {
		return nil, broken(err)
	}
	b := &Reader{csv: c, open: open, at: map[string]int{}, ids: map[string]int{}, keys: map[[sha256.Size]byte]int{}}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := b.at[name]; twice || !slices.Contains(known, name) {
			return nil, fmt.Errorf("the first line names the columns, each once: %s; column %d is none of them, or comes twice", strings.Join(known, ", "), i+1)
		}
		b.at[name] = i
	}
	for _, name := range needed {
		if _, ok := b.at[name]; !ok {
			return nil, fmt.Errorf("the first line has no column %s", name)
		}
	}
	return b, nil
}

// Next returns the next row, and io.EOF at the end. Any other error ends the file: what follows
// cannot be told apart.
func (b *Reader) Next() (*Row, error) {
	cells, err := b.csv.Read()
	if err != nil {
		return nil, broken(err)
	}
	line, _ := b.csv.FieldPos(0)
	if b.rows++; b.rows > MaxRows {
		return nil, fmt.Errorf("line %d: a file has at most %d rows", line, MaxRows)
	}
	cell := func(name string) string {
		if i, ok := b.at[name]; ok {
			return strings.Clone(strings.TrimSpace(cells[i]))
		}
		return ""
	}
	row := &Row{Line: line, ID: cell("id"), Owner: cell("owner"), Model: cell("model"), Serial: cell("serial"), Site: cell("site"), KeySet: cell("key_set")}
	if row.Certificates, err = b.certificates(cell("certificate")); err != nil {
		row.Problem = "certificate: " + err.Error()
		return row, nil
	}
	row.Problem = b.repeated(row)
	return row, nil
}

// certificates reads what a cell says.
func (b *Reader) certificates(cell string) ([][]byte, error) {
	switch {
	case cell == "":
		return nil, nil
	case strings.HasPrefix(cell, "-----BEGIN "):
		return Certificates([]byte(cell))
	case strings.ContainsAny(cell, "\r\n\x00"):
		return nil, errors.New("it is neither PEM nor the path of a file")
	}
	text, err := b.open(cell)
	if err != nil {
		return nil, err
	}
	return Certificates(text)
}

// repeated says what of a row an earlier one has.
func (b *Reader) repeated(row *Row) string {
	if line, ok := b.ids[row.ID]; ok {
		return fmt.Sprintf("line %d has this identifier already", line)
	}
	b.ids[row.ID] = row.Line
	if len(row.Certificates) == 0 {
		return ""
	}
	device, err := x509.ParseCertificate(row.Certificates[0])
	if err != nil {
		return "certificate: it cannot be read as X.509"
	}
	key := sha256.Sum256(device.RawSubjectPublicKeyInfo)
	if line, ok := b.keys[key]; ok {
		return fmt.Sprintf("line %d has a certificate over the same public key", line)
	}
	b.keys[key] = row.Line
	return ""
}

// broken is what is wrong with a file as a whole. The text of the file is not in it.
func broken(err error) error {
	var wrong *csv.ParseError
	if errors.As(err, &wrong) {
		return fmt.Errorf("line %d cannot be read as CSV: %w", wrong.Line, wrong.Err)
	}
	return err
}
