package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// payment is what a switch knows of a payment, of its own accord.
type payment struct {
	Reference string    `json:"reference"`
	Merchant  string    `json:"merchant"`
	Amount    int64     `json:"amount"`   // minor units
	Currency  int32     `json:"currency"` // ISO 4217
	PaidAt    time.Time `json:"paid_at"`
	Settled   bool      `json:"settled"`
	Card      *card     `json:"card,omitempty"`
}

// card is what paid, and what its PIN is verified by.
type card struct {
	PAN    string `json:"pan"`
	Key    string `json:"verification_key"`
	Index  int32  `json:"key_index,omitempty"`
	PVV    string `json:"pvv,omitempty"`
	Offset string `json:"offset,omitempty"`
}

// entry is a line of the journal. The first of a void says what was decided; money moves by that line
// and by nothing else. Done says that keyd knows.
type entry struct {
	Void      string `json:"void"`
	Reference string `json:"reference,omitempty"`
	Token     string `json:"token,omitempty"` // SHA-256 of what the token says, in hex
	Reversed  bool   `json:"reversed"`        // else the void was given up
	Done      bool   `json:"done,omitempty"`
}

// book has the payments, and the journal of what was done about them. A line of the journal is on the
// disk before anything follows from it.
type book struct {
	terminals map[string]string // to the merchants whose they are
	payments  map[string]payment

	mu      sync.Mutex
	journal *os.File
	voids   map[string]entry
}

var (
	errOther   = errors.New("the payment was reversed by another void")
	errAnother = errors.New("another token of this void was carried out, or the void was given up")
)

func open(payments, journal string) (*book, error) {
	text, err := os.ReadFile(payments)
	if err != nil {
		return nil, err
	}
	var file struct {
		Terminals map[string]string `json:"terminals"`
		Payments  []payment         `json:"payments"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", payments, err)
	}
	b := &book{terminals: file.Terminals, payments: map[string]payment{}, voids: map[string]entry{}}
	for _, p := range file.Payments {
		b.payments[p.Reference] = p
	}
	if b.journal, err = os.OpenFile(journal, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(b.journal.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: another switch has it: %w", journal, err)
	}
	text, err = io.ReadAll(b.journal)
	if err != nil {
		return nil, err
	}
	whole := bytes.LastIndexByte(text, '\n') + 1 // what a loss of power has left of a line did not happen
	for line := range bytes.Lines(text[:whole]) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", journal, err)
		}
		b.voids[e.Void] = e
	}
	return b, b.journal.Truncate(int64(whole))
}

// write appends a line, durably. b.mu is held. Where that fails the switch ends: whether the line is on
// the disk, it finds out when it reads the journal again.
func (b *book) write(e entry) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = b.journal.Write(append(line, '\n'))
	}
	if err = errors.Join(err, b.journal.Sync()); err != nil {
		fmt.Fprintln(os.Stderr, "switch-void: the journal cannot be written:", err)
		os.Exit(1)
	}
	b.voids[e.Void] = e
}

// reverse reverses a payment, once: for the same token again it does nothing.
func (b *book) reverse(reference, void, token string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, decided := b.voids[void]; decided {
		if !e.Reversed || e.Token != token || e.Reference != reference {
			return errAnother
		}
		return nil
	}
	if b.reversed(reference) {
		return errOther
	}
	b.write(entry{Void: void, Reference: reference, Token: token, Reversed: true})
	return nil
}

// reversed reports whether a payment was reversed. b.mu is held.
func (b *book) reversed(reference string) bool {
	for _, e := range b.voids {
		if e.Reversed && e.Reference == reference {
			return true
		}
	}
	return false
}

func (b *book) voided(reference string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reversed(reference)
}

// giveUp has a void never be carried out, unless it was.
func (b *book) giveUp(void string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, decided := b.voids[void]; !decided {
		b.write(entry{Void: void})
	}
}

// outcome is what was decided about a void.
func (b *book) outcome(void string) (e entry, decided bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, decided = b.voids[void]
	return e, decided
}

// done notes that keyd knows what was decided.
func (b *book) done(e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Done = true; !b.voids[e.Void].Done {
		b.write(e)
	}
}

// untold are the voids of which keyd does not know yet what was decided.
func (b *book) untold() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.voids {
		if !e.Done {
			list = append(list, e.Void)
		}
	}
	return list
}
