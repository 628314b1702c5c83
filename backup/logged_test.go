package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/audit"
	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/ksn"
	"keyd/store"
)

// logOf writes a log of so many accepted key serial numbers, in segments of some ten entries, an
// hour apart by its clock, and returns its segments.
func logOf(t testing.TB, node string, accepted int, each func(n int, l *audit.Log)) [][]byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	hours := 0
	clock := func() time.Time { return time.Unix(0, 0).Add(time.Duration(hours) * time.Hour) }
	l, err := audit.Open(dir, audit.Options{Node: node, SegmentSize: 4000, Clock: clock, SegmentAge: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= accepted; n++ {
		hours = n
		if err := l.Append(t.Context(), used(n, audit.Allowed, "", uint64(n))); err != nil {
			t.Fatal(err)
		}
		if each != nil {
			each(n, l)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := audit.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, b)
	}
	return list
}

// used is the entry of a request with that counter of the terminal.
func used(counter int, d audit.Decision, reason string, row uint64) audit.Entry {
	return audit.Entry{
		Method: "PinService/VerifyPinData", Decision: d, Reason: reason, Journal: row,
		Keys: []audit.Key{{Name: "bdk", Version: 1, Usage: "B0", KSN: fmt.Sprintf("FFFF9876543210E%05X", counter)}},
	}
}

// known are key serial numbers of the one terminal's key.
func known() (*Serials, *ksn.Raised) {
	s := NewSerials()
	fingerprint := strings.Repeat("00", 16)
	s.keys[ceremony.KeyRef{Name: "bdk", Version: 1}] = serialKey{fingerprint, true}
	s.schemes[fingerprint] = dukpt.TDES
	return s, ksn.NewRaised(time.Unix(1, 0), func(_ string, c uint32) uint32 { return c })
}

// counterOf is the terminal's counter in the end, 0 for none.
func counterOf(t testing.TB, r *ksn.Raised) uint32 {
	t.Helper()
	c, err := r.Counters(func() (store.Counter, error) { return store.Counter{}, io.EOF })()
	if errors.Is(err, io.EOF) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.Counter
}

// An audit log in segments raises counters to all that it says was accepted. What is missing
// must have come before the backup; what was altered, or is out of its place, is refused.
func TestLogs(t *testing.T) {
	const accepted, backedUp = 60, 25
	var head audit.Head
	of := logOf(t, "a", accepted, func(n int, l *audit.Log) {
		if n == backedUp {
			head = l.Head()
		}
	})
	if len(of) < 5 {
		t.Fatalf("%d segments", len(of))
	}
	in := 0 // the segment with the head
	for bytes.Contains(of[in+1], []byte(fmt.Sprintf(`"seq":%d,`, head.Seq))) || !bytes.Contains(of[in], []byte(fmt.Sprintf(`"seq":%d,`, head.Seq))) {
		in++
	}
	if in == 0 || in > len(of)-3 {
		t.Fatalf("the head is in segment %d of %d", in, len(of))
	}
	early := logOf(t, "b", 40, nil)
	late := logOf(t, "c", 100, nil)
	last := len(of) - 1
	torn := append(bytes.Clone(of[last]), `{"v":2,"seq":`...)
	changed := bytes.Replace(of[in+1], []byte("VerifyPinData"), []byte("verifyPinData"), 1)
	begun := []byte(`{"v":2`)
	without := func(i int) [][]byte { return append(append([][]byte{}, of[:i]...), of[i+1:]...) }
	join := func(lists ...[][]byte) (all [][]byte) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	for name, c := range map[string]struct {
		segments [][]byte
		counter  uint32
		problem  string // of an error; empty for none
	}{
		"all":                            {of, accepted, ""},
		"from the backup on":             {of[in:], accepted, ""},
		"a gap before the backup":        {without(in - 1), accepted, ""},
		"torn":                           {join(of[:last], [][]byte{torn}), accepted, ""},
		"a segment was just begun":       {join(of, [][]byte{begun}), accepted, ""},
		"an empty segment":               {join(of, [][]byte{{}}), accepted, ""},
		"with another node's":            {join(of, early), accepted, ""},
		"behind another node's":          {join(late, of), 100, ""},
		"another node's is torn":         {join(early[:len(early)-1], [][]byte{append(bytes.Clone(early[len(early)-1]), '{')}, of), accepted, ""},
		"another node's from its middle": {join(of, late[2:]), 100, ""},
		"another node's begins late":     {join(of, late[len(late)-1:]), 0, "begins after the backup was made"},
		"another node's has a gap":       {join(of, late[:1], late[len(late)-1:]), 0, "lacks a segment that begins with entry"},
		"nothing":                        {nil, 0, "no audit log has the entry"},
		"another node's only":            {early, 0, "no audit log has the entry"},
		"ends before the backup":         {of[:in], 0, "no audit log has the entry"},
		"begins after the backup":        {of[in+1:], 0, "begins after the backup was made"},
		"lacks that of the backup":       {without(in), 0, "lacks a segment that begins with entry"},
		"a gap after the backup":         {without(in + 1), 0, "lacks a segment that begins with entry"},
		"out of order":                   {join(of[:1], of[2:3], of[1:2]), 0, "name its segments in their order"},
		"twice":                          {join(of, of[last:]), 0, "name its segments in their order"},
		"mixed with another's":           {join(of[:in+1], early, of[in+1:]), 0, "one log after the other"},
		"altered":                        {join(of[:in+1], [][]byte{changed}, of[in+2:]), 0, "altered"},
		"torn in the middle":             {join(of[:in], [][]byte{append(bytes.Clone(of[in]), '{')}, of[in+1:]), 0, "is not the last of its log"},
		"a gap, and just begun":          {join(of[:in], [][]byte{begun}, of[in:]), 0, "is not the last of its log"},
		"only just begun":                {[][]byte{begun}, 0, "no whole entry"},
		"no segment":                     {[][]byte{of[0][bytes.IndexByte(of[0], '\n')+1:]}, 0, "names its log"},
		"of version 1":                   {[][]byte{[]byte("{\"v\":1,\"seq\":1}\n")}, 0, "altered"},
	} {
		serials, raised := known()
		logs := serials.Logs(head, time.Unix(0, 0).Add(backedUp*time.Hour), raised)
		var err error
		for _, b := range c.segments {
			if err = logs.Segment(bytes.NewReader(b)); err != nil {
				break
			}
		}
		if err == nil {
			err = logs.End()
		}
		switch {
		case c.problem == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.problem == "":
			if got := counterOf(t, raised); got != c.counter {
				t.Errorf("%s: counter %d, want %d", name, got, c.counter)
			}
		case err == nil || !strings.Contains(err.Error(), c.problem):
			t.Errorf("%s: %v, want %q", name, err, c.problem)
		}
	}
	// The same number with another hash is another log.
	serials, raised := known()
	other := head
	other.Hash[0] ^= 1
	logs := serials.Logs(other, time.Unix(0, 0).Add(backedUp*time.Hour), raised)
	for _, b := range of {
		if err := logs.Segment(bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := logs.End(); err == nil {
		t.Error("a log with another entry of that number")
	}
}

// What was accepted is told by the row of the journal, and else by what became of the request.
func TestWhatALogSaysWasAccepted(t *testing.T) {
	for _, c := range []struct {
		entry    audit.Entry
		accepted bool
	}{
		{used(3, audit.Allowed, "", 7), true},
		{used(3, audit.Allowed, "", 0), true},
		{used(3, audit.Failed, "PIN_BLOCK_INVALID", 7), true},
		{used(3, audit.Failed, "PIN_BLOCK_INVALID", 0), false},
		{used(3, audit.Failed, "AUDIT_UNAVAILABLE", 0), true},
		{used(3, audit.Failed, "DEADLINE_EXCEEDED", 0), true},
		{used(3, audit.Failed, "KSN_REPLAYED", 0), false},
		{used(3, audit.Denied, "POLICY_DENIED", 0), false},
	} {
		serials, raised := known()
		if err := serials.entry(&c.entry, raised); err != nil {
			t.Fatal(err)
		}
		if got := counterOf(t, raised) == 3; got != c.accepted {
			t.Errorf("%s %s with row %d: accepted is %t", c.entry.Decision, c.entry.Reason, c.entry.Journal, got)
		}
	}
}

// FuzzLogs: whatever is given as segments of an audit log is taken or refused, and only a log
// that has the backup's newest entry passes.
func FuzzLogs(f *testing.F) {
	var head audit.Head
	segments := logOf(f, "a", 15, func(n int, l *audit.Log) {
		if n == 3 {
			head = l.Head()
		}
	})
	f.Add(segments[0], segments[1])
	f.Add(segments[1], segments[0])
	f.Add([]byte("{"), []byte{})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		serials, raised := known()
		logs := serials.Logs(head, time.Unix(0, 0), raised)
		for _, b := range [][]byte{one, two} {
			if err := logs.Segment(bytes.NewReader(b)); err != nil {
				return
			}
		}
		if logs.End() == nil && !bytes.Contains(append(one, two...), []byte(head.Hash.String())) {
			t.Error("a log without the backup's newest entry")
		}
	})
}
