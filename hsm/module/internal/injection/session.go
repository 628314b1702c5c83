package injection

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/keyvalue"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/receipt"
)

// Bounds of session keys.
const (
	MaxSessionKeys = 8
	longest        = 8 * 24 * 3600 // for how long one is valid, in seconds
)

// session is what a session key of a usage is, here and in the terminal.
type session struct {
	algorithms string
	lengths    string // of TDES: 2 and 3 parts
	mode       string // here
	terminal   byte   // mode of use in the terminal
	direction  string
}

// sessions are the usages of session keys. PINs come from terminals and never go there; messages
// and data go both ways.
var sessions = map[string]session{
	"P0": {"TA", "23", "D", 'E', hsm.DirectionIncoming},
	"M1": {"T", "23", "C", 'C', hsm.DirectionBoth},
	"M3": {"T", "2", "C", 'C', hsm.DirectionBoth},
	"M6": {"TA", "23", "C", 'C', hsm.DirectionBoth},
	"D0": {"TA", "23", "B", 'B', hsm.DirectionBoth},
}

// Session makes session keys under a terminal's master key, in the order of specs. Errors are
// refusals of package fault, and the token's.
func (e *Engine) Session(s *token.Session, masterKey hsm.Key, specs []hsm.SessionKeySpec) (made []hsm.SessionKey, err error) {
	if len(specs) == 0 || len(specs) > MaxSessionKeys {
		return nil, fault.New(fault.RequestInvalid, "")
	}
	master, err := e.keys.Open(s, masterKey)
	if err != nil {
		return nil, err
	}
	defer master.Release()
	prefix, isMaster := strings.CutSuffix(master.Header.Name, ":"+receipt.MasterName)
	if !isMaster || master.Header.Device == "" || master.Header.Usage != "K1" && master.Header.Usage != "K0" {
		return nil, fault.New(fault.KeyUsageMismatch, "session keys go under the master key of a terminal")
	}
	for i := range specs {
		name := specs[i].Name
		if slices.ContainsFunc(specs[:i], func(other hsm.SessionKeySpec) bool { return other.Name == name }) {
			return nil, fault.New(fault.RequestInvalid, "two session keys have one name")
		}
		if err := e.checkSession(&specs[i], master.Header); err != nil {
			return nil, err
		}
	}
	epoch, err := e.register.Current()
	if err != nil {
		return nil, err
	}
	masters, err := e.masters.Of(s, epoch.Generation)
	if err != nil {
		return nil, err
	}
	region, err := locked.New(2 * keySize)
	if err != nil {
		return nil, err
	}
	defer region.Free()
	for i := range specs {
		spec := &specs[i]
		value, other := region.Bytes()[:spec.Length:spec.Length], region.Bytes()[keySize:][:spec.Length]
		if err := keyvalue.Random(s, spec.Algorithm, value, other); err != nil {
			return nil, err
		}
		sealed, h, err := sealKey(s, masters, sessionHeader(prefix, spec, master.Header), value)
		if err != nil {
			return nil, err
		}
		k := hsm.SessionKey{Sealed: sealed, CheckValue: h.CheckValue}
		if master.Header.Usage == "K0" {
			k.Cryptogram = make([]byte, spec.Length)
			err = s.Encrypt(sealing.ECB(spec.Algorithm), master.Object, k.Cryptogram, value)
		} else {
			k.KeyBlock, err = wrapSession(s, &master, spec, value)
		}
		if err != nil {
			return nil, err
		}
		made = append(made, k)
	}
	return made, nil
}

// checkSession refuses a key that a terminal with that master key cannot be given.
func (e *Engine) checkSession(spec *hsm.SessionKeySpec, master *hsm.Header) error {
	kind, known := sessions[spec.Usage]
	now := e.register.Now().Unix()
	switch _, err := sealing.KeyType(spec.Algorithm, spec.Length); {
	case !validName(spec.Name) || spec.Version == 0:
		return fault.New(fault.RequestInvalid, "a session key has a name of 1 to 16 lower-case letters and digits, neither master nor receipt, and a version from 1")
	case !known:
		return fault.New(fault.KeyUsageMismatch, "a session key has usage P0, M1, M3, M6 or D0")
	case err != nil || !strings.Contains(kind.algorithms, spec.Algorithm):
		return fault.New(fault.KeyUsageMismatch, fmt.Sprintf("a session key of usage %s has algorithm %s, and a length of it", spec.Usage, strings.Join(strings.Split(kind.algorithms, ""), " or ")))
	case spec.Algorithm == "T" && !strings.Contains(kind.lengths, fmt.Sprint(spec.Length/8)):
		return fault.New(fault.KeyUsageMismatch, "a TDES key of usage "+spec.Usage+" has 16 bytes")
	case spec.NotAfter <= now || spec.NotAfter > now+longest:
		return fault.New(fault.RequestInvalid, "a session key is valid for at most 8 days from now")
	case strength(spec.Algorithm, spec.Length) > strength(master.Algorithm, int(master.Length)):
		return tooWeak(named(spec.Algorithm, spec.Length), "the master key, "+named(master.Algorithm, int(master.Length)))
	case master.Usage == "K0" && (spec.Algorithm != master.Algorithm || spec.Algorithm == "A" && spec.Length == 24):
		return fault.New(fault.KeyUsageMismatch, "a bare master key carries keys of its own algorithm, in whole blocks: AES keys have 16 or 32 bytes")
	}
	return nil
}

// sessionHeader is the header under which a session key stays here.
func sessionHeader(prefix string, spec *hsm.SessionKeySpec, master *hsm.Header) hsm.Header {
	kind := sessions[spec.Usage]
	h := hsm.Header{
		Name: prefix + ":" + spec.Name, Version: spec.Version, Usage: spec.Usage, Algorithm: spec.Algorithm, Mode: kind.mode, Exportability: "N",
		NotAfter: spec.NotAfter, Custody: hsm.CustodyToken, Direction: kind.direction, Device: master.Device,
	}
	switch spec.Usage {
	case "P0":
		h.Peers, h.Formats = slices.Clone(master.Peers), []hsm.Format{hsm.Format0, hsm.Format3}
		if spec.Algorithm == "A" {
			h.Formats = []hsm.Format{hsm.Format4}
		}
	case "D0":
		h.Peers, h.DataModes = slices.Clone(master.Peers), []string{hsm.CBC.String()}
	}
	return h
}

// wrapSession writes a key block under a master key.
func wrapSession(s *token.Session, master *sealing.Key, spec *hsm.SessionKeySpec, value []byte) (string, error) {
	block := blockHeader(spec.Usage, spec.Algorithm, sessions[spec.Usage].terminal)
	block.Version = version(master.Header.Algorithm)
	text, err := keyblocks.Wrap(s, keyblocks.KBPK{Algorithm: master.Header.Algorithm, Length: int(master.Header.Length), Key: master.Object}, &block, value)
	if err != nil && !errors.As(err, new(*token.Error)) {
		return "", fault.Wrap(fault.Internal, err)
	}
	return string(text), err
}
