// Package card is an officer's smart card, or another PKCS#11 token, as a crypto.Signer:
// the key never leaves it.
//
// Rules. The library is named by its absolute path. A wrong PIN is never tried again, and
// a card that has one try left is not tried at all: the next mistake would lock it. What
// the card has signed is checked with its public key before anybody gets it. After a
// failed call a Card signs no more; open it again.
//
// The PIN passes through memory that miekg/pkcs11 gives to the library, and which it does
// not wipe; on a reader of its own with the officer beside it that is accepted.
//
// Only commands on an officer's machine call it. The module has a layer of its own.
package card

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"
)

var (
	// ErrWrongPIN is returned where the card refused the PIN. It has one try less now.
	ErrWrongPIN = errors.New("the card refused the PIN, and has one try less now: be sure of the PIN before you start again")
	// ErrLocked is returned where the card takes no PIN any more.
	ErrLocked = errors.New("the card's PIN is locked or expired: unlock it, or set another, with the tools it came with")
	// ErrLastTry is returned, before the PIN is asked for, where one mistake would lock it.
	ErrLastTry = errors.New("the card has one try left for its PIN: log in once with the tools it came with, then start again")
	// ErrNoCard is returned where no card has the label asked for.
	ErrNoCard = errors.New("no card with this label is in a reader")
	// ErrNoKey is returned where not exactly one key fits.
	ErrNoKey = errors.New("not exactly one signing key fits")
	// ErrClosed is returned by a card that was closed, or that failed.
	ErrClosed = errors.New("the card was closed, or a call to it failed: open it again")
)

// Card is a logged-in card with one signing key. It may be used by several goroutines.
type Card struct {
	lib     *library
	session pkcs11.SessionHandle
	pin     func() ([]byte, error)
	label   string // of the token

	key    pkcs11.ObjectHandle
	public *ecdsa.PublicKey
	always bool // CKA_ALWAYS_AUTHENTICATE: the PIN is asked for at every signature

	mu     sync.Mutex
	broken bool
	closed bool
}

// Open logs in to the card with that label and finds its key: an ECDSA key of P-256,
// P-384 or P-521 with the label keyLabel, or the only one there is if keyLabel is empty.
// The public key is read from the card too, or from a certificate on it. pin is asked
// once, and again at each signature with a key that demands it; what it returns is wiped.
//
// Errors: ErrNoCard and ErrNoKey, which list what there is; ErrWrongPIN, ErrLocked,
// ErrLastTry; or pin's own.
func Open(libraryPath, tokenLabel, keyLabel string, pin func() ([]byte, error)) (_ *Card, err error) {
	lib, err := load(libraryPath)
	if err != nil {
		return nil, err
	}
	c := &Card{lib: lib, pin: pin, label: tokenLabel}
	defer func() {
		if err != nil {
			_ = lib.release()
			err = fmt.Errorf("card %q: %w", tokenLabel, err)
		}
	}()
	slot, info, err := lib.find(tokenLabel)
	if err != nil {
		return nil, err
	}
	if err := mayLogIn(info); err != nil {
		return nil, err
	}
	if c.session, err = lib.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return nil, named("C_OpenSession", err)
	}
	defer func() {
		if err != nil {
			_ = lib.ctx.CloseSession(c.session) // and with the last one the login
		}
	}()
	if err := c.login(pkcs11.CKU_USER); err != nil {
		return nil, err
	}
	if err := c.findKey(keyLabel); err != nil {
		return nil, err
	}
	return c, nil
}

// find returns the slot of the card with that label.
func (l *library) find(label string) (uint, pkcs11.TokenInfo, error) {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, named("C_GetSlotList", err)
	}
	var slot uint
	var info pkcs11.TokenInfo
	var labels []string
	found := 0
	for _, candidate := range slots {
		ti, err := l.ctx.GetTokenInfo(candidate)
		if err != nil || ti.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		name := strings.TrimRight(ti.Label, " \x00")
		labels = append(labels, name)
		if name == label {
			slot, info = candidate, ti
			found++
		}
	}
	switch found {
	case 0:
		return 0, info, fmt.Errorf("%w; there are: %s", ErrNoCard, list(labels))
	case 1:
		return slot, info, nil
	}
	return 0, info, fmt.Errorf("%d cards have this label: take out all but yours", found)
}

