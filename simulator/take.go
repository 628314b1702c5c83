package simulator

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/keyblock"
	blocks "keyd/keyblock/software"
	"keyd/receipt"
	"keyd/tr34"
)

// ErrAnswer is returned for an answer that holds other keys than it says, or keys in a form that a
// terminal does not take. Nothing of it is kept.
var ErrAnswer = errors.New("the terminal does not take these keys")

func refuse(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrAnswer}, a...)...)
}

// Take opens the answer to a request: it checks who made it, opens every key block, compares each
// with what the answer says of it, and has all keys in the file when it returns nil. They are in
// use once they are confirmed. After an error nothing is kept; by TR-34 the same request may be sent
// again, after key agreement another is made.
func (r *Request) Take(answer *keydv1.InjectKeysResponse) error {
	return r.device.update(func(s *deviceState) error {
		if err := r.waits(s); err != nil {
			return err
		}
		id, err := hex.DecodeString(answer.InjectionId)
		if err != nil || len(id) != receipt.IDSize || hex.EncodeToString(id) != answer.InjectionId {
			return refuse("the injection's identifier is not 32 hex digits")
		}
		if len(answer.Keys) < 2 || len(answer.Keys) > receipt.MaxKeys {
			return refuse("there are %d keys, not a master key, a receipt key and at most %d initial keys", len(answer.Keys), receipt.MaxKeys-2)
		}
		opened, err := r.open(s, answer)
		defer func() {
			for i := range opened {
				clear(opened[i].value)
			}
		}()
		if err != nil {
			return err
		}
		keys, err := keep(answer, opened)
		if err != nil {
			return err
		}
		s.Received, s.Asked = keys, nil
		return nil
	})
}

// openedKey is a key with the header of the block it came in.
type openedKey struct {
	header *keyblock.Header
	value  []byte
}

// open returns the keys in the order of the answer.
func (r *Request) open(s *deviceState, answer *keydv1.InjectKeysResponse) ([]openedKey, error) {
	if r.run != nil {
		return r.openAgreement(s, answer)
	}
	return r.openToken(s, answer)
}

func (r *Request) openAgreement(s *deviceState, answer *keydv1.InjectKeysResponse) ([]openedKey, error) {
	if len(answer.KeyBlocks) != 0 {
		return nil, refuse("the key blocks of a key agreement are in the host's message")
	}
	protection := make([]byte, r.curve.KeySize())
	defer clear(protection)
	got, err := r.run.Answer(answer.Answer, func(chain []*x509.Certificate) error { return s.believe(chain, time.Now()) }, protection)
	if err != nil {
		return nil, err
	}
	return openAll(blocks.Protection{Algorithm: 'A', Key: protection}, got.Blocks, len(answer.Keys))
}

func (r *Request) openToken(s *deviceState, answer *keydv1.InjectKeysResponse) ([]openedKey, error) {
	device, err := s.tr34Device()
	if err != nil {
		return nil, err
	}
	expect, err := s.expectation(time.Now())
	if err != nil {
		return nil, err
	}
	if expect.Random = s.Asked.Random; expect.Random == nil {
		expect.After = time.Unix(s.OnePass, 0)
	}
	scratch, value := make([]byte, tr34.ScratchSize), make([]byte, blocks.MaxKeySize)
	got, err := device.OpenKeyToken(answer.Answer, expect, scratch, value)
	if err != nil {
		clear(value)
		return nil, err
	}
	header, _, err := keyblock.ParseHeader([]byte(got.Header))
	if err != nil {
		clear(value)
		return nil, err
	}
	master := openedKey{&header, value[:got.Size]}
	rest, err := openAll(blocks.Protection{Algorithm: header.Algorithm, Key: master.value}, answer.KeyBlocks, len(answer.Keys)-1)
	if err != nil {
		clear(value)
		return nil, err
	}
	if err := s.keepLists(got.CRLs); err != nil {
		clear(value)
		return nil, err
	}
	if !got.Time.IsZero() {
		s.OnePass = got.Time.Unix()
	}
	return append([]openedKey{master}, rest...), nil
}

