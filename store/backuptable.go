package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	exportKeys       = `SELECT name, version, state, sealed, created_at FROM keys ORDER BY name, version`
	exportAliases    = `SELECT alias, target FROM aliases ORDER BY alias`
	exportTags       = `SELECT name, tag, value FROM key_tags ORDER BY name, tag`
	exportUsage      = `SELECT name, version, uses, last_used FROM key_usage ORDER BY name, version`
	exportCeremonies = `SELECT ` + ceremonyColumns + ` FROM ceremonies ORDER BY id`
	exportLinks      = `SELECT version, link FROM epoch_links ORDER BY version`
	exportTerminals  = `SELECT ` + terminalColumns + ` FROM terminals ORDER BY id`
	exportEvents     = `SELECT ` + eventColumns + ` FROM terminal_events ORDER BY terminal, number`
	exportKeySets    = `SELECT ` + setColumns + ` FROM key_sets ORDER BY name, version`
	exportLists      = `SELECT ` + listColumns + `, issuers, list FROM revocation_lists ORDER BY issuer_key`
	exportInjections = `SELECT ` + injectionColumns + ` FROM injections ORDER BY terminal, number`
	exportInitial    = `SELECT ` + initialColumns + ` FROM initial_keys ORDER BY bdk, id`
	exportRanges     = `SELECT ` + rangeColumns + ` FROM initial_key_ranges ORDER BY bdk, prefix, first`
	exportOfTerminal = `SELECT ` + terminalKeyColumns + ` FROM terminal_keys ORDER BY terminal, name, version, injection`
	exportPINs       = `SELECT ` + pinColumns + ` FROM pin_records ORDER BY subject`
	exportPINEvents  = `SELECT ` + pinEventColumns + ` FROM pin_events ORDER BY subject, number`
	exportVoids      = `SELECT ` + voidColumns + ` FROM voids ORDER BY id`
	exportCounters   = `SELECT sequence, counter, receipt, accepted_at FROM counters ORDER BY sequence`

	importUsage   = `INSERT INTO key_usage (name, version, uses, last_used) VALUES ($1, $2, $3, $4)`
	importCounter = `INSERT INTO counters (sequence, counter, receipt, accepted_at) VALUES ($1, $2, $3, $4)`
	importTag     = `INSERT INTO key_tags (name, tag, value) VALUES ($1, $2, $3)`
	importRow     = `INSERT INTO counter_journal (number, batch) VALUES ($1, $2)`

	hasVersion = `SELECT 1 FROM keys WHERE name = $1 AND version = $2`

	// isFilled has an answer when anything is kept that an import brings.
	isFilled = `SELECT 1 FROM keys UNION ALL SELECT 1 FROM aliases UNION ALL SELECT 1 FROM key_tags UNION ALL SELECT 1 FROM key_usage
		UNION ALL SELECT 1 FROM ceremonies UNION ALL SELECT 1 FROM epochs UNION ALL SELECT 1 FROM epoch_links
		UNION ALL SELECT 1 FROM terminals UNION ALL SELECT 1 FROM terminal_events UNION ALL SELECT 1 FROM key_hosts UNION ALL SELECT 1 FROM key_sets
		UNION ALL SELECT 1 FROM revocation_lists UNION ALL SELECT 1 FROM injections UNION ALL SELECT 1 FROM initial_keys
		UNION ALL SELECT 1 FROM initial_key_ranges UNION ALL SELECT 1 FROM terminal_keys
		UNION ALL SELECT 1 FROM pin_records UNION ALL SELECT 1 FROM pin_events UNION ALL SELECT 1 FROM voids
		UNION ALL SELECT 1 FROM counters UNION ALL SELECT 1 FROM counter_journal`

	markRestored = `UPDATE marks SET restored = 1`
	getRestored  = `SELECT restored FROM marks`
)