func mayLogIn(info pkcs11.TokenInfo) error {
	switch {
	case info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return errors.New("the card has no PIN yet: set one with the tools it came with")
	case info.Flags&(pkcs11.CKF_USER_PIN_LOCKED|pkcs11.CKF_USER_PIN_TO_BE_CHANGED) != 0:
		return ErrLocked
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return ErrLastTry
	}
	return nil
}

// maxPIN bounds a PIN in bytes.
const maxPIN = 256

// login asks for the PIN and logs in, once.
func (c *Card) login(user uint) error {
	if c.pin == nil {
		return errors.New("the card needs its PIN, and there is nobody to ask: run this at a terminal")
	}
	pin, err := c.pin()
	defer clear(pin)
	if err != nil {
		return err
	}
	if len(pin) == 0 || len(pin) > maxPIN {
		return fmt.Errorf("a PIN has 1 to %d bytes: the card was not asked", maxPIN)
	}
	// A view, not a copy: the bytes are wiped when this returns.
	err = c.lib.ctx.Login(c.session, user, unsafe.String(&pin[0], len(pin)))
	var code pkcs11.Error
	if errors.As(err, &code) {
		switch code {
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE:
			return ErrWrongPIN
		case pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
			return ErrLocked
		case pkcs11.CKR_USER_ALREADY_LOGGED_IN:
			// Such a login has proved nothing: the PIN was not looked at.
			return errors.New("this process has the card open already: close it first")
		}
	}
	return named("C_Login", err)
}

// Public returns the *ecdsa.PublicKey.
func (c *Card) Public() crypto.PublicKey { return c.public }

// Sign signs a digest with CKM_ECDSA and returns the signature in ASN.1 DER, as
// ecdsa.PrivateKey does. The first argument is not used: the card has its own randomness.
// After an error the card signs no more.
func (c *Card) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if len(digest) == 0 || opts != nil && opts.HashFunc() != 0 && opts.HashFunc().Size() != len(digest) {
		return nil, fmt.Errorf("card %q: the digest does not have the length of its hash", c.label)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken || c.closed {
		return nil, fmt.Errorf("card %q: %w", c.label, ErrClosed)
	}
	signature, err := c.sign(digest)
	if err != nil {
		c.broken = true // an operation may still be active in the session
		return nil, fmt.Errorf("card %q: %w", c.label, err)
	}
	return signature, nil
}

func (c *Card) sign(digest []byte) ([]byte, error) {
	size := (c.public.Params().BitSize + 7) / 8
	// ECDSA uses as many bits as the order of the curve has (FIPS 186-5 §6.4.1); not every
	// card cuts a longer digest by itself.
	input := digest[:min(len(digest), size)]
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}
	if err := c.lib.ctx.SignInit(c.session, mechanism, c.key); err != nil {
		return nil, named("C_SignInit", err)
	}
	if c.always {
		if err := c.login(pkcs11.CKU_CONTEXT_SPECIFIC); err != nil {
			return nil, err
		}
	}
	raw, err := c.lib.ctx.Sign(c.session, input)
	if err != nil {
		return nil, named("C_Sign", err)
	}
	if len(raw) != 2*size {
		return nil, fmt.Errorf("C_Sign returned %d bytes; a signature of this curve has %d", len(raw), 2*size)
	}
	signature, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:])})
	if err != nil {
		return nil, err
	}
	if !ecdsa.VerifyASN1(c.public, digest, signature) {
		return nil, errors.New("the signature does not fit the public key on the card: that is of another key, or the card is broken")
	}
	return signature, nil
}

// Close logs out. It may be called twice.
func (c *Card) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	_ = c.lib.ctx.Logout(c.session) // closing the last session does it too
	err := named("C_CloseSession", c.lib.ctx.CloseSession(c.session))
	return errors.Join(err, c.lib.release())
}

// list quotes labels: they come from the card.
func list(labels []string) string {
	if len(labels) == 0 {
		return "none"
	}
	quoted := make([]string, len(labels))
	for i, label := range labels {
		quoted[i] = fmt.Sprintf("%q", label)
	}
	return strings.Join(quoted, ", ")
}
