package quorum

import (
	"encoding/hex"
	"errors"
	"strings"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// lookBlock reads the key block that is to be imported, and refuses one that does not say of
// the key what the definition does.
func (w *work) lookBlock() error {
	b, err := keyblock.Parse([]byte(w.def.Block))
	if err != nil {
		return blockInvalid(err)
	}
	h := &b.Header
	if err := errors.Join(h.Validate(), h.CheckBlocks()); err != nil {
		return blockInvalid(err)
	}
	spec := w.def.Key
	switch {
	case h.IsComponent():
		err = errors.New("it holds a component of a key")
	case h.Usage != spec.Usage:
		err = errors.New("it is a key of usage " + h.Usage)
	case string(h.Algorithm) != spec.Algorithm:
		err = errors.New("it is a key of algorithm " + string(h.Algorithm))
	case !narrower(string(h.Mode), spec.Mode):
		err = errors.New("it is a key of mode of use " + string(h.Mode))
	case widens(h.Exportability, spec.Exportability[0]):
		err = errors.New("its exportability is " + string(h.Exportability))
	}
	if err != nil {
		return fault.New(fault.KeyBlockInvalid, err.Error()+", and the definition says otherwise")
	}
	w.block = b
	for _, o := range h.Blocks {
		if o.ID != "PB" && o.ID != "KC" && o.ID != "KP" {
			w.header.Blocks = append(w.header.Blocks, hsm.OptionalBlock(o))
		}
	}
	if encoded, err := w.header.Marshal(); err != nil || len(encoded) > hsm.MaxHeaderSize-256 {
		return fault.New(fault.KeyBlockInvalid, "its optional blocks are too long to be kept")
	}
	return nil
}

func blockInvalid(err error) error {
	return fault.New(fault.KeyBlockInvalid, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// unwrap opens the key block.
func (w *work) unwrap(s *token.Session) error {
	under, kbpk, err := w.protection(s, "DBN")
	if err != nil {
		return err
	}
	defer under.Release()
	if err := w.checkStrength(under.Header, w.header.Algorithm, int(w.header.Length)); err != nil {
		return err
	}
	out := w.region.Bytes()[keyAt : keyAt+keyRoom]
	n, err := keyblocks.Unwrap(s, kbpk, w.block, out)
	if err != nil {
		var failed *token.Error
		if errors.As(err, &failed) {
			return err
		}
		return blockInvalid(err)
	}
	if n != int(w.header.Length) {
		return fault.New(fault.KeyBlockInvalid, "the key in it has another length than the definition says")
	}
	w.key = out[:n]
	return w.checkBlockValue(s)
}

// checkBlockValue compares the block's own check value of the key, if it has one.
func (w *work) checkBlockValue(s *token.Session) error {
	told, err := w.block.Header.KeyCheckValue()
	if errors.Is(err, keyblock.ErrAbsent) {
		return nil
	}
	if err != nil {
		return blockInvalid(err)
	}
	if method, ok := checkMethods[w.header.Algorithm]; !ok || told.Method != method {
		return nil // by a method that is not this algorithm's
	}
	check, err := sealing.CheckValue(s, w.header.Algorithm, w.key)
	if err != nil {
		return err
	}
	n := min(len(told.Value), 3)
	if !strings.EqualFold(hex.EncodeToString(told.Value[:n]), check[:2*n]) {
		return fault.New(fault.CheckValueMismatch, "the key block names another check value (KC) than its key has")
	}
	return nil
}
