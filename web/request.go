package web

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"unicode/utf8"
)

// MaxBody bounds what a page sends, in bytes.
const MaxBody = 16 << 10

// maxDepth is how many objects stand in one another at most.
const maxDepth = 2

// errRequest is what is wrong with a request, whatever it is.
var errRequest = errors.New("web: the request is not well formed")

// readBody reads a whole body of at most [MaxBody] bytes. The status is 0, or why it could not be read.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, int) {
	if r.ContentLength > MaxBody {
		return nil, http.StatusRequestEntityTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge
	}
	if err != nil { // half of it, or too slow
		return nil, http.StatusRequestTimeout
	}
	return body, 0
}

// object is a JSON object of texts, booleans and objects, none of whose names stands twice. Names are
// taken out of it as they are read, so that what is left is unknown.
type object struct {
	values map[string]any
	failed *bool // something was missing, of another kind, or unknown; shared with those in it
}

// parse reads a body that is one object. encoding/json alone takes names in any case and the last of
// two; the error is errRequest.
func parse(body []byte) (*object, error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, errRequest
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errRequest
	}
	o, err := parseObject(d, 1, new(bool))
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errRequest
	}
	return o, nil
}

// parseObject reads an object behind its brace.
func parseObject(d *json.Decoder, depth int, failed *bool) (*object, error) {
	o := &object{map[string]any{}, failed}
	for {
		token, err := d.Token()
		if err != nil {
			return nil, errRequest
		}
		if token == json.Delim('}') {
			return o, nil
		}
		name, ok := token.(string)
		if _, twice := o.values[name]; !ok || twice {
			return nil, errRequest
		}
		if token, err = d.Token(); err != nil {
			return nil, errRequest
		}
		switch v := token.(type) {
		case string, bool:
			o.values[name] = v
		case json.Delim:
			if v != '{' || depth == maxDepth {
				return nil, errRequest
			}
			if o.values[name], err = parseObject(d, depth+1, failed); err != nil {
				return nil, err
			}
		default:
			return nil, errRequest
		}
	}
}

// take takes a value out.
func take[T any](o *object, name string) (v T) {
	v, ok := o.values[name].(T)
	if !ok {
		*o.failed = true
	}
	delete(o.values, name)
	return v
}

// text takes a text of 1 to longest bytes.
func (o *object) text(name string, longest int) string {
	s := take[string](o, name)
	if s == "" || len(s) > longest {
		*o.failed = true
		return ""
	}
	return s
}

// flag takes a boolean.
func (o *object) flag(name string) bool { return take[bool](o, name) }

// bytes takes least to most bytes, in base64url without padding (RFC 4648 section 5), in its one form.
func (o *object) bytes(name string, least, most int) []byte {
	s := o.text(name, base64.RawURLEncoding.EncodedLen(most))
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < least || len(b) > most || base64.RawURLEncoding.EncodedLen(len(b)) != len(s) { // the decoder skips line feeds
		*o.failed = true
		return nil
	}
	return b
}

// within takes an object.
func (o *object) within(name string) *object {
	inner := take[*object](o, name)
	if inner == nil {
		return &object{nil, o.failed}
	}
	return inner
}

// end returns errRequest unless everything was there, and nothing else.
func (o *object) end(inner ...*object) error {
	for _, x := range append(inner, o) {
		if len(x.values) > 0 {
			*o.failed = true
		}
	}
	if *o.failed {
		return errRequest
	}
	return nil
}
