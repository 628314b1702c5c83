package backup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"keyd/audit"
	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/ksn"
	"keyd/store"
)

// Serials are the key serial numbers of a backup, and what is known of them besides.
type Serials struct {
	keys    map[ceremony.KeyRef]serialKey
	schemes map[string]dukpt.Scheme // by fingerprint
	unknown map[ceremony.KeyRef]bool
}

// serialKey is a key as far as its key serial numbers go.
type serialKey struct {
	fingerprint string
	counted     bool // they are accepted once
}

// NewSerials returns what is known before anything was read.
func NewSerials() *Serials {
	return &Serials{keys: make(map[ceremony.KeyRef]serialKey), schemes: make(map[string]dukpt.Scheme), unknown: make(map[ceremony.KeyRef]bool)}
}

// Key takes a key of the backup.
func (s *Serials) Key(r *store.KeyRecord) error {
	sealed, err := hsm.ParseSealed(r.Sealed)
	if err != nil {
		return wrong("%s version %d is no sealed key", r.Name, r.Version)
	}
	h := sealed.Header
	if h.Usage != "B0" {
		return nil
	}
	fingerprint := strings.ToLower(h.Fingerprint)
	scheme := dukpt.TDES
	if h.Algorithm == "A" {
		scheme = dukpt.AES
	}
	s.keys[ceremony.KeyRef{Name: r.Name, Version: r.Version}] = serialKey{fingerprint, h.KSNCheck != ""}
	s.schemes[fingerprint] = scheme
	return nil
}

// Register takes the keys that the register has and the database has no more.
func (s *Serials) Register(e *store.Epoch) error {
	epoch, err := ceremony.ParseEpoch(e.Sealed)
	if err != nil || epoch.Version != e.Version {
		return wrong("its register is none")
	}
	for _, k := range epoch.Keys {
		ref := ceremony.KeyRef{Name: k.Name, Version: k.Version}
		if _, there := s.keys[ref]; !there && k.Usage == "B0" {
			s.keys[ref] = serialKey{strings.ToLower(k.Fingerprint), true}
		}
	}
	return nil
}

// Scheme returns the scheme of a base derivation key, 0 for one that is not known.
func (s *Serials) Scheme(fingerprint string) dukpt.Scheme { return s.schemes[fingerprint] }

// Unknown returns the keys whose key serial numbers a log had and the backup has not, sorted.
// They came after the backup.
func (s *Serials) Unknown() (names []string) {
	for ref := range s.unknown {
		names = append(names, ref.String())
	}
	slices.Sort(names)
	return names
}

// Logs are the audit logs that are read for what was accepted: the one of the keyd that made the
// backup, and those of other nodes of its fleet. Each is given as its segments, in their order,
// one log after the other; each segment begins with an entry that names its log.
type Logs struct {
	serials *Serials
	raised  *ksn.Raised
	head    audit.Head // of the backup
	made    time.Time  // when it was made, by the clock of that node

	logs []*logRead
}

// logRead is a log as far as it was read.
type logRead struct {
	origin string
	head   audit.Head
	torn   bool // its last line has no end
	has    bool // it has the entry that was the newest when the backup was made

	// The first missing entry of which it is not known that it came before the backup, 0 for
	// none: by number, as is told of the log of the keyd that made it, and by time, as of others.
	lateNumber, lateTime uint64
}

// clocks is how far the clocks of two nodes may be apart.
const clocks = time.Minute

// Logs raises counters to all that audit logs say was accepted. head is the newest entry of the
// keyd that made the backup, at that time.
func (s *Serials) Logs(head audit.Head, made time.Time, raised *ksn.Raised) *Logs {
	return &Logs{serials: s, raised: raised, head: head, made: made}
}

// Segment takes the next segment. Every entry is verified, and that it follows the one before;
// a last line that was never acknowledged is passed over.
func (l *Logs) Segment(from io.Reader) error {
	var log *logRead
	torn := false
	for r, err := range audit.SegmentRecords(from) {
		if errors.Is(err, audit.ErrTorn) {
			torn = true
			break
		}
		if err != nil {
			return err
		}
		if log == nil {
			if log, err = l.begin(&r); err != nil {
				return err
			}
		}
		log.head = audit.Head{Seq: r.Seq, Hash: r.Hash}
		log.has = log.has || log.head == l.head
		if err := l.serials.entry(&r.Entry, l.raised); err != nil {
			return fmt.Errorf("entry %d: %w", r.Seq, err)
		}
	}
	if log == nil { // a segment that was just begun
		if len(l.logs) == 0 {
			return errors.New("a segment of an audit log has no whole entry: bring a good copy")
		}
		log, torn = l.logs[len(l.logs)-1], true
	}
	log.torn = torn
	return nil
}

