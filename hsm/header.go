package hsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Header is the public part of a sealed key: everything that decides what the key
// may be used for. It is authenticated together with the key by the token, so that
// the module trusts it and the front only displays it.
//
// Codes are those of ANSI X9.143-2021 (TR-31): Usage (table 6), Algorithm (7),
// Mode (8), Exportability (9).
type Header struct {
	Name          string       `json:"name"`
	Version       uint32       `json:"version"`              // counts from 1 for each name
	Generation    uint32       `json:"generation"`           // of the master keys that seal it
	Usage         string       `json:"usage"`                // two characters, "P0"
	Algorithm     string       `json:"algorithm"`            // "T" TDES, "A" AES, "H" HMAC
	Length        uint16       `json:"length"`               // of the key in bytes
	Mode          string       `json:"mode"`                 // mode of use, one character
	Exportability string       `json:"exportability"`        // "N": never
	NotBefore     int64        `json:"not_before,omitempty"` // Unix seconds; 0: no limit
	NotAfter      int64        `json:"not_after,omitempty"`  // Unix seconds; 0: no limit
	CheckValue    string       `json:"check_value"`          // KCV, six upper-case hex digits
	Fingerprint   string       `json:"fingerprint"`          // keyed digest of the key value, hex
	Custody       string       `json:"custody"`              // CustodyToken: no process reads it; CustodyModule: the module may
	Direction     string       `json:"direction"`            // DirectionIncoming, -Outgoing, -Both
	Peers         []string     `json:"peers,omitempty"`      // peer groups; "*" is every group
	Formats       []Format     `json:"formats,omitempty"`    // PIN-block formats it may carry
	DataModes     []string     `json:"data_modes,omitempty"` // modes of operation in which it enciphers data: "CBC", "CTR"
	MACLength     uint8        `json:"mac_length,omitempty"` // least bytes of a MAC that is made or verified; 0: the algorithm's
	KSNCheck      string       `json:"ksn_check,omitempty"`  // KSNMonotonic, or empty for none
	IBM3624       *IBM3624Rule `json:"ibm3624,omitempty"`    // V1 keys only

	// Object is the label of the token's object that the key is, where it lies in the token
	// itself and no value is sealed: a key pair, or a key that officers attached. Public is a
	// key pair's SubjectPublicKeyInfo (RFC 5280) in DER.
	Object string `json:"object,omitempty"`
	Public []byte `json:"public,omitempty"`

	// Blocks are the optional blocks of the key block in which the key came (X9.143-2021 6.3.6),
	// without padding and check values. They go with it when it leaves.
	Blocks []OptionalBlock `json:"blocks,omitempty"`

	// AllowChange lets a V1 or V2 key make values for PINs that come in ways which tell a
	// front that was taken over more than a try would. By offset (V1): that of a PIN which
	// somebody knows tells the account's natural PIN, and so the PIN of any other offset.
	// By PVV (V2): for a new PIN in ISO format 3, whose fill digits do not bind it to its
	// PAN: another cardholder's block often passes for one of this PAN. It is set by
	// officers who accept that, and for known test keys.
	AllowChange bool `json:"allow_change,omitempty"`

	// InjectionHosts are the key pairs (usage S0), by name, whose host may send initial keys of a
	// base derivation key (B0) to terminals over the network, each to one device whose certificate
	// ends at an authority that officers believe. Since a pair is in one token, so is the ledger
	// by which the modules go. "*" is any pair, for known test keys.
	InjectionHosts []string `json:"injection_hosts,omitempty"`

	// PINKind says which PINs a B0 or P0 key carries: those of cardholders when it is empty, or those
	// of PIN records ([PINRecord], package pinrecord). A key of one kind never carries the other.
	PINKind string `json:"pin_kind,omitempty"`

	// Device marks a key that a module has made for one terminal: SHA-256 of the public key of
	// its device, in hex. Name begins with [TerminalPrefix]. The register does not have such keys.
	Device string `json:"device,omitempty"`
}

// TerminalPrefix begins the names of keys that modules make for terminals, which no other key
// has: "terminal:TERMINAL:NAME".
const TerminalPrefix = "terminal:"

// OptionalBlock is an optional block of a key block, as text.
type OptionalBlock struct {
	ID   string `json:"id"` // two characters
	Data string `json:"data"`
}

