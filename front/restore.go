package front

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"keyd/audit"
	"keyd/backup"
	"keyd/ceremony"
	"keyd/ksn"
	"keyd/store"
	"keyd/supervisor/confine"
)

// Restoring is what a process is told that reads a backup, or restores the database of a front
// from it, while no front runs. It has the front's user and confinement, and no peer.
type Restoring struct {
	Options

	BackupFD int
	OutputFD int

	// Digest is that of the backup that a token has vouched for, in hex; empty to read the
	// backup and write nothing.
	Digest string

	Counters string // how key serial numbers begin: [CountersExhausted] and its like
	Margin   uint64 // transactions, with CountersMargin
	LogFDs   []int  // segments of audit logs, in their order, with CountersLogged
	Tries    string // what is said of tries in the audit log

	// Rehearse does everything but restore: it writes nothing but the tables, where a
	// PostgreSQL database has none.
	Rehearse bool
}

// How the counters of key serial numbers begin after a restore.
const (
	CountersExhausted = "exhausted" // no terminal's key is used any more
	CountersLogged    = "logged"    // as audit logs say
	CountersMargin    = "margin"    // so many transactions later than in the backup
)

// Found is what a backup says of itself.
type Found struct {
	Header   backup.Header       `json:"header"`
	Trailer  backup.Trailer      `json:"trailer"`
	Digest   string              `json:"digest"`
	Said     ceremony.Backup     `json:"said"` // by the module, whose signature is good
	Seal     ceremony.BackupSeal `json:"seal"`
	Register []byte              `json:"register"` // the document with its code
}

// Restored is what was restored.
type Restored struct {
	Counters uint64 `json:"counters"` // sequences of key serial numbers

	// Unknown are keys that the audit logs have and the backup has not.
	Unknown []string `json:"unknown,omitempty"`
}

// Restore reads a backup, or restores a database from it: all of it in one transaction, or
// nothing.
func Restore(o Restoring) error {
	var ports []uint16
	var files []string
	if o.Digest != "" { // only then it has to do with the database
		var err error
		if ports, files, err = databaseFiles(o.Options); err != nil {
			return err
		}
	}
	confined, err := confine.New(confine.Front, ports...)
	if err != nil {
		return err
	}
	if err := confined.Early(os.Getppid()); err != nil {
		return err
	}
	if err := confined.Filesystem(confine.Paths{WriteDirs: []string{o.State}, ReadFiles: files}); err != nil {
		return err
	}
	if err := confined.Syscalls(); err != nil {
		return err
	}
	from, out := os.NewFile(uintptr(o.BackupFD), "backup"), os.NewFile(uintptr(o.OutputFD), "answer")
	if from == nil || out == nil {
		return errors.New("no descriptors for backup and answer")
	}
	var encoded []byte
	if o.Digest == "" {
		found, err := look(from)
		if err != nil {
			return err
		}
		encoded, err = ceremony.Encode(found)
		if err != nil {
			return err
		}
	} else {
		restored, err := restore(context.Background(), &o, from)
		if err != nil {
			return err
		}
		if encoded, err = ceremony.Encode(restored); err != nil {
			return err
		}
	}
	_, err = out.Write(encoded)
	return err
}

// look reads a whole backup, and believes nothing of it.
func look(from io.ReadSeeker) (*Found, error) {
	r, err := begin(from)
	if err != nil {
		return nil, err
	}
	for {
		if _, err = r.Next(); err != nil {
			break
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, err
	}
	said, _, seal := r.Seal()
	digest := r.Digest()
	return &Found{
		Header: *r.Header(), Trailer: *r.Trailer(), Digest: hex.EncodeToString(digest[:]),
		Said: *said, Seal: *seal, Register: r.Epoch().Sealed,
	}, nil
}

func begin(from io.ReadSeeker) (*backup.Reader, error) {
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return backup.NewReader(from)
}

// restore reads the backup twice: first for what its counters need, and to know that it is
// whole; then into the database, whose transaction ends only if it was the same backup again.
func restore(ctx context.Context, o *Restoring, from io.ReadSeeker) (_ *Restored, err error) {
	if o.Rehearse {
		return rehearse(ctx, o, from)
	}
	log, err := openLog(o.State)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	database, err := restorable(ctx, o, log.Origin())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, database.Close()) }()

	c, err := prepare(o, from)
	if err != nil {
		return nil, err
	}
	say := func(format string, a ...any) error {
		return log.Append(ctx, audit.Entry{Method: "Restore", Decision: audit.Event, Detail: fmt.Sprintf(format, a...)})
	}
	what := fmt.Sprintf("backup %.11s of version %d of the register, made at %s", o.Digest, c.trailer.Register, time.Unix(c.made, 0).UTC().Format(time.RFC3339))
	if err := say("a restore begins of %s: counters of key serial numbers %s, tries %s", what, c.how(), o.Tries); err != nil {
		return nil, err
	}
	r, err := begin(from)
	if err != nil {
		return nil, err
	}
	items := c.items(r)
	if err := database.Import(ctx, items.next); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return nil, errNotEmpty(o)
		}
		return nil, err
	}
	if err := say("restored: %s; no key is used until officers have its register taken over", what); err != nil {
		return nil, err
	}
	return &Restored{Counters: items.count, Unknown: c.serials.Unknown()}, nil
}

