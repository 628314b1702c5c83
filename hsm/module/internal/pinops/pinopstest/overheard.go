package pinopstest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/eavesdrop"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/token"
)

// Heard is what somebody knows who has listened to PIN operations.
type Heard struct {
	Findings []eavesdrop.Finding // PINs, clear fields and keys
	Problems []string            // what could not be computed
	Carried  map[string]int      // operations that were carried out, by what they are
	Blocks   int                 // blocks, in and out, of which all but the PIN's digits was assumed to be known
}

// Kinds are the kinds of the findings, each once.
func (h Heard) Kinds() map[string]int {
	kinds := map[string]int{}
	for _, f := range h.Findings {
		kinds[f.Kind]++
	}
	return kinds
}

// defaultOverheard is how many operations are overheard where KEYD_CASES does not say.
const defaultOverheard = 400

// Overheard carries random operations out with a fresh token, of which r is the record, and returns what
// follows from the record. demands are those of each operation: what the policy does not allow is refused
// before anything crosses, and does not count.
func Overheard(t *testing.T, tok *token.Token, r *eavesdrop.Recording, demands hsm.Demands) Heard {
	t.Helper()
	seed := number(t, "KEYD_SEED", rand.Uint64())
	t.Logf("KEYD_SEED=%d", seed)
	b := newBench(t, sealedtest.On(t, tok), seed)
	r.Mark(t)
	h := Heard{Carried: map[string]int{}}
	var all []*exposed
	for cases := int(number(t, "KEYD_CASES", defaultOverheard)); len(all) < cases; {
		var batch []*exposed
		var ops []*pinops.Operation
		from := r.Calls(t) + 1
		for range 1 + b.random.IntN(4) {
			x := b.expose(demands)
			batch, ops = append(batch, x), append(ops, x.op)
		}
		b.engine.Run(ops...)
		for _, x := range batch {
			x.from, x.to = from, r.Calls(t)
		}
		all = append(all, batch...)
	}
	w := eavesdrop.Listen(t, r)
	var secrets []eavesdrop.Secret
	var assumed []assumption
	for _, x := range all {
		switch {
		case x.op.Err == nil, fault.Of(x.op.Err).Reason == fault.PINBlockInvalid:
			h.Carried[x.name]++
			if demands.TokenCustody && x.op.Err == nil && answered(x.op) != hsm.InToken {
				b.Errorf("%s: %v, where custody of the token is demanded", x.name, answered(x.op))
			}
		case demands.TokenCustody && fault.Of(x.op.Err).Reason == fault.CustodyUnavailable:
			continue
		default:
			b.Errorf("%s: %v", x.name, x.op.Err)
			continue
		}
		s, a := x.secrets(b)
		secrets, assumed = append(secrets, s...), append(assumed, a...)
	}
	for _, k := range b.keys() {
		secrets = append(secrets, k...)
	}
	for _, a := range assumed {
		if w.Assume(a.enciphered, a.digits) {
			h.Blocks++
		}
	}
	h.Findings, h.Problems = w.Find(secrets)
	for _, a := range assumed {
		if n := w.Followed(a.enciphered, a.digits); n > 0 {
			h.Findings = append(h.Findings, eavesdrop.Finding{Secret: eavesdrop.Secret{Kind: "bits of a PIN", What: a.what},
				Where: fmt.Sprintf("of %d bits that nobody may know, %d follow", 4*strings.Count(a.digits, "."), n)})
		}
	}
	return h
}

// keys are all keys of the bench.
func (b *bench) keys() (list [][]eavesdrop.Secret) {
	for name, keys := range b.pool {
		for _, k := range keys {
			list = append(list, eavesdrop.KeySecrets(name, k.value, name[2:3]))
		}
	}
	return list
}

// exposed is an operation, and what of it nobody may know.
type exposed struct {
	name     string
	op       *pinops.Operation
	pan      string
	incoming []sealed
	outgoing *side
	from, to int // the calls of its batch
}

// sealed is a clear field under a key.
type sealed struct {
	side
	field []byte
}

