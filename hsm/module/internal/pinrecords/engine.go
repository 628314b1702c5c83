package pinrecords

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/macops"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/working"
	"keyd/pinrecord"
)

// Engine carries operations on PIN records out. It is safe for concurrent use; each has a session of
// its own.
type Engine struct {
	keys     *working.Keys
	masters  *sealing.Set
	register Register
	ledger   *ledger.Ledger
	tries    *tries.Tries
	pins     *pinops.Engine
	macs     *macops.Engine
	pairs    pairs
}

// Register is what officers have decided, and what time it is.
type Register interface {
	working.Admission
	Current() (*ceremony.Epoch, error)
}

// New returns an engine.
func New(keys *working.Keys, masters *sealing.Set, r Register, versions *ledger.Ledger, counting *tries.Tries) *Engine {
	return &Engine{
		keys: keys, masters: masters, register: r, ledger: versions, tries: counting,
		pins: pinops.NewEngine(keys, counting), macs: macops.NewEngine(keys),
	}
}

// do carries out an operation on a session; once more, where the token has lost it. A refusal
// stands, whatever the token has said besides.
func (e *Engine) do(f func(s *token.Session) error) error {
	tok := e.keys.Token()
	generation := tok.Generation()
	err := tok.Do(f)
	if working.Lost(err) && !errors.As(err, new(*fault.Error)) {
		e.pairs.forget()
		if err = tok.Renew(generation); err == nil {
			err = tok.Do(f)
		}
	}
	return err
}

// seal puts the MAC of the present master keys behind a record.
func (e *Engine) seal(s *token.Session, purpose string, body []byte) ([]byte, error) {
	epoch, err := e.register.Current()
	if err != nil {
		return nil, err
	}
	var mac [pinrecord.MACSize]byte
	if err := e.masters.Authenticate(s, epoch.Generation, mac[:], purpose, body); err != nil {
		return nil, err
	}
	return append(body[:len(body):len(body)], mac[:]...), nil
}

// datumKey opens a key that makes data of PINs. The caller releases it. It is the one that a record
// names, if there is one already.
func (e *Engine) datumKey(s *token.Session, key hsm.Key, named *pinrecord.DatumKey) (sealing.Key, error) {
	opened, err := e.keys.Open(s, key)
	if err != nil {
		return opened, err
	}
	h := opened.Header
	if h.Usage != "V0" || h.Algorithm != "A" {
		err = fault.New(fault.KeyUsageMismatch, "the datum of a PIN record is made with an AES key of usage V0")
	} else {
		err = working.CheckMode(h, "CN", "the datum key may not do this")
	}
	if err == nil && named != nil && *named != datumKeyOf(h) {
		err = fault.New(fault.KeyUsageMismatch, "the PIN record's datum was made with another key")
	}
	if err != nil {
		opened.Release()
		return sealing.Key{}, err
	}
	return opened, nil
}

func datumKeyOf(h *hsm.Header) pinrecord.DatumKey {
	return pinrecord.DatumKey{Name: h.Name, Version: h.Version, Fingerprint: strings.ToUpper(h.Fingerprint)}
}

// opening is a block for a record's subject.
func opening(b *hsm.RecordBlock, subject *pinrecord.Subject, demands hsm.Demands) pinops.Opening {
	return pinops.Opening{In: &b.Key, Block: b.Block, Number: subject.Number(), Demands: demands}
}

// together refuses two blocks that do not come from one terminal, as far as keys show that: what a
// front has kept of one is of no use with what somebody has typed at another. On a phone both have
// one point, whose private half nobody else has.
func together(a, b *hsm.RecordBlock) error {
	if !bytes.Equal(a.Phone, b.Phone) {
		return fault.New(fault.KeyUsageMismatch, "what the PIN is replaced by is typed on the same phone: both blocks have one point")
	}
	if a.Key.Key.Name == b.Key.Key.Name && bytes.Equal(a.Key.Key.Sealed, b.Key.Key.Sealed) && (a.Key.KSN == dukpt.KSN{}) == (b.Key.KSN == dukpt.KSN{}) && a.Key.KSN.InitialKeyID() == b.Key.KSN.InitialKeyID() {
		return nil
	}
	return fault.New(fault.KeyUsageMismatch, "what the PIN is replaced by is typed at the same terminal: both blocks come under one key and, under DUKPT, with one initial key")
}

// once counts a try the first time that it is called.
func once(counted *bool, count func() bool) error {
	if !*counted && !count() {
		return fault.New(fault.RateLimited, "")
	}
	*counted = true
	return nil
}

// device is a digest that package pinrecord has read.
func device(text string) (d ledger.Device) {
	_, _ = hex.Decode(d[:], []byte(text)) // it has that many digits, or pinrecord would not have read it
	return d
}
