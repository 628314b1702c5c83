package pinops

import (
	"crypto/rand"
	"time"
	"unsafe"

	"keyd/dukpt/software"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// Engine carries out PIN operations with a token. It is safe for concurrent use: each
// operation has a session of its own.
type Engine struct {
	token *token.Token
	cache *sealing.Cache
	now   func() time.Time
}

// NewEngine returns an engine. now is the clock by which keys are valid.
func NewEngine(t *token.Token, c *sealing.Cache, now func() time.Time) *Engine {
	return &Engine{token: t, cache: c, now: now}
}

// workspace is what is clear during one operation. It lies in the session's locked
// memory, which is wiped when the operation ends.
type workspace struct {
	cipher  [16]byte // block as it came or as it goes
	middle  [16]byte // format 4: between the two layers
	clear   [16]byte // clear block, or PIN field of format 4
	pin     [pinblock.PINSize]byte
	random  [pinblock.RandomSize]byte
	ik      [16]byte // TDES DUKPT initial key
	working [16]byte // TDES DUKPT working key
	tdes    software.TDESKey
	verify  verifyWorkspace
}

func workspaceOf(s *token.Session) *workspace {
	return (*workspace)(unsafe.Pointer(&s.Scratch()[0]))
}

// The workspace must fit into a session's scratch memory.
const _ = uint(token.ScratchSize - unsafe.Sizeof(workspace{}))

// do runs an operation on a session of its own. When the token lost the session or
// the objects in it, they are made anew and the operation is run once more: it has
// no effect until it succeeds.
func (e *Engine) do(operation func(*token.Session, *workspace) error) error {
	for attempt := 0; ; attempt++ {
		generation := e.token.Generation()
		err := e.token.Do(func(s *token.Session) error { return operation(s, workspaceOf(s)) })
		if err == nil || attempt > 0 {
			return err
		}
		switch token.ClassOf(err) {
		case token.HandleStale, token.SessionDead: // the session may be the keeper
			if err := e.token.Renew(generation); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// open unseals a key and checks that it is valid now.
func (e *Engine) open(s *token.Session, key hsm.Key) (*sealing.Key, error) {
	k, err := e.cache.Open(s, key.Name, key.Sealed)
	if err != nil {
		return nil, err
	}
	if !k.Header.ValidAt(e.now()) {
		k.Release()
		return nil, fault.New(fault.KeyDisabled, "")
	}
	return k, nil
}

// parsePAN parses the PAN that a format is bound to. Format 1 is bound to none.
func parsePAN(text string, formats ...hsm.Format) (pinblock.PAN, error) {
	needed := false
	for _, f := range formats {
		needed = needed || f != hsm.Format1
	}
	if text == "" && !needed {
		return pinblock.PAN{}, nil
	}
	pan, err := pinblock.ParsePAN(text)
	if err != nil {
		return pan, fault.New(fault.RequestInvalid, "primary_account_number: 1 to 19 digits")
	}
	return pan, nil
}

// decipher opens a PIN block into the workspace's PIN. Whatever is wrong with the
// block, the answer and the work are the same.
func (w *workspace) decipher(c *cipher, f hsm.Format, pan pinblock.PAN, block []byte) error {
	n := f.BlockSize()
	copy(w.cipher[:], block)
	if f == hsm.Format4 {
		if err := c.decrypt(w.middle[:], w.cipher[:]); err != nil {
			return err
		}
		if err := pan.XORField4(w.middle[:]); err != nil {
			return err
		}
		copy(w.cipher[:], w.middle[:])
	}
	if err := c.decrypt(w.clear[:n], w.cipher[:n]); err != nil {
		return err
	}
	var err error
	erase.Do(func() { err = pinblock.Decode(pinblock.PINIn(&w.pin), pinblock.Format(f), w.clear[:n], pan) })
	if err != nil {
		return fault.New(fault.PINBlockInvalid, "")
	}
	return nil
}

// encipher makes a PIN block of the workspace's PIN.
func (w *workspace) encipher(c *cipher, f hsm.Format, pan pinblock.PAN) ([]byte, error) {
	n := f.BlockSize()
	if _, err := rand.Read(w.random[:]); err != nil {
		return nil, err
	}
	var err error
	erase.Do(func() { err = pinblock.Encode(w.clear[:n], pinblock.Format(f), pinblock.PINIn(&w.pin), pan, &w.random) })
	if err != nil {
		return nil, err
	}
	if err := c.encrypt(w.cipher[:n], w.clear[:n]); err != nil {
		return nil, err
	}
	if f == hsm.Format4 {
		copy(w.middle[:], w.cipher[:])
		if err := pan.XORField4(w.middle[:]); err != nil {
			return nil, err
		}
		if err := c.encrypt(w.cipher[:], w.middle[:]); err != nil {
			return nil, err
		}
	}
	return append([]byte(nil), w.cipher[:n]...), nil
}
