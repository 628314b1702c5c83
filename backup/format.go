package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"keyd/ceremony"
	"keyd/store"
)

// magic begins a backup; the number is the version of the format.
const (
	magic     = "keyd backup 1\n"
	magicName = "keyd backup "
)

// MaxFrame bounds the payload of a frame, in bytes: a revocation list in base64.
const MaxFrame = 12 << 20

// frameHeader is the kind and the length.
const frameHeader = 1 + 4

// kind is what a frame holds.
type kind byte

// The kinds, in their order but for those that say otherwise.
const (
	kindHeader   kind = 1
	kindKey      kind = 2
	kindAlias    kind = 3
	kindTag      kind = 4
	kindUsage    kind = 5
	kindCeremony kind = 6
	kindEpoch    kind = 7
	kindLink     kind = 8
	kindCounter  kind = 9
	kindAdvances kind = 10
	kindTerminal kind = 11 // after the links
	kindEvent    kind = 12 // after the terminals

	// After the events, in this order.
	kindKeyHost        kind = 13
	kindKeySet         kind = 14
	kindRevocationList kind = 15
	kindInjection      kind = 16
	kindInitialKey     kind = 17
	kindRange          kind = 18
	kindTerminalKey    kind = 19
	kindPINRecord      kind = 20
	kindPINEvent       kind = 21

	kindVoid kind = 22 // behind what may come of terminals and PIN records

	kindTrailer kind = 254
	kindSeal    kind = 255
)

// ErrBackup is wrapped by every error about bytes that are no backup, or not the one that was
// written.
var ErrBackup = errors.New("this is no good backup")

func wrong(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrBackup, fmt.Errorf(format, a...))
}

// Header says where a backup comes from: the front's word.
type Header struct {
	Version string `json:"version"`        // of keyd
	Node    string `json:"node,omitempty"` // of a fleet
	Time    int64  `json:"time"`           // Unix seconds, before the moment of the backup

	// AuditSeq and AuditHash are the newest entry of this node's audit log at that time.
	AuditSeq  uint64 `json:"audit_seq"`
	AuditHash string `json:"audit_hash"`

	Policy []byte `json:"policy,omitempty"` // the file in force
}

// Trailer says what a backup holds: how many items of each kind, and which register of
// officers and keys.
type Trailer struct {
	Counts   Counts `json:"counts"`
	Register uint64 `json:"register"` // version
	Document string `json:"document"` // its digest, as officers' records name it
}

// Counts is how many items of each kind there are.
type Counts struct {
	Keys       uint64 `json:"keys"` // versions of keys
	Aliases    uint64 `json:"aliases"`
	Tags       uint64 `json:"tags"`
	Usage      uint64 `json:"usage"`
	Ceremonies uint64 `json:"ceremonies"`
	Links      uint64 `json:"links"`
	Terminals  uint64 `json:"terminals,omitempty"`
	Events     uint64 `json:"events,omitempty"` // of terminals

	KeyHosts        uint64 `json:"key_hosts,omitempty"`
	KeySets         uint64 `json:"key_sets,omitempty"` // versions
	RevocationLists uint64 `json:"revocation_lists,omitempty"`
	Injections      uint64 `json:"injections,omitempty"`
	InitialKeys     uint64 `json:"initial_keys,omitempty"` // that were allotted
	Ranges          uint64 `json:"ranges,omitempty"`       // of those
	TerminalKeys    uint64 `json:"terminal_keys,omitempty"`
	PINRecords      uint64 `json:"pin_records,omitempty"`
	PINEvents       uint64 `json:"pin_events,omitempty"`

	Voids uint64 `json:"voids,omitempty"`

	Counters uint64 `json:"counters"` // of key serial numbers
	Advances uint64 `json:"advances"` // rows that set such counters higher
}

// Item is one thing of a backup: one of [store.Item], or Advances.
type Item struct {
	store.Item

	Advances *Advances
}

