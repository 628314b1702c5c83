package simulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	blocks "keyd/keyblock/software"
	"keyd/pinblock"
)

// Under names the keys that a message goes under: a DUKPT register, or session keys.
type Under struct {
	Register string // "pin", "data": the initial key's name
	Session  bool   // the keys of the last sign-in
}

// Message is what a terminal has for a switch.
type Message struct {
	Format pinblock.Format
	PAN    string
	PIN    []byte // 4 to 12 ASCII digits; nil: no PIN
	Text   []byte // what is to be authenticated; nil: nothing
	Bind   Bind   // in place of Text, with a PIN
	Data   []byte // what is to be enciphered in CBC mode: whole blocks; nil: nothing
}

// Bind returns what is to be authenticated with an enciphered PIN block, under DUKPT or not.
type Bind func(block []byte, dukpt bool) []byte

// text is what is to be authenticated.
func (m *Message) text(block []byte, dukpt bool) []byte {
	if m.Bind != nil {
		return m.Bind(block, dukpt)
	}
	return m.Text
}

// Sent is what a terminal sends, with what keyd is to be told of its keys. All of it is of one
// DUKPT transaction, or under session keys.
type Sent struct {
	KSN      []byte // nil under session keys
	PINKey   *keydv1.PinKey
	PINBlock []byte
	MACKey   *keydv1.MacKey
	MAC      []byte
	DataKey  *keydv1.DataKey
	Data     []byte
	Vector   []byte // initialization vector of Data
}

// Send enciphers and authenticates a message. Under DUKPT the advanced registers are on the disk
// before anything is made with the transaction's keys, and what is refused uses none.
func (d *Device) Send(under Under, m Message) (*Sent, error) {
	var account pinblock.PAN
	var digits pinblock.PIN
	defer digits.Destroy()
	if m.PIN != nil {
		var err error
		if account, err = pinblock.ParsePAN(m.PAN); err != nil {
			return nil, err
		}
		if err := digits.SetDigits(m.PIN); err != nil {
			return nil, err
		}
		if !m.Format.Valid() || m.Format == pinblock.ISO1 {
			return nil, fmt.Errorf("%s is no format that a PIN pad makes", m.Format)
		}
	}
	if under.Session {
		return d.sendUnderSession(m, account, &digits)
	}
	return d.sendUnderRegister(under.Register, m, account, &digits)
}

func (d *Device) sendUnderRegister(name string, m Message, account pinblock.PAN, digits *pinblock.PIN) (*Sent, error) {
	var transaction *software.Transaction
	var keyID string
	var scheme dukpt.Scheme
	err := d.update(func(s *deviceState) error {
		if s.Current == nil {
			return errNoKeys
		}
		r := s.Current.register(name)
		if r == nil {
			return fmt.Errorf("the terminal has no initial key %q (keyd terminal simulate show)", name)
		}
		terminal, err := software.UnmarshalTerminalState(r.DUKPT)
		if err != nil {
			return err
		}
		defer terminal.Destroy()
		scheme, keyID = terminal.Scheme(), r.KeyID
		if m.PIN != nil && (scheme == dukpt.AES) != (m.Format == pinblock.ISO4) {
			return fmt.Errorf("a terminal with %s DUKPT does not make %s blocks", scheme, m.Format)
		}
		if size := blockSize(scheme); len(m.Data)%size != 0 {
			return fmt.Errorf("data are whole blocks of %d bytes", size)
		}
		if transaction, err = terminal.Begin(); err != nil {
			return err
		}
		clear(r.DUKPT)
		r.DUKPT, err = terminal.MarshalState()
		return err
	})
	if transaction != nil {
		defer transaction.Destroy()
	}
	if err != nil {
		return nil, err
	}
	working, kind, algorithm := dukpt.TDES2Key, keydv1.DukptAttributes_TDES_2KEY, keydv1.MacKey_ISO9797_ALGORITHM3
	if scheme == dukpt.AES {
		working, kind, algorithm = dukpt.AES128, keydv1.DukptAttributes_AES_128, keydv1.MacKey_CMAC
	}
	out := &Sent{KSN: transaction.KSN().Bytes()}
	attributes := func() *keydv1.DukptAttributes {
		return &keydv1.DukptAttributes{KeySerialNumber: out.KSN, KeyType: kind}
	}
	key := make([]byte, working.Size())
	defer clear(key)
	if m.PIN != nil {
		sealed, err := seal(transaction, m.Format, account, digits)
		if err != nil {
			return nil, err
		}
		out.PINBlock, out.PINKey = sealed.Block, pinKey(keyID, m.Format, attributes())
	}
	if text := m.text(out.PINBlock, true); text != nil {
		if err := transaction.Key(key, dukpt.UsageMACGeneration, working); err != nil {
			return nil, err
		}
		if out.MAC, err = mac(algorithm, key, text); err != nil {
			return nil, err
		}
		out.MACKey = &keydv1.MacKey{KeyId: keyID, Algorithm: algorithm, Dukpt: attributes(), Direction: keydv1.MacKey_REQUEST}
	}
	if len(m.Data) > 0 {
		if err := transaction.Key(key, dukpt.UsageDataEncryption, working); err != nil {
			return nil, err
		}
		name := byte('T')
		if scheme == dukpt.AES {
			name = 'A'
		}
		if err := out.encipher(name, key, m.Data); err != nil {
			return nil, err
		}
		out.DataKey = &keydv1.DataKey{KeyId: keyID, Mode: keydv1.DataKey_CBC, Dukpt: attributes(), Direction: keydv1.DataKey_REQUEST}
	}
	return out, nil
}

