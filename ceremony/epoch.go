package ceremony

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"keyd/hsm"
)

// Epoch is what a module remembers of officers and keys. It is authenticated by the
// token's master keys and kept by the front; the token keeps its version and digest, so
// that no other epoch is believed. Every ceremony that is carried out begins another.
type Epoch struct {
	Version    uint64  `json:"version"`
	Previous   string  `json:"previous,omitempty"` // digest of the epoch before
	Token      string  `json:"token,omitempty"`    // fingerprint of the identity of the token with whose first epoch all began
	By         string  `json:"by,omitempty"`       // fingerprint of the identity of the token whose module proposed it: no other commits it
	Clock      int64   `json:"clock"`              // when it began: no module believes an earlier time
	Generation uint32  `json:"generation"`         // of the master keys that seal
	Oldest     uint32  `json:"oldest"`             // generation that is still unsealed
	Roster     Roster  `json:"roster"`
	Lasting    []byte  `json:"lasting,omitempty"` // from generation 2 on: the fingerprint key, wrapped by the master keys that seal
	Keys       []Entry `json:"keys,omitempty"`    // in the order of name and version
	Done       []Done  `json:"done,omitempty"`    // ceremonies that could be carried out again

	Authorities []Authority  `json:"authorities,omitempty"` // in the order of their fingerprints
	Distrusted  []Distrusted `json:"distrusted,omitempty"`  // keys of those that were, and are no more
}

// Entry is what is remembered of one version of a key. It stays when the key is deleted.
type Entry struct {
	Name        string   `json:"n"`
	Version     uint32   `json:"v"`
	Usage       string   `json:"u"`
	Fingerprint string   `json:"f"`           // of its value
	Header      string   `json:"h"`           // [HeaderDigest]
	State       KeyState `json:"s"`           //
	Until       int64    `json:"t,omitempty"` // Active: used until then, since a later version took its place; Deleting: destroyed then
	Officers    []string `json:"o,omitempty"` // who entered its components, in their order
	Changed     uint64   `json:"e,omitempty"` // epoch that came of the last change of its state; 0: none
}

// KeyState is whether a key may be used.
type KeyState string

// The states.
const (
	Active   KeyState = "a"
	Stopped  KeyState = "s"
	Deleting KeyState = "d"
)

// Done is a ceremony that was carried out, until nobody could carry it out again.
type Done struct {
	ID      string `json:"id"`
	Expires int64  `json:"t"`
}

// MaxEpoch bounds an encoded epoch with its authentication code, in bytes: some 4,000
// versions of keys.
const MaxEpoch = 960 << 10

// EpochMACSize is the size of the authentication code behind an encoded epoch, in bytes.
const EpochMACSize = 16

// ErrEpoch is returned for what is no epoch, or none that this token made.
var ErrEpoch = errors.New("this is no epoch of this token")

// ParseEpoch reads an epoch without believing it: only a module can check its code.
func ParseEpoch(sealed []byte) (*Epoch, error) {
	if len(sealed) < EpochMACSize || len(sealed) > MaxEpoch {
		return nil, ErrEpoch
	}
	e, err := Decode[Epoch](sealed[:len(sealed)-EpochMACSize], MaxEpoch)
	if err != nil || e.Version == 0 || e.Generation == 0 || e.Oldest == 0 || e.Oldest > e.Generation || e.Roster.Validate() != nil {
		return nil, ErrEpoch
	}
	for i := 1; i < len(e.Keys); i++ {
		if compareEntries(&e.Keys[i-1], &e.Keys[i]) >= 0 {
			return nil, ErrEpoch
		}
	}
	return e, nil
}

func compareEntries(a, b *Entry) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return int(int64(a.Version) - int64(b.Version))
}

// Find returns the entry of a version of a key, nil if there is none.
func (e *Epoch) Find(name string, version uint32) *Entry {
	i, ok := e.search(name, version)
	if !ok {
		return nil
	}
	return &e.Keys[i]
}

func (e *Epoch) search(name string, version uint32) (int, bool) {
	return slices.BinarySearchFunc(e.Keys, &Entry{Name: name, Version: version}, func(a Entry, b *Entry) int { return compareEntries(&a, b) })
}

// Newest returns the entry of a key's newest version, nil if it has none.
func (e *Epoch) Newest(name string) *Entry {
	i, _ := e.search(name, 1<<32-1)
	if i < len(e.Keys) && e.Keys[i].Name == name {
		return &e.Keys[i]
	}
	if i > 0 && e.Keys[i-1].Name == name {
		return &e.Keys[i-1]
	}
	return nil
}

// Insert adds an entry in its place.
func (e *Epoch) Insert(entry Entry) {
	i, _ := e.search(entry.Name, entry.Version)
	e.Keys = slices.Insert(e.Keys, i, entry)
}

// Knows returns the first entry with that fingerprint, nil if no key has that value.
func (e *Epoch) Knows(fingerprint string) *Entry {
	for i := range e.Keys {
		if e.Keys[i].Fingerprint == fingerprint {
			return &e.Keys[i]
		}
	}
	return nil
}

// OtherPlace reports whether an officer entered another component of any version of a key
// than the one with this index. Whoever has had component 1 never gets to see component 2:
// a key that is sent again in the same components would be known to one person.
func (e *Epoch) OtherPlace(name, officer string, index int) bool {
	for i := range e.Keys {
		if e.Keys[i].Name != name {
			continue
		}
		for place, o := range e.Keys[i].Officers {
			if o == officer && place+1 != index {
				return true
			}
		}
	}
	return false
}

// WasDone reports whether the ceremony with that identifier was carried out.
func (e *Epoch) WasDone(id string) bool {
	return slices.ContainsFunc(e.Done, func(d Done) bool { return d.ID == id })
}

// Usable reports whether a version of a key may be used at a time.
func (n *Entry) Usable(at int64) bool {
	return n.State == Active && (n.Until == 0 || at < n.Until)
}

// Clone returns a copy that shares nothing that changes.
func (e *Epoch) Clone() *Epoch {
	c := *e
	c.Keys, c.Done, c.Authorities = slices.Clone(e.Keys), slices.Clone(e.Done), slices.Clone(e.Authorities)
	c.Distrusted = slices.Clone(e.Distrusted)
	return &c
}

// HeaderDigest returns the digest of everything in a header but the generation, in hex: it
// stays the same when a key is sealed again by other master keys.
func HeaderDigest(h *hsm.Header) (string, error) {
	c := *h
	c.Generation = 0
	b, err := c.Marshal()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
