package simulator

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"keyd/tr34"
)

// BindingRequest returns the random token (RT_KRD of TR-34) for a token by which the device
// forgets its host, or with rebind gets another. It is in the file when BindingRequest returns;
// the one that waits already is returned again.
func (d *Device) BindingRequest(rebind bool) (token []byte, err error) {
	err = d.update(func(s *deviceState) error {
		if s.Host == nil {
			return errors.New("the terminal is bound to no key host")
		}
		a := &asked{What: askedUnbind}
		if rebind {
			a.What = askedRebind
		}
		if s.Asked != nil && s.Asked.What == a.What {
			a = s.Asked
		} else if a.Random, err = newRandom(); err != nil {
			return err
		}
		if token, err = tr34.RandomToken(a.Random); err != nil {
			return err
		}
		digest := sha256.Sum256(token)
		a.Digest, s.Asked = digest[:], a
		return nil
	})
	return token, err
}

// Unbind takes UBT_KDH: the device forgets its host and all keys that it has.
func (d *Device) Unbind(token []byte) error {
	return d.rebound(askedUnbind, func(s *deviceState, device *tr34.Device, e tr34.Expectation) error {
		if err := device.OpenUnbindToken(token, e); err != nil {
			return err
		}
		s.Host, s.OnePass = nil, 0
		return nil
	})
}

// Rebind takes RBT_KDH: the device forgets its host and all keys that it has, and is bound to the
// other host that the token names.
func (d *Device) Rebind(token []byte) error {
	return d.rebound(askedRebind, func(s *deviceState, device *tr34.Device, e tr34.Expectation) error {
		credential, err := device.OpenRebindToken(token, e)
		if err != nil {
			return err
		}
		s.bindTo(credential.Certificate, e.Now)
		return s.keepLists(credential.CRLs)
	})
}

func (d *Device) rebound(what string, take func(*deviceState, *tr34.Device, tr34.Expectation) error) error {
	return d.update(func(s *deviceState) error {
		if s.Asked == nil || s.Asked.What != what {
			return fmt.Errorf("the terminal did not ask to be taken from its host (%s): keyd terminal simulate %s", what, what)
		}
		device, err := s.tr34Device()
		if err != nil {
			return err
		}
		e, err := s.expectation(time.Now())
		if err != nil {
			return err
		}
		e.Random = s.Asked.Random
		if err := take(s, device, e); err != nil {
			return err
		}
		s.Asked, s.Received, s.Current = nil, nil, nil
		return nil
	})
}
