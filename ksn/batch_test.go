package ksn

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func testBatch(number uint64) []byte {
	b := newBatch(nil, time.UnixMicro(1_773_500_000_000_001), 7)
	b = appendEntry(b, []span{{sequence{1, 2}, 5, 5}}, bytes.Repeat([]byte{0xaa}, minReceipt))
	b = appendEntry(b, []span{{sequence{1, 3}, 1, 2}, {sequence{4, 3}, 9, 9}}, bytes.Repeat([]byte{0xbb}, maxReceipt))
	return finishBatch(b, 2, number)
}

func TestBatch(t *testing.T) {
	var got []advance
	var receipts int
	err := decodeBatch(3, testBatch(3), func(at time.Time, receipt []byte, advances []advance) {
		got = append(got, advances...)
		receipts += len(receipt)
		if at.UnixMicro() != 1_773_500_000_000_001 {
			t.Errorf("time %v", at)
		}
	})
	want := []advance{{sequence{1, 2}, 5}, {sequence{1, 3}, 2}, {sequence{4, 3}, 9}}
	if err != nil || len(got) != 3 || [3]advance(got) != [3]advance(want) || receipts != minReceipt+maxReceipt {
		t.Errorf("decoded %v, %d bytes of receipts, %v", got, receipts, err)
	}
}

func TestBatchRefusals(t *testing.T) {
	// resum gives an altered batch the checksum that it would have.
	resum := func(f func(b []byte) []byte) []byte {
		b := f(testBatch(3)[:len(testBatch(3))-batchTrailer])
		return finishBatch(b, int(b[entriesAt])<<8|int(b[entriesAt+1]), 3)
	}
	set := func(i int, v ...byte) []byte {
		return resum(func(b []byte) []byte { copy(b[i:], v); return b })
	}
	for name, b := range map[string][]byte{
		"empty":            {},
		"header only":      testBatch(3)[:batchHeader],
		"of another row":   testBatch(4),
		"version 0":        set(0, 0),
		"version 1":        set(0, 1),
		"negative time":    set(1, 0xff),
		"far future":       set(1, 0x3f),
		"no entry":         set(entriesAt, 0, 0),
		"one entry":        set(entriesAt, 0, 1),
		"three entries":    set(entriesAt, 0, 3),
		"65535 entries":    set(entriesAt, 0xff, 0xff),
		"no advance":       set(batchHeader, 0),
		"five advances":    set(batchHeader, 5),
		"short receipt":    set(batchHeader+1, minReceipt-1),
		"long receipt":     set(batchHeader+1, maxReceipt+1),
		"class 0":          set(batchHeader+2+minReceipt, 0),
		"class 7":          set(batchHeader+2+minReceipt, 7),
		"counter 0":        set(batchHeader+2+minReceipt+sequenceSize, 0, 0, 0, 0),
		"one byte more":    resum(func(b []byte) []byte { return append(b, 0) }),
		"one byte less":    resum(func(b []byte) []byte { return b[:len(b)-1] }),
		"same sequence":    finishBatch(appendEntry(newBatch(nil, time.Unix(0, 0), 0), []span{{sequence{1}, 1, 1}, {sequence{1}, 2, 2}}, make([]byte, minReceipt)), 1, 3),
		"not in order":     finishBatch(appendEntry(newBatch(nil, time.Unix(0, 0), 0), []span{{sequence{2}, 1, 1}, {sequence{1}, 2, 2}}, make([]byte, minReceipt)), 1, 3),
		"time before 1970": finishBatch(appendEntry(newBatch(nil, time.Unix(-1, 0), 0), []span{{sequence{1}, 1, 1}}, make([]byte, minReceipt)), 1, 3),
	} {
		err := decodeBatch(3, b, func(time.Time, []byte, []advance) { t.Errorf("%s: a partial result", name) })
		if !errors.Is(err, errBatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range testBatch(3) {
		b := testBatch(3)
		b[i] ^= 1
		if err := decodeBatch(3, b, func(time.Time, []byte, []advance) { t.Errorf("byte %d: a partial result", i) }); !errors.Is(err, errBatch) {
			t.Errorf("byte %d altered: %v", i, err)
		}
	}
}

// FuzzDecodeBatch: whatever decodes is written again as it was, and nothing panics. The
// checksum is put right, since no fuzzer finds it.
func FuzzDecodeBatch(f *testing.F) {
	f.Add(testBatch(3)[:len(testBatch(3))-batchTrailer])
	f.Add(testBatch(3))
	f.Add([]byte{})
	f.Add([]byte{batchVersion, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, minReceipt})
	f.Fuzz(func(t *testing.T, body []byte) {
		row := body
		if len(body) >= batchHeader {
			row = finishBatch(bytes.Clone(body), int(body[entriesAt])<<8|int(body[entriesAt+1]), 3)
		}
		var again []byte
		entries := 0
		err := decodeBatch(3, row, func(at time.Time, receipt []byte, advances []advance) {
			if entries++; entries == 1 {
				before, _ := sums(row)
				again = newBatch(nil, at, before)
			}
			spans := make([]span, len(advances))
			for i, a := range advances {
				spans[i] = span{a.sequence, a.counter, a.counter}
			}
			again = appendEntry(again, spans, receipt)
		})
		switch {
		case err != nil && entries != 0:
			t.Errorf("%d entries of a batch that is refused", entries)
		case err == nil && !bytes.Equal(finishBatch(again, entries, 3), row):
			t.Errorf("written again it is %x, it was %x", again, row)
		}
	})
}
