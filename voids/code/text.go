package code

import (
	"encoding/base32"
	"slices"
	"strconv"
	"strings"
)

// MaxHost bounds the host of a URL, its port included, in characters.
const MaxHost = 128

const (
	scheme   = "HTTPS://"
	path     = "/V/"
	alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

var maxText = encoding.EncodedLen(LiveSize)

// Text returns the code in base32 (RFC 4648) without padding: 157 characters of a live code,
// 48 of a slip's.
func (p *Payload) Text() string { return encoding.EncodeToString(p.bytes) }

// URL returns the code as HTTPS://HOST/V/ and its text. The host may have a port; it is written
// in upper case. The error is [ErrHost].
func (p *Payload) URL(host string) (string, error) {
	host = upper(host)
	if !validHost(host) {
		return "", ErrHost
	}
	return scheme + host + path + p.Text(), nil
}

// Scan reads what a scanner read: a text, or a URL of one of the hosts. Errors are those of
// [Parse] and [ParseURL].
func Scan(scanned string, hosts ...string) (*Payload, error) {
	if strings.Contains(scanned, ":") {
		return ParseURL(scanned, hosts...)
	}
	return Parse(scanned)
}

// Parse reads a code's text, of which there is one: the result's Text is what was parsed.
// Errors are [ErrLength], [ErrAlphabet], [ErrUnusedBits], [ErrVersion], [ErrKind],
// [ErrSignatureForm], [ErrIdentifier] and [ErrExpiryRange].
func Parse(text string) (*Payload, error) {
	if text == "" || len(text) > maxText {
		return nil, ErrLength
	}
	// Go's decoder skips line feeds and ignores unused bits.
	for i := range len(text) {
		if strings.IndexByte(alphabet, text[i]) < 0 {
			return nil, ErrAlphabet
		}
	}
	b, err := encoding.DecodeString(text)
	if err != nil || encoding.EncodedLen(len(b)) != len(text) {
		return nil, ErrLength
	}
	if encoding.EncodeToString(b) != text {
		return nil, ErrUnusedBits
	}
	return fromBytes(b)
}

// ParseURL reads a URL of one of the hosts; without hosts it reads none. Scheme and host
// may be in any case, the rest may not. Errors are [ErrLength], [ErrScheme], [ErrHost],
// [ErrForeignHost], [ErrPath], and those of [Parse].
func ParseURL(url string, hosts ...string) (*Payload, error) {
	if len(url) > len(scheme)+MaxHost+len(path)+maxText {
		return nil, ErrLength
	}
	if len(url) < len(scheme) || upper(url[:len(scheme)]) != scheme {
		return nil, ErrScheme
	}
	host, text, found := strings.Cut(url[len(scheme):], "/")
	if host = upper(host); !validHost(host) {
		return nil, ErrHost
	}
	if !slices.ContainsFunc(hosts, func(ours string) bool { return upper(ours) == host }) {
		return nil, ErrForeignHost
	}
	text, ok := strings.CutPrefix(text, path[1:])
	if !found || !ok {
		return nil, ErrPath
	}
	return Parse(text)
}

// validHost reports whether a host in upper case is a DNS name or an IPv4 address, perhaps with
// a port: what a QR code has room for in its alphanumeric mode. One host has one form: no dot
// at the end, no leading zero in a port, and not the port that HTTPS has anyway.
func validHost(host string) bool {
	if len(host) > MaxHost {
		return false
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || n == 443 || strconv.FormatUint(n, 10) != port {
			return false
		}
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (!letterOrDigit(c) || 'a' <= c && c <= 'z') {
				return false
			}
		}
	}
	return true
}

// upper is strings.ToUpper for ASCII: no other letter becomes one of A to Z.
func upper(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}