// openAll opens key blocks under one key, which is at least as strong as each of them.
func openAll(p blocks.Protection, texts []string, want int) (all []openedKey, err error) {
	if len(texts) != want {
		return nil, refuse("there are %d key blocks, not %d", len(texts), want)
	}
	defer func() {
		if err != nil {
			for i := range all {
				clear(all[i].value)
			}
			all = nil
		}
	}()
	for n, text := range texts {
		value := make([]byte, blocks.MaxKeySize)
		all = append(all, openedKey{value: value})
		h, size, err := blocks.Open(p, []byte(text), value)
		if err != nil {
			return all, refuse("key block %d: %w", n+1, err)
		}
		if tr34.KeyStrength(h.Algorithm, size) > tr34.KeyStrength(p.Algorithm, len(p.Key)) {
			return all, refuse("key block %d has a key that is stronger than what it came under", n+1)
		}
		all[n] = openedKey{h, value[:size]}
	}
	return all, nil
}

// keep checks every key against what the answer says of it.
func keep(answer *keydv1.InjectKeysResponse, opened []openedKey) (*injected, error) {
	if len(opened) != len(answer.Keys) {
		return nil, refuse("there are %d keys, not %d", len(opened), len(answer.Keys))
	}
	out := &injected{Injection: answer.InjectionId}
	for n, k := range opened {
		said := answer.Keys[n]
		h := k.header
		if h.Usage != said.Usage || string(h.Algorithm) != said.Algorithm || len(k.value) != int(said.Length) {
			return nil, refuse("key %d (%q) is of another usage, algorithm or length than the answer says", n+1, said.Name)
		}
		if h.Exportability != 'N' {
			return nil, refuse("key %d (%q) may be exported, which no terminal's key may", n+1, said.Name)
		}
		check, err := blocks.CheckValue(h.Algorithm, k.value)
		if err != nil {
			return nil, refuse("key %d (%q): %w", n+1, said.Name, err)
		}
		out.CheckValues = append(out.CheckValues, upperHex(check))
		key := symmetric{string(h.Algorithm), bytes.Clone(k.value)}
		switch {
		case n == 0 && said.Name == receipt.MasterName && (h.Usage == "K1" || h.Usage == "K0") && h.Mode == 'D':
			out.Master, out.Bare = key, h.Usage == "K0"
		case n == 1 && said.Name == receipt.ReceiptName && h.Usage == "M6" && h.Mode == 'G':
			out.Receipt = key
		case n > 1 && h.Usage == "B1" && h.Mode == 'X':
			r, err := load(h, said, k.value)
			if err != nil {
				return nil, err
			}
			out.Registers = append(out.Registers, *r)
		default:
			return nil, refuse("key %d (%q) is of usage %s and mode %c, which it is not for", n+1, said.Name, h.Usage, h.Mode)
		}
	}
	return out, nil
}

// load fills DUKPT registers with an initial key, which is not kept.
func load(h *keyblock.Header, said *keydv1.InjectedKey, initial []byte) (*register, error) {
	var number []byte
	if h.Algorithm == 'T' {
		ksn, err := h.KSN()
		if err != nil {
			return nil, refuse("initial key %q does not say its number: %w", said.Name, err)
		}
		number = ksn
	} else {
		id, err := h.InitialKeyID()
		if err != nil {
			return nil, refuse("initial key %q does not say its number: %w", said.Name, err)
		}
		number = id[:]
	}
	if !bytes.Equal(number, said.KeySerialNumber) {
		return nil, refuse("initial key %q has another number than the answer says", said.Name)
	}
	if h.Algorithm == 'A' {
		number = append(bytes.Clone(number), 0, 0, 0, 0)
	}
	ksn, err := dukpt.ParseInitialKSN(number)
	if err != nil {
		return nil, refuse("initial key %q: %w", said.Name, err)
	}
	terminal, err := software.NewTerminal(initial, ksn)
	if err != nil {
		return nil, refuse("initial key %q: %w", said.Name, err)
	}
	defer terminal.Destroy()
	state, err := terminal.MarshalState()
	if err != nil {
		return nil, err
	}
	return &register{Name: said.Name, KeyID: keyReference(said), DUKPT: state}, nil
}

// keyReference names the version of a base derivation key that a switch names with a transaction.
func keyReference(k *keydv1.InjectedKey) string {
	if k.Version == 0 || strings.Contains(k.KeyId, "?") {
		return k.KeyId
	}
	return fmt.Sprintf("%s?version=%d", k.KeyId, k.Version)
}