// Restored implements [Backups].
func (s *tables) Restored(ctx context.Context) (bool, error) {
	mark, err := one(ctx, s, scanNumber, getRestored)
	if err == nil && mark > 1 || errors.Is(err, ErrNotFound) {
		err = s.fail(ErrCorrupt)
	}
	return err == nil && mark == 1, err
}

// Export implements [Backups].
func (s *tables) Export(ctx context.Context, do func(Item) error) error {
	var stopped error
	hand := func(i Item) error {
		stopped = do(i)
		return stopped
	}
	err := s.engine.snapshot(ctx, func(tx *sql.Tx) error {
		for _, part := range []func() error{
			func() error {
				return export(ctx, tx, scan, func(r KeyRecord) error { return hand(Item{Key: &r}) }, exportKeys)
			},
			func() error {
				return export(ctx, tx, scanAlias, func(a Alias) error { return hand(Item{Alias: &a}) }, exportAliases)
			},
			func() error {
				return export(ctx, tx, scanKeyTag, func(t Tag) error { return hand(Item{Tag: &t}) }, exportTags)
			},
			func() error {
				return export(ctx, tx, scanUsage, func(u Usage) error { return hand(Item{Usage: &u}) }, exportUsage)
			},
			func() error {
				return export(ctx, tx, scanCeremony, func(r CeremonyRecord) error { return hand(Item{Ceremony: &r}) }, exportCeremonies)
			},
			func() error {
				return export(ctx, tx, scanEpoch, func(e epochRow) error { return hand(Item{Epoch: &e.Epoch}) }, getEpoch, currentEpoch)
			},
			func() error {
				return export(ctx, tx, scanEpoch, func(e epochRow) error {
					p, err := e.proposal()
					if err != nil {
						return err
					}
					return hand(Item{Proposal: &p})
				}, getEpoch, proposedEpoch)
			},
			func() error {
				return export(ctx, tx, scanLink, func(l EpochLink) error { return hand(Item{Link: &l}) }, exportLinks)
			},
			func() error {
				return export(ctx, tx, scanTerminal, func(r TerminalRecord) error { return hand(Item{Terminal: &r}) }, exportTerminals)
			},
			func() error {
				return export(ctx, tx, scanEvent, func(e TerminalEvent) error { return hand(Item{Event: &e}) }, exportEvents)
			},
			func() error {
				return export(ctx, tx, scanHost, func(h KeyHost) error { return hand(Item{KeyHost: &h}) }, listHosts)
			},
			func() error {
				return export(ctx, tx, scanSet, func(k KeySet) error { return hand(Item{KeySet: &k}) }, exportKeySets)
			},
			func() error {
				return export(ctx, tx, scanList, func(l RevocationList) error { return hand(Item{RevocationList: &l}) }, exportLists)
			},
			func() error {
				return export(ctx, tx, scanInjection, func(i Injection) error { return hand(Item{Injection: &i}) }, exportInjections)
			},
			func() error {
				return export(ctx, tx, scanInitial, func(k InitialKey) error { return hand(Item{InitialKey: &k}) }, exportInitial)
			},
			func() error {
				return export(ctx, tx, scanRange, func(r RangeCounter) error { return hand(Item{Range: &r}) }, exportRanges)
			},
			func() error {
				return export(ctx, tx, scanTerminalKey, func(k TerminalKey) error { return hand(Item{TerminalKey: &k}) }, exportOfTerminal)
			},
			func() error {
				return export(ctx, tx, scanPIN, func(r PINRecord) error { return hand(Item{PINRecord: &r}) }, exportPINs)
			},
			func() error {
				return export(ctx, tx, scanPINEvent, func(e PINEvent) error { return hand(Item{PINEvent: &e}) }, exportPINEvents)
			},
			func() error {
				return export(ctx, tx, scanVoid, func(r VoidRecord) error { return hand(Item{Void: &r}) }, exportVoids)
			},
			func() error {
				return export(ctx, tx, scanCounter, func(c Counter) error { return hand(Item{Counter: &c}) }, exportCounters)
			},
			func() error {
				return export(ctx, tx, scanRow, func(r JournalRow) error { return hand(Item{Row: &r}) }, readJournal)
			},
		} {
			if err := part(); err != nil {
				return err
			}
		}
		return nil
	})
	if stopped != nil {
		return stopped
	}
	return err
}

