package receipt

import (
	"encoding/hex"
	"errors"

	"keyd/ceremony"
)

// ErrReceipt is returned for what is no receipt.
var ErrReceipt = errors.New("malformed receipt")

// Receipt is what a terminal says that it has.
type Receipt struct {
	CheckValues []string `json:"check_values"` // of all keys, in the order of the record
	MAC         []byte   `json:"mac"`          // over Text
}

// Text returns what the MAC of a terminal's receipt is over. The error is [ErrReceipt].
func Text(injection [IDSize]byte, checkValues []string) ([]byte, error) {
	if len(checkValues) == 0 || len(checkValues) > MaxKeys {
		return nil, ErrReceipt
	}
	text := append([]byte("keyd receipt 1\x00"), injection[:]...)
	text = append(text, byte(len(checkValues)))
	for _, v := range checkValues {
		if !ValidCheckValue(v) {
			return nil, ErrReceipt
		}
		b, err := hex.DecodeString(v)
		if err != nil {
			return nil, ErrReceipt
		}
		text = append(text, b...)
	}
	return text, nil
}

// Encode returns the one encoding of a receipt.
func (r *Receipt) Encode() ([]byte, error) {
	if _, err := Text([IDSize]byte{}, r.CheckValues); err != nil || len(r.MAC) != 8 && len(r.MAC) != 16 {
		return nil, ErrReceipt
	}
	return ceremony.Encode(r)
}

// Parse accepts exactly what [Receipt.Encode] returns. The error is [ErrReceipt].
func Parse(b []byte) (*Receipt, error) {
	r, err := ceremony.Decode[Receipt](b, MaxRecord)
	if err != nil {
		return nil, ErrReceipt
	}
	if _, err := r.Encode(); err != nil {
		return nil, err
	}
	return r, nil
}
