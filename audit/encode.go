package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Hash is the SHA-256 of an entry's line and so of everything before it.
type Hash [sha256.Size]byte

// String returns 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// version of the encoding.
const version = 2

// Ends of a line, which have one length.
const (
	hashField = `,"hash":"`
	lineEnd   = "\"}\n"
)

// appendLine appends the line of an entry, with its line feed, and returns it with
// the line's hash. body comes from appendBody.
func appendLine(b []byte, seq uint64, at time.Time, body []byte, prev Hash) ([]byte, Hash) {
	start := len(b)
	b = appendStart(b, seq)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = append(b, body...)
	b = append(b, `,"prev":"`...)
	b = hex.AppendEncode(b, prev[:])
	b = append(b, '"')
	hash := Hash(sha256.Sum256(b[start:]))
	b = append(b, hashField...)
	b = hex.AppendEncode(b, hash[:])
	b = append(b, lineEnd...)
	return b, hash
}

// appendStart appends what a line begins with, up to its time.
func appendStart(b []byte, seq uint64) []byte {
	b = strconv.AppendUint(appendNumber(b), seq, 10)
	return append(b, `,"time":"`...)
}

// appendNumber appends what stands before an entry's number.
func appendNumber(b []byte) []byte {
	b = append(b, `{"v":`...)
	b = strconv.AppendInt(b, version, 10)
	return append(b, `,"seq":`...)
}

// appendBody appends the fields of a normalized entry, each with a comma before it.
func appendBody(b []byte, e *Entry) []byte {
	b = appendField(b, "request_id", e.RequestID)
	b = appendField(b, "identity", e.Identity)
	b = appendField(b, "method", e.Method)
	b = appendField(b, "decision", string(e.Decision))
	b = appendField(b, "reason", e.Reason)
	b = appendField(b, "rule", e.Rule)
	if len(e.Keys) > 0 {
		b = append(b, `,"keys":[`...)
		for i := range e.Keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendKey(b, &e.Keys[i])
		}
		b = append(b, ']')
	}
	b = appendField(b, "pan", e.PAN.shown)
	b = appendField(b, "custody", e.Custody)
	if e.Journal != 0 {
		b = append(b, `,"journal":`...)
		b = strconv.AppendUint(b, e.Journal, 10)
	}
	b = appendField(b, "detail", e.Detail)
	return appendField(b, "log", e.Log)
}

func appendKey(b []byte, k *Key) []byte {
	b = append(b, `{"name":"`...)
	b = appendText(b, k.Name)
	b = append(b, '"')
	if k.Version != 0 {
		b = append(b, `,"version":`...)
		b = strconv.AppendUint(b, uint64(k.Version), 10)
	}
	b = appendField(b, "usage", k.Usage)
	b = appendField(b, "kcv", k.KCV)
	b = appendField(b, "ksn", k.KSN)
	return append(b, '}')
}

// appendField appends a comma and a field unless it is empty.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":"`...)
	b = appendText(b, value)
	return append(b, '"')
}

// appendText appends s as the inside of a JSON string (RFC 8259 §7). Which characters
// are escaped is fixed here rather than left to a library, since hashes depend on it.
func appendText(b []byte, s string) []byte {
	plain := 0
	for plain < len(s) && asItIs(s[plain]) {
		plain++
	}
	b = append(b, s[:plain]...) // mostly all of it
	for i := plain; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case asItIs(c):
				b = append(b, c)
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			default:
				b = appendEscape(b, rune(c))
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r == '…':
			b = append(b, ellipsis...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = appendEscape(appendEscape(b, high), low)
		default: // bytes that are not UTF-8 become U+FFFD
			b = appendEscape(b, r)
		}
	}
	return b
}

// asItIs reports whether a character stands for itself.
func asItIs(c byte) bool {
	return ' ' <= c && c < 0x7f && c != '"' && c != '\\'
}

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
