// Package testkeys reads files of known clear keys and seals them. It exists for
// development and tests: it runs only in the one-shot provisioning process, only on
// a token that carries the dev mark, and no serving process can reach it.
//
// A file is a JSON array of keys, see [Entry]. Keys are taken as they are: parity,
// equal halves and one value under two usages are not looked at. Errors name the
// entry and what to mend, never a value.
package testkeys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"keyd/hsm"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/sealing"
)

// MaxFileSize bounds a file of test keys, in bytes.
const MaxFileSize = 64 << 20

// Entry is one test key. Usage, Algorithm and ModeOfUse are codes of ANSI X9.143;
// Value is the key in hex.
type Entry struct {
	Name      string   `json:"name"`
	Usage     string   `json:"usage"`
	Algorithm string   `json:"algorithm"`
	ModeOfUse string   `json:"mode_of_use"`
	Value     hexBytes `json:"value"`
	KSN       string   `json:"ksn,omitempty"`        // "off" (default), "monotonic": a BDK whose KSNs are accepted once
	Direction string   `json:"direction,omitempty"`  // incoming, outgoing, both (default)
	Formats   []format `json:"formats,omitempty"`    // default: all that the algorithm carries
	Peers     []string `json:"peers,omitempty"`      // default: every peer group
	MACLength uint8    `json:"mac_length,omitempty"` // M1 to M7 and B0: least bytes of a MAC; default: the algorithm's
	DataModes []string `json:"data_modes,omitempty"` // D0 and B0: "CBC", "CTR"; default: both
	PINKind   string   `json:"pin_kind,omitempty"`   // B0 and P0: "record", for PINs of PIN records and no others
	IBM3624   *ibm3624 `json:"ibm3624,omitempty"`    // needed for V1, refused for others
}

type ibm3624 struct {
	DecimalizationTable string `json:"decimalization_table"`
	ValidationStart     *uint8 `json:"validation_start"`
	ValidationLength    *uint8 `json:"validation_length"`
	ValidationPad       string `json:"validation_pad"`
}

// ErrFile is wrapped by every error about a file's content.
var ErrFile = errors.New("test keys refused")

// Read parses a whole file. On error nothing is returned. The caller wipes the
// entries with [Wipe].
func Read(r io.Reader) ([]Entry, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxFileSize+1))
	defer clear(data)
	if err != nil {
		return nil, fmt.Errorf("read test keys: %w", err)
	}
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrFile, MaxFileSize)
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%w: not a JSON array of keys (at byte %d)", ErrFile, offset(err))
	}
	entries := make([]Entry, len(raw))
	seen := make(map[string]int)
	for i, one := range raw {
		if err := entries[i].parse(one); err != nil {
			Wipe(entries)
			return nil, fmt.Errorf("%w: entry %d%s: %w", ErrFile, i+1, called(entries[i].Name), err)
		}
		if first, ok := seen[entries[i].Name]; ok {
			Wipe(entries)
			return nil, fmt.Errorf("%w: entry %d%s: the name stands in entry %d already", ErrFile, i+1, called(entries[i].Name), first)
		}
		seen[entries[i].Name] = i + 1
	}
	return entries, nil
}