// Advances is a row of the journal of key serial numbers, without its receipts.
type Advances struct {
	Number uint64
	Set    []Advance
}

// Advance sets a sequence (package ksn) to a counter, if it is lower.
type Advance struct {
	Sequence [sequenceSize]byte
	Counter  uint32
}

const (
	sequenceSize = 25
	advanceSize  = sequenceSize + 4
	maxAdvances  = 4096
)

// The items as documents. Times are microseconds from 1970.
type keyDocument struct {
	Name      string      `json:"name"`
	Version   uint32      `json:"version"`
	State     store.State `json:"state"`
	Sealed    []byte      `json:"sealed"`
	CreatedAt int64       `json:"created_at"`
}

type aliasDocument struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

type tagDocument struct {
	Key   string `json:"key"`
	Tag   string `json:"tag"`
	Value string `json:"value"`
}

type usageDocument struct {
	Name     string `json:"name"`
	Version  uint32 `json:"version"`
	Count    uint64 `json:"count"`
	LastUsed int64  `json:"last_used"`
}

type ceremonyDocument struct {
	ID        string              `json:"id"`
	Kind      string              `json:"kind"`
	Node      string              `json:"node,omitempty"`
	Subject   string              `json:"subject,omitempty"`
	State     store.CeremonyState `json:"state"`
	Revision  uint64              `json:"revision,omitempty"`
	Papers    []byte              `json:"papers"`
	Record    []byte              `json:"record,omitempty"`
	OpenedAt  int64               `json:"opened_at"`
	ExpiresAt int64               `json:"expires_at"`
}

type terminalDocument struct {
	ID           string              `json:"id"`
	Owner        string              `json:"owner"`
	Model        string              `json:"model"`
	Serial       string              `json:"serial"`
	Site         string              `json:"site,omitempty"`
	State        store.TerminalState `json:"state"`
	Certificates []byte              `json:"certificates,omitempty"`
	PublicKey    []byte              `json:"public_key,omitempty"`
	KeySet       string              `json:"key_set,omitempty"`
	ReplacedBy   string              `json:"replaced_by,omitempty"`
	Revision     uint64              `json:"revision"`
	RegisteredAt int64               `json:"registered_at"`
	ChangedAt    int64               `json:"changed_at"`
}

type eventDocument struct {
	Terminal string `json:"terminal"`
	Number   uint64 `json:"number"`
	Kind     string `json:"kind"`
	Actor    string `json:"actor,omitempty"`
	Detail   string `json:"detail,omitempty"`
	At       int64  `json:"at"`
}

