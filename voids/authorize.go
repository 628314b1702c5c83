package voids

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/pinrecord"
	"keyd/policies"
	"keyd/store"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// maxPINs is how many PINs authorise a void: a supervisor's and a cardholder's.
const maxPINs = 2

// Authorize is a request to authorise a void by PINs.
type Authorize struct {
	Request string
	Void    string
	PINs    []PIN
	Payment Payment
}

// Authorized is the answer to [Authorize], and to an approval.
type Authorized struct {
	Void     *Void
	Verified bool
	Token    string // empty unless this request has authorised the void
}

// Authorize verifies PINs and authorises a void, for actor. All PINs of a set that suffices come in
// one request. A wrong PIN is an answer, whose outcome says how many tries the void has left and what
// the terminal may do. Refusals are those of keys, of tries ([fault.RateLimited]) and of modules;
// after them the void is as it was.
func (s *Service) Authorize(ctx context.Context, actor string, r Authorize) (*Authorized, error) {
	entry := s.Used.Entry(ctx)
	r.record(entry)
	serials, err := r.check()
	if err != nil {
		return nil, err
	}
	var named []keyuse.Named
	for i := range r.PINs {
		named = append(named, r.PINs[i].named(fmt.Sprintf("pins[%d]", i))...)
	}
	found, demands, err := s.Used.Authorized(ctx, ActionAuthorize, entry, named...)
	if err != nil {
		return nil, err
	}
	a := &authorization{
		Service: s, actor: actor, void: r.Void, settings: s.Settings(ctx), payment: &r.Payment, action: ActionAuthorize, request: r.Request,
	}
	for i := range r.PINs {
		a.by = append(a.by, voidtoken.Authorization{Method: r.PINs[i].method(), Subject: r.PINs[i].who()})
		if r.PINs[i].Subject != nil {
			a.subjects = append(a.subjects, r.PINs[i].Subject)
		}
	}
	return a.run(ctx, func(ctx context.Context, fields voidtoken.Fields, token hsm.Key, expires int64) (hsm.AuthorizedVoid, error) {
		request := hsm.AuthorizeVoid{Fields: fields, ExpiresAt: expires, TokenKey: token, Demands: demands}
		return s.ask(ctx, actor, &r, request, found, serials)
	})
}

func (r *Authorize) record(entry *audit.Entry) {
	for i := range r.PINs {
		p := &r.PINs[i]
		keyuse.Record(entry, p.KeyID, p.DUKPT)
		keyuse.Record(entry, p.MAC.KeyID, p.MAC.DUKPT)
		if p.Cardholder != nil {
			keyuse.Record(entry, p.Cardholder.KeyID, nil)
			entry.PAN = audit.MaskPAN(p.Cardholder.PAN)
		}
	}
}

// check is about the shape alone.
func (r *Authorize) check() (serials []dukpt.KSN, err error) {
	if err := checkRequest(r.Request); err != nil {
		return nil, err
	}
	if len(r.PINs) == 0 || len(r.PINs) > maxPINs {
		return nil, keyuse.Invalid("pins are a supervisor's, a cardholder's, or one of each")
	}
	for i := range r.PINs {
		serial, err := r.PINs[i].check(fmt.Sprintf("pins[%d]", i))
		if err != nil {
			return nil, err
		}
		serials = append(serials, serial)
	}
	if len(r.PINs) == maxPINs && (r.PINs[0].method() == r.PINs[1].method() || r.PINs[0].who() == r.PINs[1].who()) {
		return nil, keyuse.Invalid("two PINs are a supervisor's and a cardholder's, who are two people")
	}
	return serials, nil
}

