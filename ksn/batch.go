package ksn

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"keyd/store"
)

// A batch is a row of the journal:
//
//	1 byte   version, 2
//	8 bytes  time, microseconds from 1970
//	2 bytes  number of entries, from 1
//	4 bytes  checksum of the row before, 0 where there was none
//	entries: 1 byte   number of advances, 1 to 4
//	         1 byte   length of the receipt
//	         n bytes  receipt
//	         advances: 25 bytes sequence, 4 bytes counter
//	4 bytes  CRC-32C of the row's number and all of the above
//
// Numbers are big-endian. An entry is an accepted request. The checksum is against
// damage, and the one of the row before shows a process that a database was set back and
// has grown again behind its back; whoever can write to the database can also set the
// counters back, and is kept away from it by other means.
const (
	batchVersion = 2
	entriesAt    = 1 + 8
	beforeAt     = entriesAt + 2
	batchHeader  = beforeAt + 4
	batchTrailer = 4
	entryHeader  = 1 + 1
	advanceSize  = sequenceSize + 4

	// maxEntry is the largest entry, in bytes.
	maxEntry = entryHeader + maxReceipt + maxUses*advanceSize

	// maxEntries bounds the work of one commit. They stay below store.MaxBatch.
	maxEntries = 1024
)

// The sizes above must fit.
const _ = uint(store.MaxBatch - batchHeader - maxEntries*maxEntry - batchTrailer)

// A row ends with its checksum, by which the store tells it from another.
const _ = uint(store.JournalEnding-batchTrailer) + uint(batchTrailer-store.JournalEnding)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errBatch is any fault of a batch: no version that is known, not a possible content,
// cut off, or altered.
var errBatch = errors.New("ksn: a row of the journal is not what was written")

// advance sets a sequence to a counter.
type advance struct {
	sequence sequence
	counter  uint32
}

// newBatch begins a batch in the buffer, behind the row with that checksum.
func newBatch(buffer []byte, at time.Time, before uint32) []byte {
	b := append(buffer[:0], batchVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(at.UnixMicro()))
	return binary.BigEndian.AppendUint32(append(b, 0, 0), before)
}

// sums returns the checksums of the row before and of a row, which was decoded or finished.
func sums(b []byte) (before, own uint32) {
	return binary.BigEndian.Uint32(b[beforeAt:]), binary.BigEndian.Uint32(b[len(b)-batchTrailer:])
}

// appendEntry adds an accepted request.
func appendEntry(b []byte, spans []span, receipt []byte) []byte {
	b = append(b, byte(len(spans)), byte(len(receipt)))
	b = append(b, receipt...)
	for i := range spans {
		b = append(b, spans[i].sequence[:]...)
		b = binary.BigEndian.AppendUint32(b, spans[i].last)
	}
	return b
}

// finishBatch completes the row with that number.
func finishBatch(b []byte, entries int, number uint64) []byte {
	binary.BigEndian.PutUint16(b[entriesAt:], uint16(entries))
	return binary.BigEndian.AppendUint32(b, batchSum(b, number))
}

// decodeBatch calls each for every entry of a row; the advances are only lent, the
// receipt belongs to b. Nothing is called for a row that is not whole and valid.
func decodeBatch(number uint64, b []byte, each func(at time.Time, receipt []byte, advances []advance)) error {
	if len(b) < batchHeader+batchTrailer || b[0] != batchVersion {
		return errBatch
	}
	body, trailer := b[:len(b)-batchTrailer], b[len(b)-batchTrailer:]
	if binary.BigEndian.Uint32(trailer) != batchSum(body, number) {
		return errBatch
	}
	micros := binary.BigEndian.Uint64(body[1:])
	at := time.UnixMicro(int64(micros)).UTC()
	if year := at.Year(); micros > 1<<62 || year < 1970 || year > 9999 {
		return errBatch
	}
	entries := int(binary.BigEndian.Uint16(body[entriesAt:]))
	if entries == 0 || entries > maxEntries {
		return errBatch
	}
	// Two passes: the first only checks.
	if walkEntries(body[batchHeader:], entries, func([]byte, []advance) {}) != nil {
		return errBatch
	}
	return walkEntries(body[batchHeader:], entries, func(receipt []byte, advances []advance) { each(at, receipt, advances) })
}

func walkEntries(b []byte, entries int, each func(receipt []byte, advances []advance)) error {
	var advances [maxUses]advance
	for range entries {
		if len(b) < entryHeader {
			return errBatch
		}
		n, size := int(b[0]), int(b[1])
		b = b[entryHeader:]
		if n == 0 || n > maxUses || size < minReceipt || size > maxReceipt || len(b) < size+n*advanceSize {
			return errBatch
		}
		receipt := b[:size:size]
		b = b[size:]
		for i := range n {
			a := advance{sequence(b), binary.BigEndian.Uint32(b[sequenceSize:])}
			if !Class(a.sequence[0]).valid() || a.counter == 0 || i > 0 && compare(advances[i-1].sequence, a.sequence) >= 0 {
				return errBatch
			}
			advances[i] = a
			b = b[advanceSize:]
		}
		each(receipt, advances[:n])
	}
	if len(b) != 0 {
		return errBatch
	}
	return nil
}

func batchSum(b []byte, number uint64) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, b)
}