// begin finds the log that goes on with an entry, the first of its segment.
func (l *Logs) begin(r *audit.Record) (*logRead, error) {
	if r.Log == "" {
		return nil, fmt.Errorf("%w: the segment does not begin with the entry that names its log", audit.ErrChain)
	}
	for i, log := range l.logs {
		switch {
		case log.origin != r.Log:
			continue
		case i < len(l.logs)-1:
			return nil, fmt.Errorf("segments of the audit log %s come after those of another: name one log after the other", r.Log)
		case r.Seq <= log.head.Seq:
			return nil, fmt.Errorf("a segment that begins with entry %d comes after entry %d of the same audit log: name its segments in their order, each once", r.Seq, log.head.Seq)
		case log.torn:
			return nil, fmt.Errorf("%w: the line after entry %d is incomplete, and is not the last of its log", audit.ErrChain, log.head.Seq)
		}
		return log, l.follows(log, r)
	}
	log := &logRead{origin: r.Log}
	l.logs = append(l.logs, log)
	return log, l.follows(log, r)
}

// follows checks that an entry follows the one before, or notes that entries are missing in
// between. What is missing from before the backup is in its counters.
func (l *Logs) follows(log *logRead, r *audit.Record) error {
	next := log.head.Seq + 1
	if r.Seq == next {
		if r.Prev != log.head.Hash {
			return fmt.Errorf("%w: entry %d does not follow the entry before it", audit.ErrChain, r.Seq)
		}
		return nil
	}
	if log.lateNumber == 0 && r.Seq > l.head.Seq {
		log.lateNumber = next
	}
	if log.lateTime == 0 && r.Time.After(l.made.Add(-clocks)) {
		log.lateTime = next
	}
	return nil
}

// End checks, after the last segment, that nothing is missing: one of the logs has the entry
// that was the newest when the backup was made, and each has all that came after the backup, up
// to its last entry.
func (l *Logs) End() error {
	found := false
	for _, log := range l.logs {
		found = found || log.has
		late := log.lateTime
		if log.has {
			late = log.lateNumber
		}
		switch {
		case late == 1:
			return fmt.Errorf("the audit log %s begins after the backup was made: bring its older segments too", log.origin)
		case late > 0:
			return fmt.Errorf("the audit log %s lacks a segment that begins with entry %d, which may have come after the backup: bring it too", log.origin, late)
		}
	}
	if !found {
		return fmt.Errorf("no audit log has the entry %d that was the newest when the backup was made: it is not that keyd's log, or ends before the backup, or begins after it", l.head.Seq)
	}
	return nil
}

// afterAccepting are the reasons of refusals that can come after a key serial number was
// accepted.
var afterAccepting = []string{"CANCELLED", "DEADLINE_EXCEEDED", "STORE_UNAVAILABLE", "AUDIT_UNAVAILABLE", "INTERNAL"}

// entry takes the key serial numbers of one request, if one was accepted: then the entry names
// its row of the journal. Where what came after that failed, it may name none.
func (s *Serials) entry(e *audit.Entry, raised *ksn.Raised) error {
	if e.Journal == 0 && e.Decision != audit.Allowed && (e.Decision != audit.Failed || !slices.Contains(afterAccepting, e.Reason)) {
		return nil
	}
	for place, k := range e.Keys {
		if k.KSN == "" || k.Version == 0 {
			continue
		}
		ref := ceremony.KeyRef{Name: k.Name, Version: k.Version}
		key, known := s.keys[ref]
		switch {
		case !known:
			s.unknown[ref] = true
			continue
		case !key.counted:
			continue
		}
		b, err := hex.DecodeString(k.KSN)
		if err != nil {
			return err
		}
		serial, err := dukpt.ParseKSN(b)
		if err != nil {
			return err
		}
		for _, class := range classes(e.Method, place) {
			if err := raised.Used(ksn.Use{Fingerprint: key.fingerprint, KSN: serial, Class: class}); err != nil {
				return err
			}
		}
	}
	return nil
}

// classes are what a key serial number may have been used for, by the method and the place of
// its key among those of the request. A log does not say in which direction a message went:
// then both are meant.
func classes(method string, place int) []ksn.Class {
	service, _, _ := strings.Cut(method, "/")
	switch {
	case method == "PinService/TranslatePinData" && place == 0, method == "PinService/VerifyPinData", method == "PinService/ChangePinData":
		return []ksn.Class{ksn.PINIncoming}
	case method == "PinService/TranslatePinData", method == "PinService/GeneratePinData":
		return []ksn.Class{ksn.PINOutgoing}
	case service == "MacService":
		return []ksn.Class{ksn.MACRequest, ksn.MACResponse}
	case service == "DataService":
		return []ksn.Class{ksn.DataRequest, ksn.DataResponse}
	}
	return []ksn.Class{ksn.PINIncoming, ksn.PINOutgoing, ksn.MACRequest, ksn.MACResponse, ksn.DataRequest, ksn.DataResponse}
}