// IBM3624Rule fixes how validation data follows from a PAN and how a natural PIN
// follows from it. It is sealed with the V1 key: with a table or a rule of the
// caller's choice, offsets would give PINs away.
type IBM3624Rule struct {
	DecimalizationTable string `json:"decimalization_table"` // 16 decimal digits
	Start               uint8  `json:"validation_start"`     // first PAN digit, 0 = leftmost
	Length              uint8  `json:"validation_length"`    // number of PAN digits, 1 to 16
	Pad                 string `json:"validation_pad"`       // one hex digit, to 16 on the right

	// AllowUnboundPAN lets blocks of formats 0 and 3 be verified although validation
	// data leaves out PAN digits that are combined with PIN digits in the block: by
	// changing those, whoever may ask for verifications finds PIN digits in a few
	// calls. It is set for known test keys only.
	AllowUnboundPAN bool `json:"allow_unbound_pan,omitempty"`
}

// Where the key may exist in clear.
const (
	CustodyToken  = "token"
	CustodyModule = "module"
)

// Which way PIN blocks flow under the key, seen from this host.
const (
	DirectionIncoming = "incoming" // blocks that are deciphered here
	DirectionOutgoing = "outgoing" // blocks that are enciphered here
	DirectionBoth     = "both"
)

// KSNMonotonic demands of a BDK's transactions that each terminal's counter only grows:
// a key serial number is accepted once (package ksn).
const KSNMonotonic = "monotonic"

// PINRecord is the kind of keys that carry the PINs of PIN records: of supervisors, and of
// cardholders whose issuer keeps no other datum. They are neither translated nor generated, and
// compared with a record only.
const PINRecord = "record"

// MaxHeaderSize bounds an encoded header, in bytes.
const MaxHeaderSize = 16 << 10

// Marshal returns the one encoding of the header: JSON without white space, fields
// in the order of the type.
func (h *Header) Marshal() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode key header: %w", err)
	}
	if len(b) > MaxHeaderSize {
		return nil, fmt.Errorf("key header has %d bytes; at most %d are allowed", len(b), MaxHeaderSize)
	}
	return b, nil
}

var errHeader = errors.New("malformed key header")

// parseHeader accepts exactly what [Header.Marshal] returns.
func parseHeader(b []byte) (*Header, error) {
	if len(b) > MaxHeaderSize {
		return nil, errHeader
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	h := new(Header)
	if err := dec.Decode(h); err != nil {
		return nil, errHeader
	}
	again, err := h.Marshal()
	if err != nil || !bytes.Equal(again, b) {
		return nil, errHeader
	}
	return h, nil
}

// ValidAt reports whether the key's validity covers t.
func (h *Header) ValidAt(t time.Time) bool {
	if h.NotBefore != 0 && t.Unix() < h.NotBefore {
		return false
	}
	return h.NotAfter == 0 || t.Unix() < h.NotAfter
}

// Carries reports whether the key may carry PIN blocks of that format.
func (h *Header) Carries(f Format) bool { return slices.Contains(h.Formats, f) }

// Enciphers reports whether the key may encipher data in that mode. One key has one mode,
// unless it is for testing: whoever may encipher in CBC with a vector of his choice could
// decipher what was enciphered in CTR.
func (h *Header) Enciphers(m DataMode) bool { return slices.Contains(h.DataModes, m.String()) }

// CarriesRecords reports whether the PINs under the key are those of PIN records.
func (h *Header) CarriesRecords() bool { return h.PINKind == PINRecord }

// Incoming reports whether blocks under the key may be deciphered here.
func (h *Header) Incoming() bool {
	return h.Direction == DirectionIncoming || h.Direction == DirectionBoth
}

// Outgoing reports whether blocks may be enciphered under the key here.
func (h *Header) Outgoing() bool {
	return h.Direction == DirectionOutgoing || h.Direction == DirectionBoth
}

// SharesPeers reports whether a block under h may go to a key of one of other's
// peer groups.
func (h *Header) SharesPeers(other *Header) bool {
	if slices.Contains(h.Peers, "*") || slices.Contains(other.Peers, "*") {
		return len(h.Peers) > 0 && len(other.Peers) > 0
	}
	return slices.ContainsFunc(h.Peers, func(p string) bool { return slices.Contains(other.Peers, p) })
}