func export[T any](ctx context.Context, tx *sql.Tx, scan func(scanner) (T, error), do func(T) error, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, scan, do)
}

// Import implements [Backups].
func (s *tables) Import(ctx context.Context, next func() (Item, error)) error {
	var stopped error
	err := s.engine.unhurried(ctx, func(tx *sql.Tx) error {
		filled, err := exists(ctx, tx, isFilled)
		switch {
		case err != nil:
			return err
		case filled:
			return fmt.Errorf("%w: a backup is imported into an empty database only", ErrConflict)
		}
		in := importer{tables: s, tx: tx, prepared: make(map[string]*sql.Stmt)}
		for {
			var i Item
			i, stopped = next()
			switch {
			case errors.Is(stopped, io.EOF):
				stopped = nil
				if _, err := tx.ExecContext(ctx, markRestored); err != nil {
					return err
				}
				return raise(ctx, tx)
			case stopped != nil:
				return errUnchanged
			}
			if err := in.take(ctx, i); err != nil {
				return err
			}
		}
	})
	if stopped != nil {
		return stopped
	}
	return err
}

// importer takes the items of a backup in their order.
type importer struct {
	*tables

	tx      *sql.Tx
	kind    int            // of the item before
	place   []byte         // of it, within its kind
	count   int            // items in a row that are of the same key, where they are limited
	of      string         // that key
	row     uint64         // number of the last journal row
	current uint64         // version of the epoch
	link    uint64         // version of the last link
	event   *TerminalEvent // the last one
	set     KeySet         // likewise
	pin     *PINEvent      // likewise

	prepared map[string]*sql.Stmt
}

func (in *importer) take(ctx context.Context, i Item) error {
	kind, err := i.kind()
	if err != nil {
		return err
	}
	place := i.place()
	if kind < in.kind || kind == in.kind && in.place != nil && bytes.Compare(place, in.place) <= 0 {
		return fmt.Errorf("%w: the items of a backup are out of order", ErrInvalid)
	}
	in.kind, in.place = kind, place
	err = in.insert(ctx, i)
	if errors.Is(err, ErrExists) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrConflict) {
		return fmt.Errorf("%w: an item of a backup does not fit the others: %s", ErrInvalid, err.Error())
	}
	return err
}

