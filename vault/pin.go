package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"unicode/utf8"
)

// maxPIN bounds a token PIN in bytes, as everywhere in keyd.
const maxPIN = 256

// readPIN reads the field from KV version 2 and hands it to keep, in memory that is wiped
// afterwards.
func (c *client) readPIN(ctx context.Context, keep func(pin []byte) error) error {
	p := c.PIN
	path := p.Mount + "/data/" + p.Path
	doing := "read the token PIN at " + path
	version := map[string][]string{}
	if p.Version > 0 {
		version["version"] = []string{strconv.Itoa(p.Version)}
	}
	response, err := c.api.Logical().ReadRawWithDataWithContext(ctx, path, version)
	if response != nil {
		defer response.Body.Close() //nolint:errcheck // wipes, and cannot fail
	}
	if err != nil && status(err) != http.StatusNotFound {
		return c.explain(doing, "read on "+path, err)
	}
	if response == nil {
		return away("%s: there is no answer", doing)
	}
	body, readErr := io.ReadAll(response.Body)
	defer clear(body)
	if readErr != nil {
		return away("%s: the answer was cut off", doing)
	}
	return pinIn(doing, p, body, err != nil, keep)
}

// pinIn finds the PIN in an answer of Vault's. missing says that the status was 404, which
// deleted versions have too.
func pinIn(doing string, p *PIN, body []byte, missing bool, keep func(pin []byte) error) error {
	which := "its newest version"
	if p.Version > 0 {
		which = "version " + strconv.Itoa(p.Version)
	}
	var answer struct {
		Data *struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata *struct {
				Version   int    `json:"version"`
				Deleted   string `json:"deletion_time"`
				Destroyed bool   `json:"destroyed"`
			} `json:"metadata"`
		} `json:"data"`
	}
	err := json.Unmarshal(body, &answer)
	switch {
	case (err != nil || answer.Data == nil) && missing:
		return refused("%s: there is nothing, or not %s: vault kv put -mount=%s %s %s=…", doing, which, p.Mount, p.Path, p.Field)
	case err != nil || answer.Data == nil || answer.Data.Metadata == nil:
		return refused("%s: the answer is not one of a KV secrets engine of version 2", doing)
	case answer.Data.Metadata.Destroyed:
		return refused("%s: %s was destroyed: write the PIN anew, or name another version", doing, which)
	case answer.Data.Data == nil && answer.Data.Metadata.Deleted != "":
		return refused("%s: %s was deleted: vault kv undelete, or name another version", doing, which)
	case p.Version > 0 && answer.Data.Metadata.Version != p.Version:
		return refused("%s: Vault answered with version %d in place of %d", doing, answer.Data.Metadata.Version, p.Version)
	}
	raw, ok := answer.Data.Data[p.Field]
	defer func() {
		for _, v := range answer.Data.Data { // copies of what body holds
			clear(v)
		}
	}()
	if !ok {
		return refused("%s: %s has no field %q", doing, which, p.Field)
	}
	pin, err := unquote(raw)
	defer clear(pin)
	if err != nil {
		return refused("%s: the field %q %v", doing, p.Field, err)
	}
	return keep(pin)
}

// unquote reads a JSON string without leaving it in memory that cannot be wiped. Numbers are
// refused: leading zeros would be lost.
func unquote(raw []byte) ([]byte, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, fmt.Errorf("is no text: write it as %s, in quotes", `"…"`)
	}
	raw = raw[1 : len(raw)-1]
	if len(raw) == 0 {
		return nil, fmt.Errorf("is empty")
	}
	pin := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		b := raw[i]
		if b == '\\' {
			i++
			if i >= len(raw) {
				return pin, fmt.Errorf("is no text")
			}
			switch raw[i] {
			case '"', '\\', '/':
				b = raw[i]
			case 'u': // Vault writes <, > and & so
				if i+4 >= len(raw) {
					return pin, fmt.Errorf("is no text")
				}
				r := rune(0)
				for _, h := range raw[i+1 : i+5] {
					switch {
					case h >= '0' && h <= '9':
						h -= '0'
					case h >= 'a' && h <= 'f':
						h -= 'a' - 10
					case h >= 'A' && h <= 'F':
						h -= 'A' - 10
					default:
						return pin, fmt.Errorf("is no text")
					}
					r = r<<4 | rune(h)
				}
				if r < ' ' || !utf8.ValidRune(r) { // half of a pair is none
					return pin, fmt.Errorf("has characters that no PIN has")
				}
				pin = utf8.AppendRune(pin, r)
				i += 4
				continue
			default: // line ends and the like
				return pin, fmt.Errorf("has characters that no PIN has")
			}
		} else if b < ' ' {
			return pin, fmt.Errorf("has characters that no PIN has")
		}
		pin = append(pin, b)
	}
	if len(pin) > maxPIN {
		return pin, fmt.Errorf("is longer than the %d bytes that a PIN may have", maxPIN)
	}
	return pin, nil
}
