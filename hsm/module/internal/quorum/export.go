package quorum

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/initialkey"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// export writes a key block of a key, or of an initial key of a BDK.
func (w *work) export(s *token.Session, out *CarriedOut) error {
	entry := w.epoch.Find(w.def.Target.Name, w.def.Target.Version)
	if !entry.Usable(w.engine.register.Now().Unix()) {
		return fault.New(fault.KeyDisabled, "")
	}
	h, err := w.registered(s, w.in.Target, entry)
	if err != nil {
		return err
	}
	if !h.ValidAt(w.engine.register.Now()) {
		return fault.New(fault.KeyDisabled, "")
	}
	if w.def.Export.Version == "C" && !w.epoch.Roster.Quorum.VersionC {
		return fault.New(fault.ExportForbidden, "key blocks of version C are written only where the roster's quorum says version_c")
	}
	under, kbpk, err := w.protection(s, "EBN")
	if err != nil {
		return err
	}
	defer under.Release()
	block := &keyblock.Header{
		Version: w.def.Export.Version[0], Usage: h.Usage, Algorithm: h.Algorithm[0], Mode: h.Mode[0],
		KeyVersion: "00", Exportability: w.def.Export.Exportability[0], Reserved: "00",
	}
	if w.def.Export.KeyVersion != "" {
		block.KeyVersion = w.def.Export.KeyVersion
	}
	value, err := w.leaving(s, h, block)
	if err != nil {
		return err
	}
	if err := w.checkStrength(under.Header, h.Algorithm, len(value)); err != nil {
		return err
	}
	if err := w.addBlocks(s, under, block, value); err != nil {
		return err
	}
	text, err := keyblocks.Wrap(s, kbpk, block, value)
	if err != nil {
		var failed *token.Error
		if errors.As(err, &failed) {
			return err
		}
		return fault.New(fault.ExportForbidden, err.Error())
	}
	if err := w.allot(h, under.Header); err != nil {
		return err
	}
	out.Block = string(text)
	w.outcome.Block = ceremony.Digest(text)
	w.outcome.CheckValue = h.CheckValue
	return nil
}

// leaving returns the value that leaves, and says in the block what it is.
func (w *work) leaving(s *token.Session, h *hsm.Header, block *keyblock.Header) ([]byte, error) {
	x := w.def.Export
	out := w.region.Bytes()[keyAt : keyAt+keyRoom]
	if x.KSN != "" {
		return w.initialKey(s, h, block, out)
	}
	if h.Exportability == "N" || widens(h.Exportability[0], x.Exportability[0]) {
		return nil, fault.New(fault.ExportForbidden, "the key's exportability is "+h.Exportability)
	}
	if x.Mode != "" {
		if !narrower(h.Mode, x.Mode) {
			return nil, fault.New(fault.ExportForbidden, "the key's mode of use is "+h.Mode)
		}
		block.Mode = x.Mode[0]
	}
	for _, o := range h.Blocks { // those of a BDK are not its initial keys'
		block.Blocks = append(block.Blocks, keyblock.Optional(o))
	}
	n, err := w.engine.masters.Read(s, w.in.Target.Sealed, out)
	return out[:n], err
}

// initialKey derives the initial key of a terminal. The BDK itself stays in the token.
func (w *work) initialKey(s *token.Session, h *hsm.Header, block *keyblock.Header, out []byte) ([]byte, error) {
	if err := initialkey.Check(h); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(w.def.Export.KSN)
	if err != nil {
		return nil, err
	}
	bdk, err := w.engine.keys.Open(s, *w.in.Target)
	if err != nil {
		return nil, err
	}
	defer bdk.Release()
	initial, err := initialkey.Derive(s, &bdk, id, out)
	if err != nil {
		return nil, err
	}
	block.Usage, block.Mode = "B1", 'X'
	block.Blocks = append(block.Blocks, initial.Block)
	w.initialKeyID = initial.ID
	return initial.Value, nil
}

// allot records that an initial key belongs to those who have a key block protection key, before
// it leaves for them. Before anybody approves it only looks whether it could.
func (w *work) allot(h, under *hsm.Header) error {
	if w.def.Export.KSN == "" {
		return nil
	}
	entry := ledger.NewEntry(h.Fingerprint, w.initialKeyID, ledger.Device(sha256.Sum256([]byte("key block protection key\x00"+under.Fingerprint))))
	record := w.engine.ledger.Bind
	if w.rehearsing {
		record = w.engine.ledger.Look
	}
	return ledger.Refusal(record(entry))
}

// addBlocks adds the optional blocks that the definition asks for.
func (w *work) addBlocks(s *token.Session, under *sealing.Key, block *keyblock.Header, value []byte) error {
	x := w.def.Export
	came := len(block.Blocks) // with the key, or with what it is
	add := func(o keyblock.Optional, err error) error {
		if err != nil {
			return err
		}
		// What the officers ask for stands in place of what the key came with, but for what an
		// initial key is. An ID that comes twice is refused when the block is written.
		if i := slices.IndexFunc(block.Blocks[:came], func(b keyblock.Optional) bool { return b.ID == o.ID && o.ID != "KS" && o.ID != "IK" }); i >= 0 {
			block.Blocks[i] = o
			return nil
		}
		block.Blocks = append(block.Blocks, o)
		return nil
	}
	var problems []error
	if x.CheckValues {
		check, err := sealing.CheckValue(s, string(block.Algorithm), value)
		if err != nil {
			return err
		}
		problems = append(problems,
			add(keyblock.NewKP(checkValueOf(under.Header.Algorithm, under.Header.CheckValue))))
		if _, ok := checkMethods[string(block.Algorithm)]; ok {
			problems = append(problems, add(keyblock.NewKC(checkValueOf(string(block.Algorithm), check))))
		}
	}
	if x.Time {
		problems = append(problems, add(keyblock.NewTS(w.engine.register.Now().UTC().Truncate(time.Second))))
	}
	if x.Label != "" {
		problems = append(problems, add(keyblock.NewLB(x.Label)))
	}
	for _, o := range x.Blocks {
		problems = append(problems, add(keyblock.Optional(o), nil))
	}
	if err := errors.Join(append(problems, block.Validate(), block.CheckBlocks())...); err != nil {
		return fault.New(fault.DefinitionInvalid, "export: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

func checkValueOf(algorithm, check string) keyblock.CheckValue {
	value, err := hex.DecodeString(check)
	if err != nil {
		return keyblock.CheckValue{}
	}
	return keyblock.CheckValue{Method: checkMethods[algorithm], Value: value}
}
