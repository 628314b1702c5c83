package pinops

import (
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinobjects"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/working"
	"keyd/pinblock"
)

// lane is one PIN on its way: it comes in a block or is made here, and goes into another
// block, into a comparison, or into a value to verify it by. A change is two lanes, that of
// the current PIN and that of the new one. What is clear of a lane lies in its workspace.
type lane struct {
	*workspace
	op   *Operation
	task task
	err  error // why it goes no further

	in      *hsm.PINKey // nil: the PIN is made here
	phone   *Phone      // in place of the incoming key, see [Opening]
	given   []byte      // the block under it
	out     *hsm.PINKey // nil: the PIN goes into no block
	pvk     *hsm.Key    // nil: the PIN is compared with nothing, and nothing is made of it
	method  method      // with pvk
	demands hsm.Demands
	account string // as it was sent
	pan     pinblock.PAN
	length  int   // of a PIN that is made here
	apart   int   // where the other lane of a change stands from here, or 0
	partner *lane // that lane

	inKey, outKey, pvkKey sealing.Key
	way                   way            // on which it goes
	lacks                 error          // why it goes not inToken
	object                pinobjects.PIN // inToken only
	decimal               bool           // inToken only: all digits of the PIN are
	incoming, outgoing    cipher
	rule                  pinverify.IBM3624 // IBM 3624 only
	counted               bool              // by Limits: once, even if the token has to be asked again
	verified              bool              // the comparison's outcome
	datum                 string            // the value that was made
}

// task is what a lane is for.
type task uint8

const (
	translates task = iota
	verifies
	generates
	verifiesCurrent
	makesNew
	opens // for a PIN record, see [Engine.Open]
)

// compares reports whether the lane's PIN is compared.
func (t task) compares() bool { return t == verifies || t == verifiesCurrent }

// makes reports whether a value to verify by is made of the lane's PIN.
func (t task) makes() bool { return t == generates || t == makesNew }

// method is a way to verify a PIN; exactly one is set.
type method struct {
	visa *hsm.VisaPVV
	ibm  *hsm.IBM3624
}

// workspace is what is clear during one operation. It lies in the session's locked
// memory, which is wiped when the batch ends.
type workspace struct {
	block   [16]byte // as it came or as it goes
	middle  [16]byte // format 4: between the two layers
	plain   [16]byte // clear block, or PIN field of format 4
	pin     [pinblock.PINSize]byte
	random  [pinblock.RandomSize]byte
	digits  [32]byte // of which a PIN is made
	ik      [16]byte // TDES DUKPT initial key
	id      [8]byte  // initial key ID, which is public
	compare compareWorkspace
}

// lanes appends the operation's lanes, whose account has been parsed.
func (op *Operation) lanes(all []lane) []lane {
	first := len(all)
	switch {
	case op.Translate != nil:
		r := op.Translate
		all = append(all, lane{task: translates, in: &r.Incoming, given: r.Block, out: &r.Outgoing, account: r.PAN, demands: r.Demands})
	case op.Verify != nil:
		r := op.Verify
		all = append(all, lane{task: verifies, in: &r.Incoming, given: r.Block, pvk: &r.Verification, method: method{r.VisaPVV, r.IBM3624}, account: r.PAN, demands: r.Demands})
	case op.Generate != nil:
		r := op.Generate
		all = append(all, lane{task: generates, out: &r.Outgoing, pvk: &r.Generation, method: method{r.VisaPVV, r.IBM3624}, account: r.PAN, length: int(r.Length), demands: r.Demands})
	case op.Change != nil:
		r := op.Change
		of := lane{pvk: &r.Verification, method: method{r.VisaPVV, r.IBM3624}, account: r.PAN, demands: r.Demands}
		current, renewed := of, of
		current.task, current.in, current.given, current.apart = verifiesCurrent, &r.Incoming, r.Current, 1
		renewed.task, renewed.in, renewed.given, renewed.apart = makesNew, &r.NewIncoming, r.New, -1
		all = append(all, current, renewed)
	}
	for i := first; i < len(all); i++ {
		all[i].op = op
		all[i].parseAccount()
	}
	return all
}

