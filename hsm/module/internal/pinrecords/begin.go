package pinrecords

import (
	"crypto/rand"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
	"keyd/pinrecord"
)

// beginning is where a code comes about, in the session's locked memory.
const (
	randomSize = 32
	digitsAt   = randomSize
	slotAt     = 64
	roomAt     = 128
)

// Begin begins a version of a record. From the moment at which the ledger has it, all before it are
// dead.
func (e *Engine) Begin(r hsm.BeginPIN) (begun hsm.BegunPIN, err error) {
	err = e.do(func(s *token.Session) (err error) {
		begun, err = e.begin(s, &r)
		return err
	})
	if err != nil {
		return hsm.BegunPIN{}, err
	}
	return begun, nil
}

func (e *Engine) begin(s *token.Session, r *hsm.BeginPIN) (begun hsm.BegunPIN, err error) {
	approval, digest, err := e.approved(r.Approvals)
	if err != nil {
		return begun, err
	}
	if approval.Action != pinrecord.Enrol && approval.Action != pinrecord.Reset {
		return begun, fault.New(fault.ApprovalInvalid, "what is approved is something else")
	}
	key, err := e.datumKey(s, r.DatumKey, nil)
	if err != nil {
		return begun, err
	}
	defer key.Release()
	version := ledger.Version{Subject: approval.Subject.Digest(), Number: approval.Version}
	fresh, err := e.ledger.Begin(version, digest)
	if err := ledger.Refusal(err); err != nil {
		return begun, err
	}
	if fresh {
		e.tries.ResetCode(version.Subject) // likewise as of a PIN that is set
	}
	memory := s.Scratch()
	defer clear(memory)
	code := pinblock.PINIn((*[pinblock.PINSize]byte)(memory[slotAt:]))
	if err := choose(memory, code); err != nil {
		return begun, err
	}
	made, err := codeDatum(s, key.Object, memory[roomAt:], code, &approval.Subject, approval.Version, digest[:])
	if err != nil {
		return begun, err
	}
	pending := pinrecord.Pending{
		Subject: approval.Subject, Version: approval.Version, Approval: hexOf(digest[:]), Key: datumKeyOf(key.Header), Code: hexOf(made), NotAfter: approval.NotAfter,
	}
	to, err := approval.Deliver()
	if err != nil {
		return begun, pinrecord.Refusal(err)
	}
	erase.Do(func() {
		begun.Code, err = pinrecord.SealCode(to, r.Approvals[0].Document, memory[digitsAt:digitsAt+pinrecord.CodeSize])
	})
	if err != nil {
		return begun, err
	}
	body, err := pending.Encode()
	if err != nil {
		return begun, err
	}
	begun.Pending, err = e.seal(s, ofPending, body)
	return begun, err
}

// approved returns what two approvers have approved, and its digest.
func (e *Engine) approved(list []hsm.Approval) (*pinrecord.Approval, ledger.Device, error) {
	epoch, err := e.register.Current()
	if err != nil {
		return nil, ledger.Device{}, err
	}
	now := e.register.Now()
	anchors, err := epoch.Anchors(ceremony.UseApprovers, now)
	if err != nil {
		return nil, ledger.Device{}, err
	}
	var signed []pinrecord.Signed
	for _, a := range list {
		signed = append(signed, pinrecord.Signed(a))
	}
	approval, digest, err := pinrecord.OpenBoth(signed, anchors, now)
	return approval, digest, pinrecord.Refusal(err)
}

// choose makes a code, of which each digit is as likely as any other, as digits in memory and in
// the form of a PIN.
func choose(memory []byte, code *pinblock.PIN) error {
	for done := false; !done; {
		random, digits := memory[:randomSize], memory[digitsAt:digitsAt+pinrecord.CodeSize]
		if _, err := rand.Read(random); err != nil {
			return err
		}
		erase.Do(func() {
			n := 0
			for _, r := range random {
				if r < 250 && n < len(digits) { // 25 values for each digit
					digits[n] = '0' + r%10
					n++
				}
			}
			done = n == len(digits) && code.SetDigits(digits) == nil
		})
	}
	return nil
}
