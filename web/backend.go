package web

import (
	"context"
	"time"

	"keyd/passkey"
)

// Backend is what the pages ask. It judges by the policy, counts, audits, and answers strangers no more
// than they may know. The context of a question does not end when the phone goes away, but after 10
// seconds. Errors are refusals of package fault.
type Backend interface {
	// Void looks at what a code, or its URL, is for. Nothing changes.
	Void(ctx context.Context, code string) (*Void, error)

	// ApproveByPasskey and ApproveByPIN burn the code and authorise its void, in one. What was not
	// verified is an answer, and leaves the code as it was.
	ApproveByPasskey(ctx context.Context, code string, a ByPasskey) (*Outcome, error)
	ApproveByPIN(ctx context.Context, code string, p ByPIN) (*Outcome, error)

	// Enrolment looks at what a link is for. Nothing changes.
	Enrolment(ctx context.Context, link string) (*Enrolment, error)

	// SetPIN and SetPasskey set what a link is for, by its one-time code. What was not verified is false.
	SetPIN(ctx context.Context, link string, s NewPIN) (bool, error)
	SetPasskey(ctx context.Context, link string, s NewPasskey) (bool, error)
}

// Void is a void as a phone shows it.
type Void struct {
	Merchant  string    `json:"merchant"`
	Terminal  string    `json:"terminal"`
	Reference string    `json:"reference"` // masked: the last four characters
	Amount    int64     `json:"amount"`    // minor units
	Currency  string    `json:"currency"`  // ISO 4217, three letters
	Digits    int       `json:"digits"`    // after the point
	PaidAt    time.Time `json:"paid_at"`
	ExpiresAt time.Time `json:"expires_at"` // of the code
	State     string    `json:"state"`
	Next      []string  `json:"next"`

	Digest    []byte   `json:"digest"`    // of the void; a PIN is bound to it
	Challenge []byte   `json:"challenge"` // for a passkey
	Passkey   bool     `json:"passkey"`   // it may be approved by one
	PIN       bool     `json:"pin"`       // it may be approved by a supervisor's PIN
	Key       *PageKey `json:"key,omitempty"`
	CodeKey   []byte   `json:"code_key,omitempty"` // SubjectPublicKeyInfo of the key that has signed the code, and the page key
}

// PageKey is the modules' point, with which the phone agrees on a key for a PIN.
type PageKey struct {
	Point     []byte `json:"point"`      // uncompressed, 65 bytes
	ExpiresAt int64  `json:"expires_at"` // Unix seconds
	Signature []byte `json:"signature"`  // r and s, 32 bytes each; see hsm.PageKeyText
}

// ByPasskey is an assertion over a void, and whose it is.
type ByPasskey struct {
	passkey.Assertion
	User []byte // handle: the digest of the subject, 32 bytes
}

// ByPIN is a supervisor's PIN that was typed for a void.
type ByPIN struct {
	Name       string // of the supervisor
	OfTerminal bool   // whose supervisor it is: of the void's terminal, else of its merchant
	Typed
}

// Typed is what was typed on a phone: the phone's point, 65 bytes, and a block of ISO 9564-1 format 4
// (package pinrecord).
type Typed struct {
	Point []byte
	Block []byte
}

// Outcome is what has become of a void.
type Outcome struct {
	Verified  bool     `json:"verified"`
	State     string   `json:"state"`
	Result    string   `json:"result"`
	Next      []string `json:"next"`
	TriesLeft int      `json:"tries_left"` // of the void
}

// Enrolment is what somebody sets who has a link: a PIN or a passkey.
type Enrolment struct {
	Kind      string    `json:"kind"` // "PIN" or "PASSKEY"
	Merchant  string    `json:"merchant"`
	Terminal  string    `json:"terminal,omitempty"`
	Name      string    `json:"name"`
	Number    string    `json:"number"` // 16 digits that stand in blocks
	ExpiresAt time.Time `json:"expires_at"`
	Least     int       `json:"least"`    // digits of a PIN
	Subject   []byte    `json:"subject"`  // its digest
	Approval  []byte    `json:"approval"` // digest of what two approvers have approved
	Challenge []byte    `json:"challenge,omitempty"`
	Key       *PageKey  `json:"key"`
	CodeKey   []byte    `json:"code_key"` // that has signed the page key
}

// NewPIN is a PIN that is set, by a code.
type NewPIN struct{ Code, PIN Typed }

// NewPasskey is a passkey that is set, by a code that was typed for it.
type NewPasskey struct {
	Code                          Typed
	ClientData, AuthenticatorData []byte
}