func (in *importer) insert(ctx context.Context, i Item) error {
	switch {
	case i.Key != nil:
		return in.writeKeys(ctx, in.tx, insertKey, []KeyRecord{*i.Key})
	case i.Alias != nil:
		return in.alias(ctx, i.Alias)
	case i.Tag != nil:
		return in.ofKey(ctx, i.Tag.Key, importTag, i.Tag.Key, i.Tag.Tag, i.Tag.Value)
	case i.Usage != nil:
		return in.usage(ctx, i.Usage)
	case i.Ceremony != nil:
		return insertCeremony(ctx, in.tx, i.Ceremony)
	case i.Epoch != nil:
		in.current = i.Epoch.Version
		return in.exec(ctx, addEpoch, int64(i.Epoch.Version), currentEpoch, i.Epoch.Sealed, []byte{}, "", "")
	case i.Proposal != nil:
		encoded, err := EncodeChange(&i.Proposal.Change)
		if err != nil {
			return err
		}
		return propose(ctx, in.tx, i.Proposal, encoded)
	case i.Link != nil:
		if i.Link.Version > in.current || in.link != 0 && i.Link.Version != in.link+1 {
			return fmt.Errorf("%w: the links of a backup have a gap, or go beyond its epoch", ErrInvalid)
		}
		in.link = i.Link.Version
		return in.exec(ctx, addLink, int64(i.Link.Version), notNull(i.Link.Link))
	case i.Terminal != nil:
		if err := keyIsFree(ctx, in.tx, i.Terminal); err != nil {
			return err
		}
		return in.exec(ctx, addTerminal, terminalValues(i.Terminal)...)
	case i.Event != nil:
		return in.ofTerminal(ctx, i.Event)
	case i.PINRecord != nil:
		return in.exec(ctx, addPIN, pinValues(i.PINRecord)...)
	case i.PINEvent != nil:
		return in.ofPIN(ctx, i.PINEvent)
	case i.Void != nil:
		return in.exec(ctx, addVoid, voidValues(i.Void)...)
	case i.Counter == nil && i.Row == nil:
		return in.injected(ctx, i)
	case i.Counter != nil:
		c := i.Counter
		return in.exec(ctx, importCounter, c.Sequence, int64(c.Counter), notNull(c.Receipt), c.AcceptedAt.UnixMicro())
	}
	if in.row != 0 && i.Row.Number != in.row+1 {
		return fmt.Errorf("%w: the journal of a backup has a gap", ErrInvalid)
	}
	in.row = i.Row.Number
	return in.exec(ctx, importRow, int64(i.Row.Number), i.Row.Batch)
}

// ofTerminal inserts an event of a terminal that is there, which follows the one before.
func (in *importer) ofTerminal(ctx context.Context, e *TerminalEvent) error {
	number := uint64(1)
	if in.event != nil && in.event.Terminal == e.Terminal {
		number = in.event.Number + 1
	}
	there, err := exists(ctx, in.tx, hasEvents, e.Terminal, int64(e.Number))
	switch {
	case err != nil:
		return err
	case !there || e.Number != number:
		return fmt.Errorf("%w: terminal %s: its events in a backup have a gap, or are more than it had", ErrInvalid, e.Terminal)
	}
	in.event = e
	return in.exec(ctx, addEvent, eventValues(e)...)
}

// ofPIN inserts an event of a PIN record that is there, which follows the one before.
func (in *importer) ofPIN(ctx context.Context, e *PINEvent) error {
	number := uint64(1)
	if in.pin != nil && bytes.Equal(in.pin.Subject, e.Subject) {
		number = in.pin.Number + 1
	}
	there, err := exists(ctx, in.tx, hasPINEvents, e.Subject, int64(e.Number))
	switch {
	case err != nil:
		return err
	case !there || e.Number != number:
		return fmt.Errorf("%w: the events of a PIN record in a backup have a gap, or are more than it had", ErrInvalid)
	}
	in.pin = e
	return in.exec(ctx, addPINEvent, pinEventValues(e)...)
}

// exec prepares a statement once: there may be a million counters.
func (in *importer) exec(ctx context.Context, statement string, args ...any) error {
	prepared := in.prepared[statement]
	if prepared == nil {
		var err error
		if prepared, err = in.tx.PrepareContext(ctx, statement); err != nil { // it ends with the transaction
			return err
		}
		in.prepared[statement] = prepared
	}
	_, err := prepared.ExecContext(ctx, args...)
	return err
}

// alias takes one that has no key's name; the key that it stands for may be purged.
func (in *importer) alias(ctx context.Context, a *Alias) error {
	taken, err := exists(ctx, in.tx, hasKey, a.Name)
	switch {
	case err != nil:
		return err
	case taken:
		return fmt.Errorf("alias %s: %w: a key has this name", a.Name, ErrExists)
	}
	var others int64
	if err := in.tx.QueryRowContext(ctx, countAliases, a.Key, a.Name).Scan(&others); err != nil {
		return err
	}
	if others >= MaxAliasesOf {
		return fmt.Errorf("%w: key %s: a key has at most %d aliases", ErrInvalid, a.Key, MaxAliasesOf)
	}
	return in.exec(ctx, setAlias, a.Name, a.Key)
}

