package backup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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

// Log raises counters to all that an audit log says was accepted. The log is verified from its
// first entry on; a last line that was never acknowledged is passed over. It reports whether the
// log has the entry with that number and hash, so that it goes at least as far.
func (s *Serials) Log(from io.Reader, head audit.Head, raised *ksn.Raised) (has bool, err error) {
	for r, err := range audit.Records(from) {
		if errors.Is(err, audit.ErrTorn) {
			break
		}
		if err != nil {
			return false, err
		}
		has = has || r.Seq == head.Seq && r.Hash == head.Hash
		if err := s.entry(&r.Entry, raised); err != nil {
			return false, fmt.Errorf("entry %d: %w", r.Seq, err)
		}
	}
	return has, nil
}

// afterAccepting are the reasons of refusals that can come after a key serial number was
// accepted.
var afterAccepting = []string{"CANCELLED", "DEADLINE_EXCEEDED", "STORE_UNAVAILABLE", "AUDIT_UNAVAILABLE", "INTERNAL"}

// entry takes the key serial numbers of one request.
func (s *Serials) entry(e *audit.Entry, raised *ksn.Raised) error {
	if e.Decision != audit.Allowed && (e.Decision != audit.Failed || !slices.Contains(afterAccepting, e.Reason)) {
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