// ask has a module verify the PINs and sign the token, once the tries are counted. Key serial numbers
// are recorded after it has answered; an identical request is carried out again, at the cost of
// another try, since its answer is kept nowhere but in the void.
func (s *Service) ask(ctx context.Context, actor string, r *Authorize, request hsm.AuthorizeVoid, found []keys.Key, serials []dukpt.KSN) (hsm.AuthorizedVoid, error) {
	for i := range r.PINs {
		if p := r.PINs[i].Subject; p != nil && !p.Serves(&request.Fields) { // one answer whether there is such a subject or not; a module would refuse it after a try was counted
			return hsm.AuthorizedVoid{}, keyuse.Invalid(fmt.Sprintf("pins[%d] is of another merchant's, or another terminal's, than the void", i))
		}
	}
	var uses keyuse.Serials
	identity := keyuse.AppendField(keyuse.NewIdentity(ActionAuthorize), r.Void)
	for i := range r.PINs {
		p := &r.PINs[i]
		v, n := p.with(found, serials[i])
		if i == 0 || serials[i] != serials[0] || r.PINs[i].KeyID != r.PINs[0].KeyID {
			uses.Add(found[0], serials[i], ksn.PINIncoming)
		}
		identity = p.identify(identity, found, &v)
		request.PINs, found = append(request.PINs, v), found[n:]
	}
	return keyuse.Repeated(ctx, s.Used, uses, func() keyuse.Identity { return identity }, func(refused bool) (hsm.AuthorizedVoid, bool, error) {
		if refused { // and no try is counted
			return hsm.AuthorizedVoid{}, false, fault.New(fault.KSNReplayed, "")
		}
		answer, err := s.attempt(ctx, actor, r, request)
		return answer, true, err
	})
}

// attempt counts the tries of the PIN records, asks a module once, and settles.
func (s *Service) attempt(ctx context.Context, actor string, r *Authorize, request hsm.AuthorizeVoid) (hsm.AuthorizedVoid, error) {
	var attempts []Attempt
	settle := func(verified bool, err error) (bool, error) {
		all, worst := verified, err
		for _, a := range attempts {
			told, e := a.Settle(ctx, verified, err)
			all = all && told
			if e == nil && !told { // a wrong PIN, or what is answered like one
				worst = nil
				continue
			}
			if worst == nil && e != nil && err == nil {
				worst = e
			}
		}
		return all && worst == nil, worst
	}
	for i := range r.PINs {
		subject := r.PINs[i].Subject
		if subject == nil {
			continue
		}
		a, err := s.Records.Attempt(ctx, actor, subject)
		if err != nil {
			_, _ = settle(false, fault.New(fault.RequestInvalid, "")) // nothing was compared
			return hsm.AuthorizedVoid{}, err
		}
		attempts = append(attempts, a)
		sealed := a.Sealed()
		request.PINs[i].Record = &sealed
	}
	answer, err := s.Modules.AuthorizeVoid(ctx, request)
	verified, err := settle(answer.Verified && err == nil, err)
	if err != nil || !verified {
		return hsm.AuthorizedVoid{}, err
	}
	return answer, nil
}

// authorization is how a void is authorised, by whatever.
type authorization struct {
	*Service

	actor    string
	void     string
	settings *policies.Voids
	payment  *Payment
	by       []voidtoken.Authorization
	subjects []*pinrecord.Subject // whose PINs are tried
	action   string
	request  string
	merchant string // of the void
}

func (a *authorization) event(i int) string {
	return eventOf(a.actor, a.action, a.request, byte(i))
}

// errGoOn ends a transaction in which the void was only looked at.
var errGoOn = errors.New("the approval would count")

