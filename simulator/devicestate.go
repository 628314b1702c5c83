package simulator

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt/software"
	blocks "keyd/keyblock/software"
	"keyd/receipt"
	"keyd/tr34"
)

// ErrDeviceState refuses a file that no device wrote. It says no more, so that nothing of the
// file gets into a message.
var ErrDeviceState = errors.New("not the state of a simulated terminal: keyd terminal simulate new makes one")

const maxDeviceState = 256 << 10 // bytes

// deviceState is what a device's file holds, in the one encoding of [deviceState.encode].
type deviceState struct {
	Version      int      `json:"version"`                    // 1
	Terminal     string   `json:"terminal"`                   // its identifier
	Profile      string   `json:"profile"`                    // of TR-34
	Key          []byte   `json:"key"`                        // PKCS #8
	Certificates [][]byte `json:"certificates,omitempty"`     // DER: its own, then issuers
	Authorities  [][]byte `json:"host_authorities,omitempty"` // DER: whose hosts it believes
	Lists        [][]byte `json:"lists,omitempty"`            // DER: the newest revocation list of each of those

	Host    []byte `json:"host,omitempty"`     // DER: certificate of the host to which it is bound (TR-34)
	OnePass int64  `json:"one_pass,omitempty"` // Unix seconds: stamp of the last token in one pass, or the binding

	Asked    *asked    `json:"asked,omitempty"`    // what it waits for the answer to
	Received *injected `json:"received,omitempty"` // keys that are not confirmed yet
	Current  *injected `json:"current,omitempty"`  // keys that are in use

	Void *voidUnderWay `json:"void,omitempty"` // that is not over yet
}

// What a device waits for.
const (
	askedAgreement = "key agreement"
	askedTwoPass   = "two-pass"
	askedOnePass   = "one-pass"
	askedUnbind    = "unbind"
	askedRebind    = "rebind"
)

// asked is a request that was or is about to be sent.
type asked struct {
	What   string   `json:"what"`
	Digest []byte   `json:"digest"`           // SHA-256 of it, by which two processes tell theirs apart
	Random []byte   `json:"random,omitempty"` // two-pass, unbind, rebind
	Own    [][]byte `json:"own,omitempty"`    // initial key IDs of the terminal's own
}

// injected are the keys of one injection.
type injected struct {
	Injection   string       `json:"injection"` // 32 hex digits
	Master      symmetric    `json:"master"`
	Bare        bool         `json:"bare,omitempty"` // session keys come as bare cryptograms
	Receipt     symmetric    `json:"receipt"`
	CheckValues []string     `json:"check_values"` // of all keys, in their order
	Registers   []register   `json:"registers,omitempty"`
	Session     []sessionKey `json:"session,omitempty"`
}

// symmetric is a key with its algorithm, T or A.
type symmetric struct {
	Algorithm string `json:"algorithm"`
	Value     []byte `json:"value"`
}

// register is an initial key at work.
type register struct {
	Name  string          `json:"name"`
	KeyID string          `json:"key_id"` // of the base derivation key, as keyd named it
	DUKPT json.RawMessage `json:"dukpt"`  // dukpt/software.Terminal
}

// sessionKey is a key of the last sign-in.
type sessionKey struct {
	Name     string    `json:"name"`
	KeyID    string    `json:"key_id"`
	Usage    string    `json:"usage"`
	Key      symmetric `json:"key"`
	NotAfter int64     `json:"not_after"` // Unix seconds
}

func (s *deviceState) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err == nil && len(b) > maxDeviceState {
		clear(b)
		return nil, ErrDeviceState
	}
	return b, err
}

// decodeState reads what encode wrote, and only that. Anything else is [ErrDeviceState].
func decodeState(b []byte) (*deviceState, error) {
	if len(b) > maxDeviceState {
		return nil, ErrDeviceState
	}
	s := new(deviceState)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(s) != nil || !s.valid() {
		s.destroy()
		return nil, ErrDeviceState
	}
	again, err := s.encode()
	defer clear(again)
	if err != nil || !bytes.Equal(again, b) {
		s.destroy()
		return nil, ErrDeviceState
	}
	return s, nil
}

func (s *deviceState) valid() bool {
	key, err := s.privateKey()
	if err != nil || s.Version != 1 || s.Terminal == "" || s.OnePass < 0 || (s.Host == nil) != (s.OnePass == 0) {
		return false
	}
	for i, list := range [][][]byte{s.Certificates, s.Authorities} {
		for n, der := range list {
			c, err := x509.ParseCertificate(der)
			if err != nil || i == 0 && n == 0 && !samePublic(c.PublicKey, key.Public()) {
				return false
			}
		}
	}
	for _, der := range s.Lists {
		if _, err := x509.ParseRevocationList(der); err != nil {
			return false
		}
	}
	if s.Host != nil {
		if _, err := x509.ParseCertificate(s.Host); err != nil {
			return false
		}
	}
	return s.Asked.valid() && s.Received.valid() && s.Current.valid() && s.Void.valid()
}

func (a *asked) valid() bool {
	if a == nil {
		return true
	}
	random := a.What == askedTwoPass || a.What == askedUnbind || a.What == askedRebind
	if !random && a.What != askedAgreement && a.What != askedOnePass || len(a.Digest) != 32 {
		return false
	}
	return random && len(a.Random) == tr34.MaxRandom || !random && a.Random == nil
}

func (i *injected) valid() bool {
	if i == nil {
		return true
	}
	if id, err := hex.DecodeString(i.Injection); err != nil || len(id) != receipt.IDSize || !i.Master.valid() || !i.Receipt.valid() ||
		len(i.CheckValues) != 2+len(i.Registers) || slices.ContainsFunc(i.CheckValues, func(v string) bool { return !receipt.ValidCheckValue(v) }) {
		return false
	}
	for n := range i.Registers {
		t, err := software.UnmarshalTerminalState(i.Registers[n].DUKPT)
		if err != nil {
			return false
		}
		t.Destroy()
	}
	return !slices.ContainsFunc(i.Session, func(k sessionKey) bool { return !k.Key.valid() || len(k.Usage) != 2 || k.Name == "" })
}

func (k symmetric) valid() bool {
	if len(k.Algorithm) != 1 {
		return false
	}
	_, err := blocks.Cipher(k.Algorithm[0], k.Value)
	return err == nil
}

// destroy overwrites the keys in memory as far as they can be reached.
func (s *deviceState) destroy() {
	clear(s.Key)
	for _, i := range []*injected{s.Received, s.Current} {
		if i == nil {
			continue
		}
		clear(i.Master.Value)
		clear(i.Receipt.Value)
		for n := range i.Registers {
			clear(i.Registers[n].DUKPT)
		}
		for n := range i.Session {
			clear(i.Session[n].Key.Value)
		}
	}
}

func (s *deviceState) privateKey() (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return nil, ErrDeviceState
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, ErrDeviceState
	}
	return signer, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// whatFor returns what a device waits for when it asks by a method; "" for no method.
func whatFor(m keydv1.InjectionMethod) string {
	switch m {
	case keydv1.InjectionMethod_KEY_AGREEMENT:
		return askedAgreement
	case keydv1.InjectionMethod_TR34_TWO_PASS:
		return askedTwoPass
	case keydv1.InjectionMethod_TR34_ONE_PASS:
		return askedOnePass
	}
	return ""
}
