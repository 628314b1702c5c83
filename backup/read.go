package backup

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"

	"keyd/ceremony"
	"keyd/store"
)

// Reader reads a backup strictly: what is not exactly as it was written is an error that wraps
// [ErrBackup], at the latest in place of io.EOF.
type Reader struct {
	in     *bufio.Reader
	sum    hash.Hash
	header Header
	before Item // the item before
	counts Counts
	epoch  *store.Epoch
	ended  bool

	trailer  Trailer
	seal     ceremony.BackupSeal
	said     *ceremony.Backup
	identity *ecdsa.PublicKey
	digest   [sha256.Size]byte
}

// NewReader reads as far as the header.
func NewReader(from io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(from, 256<<10), sum: sha256.New()}
	begin := make([]byte, len(magic))
	n, err := io.ReadFull(r.in, begin)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	switch {
	case n < len(magic) || !bytes.HasPrefix(begin, []byte(magicName)):
		return nil, wrong("it does not begin as one")
	case string(begin) != magic:
		return nil, wrong("it has another version of the format than this keyd reads: use the keyd that made it, or a newer one")
	}
	r.sum.Write(begin)
	k, payload, err := r.frame()
	if err != nil {
		return nil, err
	}
	if k != kindHeader {
		return nil, wrong("it has no header")
	}
	header, err := parse[Header](payload)
	if err != nil {
		return nil, err
	}
	r.header = *header
	return r, nil
}

// Header says where the backup comes from. Whether that is true shows at the end.
func (r *Reader) Header() *Header { return &r.header }

// Next returns the next item, and io.EOF when all are read and the backup is whole: as many
// items as it says, in their order, with the register that it names, under a seal that is signed
// by the identity in it and is about these very bytes.
func (r *Reader) Next() (Item, error) {
	if r.ended {
		return Item{}, io.EOF
	}
	k, payload, err := r.frame()
	if err != nil {
		return Item{}, err
	}
	if k == kindTrailer {
		if err := r.end(payload); err != nil {
			return Item{}, err
		}
		r.ended = true
		return Item{}, io.EOF
	}
	i, err := decode(k, payload)
	if err != nil {
		return Item{}, err
	}
	if !r.before.precedes(&i) {
		return Item{}, wrong("its items are out of order")
	}
	r.before = i
	if n := r.counts.of(k); n != nil {
		*n++
	}
	if i.Epoch != nil {
		r.epoch = i.Epoch
	}
	return i, nil
}

// end reads trailer, seal, and the end of the file.
func (r *Reader) end(payload []byte) error {
	trailer, err := parse[Trailer](payload)
	if err != nil {
		return err
	}
	switch {
	case trailer.Counts != r.counts:
		return wrong("it holds other numbers of items than it says")
	case r.epoch == nil:
		return wrong("it has no register of officers and keys")
	case trailer.Register != r.epoch.Version || trailer.Document != ceremony.Digest(r.epoch.Sealed):
		return wrong("it has another register than it names")
	}
	r.trailer = *trailer
	r.digest = [sha256.Size]byte(r.sum.Sum(nil))
	k, sealed, err := r.frame()
	if err != nil {
		return err
	}
	if k != kindSeal {
		return wrong("it has no seal")
	}
	seal, err := parse[ceremony.BackupSeal](sealed)
	if err != nil {
		return err
	}
	r.seal = *seal
	if r.said, r.identity, err = seal.Parse(); err != nil {
		return wrong("its seal: %w", err)
	}
	if err := r.said.Of(r.digest); err != nil {
		return wrong("it was altered: %w", err)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err != nil {
			return err
		}
		return wrong("something follows its end")
	}
	return nil
}

// Seal is what comes after the end: what the module has said, its identity, and the seal
// itself, whose code only a token with the same master keys can check.
func (r *Reader) Seal() (*ceremony.Backup, *ecdsa.PublicKey, *ceremony.BackupSeal) {
	return r.said, r.identity, &r.seal
}

// Trailer says what the backup holds, after the end.
func (r *Reader) Trailer() *Trailer { return &r.trailer }

// Epoch is the register, after the end.
func (r *Reader) Epoch() *store.Epoch { return r.epoch }

// Digest names the backup, after the end: the SHA-256 of everything before the seal.
func (r *Reader) Digest() [sha256.Size]byte { return r.digest }

// frame reads the next frame. The payload is the caller's.
func (r *Reader) frame() (kind, []byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r.in, header[:]); err != nil {
		return 0, nil, cut(err)
	}
	n := binary.BigEndian.Uint32(header[1:])
	if n > MaxFrame {
		return 0, nil, wrong("an item is too large")
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r.in, payload); err != nil {
		return 0, nil, cut(err)
	}
	r.sum.Write(header[:])
	r.sum.Write(payload)
	return kind(header[0]), payload, nil
}

// cut is the error where more should have come.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wrong("it is cut short")
	}
	return err
}

// precedes reports whether an item may be followed by another. Nothing at all precedes every
// item.
func (i *Item) precedes(next *Item) bool {
	switch {
	case next.Advances != nil:
		return i.Advances == nil || i.Advances.Number < next.Advances.Number
	case i.Advances != nil:
		return false
	case *i == Item{}:
		return true
	}
	return i.Item.Precedes(&next.Item)
}