// encode returns the frame of an item, appended to b.
func encode(b []byte, i *Item) ([]byte, error) {
	switch {
	case i.Key != nil:
		k := i.Key
		return document(b, kindKey, &keyDocument{k.Name, k.Version, k.State, k.Sealed, k.CreatedAt.UnixMicro()})
	case i.Alias != nil:
		return document(b, kindAlias, (*aliasDocument)(i.Alias))
	case i.Tag != nil:
		return document(b, kindTag, (*tagDocument)(i.Tag))
	case i.Usage != nil:
		u := i.Usage
		return document(b, kindUsage, &usageDocument{u.Name, u.Version, u.Count, u.LastUsed.UnixMicro()})
	case i.Ceremony != nil:
		c := i.Ceremony
		return document(b, kindCeremony, &ceremonyDocument{
			c.ID, c.Kind, c.Node, c.Subject, c.State, c.Revision, c.Papers, c.Record, c.OpenedAt.UnixMicro(), c.ExpiresAt.UnixMicro(),
		})
	case i.Epoch != nil:
		return frame(b, kindEpoch, binary.BigEndian.AppendUint64(nil, i.Epoch.Version), i.Epoch.Sealed)
	case i.Link != nil:
		return frame(b, kindLink, binary.BigEndian.AppendUint64(nil, i.Link.Version), i.Link.Link)
	case i.Terminal != nil:
		r := i.Terminal
		return document(b, kindTerminal, &terminalDocument{
			r.ID, r.Owner, r.Model, r.Serial, r.Site, r.State, r.Certificates, r.PublicKey, r.KeySet, r.ReplacedBy, r.Revision, r.RegisteredAt.UnixMicro(), r.ChangedAt.UnixMicro(),
		})
	case i.Event != nil:
		e := i.Event
		return document(b, kindEvent, &eventDocument{e.Terminal, e.Number, e.Kind, e.Actor, e.Detail, e.At.UnixMicro()})
	case i.PINRecord != nil || i.PINEvent != nil:
		return encodePIN(b, &i.Item)
	case i.Void != nil:
		return encodeVoid(b, i.Void)
	case i.Counter == nil && i.Advances == nil:
		return encodeInjected(b, &i.Item)
	case i.Counter != nil:
		c := i.Counter
		numbers := binary.BigEndian.AppendUint32(nil, c.Counter)
		return frame(b, kindCounter, binary.BigEndian.AppendUint64(numbers, uint64(c.AcceptedAt.UnixMicro())), c.Sequence)
	default:
		payload := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(i.Advances.Set)*advanceSize), i.Advances.Number)
		for _, a := range i.Advances.Set {
			payload = append(payload, a.Sequence[:]...)
			payload = binary.BigEndian.AppendUint32(payload, a.Counter)
		}
		return frame(b, kindAdvances, payload)
	}
}

// decode is the inverse of encode. Its error says what is wrong with the item.
func decode(k kind, payload []byte) (i Item, err error) {
	switch k {
	case kindKey:
		d, err := parse[keyDocument](payload)
		if err != nil {
			return i, err
		}
		i.Key = &store.KeyRecord{Name: d.Name, Version: d.Version, State: d.State, Sealed: d.Sealed, CreatedAt: at(d.CreatedAt)}
	case kindAlias:
		d, err := parse[aliasDocument](payload)
		if err != nil {
			return i, err
		}
		i.Alias = (*store.Alias)(d)
	case kindTag:
		d, err := parse[tagDocument](payload)
		if err != nil {
			return i, err
		}
		i.Tag = (*store.Tag)(d)
	case kindUsage:
		d, err := parse[usageDocument](payload)
		if err != nil {
			return i, err
		}
		i.Usage = &store.Usage{Name: d.Name, Version: d.Version, Count: d.Count, LastUsed: at(d.LastUsed)}
	case kindCeremony:
		d, err := parse[ceremonyDocument](payload)
		if err != nil {
			return i, err
		}
		i.Ceremony = &store.CeremonyRecord{
			ID: d.ID, Kind: d.Kind, Node: d.Node, Subject: d.Subject, State: d.State, Revision: d.Revision,
			Papers: d.Papers, Record: d.Record, OpenedAt: at(d.OpenedAt), ExpiresAt: at(d.ExpiresAt),
		}
	case kindEpoch, kindLink:
		if len(payload) < 8 {
			return i, wrong("an item is too short")
		}
		version, rest := binary.BigEndian.Uint64(payload), payload[8:]
		if k == kindEpoch {
			i.Epoch = &store.Epoch{Version: version, Sealed: rest}
		} else {
			i.Link = &store.EpochLink{Version: version, Link: rest}
		}
	case kindTerminal:
		d, err := parse[terminalDocument](payload)
		if err != nil {
			return i, err
		}
		i.Terminal = &store.TerminalRecord{
			ID: d.ID, Owner: d.Owner, Model: d.Model, Serial: d.Serial, Site: d.Site, State: d.State, Certificates: d.Certificates, PublicKey: d.PublicKey,
			KeySet: d.KeySet, ReplacedBy: d.ReplacedBy, Revision: d.Revision, RegisteredAt: at(d.RegisteredAt), ChangedAt: at(d.ChangedAt),
		}
	case kindEvent:
		d, err := parse[eventDocument](payload)
		if err != nil {
			return i, err
		}
		i.Event = &store.TerminalEvent{Terminal: d.Terminal, Number: d.Number, Kind: d.Kind, Actor: d.Actor, Detail: d.Detail, At: at(d.At)}
	case kindCounter:
		if len(payload) != 4+8+sequenceSize {
			return i, wrong("a counter has another size")
		}
		i.Counter = &store.Counter{
			Counter: binary.BigEndian.Uint32(payload), AcceptedAt: at(int64(binary.BigEndian.Uint64(payload[4:]))),
			Sequence: payload[12:], Receipt: []byte{},
		}
	case kindAdvances:
		return decodeAdvances(payload)
	case kindPINRecord, kindPINEvent:
		if err := decodePIN(k, payload, &i.Item); err != nil {
			return Item{}, err
		}
	case kindVoid:
		var err error
		if i.Void, err = decodeVoid(payload); err != nil {
			return Item{}, err
		}
	default:
		if err := decodeInjected(k, payload, &i.Item); err != nil {
			return Item{}, err
		}
	}
	if err := i.Item.Validate(); err != nil {
		return Item{}, wrong("%w", err)
	}
	return i, nil
}