// ofKey inserts one of at most MaxTags tags of a key that is there.
func (in *importer) ofKey(ctx context.Context, key, statement string, args ...any) error {
	if key != in.of {
		in.of, in.count = key, 0
	}
	if in.count++; in.count > MaxTags {
		return fmt.Errorf("%w: key %s: a key has at most %d tags", ErrInvalid, key, MaxTags)
	}
	there, err := exists(ctx, in.tx, hasKey, key)
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("key %s: %w", key, ErrNotFound)
	}
	return in.exec(ctx, statement, args...)
}

func (in *importer) usage(ctx context.Context, u *Usage) error {
	there, err := exists(ctx, in.tx, hasVersion, u.Name, int64(u.Version))
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("key %s version %d: %w", u.Name, u.Version, ErrNotFound)
	}
	return in.exec(ctx, importUsage, u.Name, int64(u.Version), int64(u.Count), u.LastUsed.UnixMicro())
}

// place returns what items of one kind are ordered by: names end with a zero byte, which
// none has, and numbers have eight bytes.
func (i Item) place() []byte {
	name := func(s string) []byte { return append([]byte(s), 0) }
	number := func(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }
	switch {
	case i.Key != nil:
		return number(name(i.Key.Name), uint64(i.Key.Version))
	case i.Alias != nil:
		return name(i.Alias.Name)
	case i.Tag != nil:
		return append(name(i.Tag.Key), i.Tag.Tag...)
	case i.Usage != nil:
		return number(name(i.Usage.Name), uint64(i.Usage.Version))
	case i.Ceremony != nil:
		return name(i.Ceremony.ID)
	case i.Link != nil:
		return number(nil, i.Link.Version)
	case i.Terminal != nil:
		return name(i.Terminal.ID)
	case i.Event != nil:
		return number(name(i.Event.Terminal), i.Event.Number)
	case i.KeyHost != nil:
		return name(i.KeyHost.Name)
	case i.KeySet != nil:
		return number(name(i.KeySet.Name), uint64(i.KeySet.Version))
	case i.RevocationList != nil:
		return bytes.Clone(i.RevocationList.IssuerKey)
	case i.Injection != nil:
		return number(name(i.Injection.Terminal), i.Injection.Number)
	case i.InitialKey != nil:
		return append(name(i.InitialKey.BDK), i.InitialKey.ID...)
	case i.Range != nil:
		var prefix [tdesPrefix]byte // and its length: a shorter one comes first
		copy(prefix[:], i.Range.Prefix)
		return number(append(append(name(i.Range.BDK), prefix[:]...), byte(len(i.Range.Prefix))), uint64(i.Range.First))
	case i.TerminalKey != nil:
		k := i.TerminalKey
		return append(number(append(name(k.Terminal), name(k.Name)...), uint64(k.Version)), k.Injection...)
	case i.PINRecord != nil:
		return bytes.Clone(i.PINRecord.Subject)
	case i.PINEvent != nil:
		return number(bytes.Clone(i.PINEvent.Subject), i.PINEvent.Number)
	case i.Void != nil:
		return name(i.Void.ID)
	case i.Counter != nil:
		return bytes.Clone(i.Counter.Sequence)
	case i.Row != nil:
		return number(nil, i.Row.Number)
	}
	return []byte{} // there is one epoch, and one proposal
}

// scanKeyTag takes the columns as they come; see scan.
func scanKeyTag(row scanner) (Tag, error) {
	column, err := columns(row, 3)
	if err != nil {
		return Tag{}, err
	}
	key, ok0 := column[0].(string)
	tag, ok1 := column[1].(string)
	value, ok2 := column[2].(string)
	if !ok0 || !ok1 || !ok2 || !validName(key) || validTag(tag, value) != nil {
		return Tag{}, ErrCorrupt
	}
	return Tag{key, tag, value}, nil
}
