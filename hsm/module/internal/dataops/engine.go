package dataops

import (
	"crypto/rand"
	"fmt"
	"unsafe"

	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
)

// Engine enciphers and deciphers data with a token. It is safe for concurrent use.
type Engine struct{ keys *working.Keys }

// NewEngine returns an engine that uses keys.
func NewEngine(keys *working.Keys) *Engine { return &Engine{keys} }

// part is how many bytes are worked on at a time: whole blocks.
const part = 8 << 10

// memory is what is clear, or secret, during an operation. It lies in the session's locked
// memory.
type memory struct {
	clear  [part]byte
	derive working.TDESMemory
	keys   [2]software.TDESKey // of the incoming and the outgoing side
}

// It must fit.
const _ = uint(token.ScratchSize - unsafe.Sizeof(memory{}))

func memoryOf(s *token.Session) *memory { return (*memory)(unsafe.Pointer(&s.Scratch()[0])) }

// Encrypt enciphers data. Errors are refusals of package fault, or the token's.
func (e *Engine) Encrypt(r hsm.EncryptData) (answer hsm.EncryptedData, err error) {
	err = e.keys.Do(func(s *token.Session) (err error) {
		side, err := e.open(s, &r.Key, true)
		if err != nil {
			return err
		}
		defer side.close(&err)
		if err := checkDemands(r.Demands); err != nil {
			return err
		}
		if err := side.checkData(r.Data); err != nil {
			return err
		}
		iv, err := side.outgoingIV(r.IV)
		if err != nil {
			return err
		}
		if err := side.derive(&memoryOf(s).keys[1]); err != nil {
			return err
		}
		answer, err = side.encrypted(iv, r.Data, nil)
		return err
	})
	if err != nil {
		return hsm.EncryptedData{}, err
	}
	return answer, nil
}

// Decrypt deciphers data. Errors are refusals of package fault, or the token's.
func (e *Engine) Decrypt(r hsm.DecryptData) (answer hsm.DecryptedData, err error) {
	var data []byte
	err = e.keys.Do(func(s *token.Session) (err error) {
		side, err := e.open(s, &r.Key, false)
		if err != nil {
			return err
		}
		defer side.close(&err)
		if err := checkDemands(r.Demands); err != nil {
			return err
		}
		if err := side.checkIncoming(r.Data, r.IV); err != nil {
			return err
		}
		if err := side.derive(&memoryOf(s).keys[0]); err != nil {
			return err
		}
		data = make([]byte, len(r.Data))
		way := side.start(r.IV)
		for at := 0; at < len(r.Data); at += part {
			end := min(at+part, len(r.Data))
			if err := way.decrypt(data[at:end], r.Data[at:end]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		clear(data)
		return hsm.DecryptedData{}, err
	}
	return hsm.DecryptedData{Data: data, Custody: custody}, nil
}

// ReEncrypt enciphers data under another key. Errors are refusals of package fault, or the
// token's.
func (e *Engine) ReEncrypt(r hsm.ReEncryptData) (answer hsm.EncryptedData, err error) {
	err = e.keys.Do(func(s *token.Session) (err error) {
		in, out, err := e.openBoth(s, &r)
		if err != nil {
			return err
		}
		defer out.close(&err)
		defer in.close(&err)
		if !in.key.Header.SharesPeers(out.key.Header) {
			return fault.New(fault.TranslationForbidden, "the keys share no peer group")
		}
		if err := checkDemands(r.Demands); err != nil {
			return err
		}
		if err := in.checkIncoming(r.Data, r.IV); err != nil {
			return err
		}
		if err := out.checkData(r.Data); err != nil {
			return err
		}
		iv, err := out.outgoingIV(r.OutgoingIV)
		if err != nil {
			return err
		}
		if err := in.derive(&memoryOf(s).keys[0]); err != nil {
			return err
		}
		if err := out.derive(&memoryOf(s).keys[1]); err != nil {
			return err
		}
		answer, err = out.encrypted(iv, r.Data, in.start(r.IV).decrypt)
		return err
	})
	if err != nil {
		return hsm.EncryptedData{}, err
	}
	return answer, nil
}

func (e *Engine) openBoth(s *token.Session, r *hsm.ReEncryptData) (in, out *side, err error) {
	if in, err = e.open(s, &r.Incoming, false); err != nil {
		return nil, nil, err
	}
	if out, err = e.open(s, &r.Outgoing, true); err != nil {
		in.close(&err)
		return nil, nil, err
	}
	return in, out, nil
}

// checkDemands refuses what the front will not accept, or the policy does not.
func checkDemands(d hsm.Demands) error {
	return working.CheckDemands(d, custody, whyInModule)
}

// checkData refuses data of a size that the mode does not have.
func (d *side) checkData(data []byte) error {
	switch {
	case len(data) == 0 || len(data) > hsm.MaxMessage:
		return fault.New(fault.RequestInvalid, fmt.Sprintf("the data have 1 to %d bytes", hsm.MaxMessage))
	case d.request.Mode == hsm.CBC && len(data)%d.block != 0:
		return fault.New(fault.RequestInvalid, fmt.Sprintf("the data are no whole blocks of %d bytes, which CBC takes: nothing is padded here", d.block))
	}
	return nil
}

// checkIncoming does likewise for data that are deciphered with an initialization vector.
func (d *side) checkIncoming(data, iv []byte) error {
	if len(iv) != d.block {
		return fault.New(fault.RequestInvalid, fmt.Sprintf("initialization_vector has %d bytes for this key", d.block))
	}
	return d.checkData(data)
}

// outgoingIV returns the initialization vector of an encipherment, a random one where none
// is given.
func (d *side) outgoingIV(given []byte) ([]byte, error) {
	switch {
	case d.request.Mode == hsm.CTR && len(given) != 0:
		return nil, fault.New(fault.RequestInvalid, "in CTR mode the first counter block is made here: leave the initialization vector empty")
	case len(given) == d.block:
		return given, nil
	case len(given) != 0:
		return nil, fault.New(fault.RequestInvalid, fmt.Sprintf("the initialization vector of what goes out has %d bytes for this key, or none for a random one", d.block))
	}
	iv := make([]byte, d.block)
	if _, err := rand.Read(iv); err != nil {
		return nil, err
	}
	return iv, nil
}

// encrypted enciphers data, which source deciphers first if there is one.
func (d *side) encrypted(iv, data []byte, source func(dst, src []byte) error) (hsm.EncryptedData, error) {
	out, way := make([]byte, len(data)), d.start(iv)
	for at := 0; at < len(data); at += part {
		end := min(at+part, len(data))
		from := data[at:end]
		if source != nil {
			plain := memoryOf(d.session).clear[:end-at]
			if err := source(plain, from); err != nil {
				return hsm.EncryptedData{}, err
			}
			from = plain
		}
		if err := way.encrypt(out[at:end], from); err != nil {
			return hsm.EncryptedData{}, err
		}
	}
	return hsm.EncryptedData{Data: out, IV: append([]byte(nil), iv...), CheckValue: d.key.Header.CheckValue, Custody: custody}, nil
}