func decodeAdvances(payload []byte) (i Item, err error) {
	n := (len(payload) - 8) / advanceSize
	if len(payload) < 8 || len(payload) != 8+n*advanceSize || n == 0 || n > maxAdvances {
		return i, wrong("a row of counters has another size")
	}
	a := &Advances{Number: binary.BigEndian.Uint64(payload), Set: make([]Advance, n)}
	for j := range a.Set {
		one := payload[8+j*advanceSize:]
		a.Set[j] = Advance{[sequenceSize]byte(one), binary.BigEndian.Uint32(one[sequenceSize:])}
	}
	if a.Number == 0 {
		return i, wrong("a row of counters has no number")
	}
	return Item{Advances: a}, nil
}

func at(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

func parse[T any](payload []byte) (*T, error) {
	d, err := ceremony.Decode[T](payload, MaxFrame)
	if err != nil {
		return nil, wrong("an item is not in its one encoding")
	}
	return d, nil
}

func document[T any](b []byte, k kind, d *T) ([]byte, error) {
	payload, err := ceremony.Encode(d)
	if err != nil {
		return nil, err
	}
	return frame(b, k, payload)
}

func frame(b []byte, k kind, parts ...[]byte) ([]byte, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size > MaxFrame {
		return nil, fmt.Errorf("backup: an item has %d bytes, at most %d are possible", size, MaxFrame)
	}
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	for _, p := range parts {
		b = append(b, p...)
	}
	return b, nil
}

// of returns where items of a kind are counted, nil for the register, of which there is one.
func (c *Counts) of(k kind) *uint64 {
	switch k {
	case kindKey:
		return &c.Keys
	case kindAlias:
		return &c.Aliases
	case kindTag:
		return &c.Tags
	case kindUsage:
		return &c.Usage
	case kindCeremony:
		return &c.Ceremonies
	case kindLink:
		return &c.Links
	case kindTerminal:
		return &c.Terminals
	case kindEvent:
		return &c.Events
	case kindKeyHost:
		return &c.KeyHosts
	case kindKeySet:
		return &c.KeySets
	case kindRevocationList:
		return &c.RevocationLists
	case kindInjection:
		return &c.Injections
	case kindInitialKey:
		return &c.InitialKeys
	case kindRange:
		return &c.Ranges
	case kindTerminalKey:
		return &c.TerminalKeys
	case kindPINRecord:
		return &c.PINRecords
	case kindPINEvent:
		return &c.PINEvents
	case kindVoid:
		return &c.Voids
	case kindCounter:
		return &c.Counters
	case kindAdvances:
		return &c.Advances
	}
	return nil
}