func errNotEmpty(o *Restoring) error {
	if o.shared() {
		return fmt.Errorf("the database %s is not empty, and is not written over: create another one for keyd, name it in database.postgres.database of every node, and keep the old one", o.Postgres.Database)
	}
	return fmt.Errorf("the database in %s is not empty, and is not written over: move its files away (keyd.db and what begins with that), and keep them", o.State)
}

// rehearse finds out whether anything stands in the way of a restore.
func rehearse(ctx context.Context, o *Restoring, from io.ReadSeeker) (_ *Restored, err error) {
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(o.State, name))
		return !errors.Is(err, fs.ErrNotExist)
	}
	origin := "" // of no node
	if there(audit.DirectoryName) {
		log, err := openLog(o.State)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, log.Close()) }()
		origin = log.Origin()
	}
	if o.shared() || there("keyd.db") {
		database, err := restorable(ctx, o, origin)
		if err != nil {
			return nil, err
		}
		if err := database.Close(); err != nil {
			return nil, err
		}
	}
	c, err := prepare(o, from)
	if err != nil {
		return nil, err
	}
	return &Restored{Unknown: c.serials.Unknown()}, nil
}

// openLog opens the audit log, which no front that runs leaves to anybody.
func openLog(state string) (*audit.Log, error) {
	log, err := audit.Open(filepath.Join(state, audit.DirectoryName), audit.Options{})
	if errors.Is(err, audit.ErrLocked) {
		return nil, fmt.Errorf("%w: stop keyd first", err)
	}
	return log, err
}

// restorable opens the database of a front, which must be empty, and on which no node is at
// work. origin is that of the audit log here, which is open: who has it is this node, which
// does not run.
func restorable(ctx context.Context, o *Restoring, origin string) (store.Store, error) {
	database, err := openDatabase(o.Options)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := atRest(ctx, o, database, origin); err != nil {
		return nil, errors.Join(err, database.Close())
	}
	_, err = database.CurrentEpoch(ctx)
	if errors.Is(err, store.ErrNotFound) {
		return database, nil
	}
	if err == nil {
		err = errNotEmpty(o)
	}
	return nil, errors.Join(err, database.Close())
}

// gone is how long a node has to be silent before it counts as stopped.
const gone = time.Minute

// atRest refuses a database on which a node was at work less than a minute ago, unless it is
// this one: the same name, and the audit log that this process has locked.
func atRest(ctx context.Context, o *Restoring, database store.Store, origin string) error {
	nodes, err := database.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	for _, n := range nodes {
		if n.Age < gone && (n.Name != o.Node || n.Instance != origin) {
			return fmt.Errorf("node %s was at work on the database less than a minute ago: stop every node of the fleet, and restore a minute later", n.Name)
		}
	}
	return nil
}

// counters is how those of key serial numbers begin. Counters of other kinds, where a backup
// has them one day, belong beside them: what a counter forgets can be done again.
type counters struct {
	Restoring

	serials *backup.Serials
	raised  *ksn.Raised
	trailer backup.Trailer
	made    int64
}

func (c *counters) how() string {
	if c.Counters == CountersMargin {
		return fmt.Sprintf("raised by %d transactions", c.Margin)
	}
	return c.Counters
}

