package quorum

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/dukpt"
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

// narrower reports whether a key that may be used in one mode may be given the other.
func narrower(from, to string) bool {
	return from == to || from == "N" ||
		from == "B" && (to == "E" || to == "D") || from == "C" && (to == "G" || to == "V")
}

// exportabilities are those of X9.143-2021 table 6, each of which allows what those before it
// do: nothing, to pass the key on in trusted key blocks, and in other forms too.
const exportabilities = "NES"

// widens reports whether a key of one exportability would get away with more under another.
func widens(from, to byte) bool {
	return strings.IndexByte(exportabilities, to) > strings.IndexByte(exportabilities, from)
}

// protection opens the key block protection key that the definition names. ways are the
// modes of use that allow what is to be done.
func (w *work) protection(s *token.Session, ways string) (*sealing.Key, keyblocks.KBPK, error) {
	given, named := w.in.Under, w.def.Under
	if given == nil || given.Name != named.Name {
		return nil, keyblocks.KBPK{}, fault.New(fault.KeyNotFound, "under")
	}
	key, err := w.engine.keys.Open(s, *given)
	if err != nil {
		return nil, keyblocks.KBPK{}, err
	}
	h := key.Header
	switch {
	case h.Version != named.Version:
		err = fault.New(fault.KeyNotFound, "under: another version was given")
	case h.Usage != "K0" && h.Usage != "K1":
		err = fault.New(fault.KeyUsageMismatch, "under is no key block protection key (K0, K1)")
	case !strings.Contains(ways, h.Mode):
		err = fault.New(fault.KeyUsageMismatch, "under: mode of use "+h.Mode)
	}
	if err != nil {
		key.Release()
		return nil, keyblocks.KBPK{}, err
	}
	return &key, keyblocks.KBPK{
		Algorithm: h.Algorithm, Length: int(h.Length),
		Key: key.Object, EncryptionVariant: key.Twin, MACVariant: key.MACVariant,
	}, nil
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

// checkMethods are how the check values are made that keyd makes. A key block names none of
// an HMAC key.
var checkMethods = map[string]keyblock.CheckMethod{"T": keyblock.CheckEncryption, "A": keyblock.CheckCMAC}

// strength is that of a key in bits, as far as it matters for what may wrap it (NIST SP
// 800-57 part 1 table 2).
func strength(algorithm string, length int) int {
	switch {
	case algorithm == "T" && length <= 16:
		return 80
	case algorithm == "T":
		return 112
	case algorithm == "H":
		return min(8*length, 256)
	}
	return 8 * length
}

// checkStrength refuses a wrapping key that is weaker than what it wraps, unless the
// officers have said that it may be.
func (w *work) checkStrength(under *hsm.Header, algorithm string, length int) error {
	if w.def.AllowWeaker || strength(under.Algorithm, int(under.Length)) >= strength(algorithm, length) {
		return nil
	}
	reason := fault.ExportForbidden
	if w.def.Kind == ceremony.Import {
		reason = fault.KeyValueRefused
	}
	return fault.New(reason, "the key block protection key is weaker than the key: use a stronger one, or say allow_weaker")
}

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

// initialKey derives the initial key of a terminal (X9.24-1:2009 A.6, X9.24-3:2017 6.3.3).
// The BDK itself stays in the token.
func (w *work) initialKey(s *token.Session, h *hsm.Header, block *keyblock.Header, out []byte) ([]byte, error) {
	if h.Usage != "B0" || h.Mode != "X" && h.Mode != "N" {
		return nil, fault.New(fault.KeyUsageMismatch, "initial_key_id is for base derivation keys (B0, mode of use X)")
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
	block.Usage, block.Mode = "B1", 'X'
	if h.Algorithm == "T" {
		if len(id) != dukpt.TDESKSNSize {
			return nil, fault.New(fault.KSNInvalid, "a TDES BDK takes 10 bytes")
		}
		ksn, err := dukpt.ParseInitialKSN(id)
		if err != nil {
			return nil, fault.New(fault.KSNInvalid, "the counter of an initial key's KSN is 0")
		}
		initial := ksn.InitialKeyID()
		if err := s.Encrypt(pkcs11.CKM_DES3_ECB, bdk.Object, out[:8], initial[:]); err != nil {
			return nil, err
		}
		if err := s.Encrypt(pkcs11.CKM_DES3_ECB, bdk.Twin, out[8:16], initial[:]); err != nil {
			return nil, err
		}
		block.Blocks = append(block.Blocks, keyblock.NewKS([10]byte(id)))
		return out[:16], nil
	}
	if len(id) != 8 {
		return nil, fault.New(fault.KSNInvalid, "an AES BDK takes an initial key ID of 8 bytes")
	}
	ksn, err := dukpt.ParseInitialKSN(append(id[:8:8], 0, 0, 0, 0))
	if err != nil {
		return nil, fault.New(fault.KSNInvalid, "")
	}
	kind, err := dukpt.AESKeyType(int(h.Length))
	if err != nil {
		return nil, err
	}
	path, err := dukpt.NewInitialKeyPath(ksn, kind)
	if err != nil {
		return nil, err
	}
	if path.Len() != 1 {
		return nil, errors.New("an initial key is derived in one step")
	}
	step := path.Step(0)
	if err := s.DeriveReadable(bdk.Object, step.Data[:step.DataLen], out[:kind.Size()]); err != nil {
		return nil, err
	}
	block.Blocks = append(block.Blocks, keyblock.NewIK([8]byte(id)))
	return out[:kind.Size()], nil
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
