package pinops

import (
	"crypto/rand"
	"errors"

	"keyd/hsm"
	"keyd/hsm/module/internal/pinobjects"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// inToken is the way on which PINs are objects of the token and never leave it (package pinobjects).
type inToken struct {
	tools *pinobjects.Tools
	steps *token.Steps // that the token does
}

func (inToken) custody() hsm.Custody { return hsm.InToken }

// Why some operations cannot go this way with any token.
var (
	errRecord    = errors.New("the PIN of a PIN record is compared whole, which is done in the module's memory")
	errTDESDUKPT = errors.New("no PKCS#11 mechanism derives a working key of TDES DUKPT")
	errIBM       = errors.New("IBM 3624 makes a natural PIN, which no PKCS#11 mechanism compares in the token")
	errFormat    = errors.New("ISO format 1 is opened and made in the module's memory only")
	errHeld      = errors.New("a key that the token held before may not wrap or unwrap")
)

// lacks says why an operation does not go this way, or nil: a refusal that holds for every token, or the mechanisms that
// this one does not have.
func (w inToken) lacks(o *outline) error {
	switch {
	case o.record:
		return errRecord
	case o.ibm:
		return errIBM
	case o.held:
		return errHeld
	}
	var steps []token.Step
	for _, s := range []*side{o.in, o.out} {
		switch {
		case s == nil:
			continue
		case s.dukpt == "T":
			return errTDESDUKPT
		case s.held:
			return errHeld
		case s.format != hsm.Format0 && s.format != hsm.Format3 && s.format != hsm.Format4:
			return errFormat
		}
		steps = append(steps, sideSteps[s.algorithm][s == o.out])
	}
	steps = append(steps, token.StepExtract, token.StepWrapAES, token.StepAgree) // to look at a PIN's length
	switch {
	case o.in == nil:
		steps = append(steps, token.StepRandom, token.StepJoin, token.StepPrepend, token.StepAppend, token.StepImage, token.StepXOR)
	case o.out != nil && (o.in.format != hsm.Format0 || o.out.format != hsm.Format0):
		steps = append(steps, token.StepXOR, token.StepAppend, token.StepPrepend)
	}
	if o.visa {
		steps = append(steps, token.StepXOR, token.StepAppend, token.StepPrepend, token.StepImage, token.StepWrapTDES)
	}
	return w.steps.Missing(steps...)
}

// sideSteps are the steps of a block, by the algorithm of its key and whether it goes out.
var sideSteps = map[string]map[bool]token.Step{
	"T": {false: token.StepUnwrapTDES, true: token.StepWrapTDES},
	"A": {false: token.StepUnwrapAES, true: token.StepWrapAES},
}

func (w inToken) open(b *batch) {
	for l := range b.of(w) {
		if l.in == nil {
			continue
		}
		n := l.in.Format.BlockSize()
		copy(l.block[:], l.given)
		pin, ok, err := w.tools.Open(b.session, pinblock.Format(l.in.Format), l.incoming.key(), l.block[:n], l.middle[:n], l.pan)
		switch {
		case err != nil:
			b.fail(l, err)
		case !ok:
			l.err = errBlock
		}
		l.object = pin
	}
}

func (w inToken) choose(b *batch) {
	for l := range b.of(w) {
		if l.in != nil {
			continue
		}
		pin, err := w.tools.Random(b.session, l.length, l.pan)
		if err != nil {
			b.fail(l, err)
		}
		l.object = pin
	}
}

func (w inToken) close(b *batch) {
	for l := range b.of(w) {
		if l.out == nil {
			continue
		}
		_, err := rand.Read(l.random[:])
		if err == nil {
			err = w.tools.Close(b.session, &l.object, pinblock.Format(l.out.Format), l.outgoing.key(), l.block[:l.out.Format.BlockSize()], &l.random)
		}
		if err != nil {
			b.fail(l, err)
		}
	}
}

// enciphers also finds out whether the PINs' digits are decimal: those of PINs that were made here are.
func (w inToken) enciphers(b *batch) {
	for l := range b.of(w) {
		if l.pvk == nil {
			continue
		}
		err := w.tools.TSP(b.session, &l.object, int(l.method.visa.KeyIndex), l.pvkKey.Object, &l.compare.out)
		if l.decimal = l.in == nil; err == nil && !l.decimal {
			l.decimal, err = w.tools.Decimal(b.session, &l.object)
		}
		if err != nil {
			b.fail(l, err)
		}
	}
}

// key is the cipher for a PIN that is an object.
func (c *cipher) key() pinobjects.Key {
	return pinobjects.Key{Mechanism: c.mechanism, Object: c.object}
}

// rights are those of a working key that is derived for a lane. The outer layer of a block of format 4 is put on by C_Encrypt.
func rights(w way, f hsm.Format, incoming bool) token.Rights {
	switch {
	case w == (inModule{}):
		return token.MayEncrypt | token.MayDecrypt
	case incoming:
		return token.MayUnwrap
	case f == hsm.Format4:
		return token.MayEncrypt | token.MayWrap
	}
	return token.MayWrap
}

// Custodies says of the PIN operations whether they stay in the token, and if not why.
func (e *Engine) Custodies() []hsm.OperationCustody {
	static0, static3 := &side{format: hsm.Format0, algorithm: "T"}, &side{format: hsm.Format3, algorithm: "T"}
	static4, format1 := &side{format: hsm.Format4, algorithm: "A"}, &side{format: hsm.Format1, algorithm: "T"}
	aes4, aes0 := &side{format: hsm.Format4, algorithm: "A", dukpt: "A"}, &side{format: hsm.Format0, algorithm: "T", dukpt: "A"}
	tdes0 := &side{format: hsm.Format0, algorithm: "T", dukpt: "T"}
	var list []hsm.OperationCustody
	for _, row := range []struct {
		name string
		ways []outline // all of which the row is about
	}{
		{"translate a PIN, formats 0 and 3, zone to zone", []outline{{in: static0, out: static0}, {in: static0, out: static3}, {in: static3, out: static0}, {in: static3, out: static3}}},
		{"translate a PIN, format 4, zone to zone", []outline{{in: static4, out: static4}}},
		{"translate a PIN, formats 0 and 3 to 4, zone to zone", []outline{{in: static0, out: static4}, {in: static3, out: static4}}},
		{"translate a PIN, format 4 to 0 and 3, zone to zone", []outline{{in: static4, out: static0}, {in: static4, out: static3}}},
		{"translate a PIN, AES DUKPT to a zone", []outline{{in: aes4, out: static0}, {in: aes4, out: static4}, {in: aes0, out: static0}}},
		{"translate a PIN, TDES DUKPT to a zone", []outline{{in: tdes0, out: static0}}},
		{"translate a PIN, from format 1", []outline{{in: format1, out: static0}}},
		{"verify a PIN, Visa PVV, zone", []outline{{in: static0, visa: true}, {in: static3, visa: true}, {in: static4, visa: true}}},
		{"verify a PIN, Visa PVV, AES DUKPT", []outline{{in: aes4, visa: true}, {in: aes0, visa: true}}},
		{"verify a PIN, Visa PVV, TDES DUKPT", []outline{{in: tdes0, visa: true}}},
		{"generate a PIN, Visa PVV", []outline{{out: static0, visa: true}, {out: static4, visa: true}}},
		{"change a PIN, Visa PVV", []outline{{in: static0, visa: true}, {in: aes4, visa: true}}},
		{"verify, generate, change a PIN, IBM 3624", []outline{{in: static0, ibm: true}}},
	} {
		custody := hsm.OperationCustody{Operation: row.name, Custody: hsm.InToken}
		for _, o := range row.ways {
			if err := e.inside.lacks(&o); err != nil {
				custody.Custody, custody.Why = hsm.InModule, err.Error()
				break
			}
		}
		list = append(list, custody)
	}
	return list
}
