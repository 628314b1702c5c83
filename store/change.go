package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// MaxChange is the size of the largest encoded [Change], in bytes: a ceremony with a full
// record, and some thousand sealed keys of the usual size.
const MaxChange = 4 << 20

// Change is what takes effect together with an epoch. It names each version of a key once
// at most.
type Change struct {
	Keys     []KeyRecord     // as [Keys.Replace] writes them
	States   []StateChange   // a version that is not there is passed over: the epoch decides what it may do, should it come back
	Purge    []KeyVersion    // deleted with their usage; with the last version of a key its tags go too
	Ceremony *CeremonyRecord // as [Ceremonies.UpdateCeremony] writes it; nil for none
}

// StateChange gives a version of a key another state.
type StateChange struct {
	Name    string
	Version uint32
	State   State
}

// Names returns the names of the keys that the change is about, sorted, each once.
func (c *Change) Names() []string {
	names := map[string]bool{}
	for _, k := range c.Keys {
		names[k.Name] = true
	}
	for _, s := range c.States {
		names[s.Name] = true
	}
	for _, p := range c.Purge {
		names[p.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Validate returns [ErrInvalid] for a change outside the limits, but for its size; see
// [KeyRecord.Validate].
func (c *Change) Validate() error {
	if err := ValidateAll(c.Keys); err != nil {
		return err
	}
	seen := make(map[KeyVersion]bool, len(c.Keys)+len(c.States)+len(c.Purge))
	for _, k := range c.Keys {
		seen[KeyVersion{k.Name, k.Version}] = true
	}
	for _, s := range c.States {
		if s.State != Enabled && s.State != Disabled {
			return fmt.Errorf("%w: the state is neither %s nor %s", ErrInvalid, Enabled, Disabled)
		}
		if err := once(seen, KeyVersion{s.Name, s.Version}); err != nil {
			return err
		}
	}
	for _, p := range c.Purge {
		if err := once(seen, p); err != nil {
			return err
		}
	}
	if c.Ceremony != nil {
		return c.Ceremony.Validate()
	}
	return nil
}

// once checks a version that must not have been seen.
func once(seen map[KeyVersion]bool, v KeyVersion) error {
	switch {
	case !validName(v.Name) || v.Version == 0:
		return fmt.Errorf("%w: a key has a name of 1 to %d printable ASCII characters without spaces, and versions from 1", ErrInvalid, MaxName)
	case seen[v]:
		return fmt.Errorf("%w: key %s version %d comes twice", ErrInvalid, v.Name, v.Version)
	}
	seen[v] = true
	return nil
}

// EncodeChange encodes a change for an implementation to keep: JSON without white space,
// fields in the order of the types below, times in microseconds from 1970. Each change has
// one encoding. [ErrInvalid] for a change outside the limits, or that takes more than
// [MaxChange] bytes.
func EncodeChange(c *Change) ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := encodeChange(c)
	if err == nil && len(b) > MaxChange {
		err = fmt.Errorf("%w: a change takes at most %d bytes", ErrInvalid, MaxChange)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// DecodeChange reads what [EncodeChange] made, and nothing else: [ErrCorrupt].
func DecodeChange(b []byte) (*Change, error) {
	if len(b) > MaxChange {
		return nil, ErrCorrupt
	}
	var w writtenChange
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, ErrCorrupt
	}
	c := w.change()
	if c.Validate() != nil {
		return nil, ErrCorrupt
	}
	// Unknown, repeated and misspelt fields do not come back.
	again, err := encodeChange(c)
	if err != nil || !bytes.Equal(again, b) {
		return nil, ErrCorrupt
	}
	return c, nil
}

// writtenChange is a [Change] as it is written. The names of its fields are in databases.
type writtenChange struct {
	Keys     []writtenKey     `json:"keys,omitempty"`
	States   []writtenState   `json:"states,omitempty"`
	Purge    []writtenVersion `json:"purge,omitempty"`
	Ceremony *writtenCeremony `json:"ceremony,omitempty"`
}

type writtenKey struct {
	Name      string `json:"name"`
	Version   uint32 `json:"version"`
	State     State  `json:"state"`
	Sealed    []byte `json:"sealed"`
	CreatedAt int64  `json:"created_at"`
}

type writtenState struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
	State   State  `json:"state"`
}

type writtenVersion struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
}

type writtenCeremony struct {
	ID        string        `json:"id"`
	Kind      string        `json:"kind"`
	Node      string        `json:"node,omitempty"`
	Subject   string        `json:"subject"`
	State     CeremonyState `json:"state"`
	Revision  uint64        `json:"revision"`
	Papers    []byte        `json:"papers,omitempty"`
	Record    []byte        `json:"record,omitempty"`
	OpenedAt  int64         `json:"opened_at"`
	ExpiresAt int64         `json:"expires_at"`
}

func encodeChange(c *Change) ([]byte, error) {
	var w writtenChange
	for _, k := range c.Keys {
		w.Keys = append(w.Keys, writtenKey{k.Name, k.Version, k.State, k.Sealed, k.CreatedAt.UnixMicro()})
	}
	for _, s := range c.States {
		w.States = append(w.States, writtenState(s))
	}
	for _, p := range c.Purge {
		w.Purge = append(w.Purge, writtenVersion(p))
	}
	if r := c.Ceremony; r != nil {
		w.Ceremony = &writtenCeremony{
			r.ID, r.Kind, r.Node, r.Subject, r.State, r.Revision, r.Papers, r.Record, r.OpenedAt.UnixMicro(), r.ExpiresAt.UnixMicro(),
		}
	}
	return json.Marshal(w)
}

func (w *writtenChange) change() *Change {
	c := new(Change)
	for _, k := range w.Keys {
		c.Keys = append(c.Keys, KeyRecord{k.Name, k.Version, k.State, k.Sealed, time.UnixMicro(k.CreatedAt).UTC()})
	}
	for _, s := range w.States {
		c.States = append(c.States, StateChange(s))
	}
	for _, p := range w.Purge {
		c.Purge = append(c.Purge, KeyVersion(p))
	}
	if r := w.Ceremony; r != nil {
		c.Ceremony = &CeremonyRecord{
			r.ID, r.Kind, r.Node, r.Subject, r.State, r.Revision, r.Papers, r.Record, time.UnixMicro(r.OpenedAt).UTC(), time.UnixMicro(r.ExpiresAt).UTC(),
		}
	}
	return c
}
