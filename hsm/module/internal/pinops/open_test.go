package pinops_test

import (
	"bytes"
	"errors"
	"testing"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
)

func records(h *hsm.Header) { h.PINKind = hsm.PINRecord }

// A key that carries PINs of PIN records carries no others, whatever is asked of it.
func TestKeysOfRecordsCarryNoOtherPINs(t *testing.T) {
	b := newBench(t)
	const pan = "5432101234567890"
	block := unhex(t, "7F381DBF9F6906C4")
	zone := hsm.PINKey{Key: b.Key("P0", "T", "B", zoneA), Format: 0}
	pvk := b.Key("V2", "T", "C", tdesBDK)
	pvv := &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"}
	for name, record := range map[string]hsm.PINKey{
		"static": {Key: b.Key("P0", "T", "B", zoneB, records), Format: 0},
		"TDES":   {Key: b.Key("B0", "T", "X", tdesBDK, records), KSN: ksn(t, "FFFF9876543210E00001"), Format: 0},
		"AES":    {Key: b.Key("B0", "A", "X", aesBDK, records), KSN: ksn(t, "123456789012345600000001"), Format: 4},
	} {
		in := make([]byte, record.Format.BlockSize())
		for what, op := range map[string]*pinops.Operation{
			"translated from": {Translate: &hsm.TranslatePIN{Incoming: record, Outgoing: zone, PAN: pan, Block: in}},
			"translated to":   {Translate: &hsm.TranslatePIN{Incoming: zone, Outgoing: record, PAN: pan, Block: block}},
			"verified":        {Verify: &hsm.VerifyPIN{Incoming: record, Verification: pvk, PAN: pan, Block: in, VisaPVV: pvv}},
			"generated":       {Generate: &hsm.GeneratePIN{Outgoing: record, Generation: pvk, PAN: pan, Length: 6, VisaPVV: &hsm.VisaPVV{KeyIndex: 1}}},
			"changed from":    {Change: &hsm.ChangePIN{Incoming: record, NewIncoming: zone, Verification: pvk, PAN: pan, Current: in, New: block, VisaPVV: pvv}},
			"changed to":      {Change: &hsm.ChangePIN{Incoming: zone, NewIncoming: record, Verification: pvk, PAN: pan, Current: block, New: in, VisaPVV: pvv}},
		} {
			if b.engine.Run(op); fault.Of(op.Err).Reason != fault.KeyUsageMismatch {
				t.Errorf("%s, %s: %v", name, what, op.Err)
			}
		}
	}
}

// open opens a block as the engine of PIN records does, and returns whether its PIN is 1234.
func (b *bench) open(k hsm.PINKey, number string, block []byte, more ...*pinops.Try) (is1234 bool, err error) {
	err = b.Token.Do(func(s *token.Session) error {
		counted := false
		return b.engine.Open(s, []pinops.Opening{{In: &k, Block: block, Number: number}}, more, func() error { counted = true; return nil }, func(pins []*pinblock.PIN, _ []byte) error {
			var want pinblock.PIN
			if err := want.SetDigits([]byte("1234")); err != nil {
				return err
			}
			is1234 = pins[0].Equal(&want)
			if !counted {
				b.Error("a PIN is handed out before the try is counted")
			}
			return nil
		})
	})
	return is1234, err
}

// Only keys of records open blocks for them; what is clear is gone afterwards.
func TestOpen(t *testing.T) {
	b := newBench(t)
	const pan = "5432101234567890"
	block := unhex(t, "7F381DBF9F6906C4") // PIN 1234 under zoneA
	record := hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA, records), Format: 0}
	if right, err := b.open(record, pan, block); err != nil || !right {
		t.Fatalf("%v, %v", right, err)
	}
	dukpt := hsm.PINKey{Key: b.Key("B0", "T", "X", tdesBDK, records), KSN: ksn(t, "FFFF9876543210E00001"), Format: 0}
	if right, err := b.open(dukpt, "4012345678909", unhex(t, "1B9C1845EB993A7A")); err != nil || !right {
		t.Errorf("TDES DUKPT: %v, %v", right, err)
	}
	aes := hsm.PINKey{Key: b.Key("B0", "A", "X", aesBDK, records), KSN: ksn(t, "123456789012345600000001"), Format: 4}
	if right, err := b.open(aes, "4111111111111111", unhex(t, "A912150391AB65A67E52883D81CE2D15")); err != nil || !right {
		t.Errorf("AES DUKPT: %v, %v", right, err)
	}
	for name, c := range map[string]struct {
		key    hsm.PINKey
		number string
		want   fault.Reason
	}{
		"a cardholder's key": {hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0}, pan, fault.KeyUsageMismatch},
		"format 1":           {hsm.PINKey{Key: record.Key, Format: 1}, pan, fault.TranslationForbidden},
		"no number":          {record, "", fault.RequestInvalid},
		"another number":     {record, "5432109999999990", fault.PINBlockInvalid},
		"an enciphering key": {hsm.PINKey{Key: b.Key("P0", "T", "E", zoneA, records), Format: 0}, pan, fault.KeyUsageMismatch},
	} {
		if right, err := b.open(c.key, c.number, block); right || fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v, %v", name, right, err)
		}
	}
	// A session that is used again has nothing left of them.
	err := b.Token.Do(func(s *token.Session) error {
		err := b.engine.Open(s, []pinops.Opening{{In: &record, Block: block, Number: pan}}, nil, func() error { return nil }, func(pins []*pinblock.PIN, room []byte) error {
			room[0] = 1
			if pins[0].Len() != 4 || bytes.Trim(s.Scratch(), "\x00") == nil {
				return errors.New("what is clear is not in the session's memory")
			}
			return nil
		})
		if err == nil && bytes.Trim(s.Scratch(), "\x00") != nil {
			err = errors.New("something is left in the session's memory")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A cardholder's PIN is compared together with that of a record, and its try counted once.
func TestOpenWithACardholder(t *testing.T) {
	b := newBench(t)
	one := velocity.Limit{Minute: 1, Hour: 1, Day: 1}
	b.limited(velocity.Limits{Verification: one})
	const pan = "5432101234567890"
	block := unhex(t, "7F381DBF9F6906C4")
	record := hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA, records), Format: 0}
	try := &pinops.Try{VerifyPIN: hsm.VerifyPIN{
		Incoming: hsm.PINKey{Key: b.Key("P0", "T", "D", zoneA), Format: 0}, Verification: b.Key("V2", "T", "V", tdesBDK), PAN: pan, Block: block, VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "6776"},
	}}
	if right, err := b.open(record, pan, block, try); err != nil || !right || !try.Verified {
		t.Fatalf("%v, %v, %v", right, try.Verified, err)
	}
	// The same try goes on where the token is asked again; another one is over the limit.
	if _, err := b.open(record, pan, block, try); err != nil {
		t.Errorf("the same try: %v", err)
	}
	if _, err := b.open(record, pan, block, &pinops.Try{VerifyPIN: try.VerifyPIN}); fault.Of(err).Reason != fault.RateLimited {
		t.Errorf("over the limit: %v", err)
	}
}
