package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

// MethodRestored is the method of the event with which a front notes that its database was
// restored from a backup.
const MethodRestored = "Database/Restored"

var (
	journalField  = []byte(`,"journal":`)
	restoredField = []byte(`"method":"` + MethodRestored + `"`)
)

// journalWindow is how far the entries of requests that were in progress at one moment lie
// apart at most, in bytes.
const journalWindow = 8 << 20

// LastJournal returns the highest row of the journal of key serial numbers that the newest
// entries name, of those that came after the database was restored the last time; 0 where no
// entry names one. A database whose journal is shorter has lost what was acknowledged.
//
// It reads the log in a directory from its end to the first place where the answer is known,
// and checks nothing else.
func LastJournal(dir string) (row uint64, err error) {
	list, err := segments(dir)
	if err != nil {
		return 0, err
	}
	for _, s := range slices.Backward(list) {
		row, found, err := lastJournalIn(s.path)
		if err != nil || found {
			return row, err
		}
	}
	return 0, nil
}

// lastJournalIn looks through a segment. It has found the answer where there is a row, or the
// event of a restored database.
func lastJournalIn(path string) (row uint64, found bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, fmt.Errorf("open audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	end, err := regularSize(f)
	if err != nil {
		return 0, false, err
	}
	// Windows overlap by a line, so that no field is cut.
	for end > 0 && !found {
		start := max(0, end-journalWindow)
		window := make([]byte, end-start)
		if _, err := f.ReadAt(window, start); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, fmt.Errorf("read audit log: %w", err)
		}
		if i := bytes.LastIndex(window, restoredField); i >= 0 {
			window, found = window[i:], true
		}
		highest, any := highestJournal(window)
		row, found = max(row, highest), found || any
		if start == 0 {
			break
		}
		end = start + maxLine
	}
	return row, found, nil
}

// highestJournal returns the highest row that is named in a part of a log.
func highestJournal(part []byte) (highest uint64, any bool) {
	for {
		i := bytes.Index(part, journalField)
		if i < 0 {
			return highest, any
		}
		part = part[i+len(journalField):]
		digits := 0
		for digits < len(part) && digit(part[digits]) {
			digits++
		}
		if n, err := strconv.ParseUint(string(part[:digits]), 10, 64); err == nil {
			highest, any = max(highest, n), true
		}
	}
}
