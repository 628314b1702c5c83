package module

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/miekg/pkcs11"
	"google.golang.org/protobuf/encoding/protodelim"

	"keyd/ceremony"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/testkeys"
	"keyd/hsm/module/internal/token"
)

// devMark is the label of the object that makes a token a development token. It is
// set when keyd dev initialises the token, and never on another.
const devMark = "keyd development token: holds known keys"

// Tokens of the wrong kind.
var (
	errIsDevelopment  = errors.New("the token carries keyd's development mark: keyd serve refuses it, because known keys may have been loaded into it; initialise another token")
	errNotDevelopment = errors.New("the token does not carry keyd's development mark: known keys are loaded only on a token that keyd dev initialised itself")
)

// checkMark refuses a token that is not of the kind that was asked for.
func checkMark(t *token.Token, development bool) error {
	var marked bool
	err := t.Do(func(s *token.Session) (err error) { marked, err = s.HasMark(devMark); return err })
	switch {
	case err != nil:
		return err
	case marked && !development:
		return Permanent{errIsDevelopment}
	case !marked && development:
		return Permanent{errNotDevelopment}
	}
	return nil
}

// markDevelopment marks a token that has no master keys yet.
func markDevelopment(s *token.Session) error {
	marked, err := s.HasMark(devMark)
	if err != nil || marked {
		return err
	}
	return s.SetMark(devMark)
}

// provideMasters returns the master keys of a development token, which gets them and its
// roster if it has none.
func provideMasters(s *token.Session, encoded []byte) (*sealing.Masters, error) {
	_, err := sealing.FindMasters(s, sealing.FirstGeneration)
	if errors.Is(err, sealing.ErrNoMasters) {
		// A token that keyd dev has just initialised: mark it before it has keys.
		if err = markDevelopment(s); err == nil {
			err = sealing.CreateMasters(s, sealing.FirstGeneration)
		}
	}
	if err != nil {
		return nil, err
	}
	roster, err := ceremony.Decode[ceremony.Roster](encoded, ceremony.MaxDocument)
	if err != nil {
		return nil, fmt.Errorf("roster: %w", err)
	}
	if err := quorum.Found(s, roster, time.Now); err != nil {
		return nil, err
	}
	return sealing.FindMasters(s, sealing.FirstGeneration)
}

// initialise makes a development token under a label if there is none yet, or finishes
// what a power failure interrupted. The security-officer PIN is the user PIN: this
// token protects nothing.
func initialise(library *token.Library, label string, pin []byte) error {
	slot, info, err := library.FindToken(label)
	switch {
	case errors.Is(err, token.ErrNoToken):
		return library.InitToken(label, string(pin))
	case err == nil && info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return library.InitUserPIN(slot, string(pin))
	}
	return err
}

// sealTestKeys reads a file of known keys and writes the sealed keys to w.
func sealTestKeys(t *token.Token, m *sealing.Masters, r io.Reader, w io.Writer) error {
	entries, err := testkeys.Read(r)
	if err != nil {
		return err
	}
	defer testkeys.Wipe(entries)
	for i := range entries {
		header, err := entries[i].Header()
		if err != nil {
			return err
		}
		var sealed []byte
		err = t.Do(func(s *token.Session) (err error) {
			sealed, err = m.Seal(s, header, entries[i].Value)
			return err
		})
		if err != nil {
			return fmt.Errorf("test key %q: %w", entries[i].Name, err)
		}
		if _, err := protodelim.MarshalTo(w, &wire.SealedKey{Name: entries[i].Name, Sealed: sealed}); err != nil {
			return fmt.Errorf("hand over sealed keys: %w", err)
		}
	}
	return nil
}
