package quorum

import (
	"crypto/subtle"
	"fmt"

	"keyd/ceremony"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/keyvalue"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// random makes a key of two sources.
func (w *work) random(s *token.Session) error {
	memory := w.region.Bytes()
	key, other := memory[keyAt:keyAt+int(w.header.Length)], memory[componentsAt:componentsAt+int(w.header.Length)]
	if err := keyvalue.Random(s, w.header.Algorithm, key, other); err != nil {
		return err
	}
	w.key = key
	return nil
}

// judge refuses a value that no key should have, and finds the check value, which has to be
// the one that the definition names.
func (w *work) judge(s *token.Session) error {
	if why := keyvalue.Weakness(w.header.Algorithm, w.key); why != "" {
		return fault.New(fault.KeyValueRefused, why)
	}
	if n := len(w.key); ceremony.CarriesKeys(w.header.Usage) && w.header.Algorithm == "T" && n == 24 && keyvalue.Same("T", w.key[:8], w.key[16:]) {
		// Its length counts as its strength when it wraps.
		return fault.New(fault.KeyValueRefused, "its first and third parts are equal, so that it is a key of 16 bytes")
	}
	m, err := w.engine.masters.Of(s, w.epoch.Generation)
	if err != nil {
		return err
	}
	check, err := sealing.CheckValue(s, w.header.Algorithm, w.key)
	if err != nil {
		return err
	}
	if w.def.CheckValue != "" && w.def.CheckValue != check {
		return fault.New(fault.CheckValueMismatch, "the key has the check value "+check+", the definition says "+w.def.CheckValue)
	}
	// A fingerprint is of a key of one algorithm; a value is known whatever it is used with.
	for _, algorithm := range []string{"T", "A", "H"} {
		if _, err := sealing.KeyType(algorithm, len(w.key)); err != nil {
			continue
		}
		if err := w.unknown(s, m, algorithm, w.key, "the key is here already"); err != nil {
			return err
		}
	}
	// Nor may a key be what a standard makes of another: as a data key it would decipher what
	// that protects.
	if w.header.Algorithm == "T" {
		variant := w.region.Bytes()[keyAt+keyRoom/2:][:len(w.key)]
		defer clear(variant)
		for _, mask := range variants() {
			for i := range variant {
				variant[i] = w.key[i] ^ mask[i%len(mask)]
			}
			if err := w.unknown(s, m, "T", variant, "the key is a variant of one that is here"); err != nil {
				return err
			}
		}
	}
	w.checkValue = check
	return nil
}

// unknown refuses a value that a key in the register has.
func (w *work) unknown(s *token.Session, m *sealing.Masters, algorithm string, value []byte, why string) error {
	fingerprint, err := m.Fingerprint(s, algorithm, value, w.region.Bytes()[plainAt:componentsAt])
	if err != nil {
		return err
	}
	if same := w.epoch.Knows(fingerprint); same != nil {
		return fault.New(fault.KeyValueRefused, fmt.Sprintf("%s: %s version %d, usage %s", why, same.Name, same.Version, same.Usage))
	}
	return nil
}

// variants are the masks with which standards make a TDES key of another: the variants of a
// key block protection key (X9.143-2021 7.3), and the BDK for initial keys' right halves
// (X9.24-1:2009 A.6). Each is its own inverse.
func variants() [][]byte {
	initial := dukpt.TDESInitialKeyMask()
	return [][]byte{{keyblocks.EncryptionVariantMask}, {keyblocks.MACVariantMask}, initial[:]}
}

// combine opens the components that are there, checks each, and XORs them when they are
// complete. It refuses components that leave the key to fewer officers than they seem to: one
// that two officers have, one that is the whole key. One of zeros, with which senders fill up
// the number of components, is taken where the others are several.
func (w *work) combine(s *token.Session) error {
	memory := w.region.Bytes()
	size, algorithm := int(w.header.Length), w.header.Algorithm
	sum := memory[keyAt : keyAt+size]
	clear(sum)
	components := make([]component, 0, len(w.checked.Submissions))
	for i, statement := range w.checked.Submissions {
		at := componentsAt + i*componentRoom
		c := component{statement.Index, memory[at : at+size]}
		if err := w.open(s, statement, w.papers.Submissions[i].Sealed, c.value, algorithm); err != nil {
			return err
		}
		subtle.XORBytes(sum, sum, c.value)
		components = append(components, c)
	}
	complete := len(components) == w.checked.Opening.Need.Components
	if err := independent(algorithm, components, sum, complete); err != nil || !complete {
		return err
	}
	w.key = sum
	return nil
}

// component is one of a key, or a share of master keys, in locked memory.
type component struct {
	index int // from 1
	value []byte
}

// independent refuses components that leave a key to fewer officers than they seem to: two
// that are the same, and, once they are complete, one that is the key itself.
func independent(algorithm string, components []component, key []byte, complete bool) error {
	for i, c := range components {
		for _, other := range components[:i] {
			if keyvalue.Same(algorithm, c.value, other.value) {
				return fault.New(fault.KeyValueRefused, fmt.Sprintf("components %d and %d are the same", other.index, c.index))
			}
		}
		if complete && keyvalue.Same(algorithm, c.value, key) {
			return fault.New(fault.KeyValueRefused, fmt.Sprintf("component %d is the whole key: the others together are zero", c.index))
		}
	}
	return nil
}

// open opens one component into out, and compares its check value with the one that its
// officer has seen.
func (w *work) open(s *token.Session, statement *ceremony.Statement, sealed, out []byte, algorithm string) error {
	if w.epoch.OtherPlace(w.header.Name, statement.Officer, statement.Index) {
		return fault.New(fault.OfficerRepeated, fmt.Sprintf("%s entered another component of an earlier version: enter that one again, or let somebody else", statement.Officer))
	}
	if w.pair == nil { // which is proved each time that it is looked for
		o := w.checked.Opening
		pair, err := s.FindPair(pairLabel(o.ID, o.Expires))
		if err != nil {
			return closedIfMissing(err)
		}
		w.pair = &pair
	}
	if err := openComponent(s, *w.pair, w.checked.Digest, statement, sealed, out, w.region.Bytes()[sharedAt:sharedAt+sharedSize]); err != nil {
		return err
	}
	check, err := sealing.CheckValue(s, algorithm, out)
	if err != nil {
		return err
	}
	if check != statement.CheckValue {
		return fault.New(fault.CheckValueMismatch, fmt.Sprintf("component %d has the check value %s, %s has signed %s", statement.Index, check, statement.Officer, statement.CheckValue))
	}
	return nil
}

// custodians returns who entered the components, in their order.
func (w *work) custodians() []string {
	names := make([]string, len(w.checked.Submissions))
	for _, statement := range w.checked.Submissions { // complete, so that each index comes once
		names[statement.Index-1] = statement.Officer
	}
	return names
}
