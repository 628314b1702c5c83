package audit

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"keyd/checkpoint"
)

// Decision is what became of a request.
type Decision string

// The decisions.
const (
	Allowed Decision = "allowed" // and done
	Denied  Decision = "denied"  // refused by identity or policy
	Failed  Decision = "failed"  // refused or broken off for the reason given
	Event   Decision = "event"   // no request: something that happened to keyd itself
)

// Entry is what the log says of one decision. Texts that are longer than their limit
// are cut at the end, which an ellipsis shows; a caller's input cannot make an entry
// unwritable.
type Entry struct {
	RequestID string   // of the front; at most 64 bytes
	Identity  string   // SPIFFE ID; at most 2,048 bytes
	Method    string   // "PinService/TranslatePinData"; at most 128 bytes
	Decision  Decision // required
	Reason    string   // of the error table, "PIN_BLOCK_INVALID"; empty when allowed
	Rule      string   // of the policy, "switch[0]"; at most 128 bytes
	Keys      []Key    // that the request named, in the method's order; at most 8
	PAN       PAN
	Custody   string // "CUSTODY_TOKEN" or "CUSTODY_MODULE", empty when nothing was done
	Journal   uint64 // the row of the journal of key serial numbers with which the KSN was accepted; 0 where there is none
	Detail    string // one sentence of keyd's own; at most 512 bytes, long figures are removed

	// Log is the log's origin (package checkpoint). The log itself writes it, in the first
	// entry of each segment.
	Log string
}

// Key is a key that a request named. What is not known of it is empty.
type Key struct {
	Name    string // at most 128 bytes
	Version uint32 // counts from 1; 0 if there is no such key
	Usage   string // X9.143 key usage, two characters
	KCV     string // six upper-case hex digits
	KSN     string // 20 (TDES) or 24 (AES) upper-case hex digits; public
}

// Limits of an entry's texts in bytes, and of the list of keys.
const (
	maxRequestID = 64
	maxIdentity  = 2048
	maxMethod    = 128
	maxReason    = 64
	maxRule      = 128
	maxKeys      = 8
	maxKeyName   = 128
	maxCustody   = 32
	maxDetail    = 512
)

// normalize returns the entry as the log keeps it, with texts cut to their limits, or
// an error if it holds what no entry may hold. It leaves what it is given unchanged.
func (e Entry) normalize() (Entry, error) {
	switch e.Decision {
	case Allowed, Denied, Failed, Event:
	default:
		return Entry{}, fmt.Errorf("%w: no decision", ErrEntry)
	}
	if e.Log != "" && (e.Decision != Event || !checkpoint.ValidOrigin(e.Log)) {
		return Entry{}, fmt.Errorf("%w: an origin that is none", ErrEntry)
	}
	if e.Decision == Allowed && e.Reason != "" {
		return Entry{}, fmt.Errorf("%w: a reason for refusal with what was allowed", ErrEntry)
	}
	if !constantName(e.Reason, maxReason) || !constantName(e.Custody, maxCustody) {
		return Entry{}, fmt.Errorf("%w: reason and custody are names in capital letters", ErrEntry)
	}
	if len(e.Keys) > maxKeys {
		return Entry{}, fmt.Errorf("%w: more than %d keys", ErrEntry, maxKeys)
	}
	shared := true // the caller's, which stay as they are
	for i := range e.Keys {
		k := &e.Keys[i]
		if err := k.check(); err != nil {
			return Entry{}, err
		}
		name := cut(k.Name, maxKeyName)
		if name == k.Name {
			continue
		}
		if shared {
			e.Keys, shared = slices.Clone(e.Keys), false
		}
		e.Keys[i].Name = name
	}
	e.RequestID = cut(e.RequestID, maxRequestID)
	e.Identity = cut(e.Identity, maxIdentity)
	e.Method = cut(e.Method, maxMethod)
	e.Rule = cut(e.Rule, maxRule)
	e.Detail = cut(withoutFigures(e.Detail), maxDetail)
	return e, nil
}

// check keeps out of the short fields whatever is not what they are for. Neither a
// TDES nor an AES PIN block (16 or 32 hex digits) has the length of a KSN.
func (k *Key) check() error {
	if k.Usage != "" && (len(k.Usage) != 2 || !all(k.Usage, capital)) {
		return fmt.Errorf("%w: a key usage has two characters", ErrEntry)
	}
	if k.KCV != "" && (len(k.KCV) != 6 || !all(k.KCV, upperHex)) {
		return fmt.Errorf("%w: a check value has six upper-case hex digits", ErrEntry)
	}
	if k.KSN != "" && (len(k.KSN) != 20 && len(k.KSN) != 24 || !all(k.KSN, upperHex)) {
		return fmt.Errorf("%w: a KSN has 20 or 24 upper-case hex digits", ErrEntry)
	}
	return nil
}

func constantName(s string, most int) bool {
	return len(s) <= most && all(s, func(c byte) bool { return capital(c) || c == '_' })
}

func capital(c byte) bool { return digit(c) || 'A' <= c && c <= 'Z' }

// cut shortens s to at most that many bytes, the ellipsis included. What is not UTF-8
// is replaced before, since that changes the length.
func cut(s string, most int) string {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	if len(s) <= most {
		return s
	}
	end := most - len(ellipsis)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + ellipsis
}

// longFigure is the number of hex digits from which a figure could be a PAN (12 or
// more digits) or a PIN block (16 or more hex digits).
const longFigure = 12

// withoutFigures removes from a sentence what could be a PAN or a PIN block. No
// sentence of keyd's has one; this is for the day when one does by mistake.
func withoutFigures(s string) string {
	var out []byte
	for i := 0; i < len(s); {
		j := i
		for j < len(s) && hexDigit(s[j]) {
			j++
		}
		if j-i >= longFigure {
			out = append(out, ellipsis...)
			i = j
			continue
		}
		if j == i {
			j++
		}
		out = append(out, s[i:j]...)
		i = j
	}
	return string(out)
}

func hexDigit(c byte) bool { return upperHex(c) || 'a' <= c && c <= 'f' }
