// Package cardops makes and verifies card verification values inside the boundary: CVV,
// CVV2 and iCVV, and what has the same construction under other names (CVC, CVC2). EMV
// books and the schemes' manuals name the inputs; the construction takes a key of usage C0
// apart into its halves.
//
// Rules, in the order in which they are checked: the sealed key is genuine and valid now;
// its usage and mode of use fit what is asked; the card's tries are not used up, since a
// value has three digits only. The right value exists in the module's memory, where a wrong
// one is found in constant time; it is an answer.
//
// Only hsm/module uses it.
package cardops

import (
	"crypto/subtle"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/decimal"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/tries"
	"keyd/hsm/module/internal/working"
)

// Engine makes card verification values with a token. It is safe for concurrent use.
type Engine struct {
	keys  *working.Keys
	tries *tries.Tries
}

// NewEngine returns an engine that uses keys and counts tries.
func NewEngine(keys *working.Keys, tries *tries.Tries) *Engine { return &Engine{keys, tries} }

// memory is what is clear during an operation. It lies in the session's locked memory.
type memory struct {
	value [hsm.CVVSize]byte
	block [8]byte
}

// It must fit.
const _ = uint(token.ScratchSize - unsafe.Sizeof(memory{}))

// Generate makes a value. Errors are refusals of package fault, or the token's.
func (e *Engine) Generate(r hsm.GenerateCVV) (answer hsm.GeneratedCVV, err error) {
	blocks, err := input(r.Input)
	if err != nil {
		return hsm.GeneratedCVV{}, err
	}
	err = e.with(r.Key, "GCN", r.Demands, func(s *token.Session, k *sealing.Key) error {
		m := (*memory)(unsafe.Pointer(&s.Scratch()[0]))
		if err := compute(s, k, &blocks, m); err != nil {
			return err
		}
		answer = hsm.GeneratedCVV{Value: string(m.value[:]), CheckValue: k.Header.CheckValue, Custody: custody}
		return nil
	})
	if err != nil {
		return hsm.GeneratedCVV{}, err
	}
	return answer, nil
}

// Verify says whether a value is the card's. Errors are refusals of package fault, or the
// token's.
func (e *Engine) Verify(r hsm.VerifyCVV) (answer hsm.VerifiedCVV, err error) {
	blocks, err := input(r.Input)
	if err != nil {
		return hsm.VerifiedCVV{}, err
	}
	counted := false // once, even if the token has to be asked again
	err = e.with(r.Key, "VCN", r.Demands, func(s *token.Session, k *sealing.Key) error {
		if !counted && !e.tries.Card(k.Header, &blocks) {
			return fault.New(fault.RateLimited, "")
		}
		counted = true
		m := (*memory)(unsafe.Pointer(&s.Scratch()[0]))
		if err := compute(s, k, &blocks, m); err != nil {
			return err
		}
		answer = hsm.VerifiedCVV{Verified: subtle.ConstantTimeCompare(m.value[:], []byte(r.Value)) == 1, Custody: custody}
		return nil
	})
	if err != nil {
		return hsm.VerifiedCVV{}, err
	}
	return answer, nil
}

// with opens the key, applies the rules and runs f.
func (e *Engine) with(key hsm.Key, modes string, demands hsm.Demands, f func(*token.Session, *sealing.Key) error) error {
	return e.keys.Do(func(s *token.Session) error {
		k, err := e.keys.Open(s, key)
		if err != nil {
			return err
		}
		defer k.Release()
		if err := check(k.Header, modes); err != nil {
			return err
		}
		if err := working.CheckDemands(demands, custody, whyInModule); err != nil {
			return err
		}
		return f(s, &k)
	})
}

func check(h *hsm.Header, modes string) error {
	if h.Usage != "C0" || h.Algorithm != "T" {
		return fault.New(fault.KeyUsageMismatch, "a "+h.Usage+" key makes no card verification values: that takes a C0 key")
	}
	return working.CheckMode(h, modes, "the key may not do this")
}

// compute makes a value. The digits of PAN, expiry date and service code, with zeros at
// their end, are two blocks. The first is enciphered under the key's left half, as the twin
// does it, combined with the second, and enciphered under the whole key.
func compute(s *token.Session, k *sealing.Key, blocks *[tries.CardSize]byte, m *memory) error {
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, k.Twin, m.block[:], blocks[:8]); err != nil {
		return err
	}
	erase.Do(func() { subtle.XORBytes(m.block[:], m.block[:], blocks[8:]) })
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, k.Object, m.block[:], m.block[:]); err != nil {
		return err
	}
	erase.Do(func() { decimal.Put(m.value[:], &m.block) })
	return nil
}

// input returns the two blocks.
func input(in hsm.CVVInput) (blocks [tries.CardSize]byte, err error) {
	digits := in.PAN + in.Expiry + in.ServiceCode
	if len(digits) > 2*len(blocks) {
		return blocks, fault.New(fault.RequestInvalid, "primary_account_number: 12 to 19 digits")
	}
	for i := range len(digits) {
		blocks[i/2] |= (digits[i] - '0') << (4 * (1 - i%2))
	}
	return blocks, nil
}