// Wipe zeroes the values of entries.
func Wipe(entries []Entry) {
	for i := range entries {
		clear(entries[i].Value)
	}
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@+=#~-]{0,127}$`)

// usages are the key usages that a file may hold, with the modes of use that X9.143
// allows each and the algorithms that can serve it.
var usages = map[string]struct{ modes, algorithms string }{
	"B0": {"XN", "TA"},
	"P0": {"BDEN", "TA"},
	"C0": {"CGVN", "T"},
	"D0": {"BDEN", "TA"},
	"V0": {"CGVN", "A"},
	"V1": {"CGVN", "T"},
	"V2": {"CGVN", "T"},
	"M1": {"CGVN", "T"},
	"M3": {"CGVN", "T"},
	"M6": {"CGVN", "TA"},
	"M7": {"CGVN", "H"},
	"K0": {"BDEN", "TA"},
	"K1": {"BDEN", "TA"},
}

func (e *Entry) parse(raw json.RawMessage) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(e); err != nil {
		return describe(err)
	}
	if !nameForm.MatchString(e.Name) {
		return errors.New(`"name" must have 1 to 128 letters, digits and ._:/@+=#~- and begin with a letter or digit`)
	}
	if strings.HasPrefix(e.Name, hsm.TerminalPrefix) {
		return fmt.Errorf(`"name" must not begin with %q: such keys are those that modules make for terminals`, hsm.TerminalPrefix)
	}
	usage, ok := usages[e.Usage]
	switch {
	case !ok:
		return errors.New(`"usage" must be one of B0 P0 C0 D0 V0 V1 V2 M1 M3 M6 M7 K0 K1`)
	case len(e.Algorithm) != 1 || !strings.Contains(usage.algorithms, e.Algorithm):
		return fmt.Errorf(`"algorithm" of a %s key must be one of %s`, e.Usage, spaced(usage.algorithms))
	case len(e.ModeOfUse) != 1 || !strings.Contains(usage.modes, e.ModeOfUse):
		return fmt.Errorf(`"mode_of_use" of a %s key must be one of %s`, e.Usage, spaced(usage.modes))
	}
	if _, err := sealing.KeyType(e.Algorithm, len(e.Value)); err != nil {
		return fmt.Errorf(`"value": %w`, err)
	}
	switch e.KSN {
	case "", "off":
	case hsm.KSNMonotonic:
		if e.Usage != "B0" {
			return errors.New(`"ksn": "monotonic" belongs to B0 keys`)
		}
	default:
		return errors.New(`"ksn" must be off or monotonic`)
	}
	switch e.Direction {
	case "":
		e.Direction = hsm.DirectionBoth
	case hsm.DirectionIncoming, hsm.DirectionOutgoing, hsm.DirectionBoth:
	default:
		return errors.New(`"direction" must be incoming, outgoing or both`)
	}
	if e.PINKind != "" && (e.PINKind != hsm.PINRecord || e.Usage != "B0" && e.Usage != "P0") {
		return errors.New(`"pin_kind" is record, for B0 and P0 keys`)
	}
	if e.MACLength != 0 && e.Usage != "B0" && e.Usage[0] != 'M' {
		return errors.New(`"mac_length" belongs to M1, M3, M6, M7 and B0 keys`)
	}
	if e.MACLength != 0 && (e.MACLength < hsm.MinMAC || e.MACLength > 32) {
		return errors.New(`"mac_length" must be 4 to 32 bytes`)
	}
	if e.DataModes != nil && e.Usage != "D0" && e.Usage != "B0" {
		return errors.New(`"data_modes" belongs to D0 and B0 keys`)
	}
	for _, m := range e.DataModes {
		if m != hsm.CBC.String() && m != hsm.CTR.String() {
			return errors.New(`"data_modes" may hold CBC and CTR`)
		}
	}
	if slices.Contains(e.Peers, "") {
		return errors.New(`"peers" must not hold an empty name`)
	}
	if (e.IBM3624 != nil) != (e.Usage == "V1") {
		return errors.New(`"ibm3624" belongs to V1 keys, and a V1 key needs it`)
	}
	if e.IBM3624 != nil {
		if _, err := e.IBM3624.rule(); err != nil {
			return err
		}
	}
	return nil
}

