package simulator

import (
	"errors"

	keydv1 "keyd/api/keyd/v1"
	blocks "keyd/keyblock/software"
	"keyd/receipt"
)

// ErrNothingReceived is returned where there is nothing to confirm.
var ErrNothingReceived = errors.New("the terminal has no keys to confirm: keyd terminal simulate keys gets some")

// Receipt returns the receipt of the keys that were received last, confirmed or not: the same may
// be sent again.
func (d *Device) Receipt() (r *keydv1.ConfirmKeysRequest, err error) {
	err = d.view(func(s *deviceState) error {
		keys := s.Received
		if keys == nil {
			keys = s.Current
		}
		if keys == nil {
			return ErrNothingReceived
		}
		text, err := receipt.Text([receipt.IDSize]byte(unhex(keys.Injection)), keys.CheckValues)
		if err != nil {
			return err
		}
		c, err := blocks.Cipher(keys.Receipt.Algorithm[0], keys.Receipt.Value)
		if err != nil {
			return err
		}
		r = &keydv1.ConfirmKeysRequest{TerminalId: s.Terminal, InjectionId: keys.Injection, KeyCheckValues: keys.CheckValues, Mac: blocks.CMAC(c, text)}
		return nil
	})
	return r, err
}

// Confirmed has the keys of that injection be in use, since keyd has taken their receipt. Those of
// before are gone.
func (d *Device) Confirmed(injection string) error {
	return d.update(func(s *deviceState) error {
		switch {
		case s.Received != nil && s.Received.Injection == injection:
			s.Current, s.Received = s.Received, nil
			return nil
		case s.Current != nil && s.Current.Injection == injection:
			return nil
		}
		return ErrNothingReceived
	})
}

// Unconfirmed reports whether there are keys whose receipt keyd has not answered.
func (d *Device) Unconfirmed() (yes bool, err error) {
	err = d.view(func(s *deviceState) error {
		yes = s.Received != nil
		return nil
	})
	return yes, err
}

// DropUnconfirmed forgets keys that were received and cannot be confirmed any more.
func (d *Device) DropUnconfirmed() error {
	return d.update(func(s *deviceState) error {
		s.Received = nil
		return nil
	})
}