// assumption is what somebody knows beforehand of a block.
type assumption struct {
	what       string
	enciphered []byte
	digits     string
}

// expose makes an operation.
func (b *bench) expose(demands hsm.Demands) *exposed {
	x := &exposed{op: new(pinops.Operation), pan: b.pan()}
	in := func(f hsm.Format) hsm.PINKey {
		s := b.side(f)
		x.incoming = append(x.incoming, sealed{s, b.anyField(f)})
		return s.PINKey
	}
	block := func(i int) []byte {
		s := x.incoming[i]
		return s.seal(s.Format, s.field, x.pan)
	}
	out := func() hsm.PINKey {
		s := b.side(b.format())
		x.outgoing = &s
		return s.PINKey
	}
	v := b.verifier()
	index := uint8(b.random.IntN(10))
	method := func(i int) *hsm.VisaPVV {
		m := &hsm.VisaPVV{KeyIndex: index, PVV: b.digits(4)}
		if pin, _, ok := read(x.incoming[i].Format, x.incoming[i].field); ok && b.random.IntN(2) == 0 {
			m.PVV = pvv(v.value, x.pan, index, pin)
		}
		return m
	}
	f := b.format()
	switch b.random.IntN(6) {
	case 0, 1, 2:
		x.op.Translate = &hsm.TranslatePIN{Incoming: in(f), Outgoing: out(), PAN: x.pan, Block: block(0), Demands: demands}
		x.name = fmt.Sprintf("translation from %v to %v", f, x.outgoing.Format)
	case 3:
		x.op.Verify = &hsm.VerifyPIN{Incoming: in(f), Verification: v.Key, PAN: x.pan, Block: block(0), VisaPVV: method(0), Demands: demands}
		x.name = fmt.Sprintf("verification in %v", f)
	case 4:
		x.op.Generate = &hsm.GeneratePIN{Outgoing: out(), Generation: v.Key, PAN: x.pan, Length: uint8(4 + b.random.IntN(9)), VisaPVV: &hsm.VisaPVV{KeyIndex: index}, Demands: demands}
		x.name = fmt.Sprintf("generation in %v", x.outgoing.Format)
	default:
		x.op.Change = &hsm.ChangePIN{Incoming: in(f), NewIncoming: in(f), Verification: v.Key, PAN: x.pan, Demands: demands}
		x.op.Change.Current, x.op.Change.New, x.op.Change.VisaPVV = block(0), block(1), method(0)
		x.name = fmt.Sprintf("change in %v", f)
	}
	return x
}

// secrets are the PINs of the operation, the fields that they are in, and the keys that these are under; and
// what somebody may know of the fields beforehand.
func (x *exposed) secrets(b *bench) (secrets []eavesdrop.Secret, assumed []assumption) {
	fields := x.incoming
	if block := x.block(); x.outgoing != nil && block != nil {
		fields = append(fields[:len(fields):len(fields)], sealed{*x.outgoing, x.outgoing.open(x.outgoing.Format, block, x.pan)})
	}
	for _, s := range fields {
		pin, _, ok := read(s.Format, s.field)
		if ok {
			for _, one := range eavesdrop.PINSecrets(b.random, x.name, pin, x.pan, s.field) {
				one.From, one.To = x.from, x.to
				secrets = append(secrets, one)
			}
			assumed = append(assumed, assumption{x.name, s.innermost(x.pan), eavesdrop.FieldPattern(s.Format, len(pin), x.pan)})
		}
		algorithm := "T"
		if s.aes {
			algorithm = "A"
		}
		secrets = append(secrets, eavesdrop.KeySecrets(x.name, s.value, algorithm)...)
	}
	return secrets, assumed
}

func (x *exposed) block() []byte {
	if x.op.Translate != nil {
		return x.op.Translated.Block
	}
	return x.op.Generated.Block
}

// innermost is what the clear block is enciphered to: in format 4 by the inner layer.
func (s sealed) innermost(pan string) []byte {
	if s.Format != hsm.Format4 {
		return s.seal(s.Format, s.field, pan)
	}
	out := make([]byte, 16)
	s.cipher().Encrypt(out, s.field)
	return out
}