// pair finds the other lane of a change, when all lanes stand where they stay.
func (l *lane) pair(lanes []lane) {
	if l.apart == 0 {
		return
	}
	for i := range lanes {
		if &lanes[i] == l {
			l.partner = &lanes[i+l.apart]
		}
	}
}

// settle ends a lane whose partner has ended; both have the refusal that comes first in the
// order of checks.
func (l *lane) settle() {
	p := l.partner
	if p == nil || l.err == nil && p.err == nil {
		return
	}
	err := l.err
	if err == nil || p.err != nil && fault.Of(p.err).Reason < fault.Of(err).Reason {
		err = p.err
	}
	l.err, p.err = err, err
}

// parseAccount parses the PAN that the formats are bound to. Format 1 is bound to none.
func (l *lane) parseAccount() {
	unbound := l.task == translates && l.in.Format == hsm.Format1 && l.out.Format == hsm.Format1
	if l.account == "" && unbound {
		return
	}
	var err error
	if l.pan, err = pinblock.ParsePAN(l.account); err != nil {
		l.err = fault.New(fault.RequestInvalid, "primary_account_number: 1 to 19 digits")
	}
}

// check applies the rules, in their order.
func (l *lane) check() error {
	in, out, pvk := l.inKey.Header, l.outKey.Header, l.pvkKey.Header
	for _, err := range [...]error{
		checkKSN(in, l.in),
		checkKSN(out, l.out),
		checkPINKey(in, l.in, deciphers, l.task == opens),
		checkPINKey(out, l.out, enciphers, false),
		checkPVK(pvk, l.method, l.modes()),
		l.checkChange(),
		l.checkFormats(),
		l.checkPeers(),
		l.checkDemands(),
	} {
		if err != nil {
			return err
		}
	}
	return l.prepareRule()
}

// modes are the modes of use (X9.143) in which a verification key serves the task.
func (l *lane) modes() string {
	switch l.task {
	case generates:
		return "GCN"
	case verifiesCurrent, makesNew:
		return "CN" // both at once
	}
	return "VCN"
}

// checkChange refuses to make a value that tells more than a try, unless the key allows it,
// see [hsm.Header].
func (l *lane) checkChange() error {
	switch {
	case l.task != makesNew || l.pvkKey.Header.AllowChange:
		return nil
	case l.method.ibm != nil:
		return fault.New(fault.KeyUsageMismatch, "the key allows no change by offset: one for a PIN that somebody knows tells the account's other PINs")
	case l.in.Format == hsm.Format3:
		return fault.New(fault.KeyUsageMismatch, "the key allows no new PIN in ISO format 3, which binds it to its PAN loosely: let it come in format 0 or 4")
	}
	return nil
}

func (l *lane) checkFormats() error {
	if l.task == translates {
		return checkTranslation(l.in.Format, l.out.Format)
	}
	for _, k := range []*hsm.PINKey{l.in, l.out} {
		if k == nil {
			continue
		}
		if err := checkBound(k.Format); err != nil {
			return err
		}
	}
	return nil
}

// checkPeers refuses to send a PIN to where the key that it comes from, or that it is made
// for, has no peers.
func (l *lane) checkPeers() error {
	switch l.task {
	case translates:
		return checkPeers(l.inKey.Header, l.outKey.Header)
	case generates:
		return checkPeers(l.pvkKey.Header, l.outKey.Header)
	case makesNew:
		return checkPeers(l.inKey.Header, l.pvkKey.Header)
	}
	return nil
}

// custody is that of the lane's way; of a change both PINs have to stay in the token.
func (l *lane) custody() hsm.Custody {
	if p := l.partner; p != nil && p.way.custody() != l.way.custody() {
		return hsm.InModule
	}
	return l.way.custody()
}

func (l *lane) checkDemands() error {
	why := ""
	if l.lacks != nil {
		why = "the PIN does not stay in the token: " + l.lacks.Error()
	}
	return working.CheckDemands(l.demands, l.way.custody(), why)
}
