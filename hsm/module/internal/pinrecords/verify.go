package pinrecords

import (
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
	"keyd/pinrecord"
)

// Verify says whether a PIN is that of a record.
func (e *Engine) Verify(r hsm.VerifyRecord) (verified bool, err error) {
	counted := false
	err = e.do(func(s *token.Session) (err error) {
		verified, err = e.verify(s, &r, &counted)
		return err
	})
	return verified && err == nil, err
}

func (e *Engine) verify(s *token.Session, r *hsm.VerifyRecord, counted *bool) (verified bool, err error) {
	record, err := e.shown(s, r.Record)
	if err != nil {
		return false, err
	}
	key, err := e.datumKey(s, r.DatumKey, &record.Key)
	if err != nil {
		return false, err
	}
	defer key.Release()
	if err := e.stands(record); err != nil {
		return false, err
	}
	count := func() error { return once(counted, func() bool { return e.tries.Record(record.Subject.Digest()) }) }
	err = e.pins.Open(s, []pinops.Opening{opening(&r.PIN, &record.Subject, r.Demands)}, nil, count, func(pins []*pinblock.PIN, room []byte) error {
		datum, err := pinDatum(s, key.Object, room, pins[0], &record.Subject, record.Version)
		verified = err == nil && record.live() && right(datum, record.Datum, pins[0])
		return err
	})
	return verified, record.or(err)
}

// Change makes a record of another PIN, if the current one is right.
func (e *Engine) Change(r hsm.ChangeRecord) (answer hsm.SetRecord, err error) {
	if err := together(&r.Current, &r.New); err != nil {
		return hsm.SetRecord{}, err
	}
	counted := false
	err = e.do(func(s *token.Session) error {
		answer = hsm.SetRecord{}
		return e.change(s, &r, &counted, &answer)
	})
	if err != nil {
		return hsm.SetRecord{}, err
	}
	return answer, nil
}

func (e *Engine) change(s *token.Session, r *hsm.ChangeRecord, counted *bool, answer *hsm.SetRecord) error {
	record, err := e.shown(s, r.Record)
	if err != nil {
		return err
	}
	if record.Version >= pinrecord.MaxVersion {
		record.refuse(fault.New(fault.PINRecordEnded, "it has the last version that there is: enrol the subject under another name"))
	}
	key, err := e.datumKey(s, r.DatumKey, &record.Key)
	if err != nil {
		return err
	}
	defer key.Release()
	done, err := e.ledger.Replaceable(record.version(), record.digest())
	if err := record.asked(err); err != nil {
		return err
	}
	openings := []pinops.Opening{opening(&r.Current, &record.Subject, r.Demands), opening(&r.New, &record.Subject, r.Demands)}
	count := func() error { return once(counted, func() bool { return e.tries.Record(record.Subject.Digest()) }) }
	var made *pinrecord.Record
	err = e.pins.Open(s, openings, nil, count, func(pins []*pinblock.PIN, room []byte) error {
		current, pin := pins[0], pins[1]
		datum, err := pinDatum(s, key.Object, room, current, &record.Subject, record.Version)
		if err != nil || !record.live() || !right(datum, record.Datum, current) {
			return err
		}
		answer.Verified = true
		made, err = newRecord(s, &key, room, pin, current, &record.Subject, record.Version+1)
		return err
	})
	if done && record.live() && (made == nil && err == nil || err != nil && isOfThePIN(err)) {
		// The record is dead, and says nothing of its PIN but to who asks for the same again.
		return ledger.Refusal(ledger.ErrEnded)
	}
	if err != nil || made == nil {
		return record.or(err)
	}
	body, err := made.Encode()
	if err != nil {
		return err
	}
	if err := ledger.Refusal(e.ledger.Replace(record.version(), record.digest(), digestOf(body))); err != nil {
		return err
	}
	answer.Record, err = e.seal(s, ofRecord, body)
	return err
}

// isOfThePIN reports whether a refusal depends on a PIN that was right.
func isOfThePIN(err error) bool {
	reason := fault.Of(err).Reason
	return reason == fault.PINWeak || reason == fault.PINBlockInvalid
}