// Header returns the header that the entry describes, as version 1 of the key.
func (e *Entry) Header() (hsm.Header, error) {
	h := hsm.Header{
		Name: e.Name, Version: 1, Usage: e.Usage, Algorithm: e.Algorithm, Mode: e.ModeOfUse,
		Exportability: "N", Custody: hsm.CustodyToken, Direction: e.Direction, Peers: e.Peers, MACLength: e.MACLength, PINKind: e.PINKind,
	}
	if e.KSN == hsm.KSNMonotonic {
		h.KSNCheck = hsm.KSNMonotonic
	}
	if e.Peers == nil {
		h.Peers = []string{"*"}
	}
	if e.Usage == "P0" || e.Usage == "B0" {
		for _, f := range e.Formats {
			h.Formats = append(h.Formats, hsm.Format(f))
		}
		if e.Formats == nil {
			h.Formats = []hsm.Format{hsm.Format0, hsm.Format1, hsm.Format3, hsm.Format4}
		}
	}
	if e.Usage == "D0" || e.Usage == "B0" {
		if h.DataModes = e.DataModes; h.DataModes == nil {
			h.DataModes = []string{hsm.CBC.String(), hsm.CTR.String()}
		}
	}
	if e.IBM3624 != nil {
		rule, err := e.IBM3624.rule()
		if err != nil {
			return h, err
		}
		h.IBM3624 = rule
	}
	h.AllowChange = h.Usage == "V1" || h.Usage == "V2" // known keys are taken as they are
	if h.Usage == "B0" {
		h.InjectionHosts = []string{"*"}
	}
	return h, nil
}

func (i *ibm3624) rule() (*hsm.IBM3624Rule, error) {
	if i.ValidationStart == nil || i.ValidationLength == nil {
		return nil, errors.New(`"ibm3624" needs validation_start and validation_length`)
	}
	rule := &hsm.IBM3624Rule{
		DecimalizationTable: i.DecimalizationTable, Start: *i.ValidationStart,
		Length: *i.ValidationLength, Pad: strings.ToUpper(i.ValidationPad),
		AllowUnboundPAN: true, // known keys are taken as they are
	}
	if err := (pinverify.Rule{DecimalizationTable: rule.DecimalizationTable, Start: rule.Start, Length: rule.Length, Pad: rule.Pad}).Validate(); err != nil {
		return nil, fmt.Errorf(`"ibm3624": %w`, err)
	}
	return rule, nil
}

// hexBytes is a key value. It never prints.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' {
		return errors.New(`"value" must be a string of hex digits`)
	}
	text := b[1 : len(b)-1]
	out := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(out, text); err != nil {
		clear(out)
		return errors.New(`"value" must be an even number of hex digits`)
	}
	*h = out
	return nil
}

func (hexBytes) String() string   { return "redacted" }
func (hexBytes) GoString() string { return "redacted" }

// format is a PIN-block format: its number, "ISO-0", "ISO_FORMAT_0" or "0".
type format hsm.Format

func (f *format) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	text = strings.TrimPrefix(strings.TrimPrefix(text, "ISO_FORMAT_"), "ISO-")
	for _, known := range []hsm.Format{hsm.Format0, hsm.Format1, hsm.Format3, hsm.Format4} {
		if text == fmt.Sprint(uint8(known)) {
			*f = format(known)
			return nil
		}
	}
	return errors.New(`"formats" may hold ISO_FORMAT_0, ISO_FORMAT_1, ISO_FORMAT_3 and ISO_FORMAT_4`)
}

func called(name string) string {
	if !nameForm.MatchString(name) {
		return ""
	}
	return fmt.Sprintf(" (%q)", name)
}

func spaced(letters string) string { return strings.Join(strings.Split(letters, ""), " ") }

func offset(err error) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return syntax.Offset
	case errors.As(err, &kind):
		return kind.Offset
	}
	return 0
}

// describe turns an error of encoding/json into one that quotes nothing of the file
// but a field's name.
func describe(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("field %q is of the wrong type", kind.Field)
	}
	if text, found := strings.CutPrefix(err.Error(), "json: unknown field "); found {
		return fmt.Errorf("unknown field %s", text)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return errors.New("not well-formed JSON")
	}
	return err
}