// run looks whether the approval would count, has ask verify and sign, and keeps what comes of it. What
// is kept is decided anew then.
//
// On one front that goes for one approval of a void at a time: of wrong ones that come at once, no more
// are compared than the void has tries.
func (a *authorization) run(ctx context.Context, ask func(ctx context.Context, fields voidtoken.Fields, token hsm.Key, expires int64) (hsm.AuthorizedVoid, error)) (*Authorized, error) {
	end, err := a.turn(ctx) // who waits finds the void as it is then
	if err != nil {
		return nil, err
	}
	defer end()
	// Whoever names another merchant gets what the rules say in the transaction below.
	before, standing, err := a.Store.VoidStanding(ctx, a.void, today(a.settings, a.payment.Merchant, a.now()))
	if err != nil {
		return nil, refused(ctx, err)
	}
	a.merchant = before.Merchant
	answer, err := a.again(&before)
	if answer != nil || err != nil {
		return a.noted(ctx, answer, err)
	}
	decoded, err := decode(&before)
	if err != nil {
		return nil, err
	}
	if !a.wouldCount(decoded, standing) {
		v, err := a.transact(ctx, a.void, a.merchant, a.settings, func(v flow.Void, standing store.Standing) (flow.Void, flow.Outcome, error) {
			next, outcome, err := a.approve(v, standing)
			if err == nil && outcome.Result == flow.ResultAuthorized {
				err = errGoOn
			}
			return next, outcome, err
		}, nil)
		if !errors.Is(err, errGoOn) { // the rules say no, or the time is over, or it is nothing to do with this approval
			return a.noted(ctx, &Authorized{Void: v}, err)
		}
	}
	pair, known, err := a.tokenPair(ctx, a.settings)
	if err != nil {
		return nil, err
	}
	expires := a.now().Add(a.settings.TokenLife).Unix()
	asked, err := ask(ctx, decoded.Fields, hsm.Key{Name: pair.Name, Sealed: pair.Sealed}, expires)
	if err != nil {
		return nil, err
	}
	keep, cancel := afterwards(ctx)
	defer cancel()
	if !asked.Verified {
		return a.failed(keep)
	}
	a.Keys.Used(pair)
	if err := a.fits(asked.Token, known, decoded.Fields, expires); err != nil {
		return nil, err
	}
	return a.keep(keep, asked.Token)
}

// turn waits for that of the void, and then for those of the PINs: whoever tries what is over already
// keeps nobody from a PIN.
func (a *authorization) turn(ctx context.Context) (end func(), err error) {
	endVoid, err := a.turns.Take(ctx, a.void)
	if err != nil {
		return nil, err
	}
	endPINs, err := a.Records.Turn(ctx, a.subjects...)
	if err != nil {
		endVoid()
		return nil, err
	}
	return func() { endPINs(); endVoid() }, nil
}

// wouldCount reports whether the approval would count, as far as a look can tell. What it would be
// refused for is decided, and kept, in a transaction.
func (a *authorization) wouldCount(v flow.Void, standing store.Standing) bool {
	_, outcome, err := a.approve(v, standing)
	return err == nil && outcome.Result == flow.ResultAuthorized
}

// again answers a request that has changed the void before, with the same; nil for one that has not.
func (a *authorization) again(r *store.VoidRecord) (*Authorized, error) {
	v, err := decode(r)
	if err != nil {
		return nil, err
	}
	for i := len(a.by) - 1; i >= 0; i-- {
		at := slices.IndexFunc(v.Applied, func(e flow.Applied) bool { return e.Request == a.event(i) })
		if at < 0 {
			continue
		}
		e := &v.Applied[at]
		if e.Method != a.by[i].Method || e.Kind == flow.EventApprove && e.Subject != a.by[i].Subject {
			return nil, flowRefusal(flow.ErrRequest)
		}
		answer := &Authorized{Void: view(r, v, &e.Outcome)}
		if e.Kind == flow.EventApprove && e.Outcome.Result == flow.ResultAuthorized {
			answer.Verified, answer.Token = true, r.Token
		}
		return answer, nil
	}
	return nil, nil
}

