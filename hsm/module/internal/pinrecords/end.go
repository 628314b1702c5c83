package pinrecords

import (
	"errors"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/token"
	"keyd/pinrecord"
)

// Revoke ends a record, or a pending one.
func (e *Engine) Revoke(sealed []byte) error {
	return e.do(func(s *token.Session) error {
		version, err := e.either(s, sealed)
		if err != nil {
			return err
		}
		return ledger.Refusal(e.ledger.Revoke(version))
	})
}

// either returns the version of a record, a passkey's or a pending one, which is genuine.
func (e *Engine) either(s *token.Session, sealed []byte) (ledger.Version, error) {
	if _, _, _, err := pinrecord.ParsePending(sealed); err == nil {
		p, err := e.pending(s, sealed)
		if err != nil {
			return ledger.Version{}, err
		}
		return ledger.Version{Subject: p.Subject.Digest(), Number: p.Version}, nil
	}
	if _, _, _, err := pinrecord.ParsePasskey(sealed); err == nil {
		r, err := e.shownPasskey(s, sealed)
		if err := r.or(err); err != nil {
			return ledger.Version{}, err
		}
		return r.version(), nil
	}
	record, err := e.record(s, sealed)
	if err != nil {
		return ledger.Version{}, err
	}
	return record.version(), nil
}

// Unblock gives the subject of a record its tries back. What was approved is used up first: an
// interruption costs the approvers another approval, and no front gets tries twice.
func (e *Engine) Unblock(sealed []byte, approvals []hsm.Approval) error {
	return e.do(func(s *token.Session) error {
		record, err := e.record(s, sealed)
		if err != nil {
			return err
		}
		approval, digest, err := e.approved(approvals)
		if err != nil {
			return err
		}
		if approval.Action != pinrecord.Unblock || approval.Subject != record.Subject || approval.Version != record.Version {
			return fault.New(fault.ApprovalInvalid, "what is approved is something else")
		}
		if err := ledger.Refusal(e.ledger.Stands(record.version(), record.digest())); err != nil {
			return err
		}
		if err := ledger.Refusal(e.ledger.Use(digest)); err != nil {
			return err
		}
		if !e.tries.ResetRecord(record.Subject.Digest()) {
			return fault.Wrap(fault.Internal, errors.New("the tries of a subject cannot be reset: the velocity table is crowded"))
		}
		return nil
	})
}

// Reseal seals a record, also a passkey's, anew under the present master keys.
func (e *Engine) Reseal(sealed []byte) (again []byte, err error) {
	err = e.do(func(s *token.Session) error {
		if _, body, _, err := pinrecord.ParsePasskey(sealed); err == nil {
			r, err := e.shownPasskey(s, sealed)
			if err := r.or(err); err != nil {
				return err
			}
			again, err = e.seal(s, ofPasskey, body)
			return err
		}
		record, err := e.record(s, sealed)
		if err != nil {
			return err
		}
		again, err = e.seal(s, ofRecord, record.body)
		return err
	})
	if err != nil {
		return nil, err
	}
	return again, nil
}
