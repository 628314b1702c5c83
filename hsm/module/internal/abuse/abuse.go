// Package abuse attempts on a token what a hostile module would: calls that the PKCS#11
// interface allows, or should not, with templates and rights that keyd gives no key. What
// comes of each on SoftHSM and on NSS softokn stands in one table ([Chapters]), so that a
// version of a token that behaves otherwise is noticed, and docs/custody.md says what is so.
//
// Rules. An attempt succeeds only when it has what it was after: a value that was read is
// compared, a key that was made is used. One that is refused names the call and its return
// value. Secrets are random ones of the attempt's own.
//
// The tests of its subpackages use it, one for each token, since a process loads one library;
// and abuse/report, which makes the attempts on a token of somebody's own. It is no part of keyd.
package abuse

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token/tokentest"
)

// Attempt is one abuse, and what comes of it: [Succeeds], a refusal ("C_WrapKey:
// CKR_KEY_UNEXTRACTABLE"), [Missing], or what the token did instead.
type Attempt struct {
	Name    string // as in docs/custody.md, like the rest
	Try     func(*Hostile) error
	SoftHSM string
	NSS     string
	Closes  string // what refuses it where it is refused, or would
}

// Chapter is attempts of one kind.
type Chapter struct {
	Title    string
	Attempts []Attempt
}

// Chapters are the table.
var Chapters = []Chapter{wrapping, attributes, rightsOfKeys, derivationsAndSearch, pinsAsObjects, wrappingKeyOfKeyd, madeByKeyd, sessions}

// Outcomes besides refusals.
const (
	Succeeds = "open"
	Missing  = "no such mechanism"
)

// Run makes all attempts on the token, each in a session of its own. want picks the outcome
// of the token from the table.
func Run(t *testing.T, fresh tokentest.Fresh, want func(Attempt) string) {
	h, err := Open(fresh.Library, fresh.Path, fresh.Label, fresh.PIN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil { // a process has one token of NSS
			t.Error(err)
		}
	})
	for _, c := range Chapters {
		for _, a := range c.Attempts {
			t.Run(c.Title+"/"+a.Name, func(t *testing.T) {
				got, err := h.Attempt(a)
				if err != nil {
					t.Fatal(err)
				}
				if got != want(a) {
					t.Errorf("%s, expected %s: the table in package abuse and docs/custody.md is for another version of this token", got, want(a))
				}
			})
		}
	}
}

// refusal is a call that the token did not carry out.
type refusal struct {
	call    string
	code    pkcs11.Error
	missing bool // the token does not list the mechanism for this use
}

func (r *refusal) Error() string {
	name := "CKR_ACTION_PROHIBITED" // of PKCS#11 2.40; the pkcs11 package does not know it
	if r.code != 0x1B {
		text := r.code.Error()
		name = text[strings.LastIndex(text, " ")+1:]
	}
	return r.call + ": " + name
}

// instead is what a token did where it neither refused nor did as it was asked.
type instead string

func (i instead) Error() string { return string(i) }

// refused gives an error of the pkcs11 package its call.
func refused(call string, err error) error {
	var code pkcs11.Error
	if errors.As(err, &code) {
		return &refusal{call: call, code: code}
	}
	return err
}

// needed is for a step that only prepares an abuse: that it is refused proves nothing, unless
// the token lacks the mechanism or does not know the attribute.
func needed(err error) error {
	if err == nil || missing(err) || hasCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) {
		return err
	}
	return fmt.Errorf("the attempt could not be made: %s", err.Error()) // no refusal any more
}

func missing(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.missing
}

func hasCode(err error, code pkcs11.Error) bool {
	var r *refusal
	return errors.As(err, &r) && r.code == code
}

// outcome is what an attempt's error says. Errors that are no answer of the token's remain.
func outcome(err error) (string, error) {
	var r *refusal
	var other instead
	switch {
	case err == nil:
		return Succeeds, nil
	case missing(err):
		return Missing, nil
	case errors.As(err, &r):
		return r.Error(), nil
	case errors.As(err, &other):
		return string(other), nil
	}
	return "", err
}
