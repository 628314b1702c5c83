package simulator

import (
	"bytes"
	"errors"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyblock"
	blocks "keyd/keyblock/software"
)

// errNoKeys is returned where the device has no confirmed keys.
var errNoKeys = errors.New("the terminal has no confirmed keys: keyd terminal simulate keys gets some, confirm confirms them")

// terminalModes are the modes of use in which a terminal takes session keys.
var terminalModes = map[string]byte{"P0": 'E', "M1": 'C', "M3": 'C', "M6": 'C', "D0": 'B'}

// SignIn takes the session keys of a sign-in in place of those of before: it opens each under the
// master key, and compares its check value.
func (d *Device) SignIn(answer *keydv1.SignInResponse) error {
	return d.update(func(s *deviceState) error {
		if s.Current == nil {
			return errNoKeys
		}
		var all []sessionKey
		for _, said := range answer.Keys {
			value, err := s.Current.openSession(said)
			if err != nil {
				return err
			}
			check, err := blocks.CheckValue(said.Algorithm[0], value)
			if err != nil {
				return refuse("session key %q: %w", said.Name, err)
			}
			if upperHex(check) != said.KeyCheckValue {
				return refuse("session key %q has another check value than the answer says", said.Name)
			}
			all = append(all, sessionKey{said.Name, said.KeyId, said.Usage, symmetric{said.Algorithm, value}, said.NotAfter.AsTime().Unix()})
		}
		s.Current.Session = all
		return nil
	})
}

func (i *injected) openSession(said *keydv1.SessionKey) ([]byte, error) {
	mode, known := terminalModes[said.Usage]
	if !known || said.Name == "" || len(said.Algorithm) != 1 || said.NotAfter == nil {
		return nil, refuse("session key %q is of a kind that a terminal does not take", said.Name)
	}
	switch form := said.Form.(type) {
	case *keydv1.SessionKey_KeyBlock:
		if i.Bare {
			break
		}
		value := make([]byte, blocks.MaxKeySize)
		h, size, err := blocks.Open(blocks.Protection{Algorithm: i.Master.Algorithm[0], Key: i.Master.Value}, []byte(form.KeyBlock), value)
		if err != nil {
			return nil, refuse("session key %q: %w", said.Name, err)
		}
		if h.Usage != said.Usage || string(h.Algorithm) != said.Algorithm || h.Mode != mode || h.Exportability != 'N' || stronger(h, size, i.Master) {
			return nil, refuse("session key %q came in a block for another use", said.Name)
		}
		return value[:size], nil
	case *keydv1.SessionKey_Cryptogram:
		if !i.Bare {
			break // this master key protects key blocks, and nothing else
		}
		c, err := blocks.Cipher(i.Master.Algorithm[0], i.Master.Value)
		if err != nil {
			return nil, err
		}
		if said.Algorithm != i.Master.Algorithm || len(form.Cryptogram) == 0 || len(form.Cryptogram)%c.BlockSize() != 0 || len(form.Cryptogram) > blocks.MaxKeySize {
			return nil, refuse("session key %q is no cryptogram of whole blocks under the master key", said.Name)
		}
		value := bytes.Clone(form.Cryptogram)
		for at := 0; at < len(value); at += c.BlockSize() {
			c.Decrypt(value[at:], value[at:])
		}
		return value, nil
	}
	return nil, refuse("session key %q came in another form than the master key is for", said.Name)
}

func stronger(h *keyblock.Header, size int, master symmetric) bool {
	return h.Algorithm == 'A' && (master.Algorithm != "A" || size > len(master.Value)) || h.Algorithm == 'T' && master.Algorithm == "T" && size > len(master.Value)
}
