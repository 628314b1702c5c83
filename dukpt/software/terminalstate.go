package software

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/bits"
	"strings"

	"keyd/dukpt"
)

// ErrTerminalState refuses a terminal state that [Terminal.MarshalState] did not write. It says no more, so
// that no part of the state gets into a message.
var ErrTerminalState = errors.New("dukpt/software: not a terminal state")

// maxStateSize is more than the state of any terminal takes.
const maxStateSize = 1 << 13

// terminalState is the written form of a terminal. Keys and KSN are upper-case hex; registers that hold no
// key are empty strings.
type terminalState struct {
	Scheme    string   `json:"scheme"` // "TDES" or "AES"
	KeyType   string   `json:"key_type"`
	KSN       string   `json:"ksn"` // of the next transaction
	Exhausted bool     `json:"exhausted"`
	Registers []string `json:"registers"`            // by bit of the counter, lowest first
	UpdateKey string   `json:"update_key,omitempty"` // AES: derivation key of the update key
}

// MarshalState writes the terminal down as JSON, with its keys in the clear: whoever reads it can do all
// that the terminal can still do. It is what a simulated terminal keeps in a file. [ErrTerminalDestroyed] for
// a terminal without keys.
func (t *Terminal) MarshalState() ([]byte, error) {
	if t.key == 0 {
		return nil, ErrTerminalDestroyed
	}
	s := terminalState{
		Scheme: t.Scheme().String(), KeyType: t.key.String(), KSN: t.ksn.String(), Exhausted: t.exhausted,
		Registers: make([]string, t.Scheme().CounterBits()),
	}
	if !t.exhausted {
		for used := inUse(t.ksn.Counter(), t.Scheme()); used != 0; used &= used - 1 {
			i := bits.TrailingZeros32(used)
			s.Registers[i] = upperHex(t.registers[i][:t.key.Size()])
		}
	}
	if t.Scheme() == dukpt.AES {
		s.UpdateKey = upperHex(t.update[:t.key.Size()])
	}
	return json.Marshal(s)
}

// UnmarshalTerminalState reads what [Terminal.MarshalState] wrote, and only that: byte for byte the same form
// (white space at the end excepted), a KSN under the rules of [dukpt.ParseKSN], and a key of the right length
// in exactly the registers that hold one at that counter. Anything else is [ErrTerminalState].
func UnmarshalTerminalState(b []byte) (*Terminal, error) {
	b = bytes.TrimRight(b, " \t\r\n")
	if len(b) > maxStateSize {
		return nil, ErrTerminalState
	}
	var s terminalState
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, ErrTerminalState
	}
	t := new(Terminal)
	if !t.restore(&s) {
		t.Destroy()
		return nil, ErrTerminalState
	}
	// The decoder of the standard library is lenient with the case of names, repeated names and what
	// follows the value; a second writing is not.
	again, err := t.MarshalState()
	defer clear(again)
	if err != nil || !bytes.Equal(again, b) {
		t.Destroy()
		return nil, ErrTerminalState
	}
	return t, nil
}

func (t *Terminal) restore(s *terminalState) bool {
	raw, err := hex.DecodeString(s.KSN)
	if err != nil {
		return false
	}
	if t.ksn, err = dukpt.ParseKSN(raw); err != nil {
		return false
	}
	switch t.ksn.Scheme() {
	case dukpt.TDES:
		t.key = dukpt.TDES2Key
	case dukpt.AES:
		if t.key, err = dukpt.AESKeyType(len(s.UpdateKey) / 2); err != nil || !readKey(&t.update, s.UpdateKey, t.key) {
			return false
		}
	}
	if s.KeyType != t.key.String() || len(s.Registers) != t.Scheme().CounterBits() {
		return false
	}
	used := inUse(t.ksn.Counter(), t.Scheme())
	if t.exhausted = s.Exhausted; t.exhausted {
		if _, err := t.ksn.Next(); !errors.Is(err, dukpt.ErrExhausted) {
			return false
		}
		used = 0
	}
	for i, r := range s.Registers {
		if used>>i&1 == 0 {
			if r != "" {
				return false
			}
			continue
		}
		if !readKey(&t.registers[i], r, t.key) {
			return false
		}
	}
	return true
}

func readKey(dst *register, s string, key dukpt.KeyType) bool {
	if len(s) != 2*key.Size() {
		return false
	}
	_, err := hex.Decode(dst[:], []byte(s))
	return err == nil
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }
