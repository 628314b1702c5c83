package main

import (
	"errors"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

// cardholder holds the flags of a cardholder who types the card's PIN for a void, and of what keyd
// verifies it by.
type cardholder struct {
	pan, key string
	method   pinMethod
	pad      pinPad
}

func (h *cardholder) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.pan, "cardholder", "", "the cardholder types a PIN as well: account number of the card, with its check digit")
	f.StringVar(&h.key, "verification-key", "", "of the cardholder's PIN: V2 for a PVV, V1 for an offset")
	f.StringVar(&h.method.pvv, "pvv", "", "of the cardholder's PIN: Visa PIN verification value, 4 digits")
	f.Int32Var(&h.method.index, "key-index", 1, "of the cardholder's PIN: Visa PVKI, 0 to 9")
	f.StringVar(&h.method.offset, "offset", "", "of the cardholder's PIN: IBM 3624 offset, 4 to 12 digits")
	c.MarkFlagsMutuallyExclusive("pvv", "offset")
}

// padFlags are those of a PIN pad of the cardholder's own.
func (h *cardholder) padFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.pad.state, "cardholder-state", "", "file with the key registers of the cardholder's PIN pad")
	f.StringVar(&h.pad.key, "cardholder-bdk", "", "its base derivation key, one for PINs of cards")
	f.Uint8Var(&h.pad.format, "cardholder-format", 4, "ISO 9564-1 format of its block: 0 or 3 for TDES, 4 for AES")
	c.MarkFlagsRequiredTogether("cardholder", "cardholder-state", "cardholder-bdk", "verification-key")
}

// message says what the PIN is verified by; nil where no cardholder types one.
func (h *cardholder) message() (*keydv1.CardholderPin, error) {
	value := h.method.pvv != "" || h.method.offset != ""
	switch {
	case h.pan == "" && (h.key != "" || value):
		return nil, errors.New("--verification-key, --pvv and --offset are about a cardholder's PIN: name the card with --cardholder")
	case h.pan == "":
		return nil, nil
	case h.key == "" || !value:
		return nil, errors.New("--cardholder: say what the PIN is verified by, with --verification-key and --pvv or --offset")
	}
	return &keydv1.CardholderPin{VerificationKeyId: h.key, PrimaryAccountNumber: h.pan, Expected: h.method.message()}, nil
}
