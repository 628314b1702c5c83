package voidtoken

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Ahead is how far the signer's clock may be ahead of the switch's.
const Ahead = 30 * time.Second

// Errors of [Verify]. After any of them, the payment is not reversed.
var (
	// ErrExpectation is the caller's fault: something to expect was not said. It is wrapped in an
	// error that names it.
	ErrExpectation = errors.New("the switch has not said what it expects")

	ErrKey       = errors.New("the void token is signed with a key that the switch does not know: load the signers' keys again")
	ErrSignature = errors.New("the void token's signature is wrong")

	ErrVoid      = errors.New("the void token is for another void")
	ErrMerchant  = errors.New("the void token is for another merchant")
	ErrTerminal  = errors.New("the void token is for another terminal")
	ErrReference = errors.New("the void token is for another payment")
	ErrAmount    = errors.New("the void token is for another amount")
	ErrCurrency  = errors.New("the void token is for another currency")
	ErrMethods   = errors.New("the void was authorised by methods that do not suffice here")
	ErrNotYet    = errors.New("the void token is from the future: compare the clocks")
	ErrExpired   = errors.New("the void token has expired: have the void authorised again")
)

// Expected is what a switch expects of a void, from its own records: all of it, since what is
// not said would be whatever a token says.
type Expected struct {
	// Fields are those of the payment as the switch has it, with the terminal that asks for the
	// void and the void's identifier, which comes in the terminal's request.
	Fields

	// Methods are the sets of methods that suffice, at least one. A token has one of them, no
	// method more and none fewer.
	Methods [][]Method
}

// Verify returns what a void token says, if a known key has signed it, everything in it is as
// expected and it is good at the moment now. It does not know whether the token was used: see
// the package comment. Errors are [ErrToken] and those above, none of which holds anything of
// the token.
func Verify(text string, keys Keys, expected Expected, now time.Time) (*Token, error) {
	if err := expected.Validate(); err != nil {
		return nil, err
	}
	if now.IsZero() {
		return nil, fmt.Errorf("%w: the time", ErrExpectation)
	}
	if len(keys.byID) == 0 {
		return nil, fmt.Errorf("%w: the signers' keys", ErrExpectation)
	}
	token, encoded, signature, err := parse(text)
	if err != nil {
		return nil, err
	}
	key := keys.byID[token.Key]
	if key == nil {
		return nil, ErrKey
	}
	if digest, _ := digestFor(key, encoded); !ecdsa.VerifyASN1(key, digest, signature) {
		return nil, ErrSignature
	}
	if err := expected.compare(token, now); err != nil {
		return nil, err
	}
	return token, nil
}

// Validate reports whether everything is said. The error wraps [ErrExpectation].
func (e *Expected) Validate() error {
	if problem := e.problem(); problem != "" {
		return fmt.Errorf("%w: %s", ErrExpectation, problem)
	}
	if len(e.Methods) == 0 || slices.ContainsFunc(e.Methods, func(set []Method) bool { return !validSet(set) }) {
		return fmt.Errorf("%w: methods are one or more sets of methods, none empty", ErrExpectation)
	}
	return nil
}

func (e *Expected) compare(token *Token, now time.Time) error {
	switch {
	case token.Void != e.Void:
		return ErrVoid
	case token.Merchant != e.Merchant:
		return ErrMerchant
	case token.Terminal != e.Terminal:
		return ErrTerminal
	case token.Reference != e.Reference:
		return ErrReference
	case token.Amount != e.Amount:
		return ErrAmount
	case token.Currency != e.Currency:
		return ErrCurrency
	case !slices.ContainsFunc(e.Methods, func(set []Method) bool { return sameSet(set, token.Authorizations) }):
		return ErrMethods
	case now.Add(Ahead).Unix() < token.AuthorizedAt:
		return ErrNotYet
	case now.Unix() >= token.ExpiresAt:
		return ErrExpired
	}
	return nil
}