func blockSize(scheme dukpt.Scheme) int {
	if scheme == dukpt.AES {
		return aes.BlockSize
	}
	return des.BlockSize
}

func pinKey(id string, f pinblock.Format, d *keydv1.DukptAttributes) *keydv1.PinKey {
	format := map[pinblock.Format]keydv1.PinBlockFormat{
		pinblock.ISO0: keydv1.PinBlockFormat_ISO_FORMAT_0, pinblock.ISO3: keydv1.PinBlockFormat_ISO_FORMAT_3, pinblock.ISO4: keydv1.PinBlockFormat_ISO_FORMAT_4,
	}[f]
	return &keydv1.PinKey{KeyId: id, Dukpt: d, Format: format}
}

// macAlgorithms are those of session keys, by usage.
var macAlgorithms = map[string]keydv1.MacKey_Algorithm{"M1": keydv1.MacKey_ISO9797_ALGORITHM1, "M3": keydv1.MacKey_ISO9797_ALGORITHM3, "M6": keydv1.MacKey_CMAC}

func (d *Device) sendUnderSession(m Message, account pinblock.PAN, digits *pinblock.PIN) (out *Sent, err error) {
	err = d.view(func(s *deviceState) error {
		if s.Current == nil {
			return errNoKeys
		}
		out = new(Sent)
		if m.PIN != nil {
			k, err := s.Current.session(time.Now(), "P0")
			if err != nil {
				return err
			}
			if (k.Key.Algorithm == "A") != (m.Format == pinblock.ISO4) {
				return fmt.Errorf("session key %q does not encipher %s blocks", k.Name, m.Format)
			}
			if out.PINBlock, err = encipherPIN(k.Key, m.Format, account, digits); err != nil {
				return err
			}
			out.PINKey = pinKey(k.KeyID, m.Format, nil)
		}
		if text := m.text(out.PINBlock, false); text != nil {
			usages := []string{"M1", "M3", "M6"}
			if m.Bind != nil { // what binds a PIN block is a CMAC, see pinrecord.Bound
				usages = []string{"M6"}
			}
			k, err := s.Current.session(time.Now(), usages...)
			if err != nil {
				return err
			}
			algorithm := macAlgorithms[k.Usage]
			if out.MAC, err = mac(algorithm, k.Key.Value, text, k.Key.Algorithm[0]); err != nil {
				return err
			}
			out.MACKey = &keydv1.MacKey{KeyId: k.KeyID, Algorithm: algorithm}
		}
		if len(m.Data) > 0 {
			k, err := s.Current.session(time.Now(), "D0")
			if err != nil {
				return err
			}
			if err := out.encipher(k.Key.Algorithm[0], k.Key.Value, m.Data); err != nil {
				return err
			}
			out.DataKey = &keydv1.DataKey{KeyId: k.KeyID, Mode: keydv1.DataKey_CBC}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// session finds a session key of one of the usages.
func (i *injected) session(now time.Time, usages ...string) (*sessionKey, error) {
	for n := range i.Session {
		for _, u := range usages {
			if k := &i.Session[n]; k.Usage == u {
				if now.Unix() >= k.NotAfter {
					return nil, errors.New("the session keys have expired: keyd terminal simulate sign-in")
				}
				return k, nil
			}
		}
	}
	return nil, fmt.Errorf("the terminal has no session key of usage %q: keyd terminal simulate sign-in", usages)
}

func (i *injected) register(name string) *register {
	for n := range i.Registers {
		if i.Registers[n].Name == name {
			return &i.Registers[n]
		}
	}
	return nil
}

// next returns the KSN of the next transaction, or "" where there is none.
func (r *register) next() string {
	terminal, err := software.UnmarshalTerminalState(r.DUKPT)
	if err != nil {
		return ""
	}
	defer terminal.Destroy()
	ksn, err := terminal.KSN()
	if err != nil {
		return ""
	}
	return ksn.String()
}

func encipherPIN(k symmetric, format pinblock.Format, account pinblock.PAN, digits *pinblock.PIN) ([]byte, error) {
	var random [pinblock.RandomSize]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	block := make([]byte, format.Size())
	if err := pinblock.Encode(block, format, digits, account, &random); err != nil {
		return nil, err
	}
	c, err := blocks.Cipher(k.Algorithm[0], k.Value)
	if err != nil {
		return nil, err
	}
	return block, encipherBlock(c, format, account, block)
}

// encipherBlock enciphers a PIN block in place (ISO 9564-1:2017 9.4.2.3 for format 4).
func encipherBlock(c cipher.Block, format pinblock.Format, account pinblock.PAN, block []byte) error {
	c.Encrypt(block, block)
	if format != pinblock.ISO4 {
		return nil
	}
	if err := account.XORField4(block); err != nil {
		return err
	}
	c.Encrypt(block, block)
	return nil
}

func (out *Sent) encipher(algorithm byte, key, data []byte) error {
	c, err := blocks.Cipher(algorithm, key)
	if err != nil {
		return err
	}
	if len(data)%c.BlockSize() != 0 {
		return fmt.Errorf("data are whole blocks of %d bytes", c.BlockSize())
	}
	out.Vector, out.Data = make([]byte, c.BlockSize()), make([]byte, len(data))
	if _, err := rand.Read(out.Vector); err != nil {
		return err
	}
	cipher.NewCBCEncrypter(c, out.Vector).CryptBlocks(out.Data, data)
	return nil
}
