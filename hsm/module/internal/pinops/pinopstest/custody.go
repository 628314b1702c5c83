package pinopstest

import (
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
)

// stays is the custody that an operation has with the token: the PIN stays in one that composes, but under
// TDES DUKPT, in format 1, and for IBM 3624.
func (b *bench) stays(op *pinops.Operation) hsm.Custody {
	out := func(k hsm.PINKey) bool {
		return k.Format == hsm.Format1 || k.KSN != (dukpt.KSN{}) && k.KSN.Scheme() == dukpt.TDES
	}
	var elsewhere bool
	switch {
	case op.Translate != nil:
		elsewhere = out(op.Translate.Incoming) || out(op.Translate.Outgoing)
	case op.Verify != nil:
		elsewhere = out(op.Verify.Incoming) || op.Verify.IBM3624 != nil
	case op.Generate != nil:
		elsewhere = out(op.Generate.Outgoing) || op.Generate.IBM3624 != nil
	case op.Change != nil:
		elsewhere = out(op.Change.Incoming) || out(op.Change.NewIncoming) || op.Change.IBM3624 != nil
	}
	if elsewhere || !b.composes {
		return hsm.InModule
	}
	return hsm.InToken
}

// custody compares the custody of an answer with what can be had.
func (b *bench) custody(name string, op *pinops.Operation) {
	b.Helper()
	want := b.stays(op)
	if op.Err != nil {
		want = 0
	}
	if got := answered(op); got != want {
		b.Errorf("%s: %v, want %v", name, got, want)
	}
}

// answered is the custody of the operation's answer, 0 where there is none.
func answered(op *pinops.Operation) hsm.Custody {
	return op.Translated.Custody + op.Verified.Custody + op.Generated.Custody + op.Changed.Custody
}

// demanding is the same trial where the policy demands custody of the token: what does not stay there is refused,
// whatever is in the block, and has no answer.
func (b *bench) demanding(t trial) trial {
	demands := hsm.Demands{TokenCustody: true}
	switch {
	case t.op.Translate != nil:
		t.op.Translate.Demands = demands
	case t.op.Verify != nil:
		t.op.Verify.Demands = demands
	case t.op.Generate != nil:
		t.op.Generate.Demands = demands
	case t.op.Change != nil:
		t.op.Change.Demands = demands
	}
	t.name += ", custody of the token demanded"
	if b.stays(t.op) == hsm.InToken {
		return t
	}
	t.check = func() {
		b.outcome(t.name, t.op, fault.CustodyUnavailable)
		if t.op.Translated.Block != nil || t.op.Generated.Block != nil || t.op.Changed.Datum != "" || answered(t.op) != 0 {
			b.Errorf("%s: a refusal with an answer", t.name)
		}
	}
	return t
}