// raise is what is done to every counter in the end.
func (c *counters) raise(fingerprint string, counter uint32) uint32 {
	switch c.Counters {
	case CountersLogged:
		return counter
	case CountersMargin:
		return max(counter, ksn.Margin(c.serials.Scheme(fingerprint), counter, c.Margin))
	}
	return ksn.Exhausted
}

// prepare reads the backup, and the audit logs, for what raises its counters.
func prepare(o *Restoring, from io.ReadSeeker) (*counters, error) {
	c := &counters{Restoring: *o, serials: backup.NewSerials()}
	switch o.Counters {
	case CountersExhausted, CountersLogged, CountersMargin:
	default:
		return nil, fmt.Errorf("counters begin %s, %s or with a %s, not %q", CountersExhausted, CountersLogged, CountersMargin, o.Counters)
	}
	c.raised = ksn.NewRaised(time.Now(), c.raise)
	r, err := begin(from)
	if err != nil {
		return nil, err
	}
	for {
		i, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
			return nil, err
		case i.Key != nil:
			err = c.serials.Key(i.Key)
		case i.Advances != nil:
			for _, a := range i.Advances.Set {
				err = errors.Join(err, c.raised.Least(a.Sequence[:], a.Counter))
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if digest := r.Digest(); hex.EncodeToString(digest[:]) != o.Digest {
		return nil, errChanged
	}
	c.trailer, c.made = *r.Trailer(), r.Header().Time
	if err := c.serials.Register(r.Epoch()); err != nil {
		return nil, err
	}
	if o.Counters == CountersLogged {
		if err := c.readLogs(r.Header()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

var errChanged = errors.New("the backup was changed while it was read: nothing is restored")

// readLogs takes what audit logs say was accepted. One of them is that of the keyd that made
// the backup, and goes at least as far as it went then.
func (c *counters) readLogs(h *backup.Header) error {
	var head audit.Head
	if n, err := hex.Decode(head.Hash[:], []byte(h.AuditHash)); err != nil || n != len(head.Hash) {
		return errors.New("the backup does not name the end of its audit log")
	}
	head.Seq = h.AuditSeq
	logs := c.serials.Logs(head, time.Unix(h.Time, 0), c.raised)
	for i, fd := range c.LogFDs {
		f := os.NewFile(uintptr(fd), "audit log")
		if f == nil {
			return errors.New("no descriptor of an audit log")
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil { // a process before this one has read it
			return fmt.Errorf("audit log: %w", err)
		}
		if err := logs.Segment(f); err != nil {
			return fmt.Errorf("%w (in segment number %d of those that --audit-log gives)", err, i+1)
		}
	}
	return logs.End()
}

// items are those of a backup as the database takes them: with the counters as they are to
// begin, and no journal.
type items struct {
	how    *counters
	reader *backup.Reader
	held   *backup.Item // the first of the counters
	ended  error
	merged func() (store.Counter, error) // nil until all before them was taken

	count uint64
}

func (c *counters) items(r *backup.Reader) *items { return &items{how: c, reader: r} }

// next is what [store.Backups.Import] asks.
func (s *items) next() (store.Item, error) {
	if s.merged == nil {
		i, err := s.read()
		if err == nil && i.Counter == nil && i.Advances == nil {
			return i.Item, nil
		}
		s.held, s.ended = &i, err
		s.merged = s.how.raised.Counters(s.counter)
	}
	c, err := s.merged()
	if err != nil {
		return store.Item{}, err
	}
	s.count++
	return store.Item{Counter: &c}, nil
}

// counter returns the next counter of the backup.
func (s *items) counter() (store.Counter, error) {
	i, err := s.read()
	for err == nil && i.Counter == nil {
		if i.Advances == nil {
			return store.Counter{}, fmt.Errorf("%w: something else is among the counters", backup.ErrBackup)
		}
		i, err = s.read() // prepare has them
	}
	if err != nil {
		return store.Counter{}, err
	}
	return *i.Counter, nil
}

// read returns the next item, and io.EOF at the end of the backup that a token has vouched for.
func (s *items) read() (backup.Item, error) {
	if held := s.held; held != nil {
		s.held = nil
		return *held, s.ended
	}
	i, err := s.reader.Next()
	if digest := s.reader.Digest(); errors.Is(err, io.EOF) && hex.EncodeToString(digest[:]) != s.how.Digest {
		return backup.Item{}, errChanged
	}
	return i, err
}