// approve applies the approvals, one after the other. They are one: a void never stands with a part
// of them.
func (a *authorization) approve(v flow.Void, standing store.Standing) (next flow.Void, outcome flow.Outcome, err error) {
	next = v
	now := a.now().Unix()
	for i, by := range a.by {
		if i > 0 && outcome.Result == flow.ResultAuthorized {
			return v, flow.Outcome{}, keyuse.Invalid("one PIN suffices for this void: leave the other out")
		}
		next, outcome, err = next.Apply(flow.Event{
			Kind: flow.EventApprove, Request: a.event(i), At: now, Method: by.Method, Subject: by.Subject, Facts: a.payment.facts(standing),
		}, rulesOf(a.settings))
		if err != nil {
			return v, flow.Outcome{}, err
		}
		switch {
		case outcome.Result == flow.ResultPartly || outcome.Result == flow.ResultAuthorized:
		case i > 0:
			return v, outcome, nil // nothing of it counts
		default:
			return next, outcome, nil
		}
	}
	if outcome.Result == flow.ResultPartly {
		return v, flow.Outcome{}, keyuse.Invalid("this void needs a supervisor's PIN and a cardholder's, in one request")
	}
	return next, outcome, nil
}

// failed keeps that the approval was not verified: it costs the void a try.
func (a *authorization) failed(ctx context.Context) (*Authorized, error) {
	v, err := a.apply(ctx, a.void, a.merchant, a.settings, func(*flow.Void, store.Standing) flow.Event {
		return flow.Event{Kind: flow.EventFail, Request: a.event(0), At: a.now().Unix(), Method: a.by[0].Method, Failure: flow.NotVerified}
	}, nil)
	return a.noted(ctx, &Authorized{Void: v}, err)
}

// keep keeps the void as authorised, with its token. The token leaves only if it is this one that
// is kept.
func (a *authorization) keep(ctx context.Context, token string) (*Authorized, error) {
	kept := ""
	v, err := a.transact(ctx, a.void, a.merchant, a.settings, a.approve, func(r *store.VoidRecord, outcome *flow.Outcome) {
		if kept = ""; outcome.Result == flow.ResultAuthorized {
			r.Token, kept = token, token
			if r.Burnt.IsZero() { // on a phone the approval burns the code
				r.Burnt = r.Changed
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if v.Outcome.Result == flow.ResultAuthorized && kept == "" { // the same request, elsewhere at the same moment
		r, err := a.Store.Void(ctx, a.void)
		if err != nil {
			return nil, refused(ctx, err)
		}
		answer, err := a.again(&r)
		return a.noted(ctx, answer, err)
	}
	return a.noted(ctx, &Authorized{Void: v, Verified: kept != "", Token: kept}, nil) // somebody else may have been quicker
}

// noted is an answer that the audit log is told of.
func (a *authorization) noted(ctx context.Context, answer *Authorized, err error) (*Authorized, error) {
	if err != nil {
		return nil, err
	}
	a.note(ctx, answer.Void)
	return answer, nil
}

// fits refuses what a module signed unless it is the token of this void.
func (a *authorization) fits(token string, known voidtoken.Keys, fields voidtoken.Fields, expires int64) error {
	var set []voidtoken.Method
	for _, by := range a.by {
		set = append(set, by.Method)
	}
	got, err := voidtoken.Verify(token, known, voidtoken.Expected{Fields: fields, Methods: [][]voidtoken.Method{set}}, a.now().Add(-clockStep))
	if err == nil && (got.ExpiresAt != expires || !sameBy(got.Authorizations, a.by)) {
		err = errors.New("it says who or until when otherwise than was asked for")
	}
	if err != nil {
		return fault.Wrap(fault.Internal, fmt.Errorf("void %s: a module's token: %w", fields.Void, err))
	}
	return nil
}

// clockStep is how much a token may have lived before it is looked at: a life of seconds may be over
// by then, which the switch finds out.
const clockStep = 10 * time.Second

// sameBy reports whether both have the same authorisations, in any order.
func sameBy(a, b []voidtoken.Authorization) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x voidtoken.Authorization) bool { return !slices.Contains(b, x) })
}
