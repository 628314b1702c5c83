package pinrecords

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"keyd/fault"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinrecord"
)

// What the modules' MACs are of.
const (
	ofRecord  = "pin record"
	ofPending = "pin pending record"
	ofPasskey = "passkey record"
)

var notOurs = fault.New(fault.KeySealInvalid, "the PIN record")

// verdict says why a PIN, or a code, is compared with nothing. All else is done all the same, with as
// many token calls as for a wrong one, and refused where that comes first: whoever asks a front cannot
// tell by the time, nor by other refusals, whether a subject has a PIN that can be tried.
type verdict struct{ refusal error }

// refuse keeps the first refusal.
func (v *verdict) refuse(err error) {
	if v.refusal == nil {
		v.refusal = err
	}
}

// live reports whether there is something to compare with.
func (v *verdict) live() bool { return v.refusal == nil }

// or returns an error that came before the refusal, else the refusal.
func (v *verdict) or(err error) error {
	if err != nil {
		return err
	}
	return v.refusal
}

// asked takes the ledger's word that a version is dead, and returns what else it says.
func (v *verdict) asked(err error) error {
	err = ledger.Refusal(err)
	if err != nil && fault.Of(err).Reason == fault.PINRecordEnded {
		v.refuse(err)
		return nil
	}
	return err
}

// sealedRecord is a record that a module has made, unless its verdict says that none has.
type sealedRecord struct {
	*pinrecord.Record
	verdict
	body []byte
}

// digest names the record in the ledger, whichever master keys have sealed it.
func (r *sealedRecord) digest() ledger.Device { return digestOf(r.body) }

func digestOf(body []byte) ledger.Device { return sha256.Sum256(body) }

func (r *sealedRecord) version() ledger.Version {
	return ledger.Version{Subject: r.Subject.Digest(), Number: r.Version}
}

// record returns a record that is genuine ([fault.KeySealInvalid]).
func (e *Engine) record(s *token.Session, sealed []byte) (*sealedRecord, error) {
	r, err := e.shown(s, sealed)
	if err == nil {
		err = r.refusal
	}
	return r, err
}

// shown returns a record whose verdict says whether it is genuine. What has not the form of one is
// an error.
func (e *Engine) shown(s *token.Session, sealed []byte) (*sealedRecord, error) {
	parsed, body, mac, err := pinrecord.Parse(sealed)
	if err != nil {
		return nil, notOurs
	}
	r := &sealedRecord{Record: parsed, body: body}
	r.verdict, err = e.authentic(s, ofRecord, body, mac)
	return r, err
}

// pending returns a pending record that is genuine, likewise.
func (e *Engine) pending(s *token.Session, sealed []byte) (*pinrecord.Pending, error) {
	p, v, err := e.shownPending(s, sealed)
	return p, v.or(err)
}

// shownPending returns a pending record with its verdict.
func (e *Engine) shownPending(s *token.Session, sealed []byte) (*pinrecord.Pending, verdict, error) {
	parsed, body, mac, err := pinrecord.ParsePending(sealed)
	if err != nil {
		return nil, verdict{}, notOurs
	}
	v, err := e.authentic(s, ofPending, body, mac)
	return parsed, v, err
}

// authentic says whether it is the MAC of master keys that the register has not retired. As many MACs
// are made whichever it is.
func (e *Engine) authentic(s *token.Session, purpose string, body, mac []byte) (v verdict, err error) {
	epoch, err := e.register.Current()
	if err != nil {
		return v, err
	}
	equal := 0
	for generation := epoch.Generation; generation >= epoch.Oldest && generation > 0; generation-- {
		var mine [pinrecord.MACSize]byte
		err := e.masters.Authenticate(s, generation, mine[:], purpose, body)
		if errors.Is(err, sealing.ErrNoMasters) {
			continue
		}
		if err != nil {
			return v, err
		}
		equal |= subtle.ConstantTimeCompare(mine[:], mac)
	}
	if equal != 1 {
		v.refuse(notOurs)
	}
	return v, nil
}

// stands has the verdict say whether the record's version is alive. The ledger learns nothing from a
// record that no module has made.
func (e *Engine) stands(r *sealedRecord) error {
	ask := e.ledger.Stands
	if !r.live() {
		ask = e.ledger.Standing
	}
	return r.asked(ask(r.version(), r.digest()))
}
