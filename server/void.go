package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/pinsvc/records"
	"keyd/policies"
	"keyd/store"
	"keyd/voids"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// maxWatchers bounds the streams of WatchVoid of one front.
const maxWatchers = 10_000

// voidBinding binds keyd.v1.VoidService to package voids.
type voidBinding struct {
	keydv1.UnimplementedVoidServiceServer
	access   gate
	steps    []grpc.UnaryServerInterceptor
	draining <-chan struct{}
	watching chan struct{}
	voids    *voids.Service
}

// tries is the PIN records, as voids count their tries.
type tries struct{ records *records.Service }

// Turn implements [voids.Records].
func (t tries) Turn(ctx context.Context, subjects ...*pinrecord.Subject) (end func(), err error) {
	return t.records.Turn(ctx, subjects...)
}

// Attempt implements [voids.Records].
func (t tries) Attempt(ctx context.Context, actor string, subject *pinrecord.Subject) (voids.Attempt, error) {
	a, err := t.records.Attempt(ctx, actor, subject)
	if err != nil {
		return nil, err
	}
	return try{a}, nil
}

// Passkey implements [voids.Records].
func (t tries) Passkey(ctx context.Context, subject []byte, f *voidtoken.Fields, origin string) (voids.Passkey, error) {
	p, err := t.records.Passkey(ctx, subject, f, origin)
	if err != nil {
		return nil, err
	}
	return ofPhone{p}, nil
}

type ofPhone struct{ *records.Passkey }

// Sealed implements [voids.Passkey].
func (p ofPhone) Sealed() []byte { return p.Record }

// Owner implements [voids.Passkey].
func (p ofPhone) Owner() string { return p.Name }

type try struct{ *records.Attempt }

// Sealed implements [voids.Attempt].
func (t try) Sealed() hsm.RecordPIN { return hsm.RecordPIN{Record: t.Record, DatumKey: t.DatumKey} }

// voidSettings is what the policy of a request says of voids.
func voidSettings(ctx context.Context) *policies.Voids {
	if c := callOf(ctx); c != nil {
		return c.policy.Voids()
	}
	return nil
}

// about asks the policy about a void, by the merchant and the terminal that it has. A caller whom it
// denies does not learn whether there is such a void.
func (b voidBinding) about(ctx context.Context, action, id string) error {
	t, err := b.whose(ctx, id)
	if err != nil {
		return err
	}
	return b.access.about(ctx, action, nil, t)
}

func (b voidBinding) whose(ctx context.Context, id string) (*policies.Terminal, error) {
	merchant, terminal, err := b.voids.Named(ctx, id)
	return &policies.Terminal{ID: terminal, Owner: merchant}, err
}

// CreateVoid implements keyd.v1.VoidService.
func (b voidBinding) CreateVoid(ctx context.Context, r *keydv1.CreateVoidRequest) (*keydv1.CreateVoidResponse, error) {
	if err := b.access.about(ctx, voids.ActionCreate, nil, &policies.Terminal{ID: r.GetTerminal(), Owner: r.GetMerchant()}); err != nil {
		return nil, err
	}
	payment, err := paymentOf(r.GetPayment())
	if err != nil {
		return nil, err
	}
	currency, err := currencyOf("currency", r.GetCurrency())
	if err != nil {
		return nil, err
	}
	c, err := b.voids.Create(ctx, callOf(ctx).identity, voids.Create{
		Request: r.GetRequestId(), Merchant: r.GetMerchant(), Terminal: r.GetTerminal(), Reference: r.GetReference(), Amount: r.GetAmount(), Currency: currency, Payment: payment, Slip: r.GetSlip(),
	})
	if err != nil {
		return nil, err
	}
	b.access.Entry(ctx).Detail = fmt.Sprintf("void for merchant %s: %s %s", r.GetMerchant(), c.Void.Outcome.Result, c.Void.Outcome.Refusal)
	answer := &keydv1.CreateVoidResponse{Void: voidMessage(c.Void), Code: c.Code, CodeUrl: c.URL, SlipCode: c.Slip, CodeExpiresAt: stamp(c.CodeExpires)}
	return answer, nil
}

// ScanVoid implements keyd.v1.VoidService.
func (b voidBinding) ScanVoid(ctx context.Context, r *keydv1.ScanVoidRequest) (*keydv1.Void, error) {
	if err := b.access.about(ctx, voids.ActionScan, nil, &policies.Terminal{Owner: r.GetMerchant()}); err != nil {
		return nil, err
	}
	return told(b.voids.Scan(ctx, callOf(ctx).identity, voids.Scan{Request: r.GetRequestId(), Code: r.GetCode(), Merchant: r.GetMerchant()}))
}

// AuthorizeVoid implements keyd.v1.VoidService.
func (b voidBinding) AuthorizeVoid(ctx context.Context, r *keydv1.AuthorizeVoidRequest) (*keydv1.AuthorizeVoidResponse, error) {
	t, err := b.whose(ctx, r.GetVoidId())
	if err != nil {
		return nil, err
	}
	callOf(ctx).whose = t // package voids asks the policy, since the request names keys
	payment, err := paymentOf(r.GetPayment())
	if err != nil {
		return nil, err
	}
	request := voids.Authorize{Request: r.GetRequestId(), Void: r.GetVoidId(), Payment: payment}
	for i, p := range r.GetPins() {
		pin, err := voidPIN(p)
		if err != nil {
			return nil, keyuse.Invalid(fmt.Sprintf("pins[%d] %v", i, err))
		}
		request.PINs = append(request.PINs, pin)
	}
	return authorizedMessage(b.voids.Authorize(ctx, callOf(ctx).identity, request))
}

// ApproveVoid implements keyd.v1.VoidService.
func (b voidBinding) ApproveVoid(ctx context.Context, r *keydv1.ApproveVoidRequest) (*keydv1.AuthorizeVoidResponse, error) {
	if err := b.about(ctx, voids.ActionApprove, r.GetVoidId()); err != nil {
		return nil, err
	}
	payment, err := paymentOf(r.GetPayment())
	if err != nil {
		return nil, err
	}
	a := r.GetApproval()
	return authorizedMessage(b.voids.Approve(ctx, callOf(ctx).identity, voids.Approve{
		Request: r.GetRequestId(), Void: r.GetVoidId(), Payment: payment,
		Approval: pinrecord.Signed{Document: a.GetDocument(), Signature: a.GetSignature(), Certificates: a.GetCertificates()},
	}))
}

// ConfirmVoid implements keyd.v1.VoidService.
func (b voidBinding) ConfirmVoid(ctx context.Context, r *keydv1.ConfirmVoidRequest) (*keydv1.Void, error) {
	if err := b.about(ctx, voids.ActionConfirm, r.GetVoidId()); err != nil {
		return nil, err
	}
	return told(b.voids.Confirm(ctx, callOf(ctx).identity, r.GetRequestId(), r.GetVoidId(), r.GetReversed()))
}

// CancelVoid implements keyd.v1.VoidService.
func (b voidBinding) CancelVoid(ctx context.Context, r *keydv1.CancelVoidRequest) (*keydv1.Void, error) {
	if err := b.about(ctx, voids.ActionCancel, r.GetVoidId()); err != nil {
		return nil, err
	}
	return told(b.voids.Cancel(ctx, callOf(ctx).identity, r.GetRequestId(), r.GetVoidId()))
}

// GetVoid implements keyd.v1.VoidService.
func (b voidBinding) GetVoid(ctx context.Context, r *keydv1.GetVoidRequest) (*keydv1.Void, error) {
	if err := b.about(ctx, voids.ActionGet, r.GetVoidId()); err != nil {
		return nil, err
	}
	return told(b.voids.Get(ctx, r.GetVoidId()))
}

// GetVoidToken implements keyd.v1.VoidService.
func (b voidBinding) GetVoidToken(ctx context.Context, r *keydv1.GetVoidTokenRequest) (*keydv1.AuthorizeVoidResponse, error) {
	if err := b.about(ctx, voids.ActionToken, r.GetVoidId()); err != nil {
		return nil, err
	}
	return authorizedMessage(b.voids.Token(ctx, r.GetVoidId()))
}

// ListVoids implements keyd.v1.VoidService.
func (b voidBinding) ListVoids(ctx context.Context, r *keydv1.ListVoidsRequest) (*keydv1.ListVoidsResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	after, err := voidPlace(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	state, ok := voidStates[r.GetState()]
	if !ok {
		return nil, fault.New(fault.RequestInvalid, "state is none of a void")
	}
	if err := b.access.about(ctx, voids.ActionList, nil, &policies.Terminal{Owner: r.GetMerchant()}); err != nil {
		return nil, err
	}
	list, next, err := b.voids.List(ctx, r.GetMerchant(), state, after, size)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListVoidsResponse)
	for _, v := range list {
		answer.Voids = append(answer.Voids, voidMessage(v))
	}
	if len(list) == size {
		answer.NextPageToken = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", next.Created.UnixMicro(), next.ID))
	}
	return answer, nil
}

func voidPlace(token string) (at voids.Place, err error) {
	if token == "" {
		return at, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	micros, id, found := strings.Cut(string(text), " ")
	created, number := strconv.ParseInt(micros, 10, 64)
	if err != nil || number != nil || !found || created <= 0 || created > maxMicros || len(id) != store.VoidID {
		return at, fault.New(fault.RequestInvalid, badToken)
	}
	return voids.Place{Created: time.UnixMicro(created).UTC(), ID: id}, nil
}

// maxMicros is the end of the year 9999, in microseconds from 1970.
const maxMicros = 253402300799_999999

// WatchVoid implements keyd.v1.VoidService. Each void that is sent is a request like others: the
// policy in force is asked, and the audit log has it.
func (b voidBinding) WatchVoid(r *keydv1.WatchVoidRequest, stream grpc.ServerStreamingServer[keydv1.Void]) error {
	select {
	case b.watching <- struct{}{}:
		defer func() { <-b.watching }()
	default:
		return fault.New(fault.RateLimited, "too many voids are watched on this front")
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-b.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	look := chained(b.steps, &grpc.UnaryServerInfo{Server: b, FullMethod: keydv1.VoidService_WatchVoid_FullMethodName}, func(ctx context.Context, _ any) (any, error) {
		if err := b.about(ctx, voids.ActionWatch, r.GetVoidId()); err != nil {
			return nil, err
		}
		return told(b.voids.Get(ctx, r.GetVoidId()))
	})
	watcher := b.voids.Watch(r.GetVoidId())
	defer watcher.Close()
	for {
		answer, err := look(ctx, r)
		if err != nil {
			return b.stopped(translated{err})
		}
		v := answer.(*keydv1.Void)
		if err := stream.Send(v); err != nil {
			return err
		}
		if final(v.State) {
			return nil
		}
		if err := watcher.Next(ctx, v.Version); err != nil {
			return b.stopped(err)
		}
	}
}

// stopped says that the service stops, where that is why a stream has ended.
func (b voidBinding) stopped(err error) error {
	select {
	case <-b.draining:
		return fault.New(fault.ModuleUnavailable, "the service stops: watch the void again")
	default:
		return err
	}
}

func final(state keydv1.Void_State) bool { return voidStates[state].Final() }

// voidStates are the states of the contract.
var voidStates = map[keydv1.Void_State]flow.State{
	keydv1.Void_STATE_UNSPECIFIED: "",
	keydv1.Void_CREATED:           flow.Created,
	keydv1.Void_SCANNED:           flow.Scanned,
	keydv1.Void_AUTHORIZED:        flow.Authorized,
	keydv1.Void_CONFIRMED:         flow.Confirmed,
	keydv1.Void_DECLINED:          flow.Declined,
	keydv1.Void_EXPIRED:           flow.Expired,
	keydv1.Void_CANCELLED:         flow.Cancelled,
}

func told(v *voids.Void, err error) (*keydv1.Void, error) {
	if err != nil {
		return nil, err
	}
	return voidMessage(v), nil
}

func authorizedMessage(a *voids.Authorized, err error) (*keydv1.AuthorizeVoidResponse, error) {
	if err != nil {
		return nil, err
	}
	return &keydv1.AuthorizeVoidResponse{Void: voidMessage(a.Void), Verified: a.Verified, Token: a.Token}, nil
}

// voidMessage is a void, or only why there is none.
func voidMessage(v *voids.Void) *keydv1.Void {
	o := &v.Outcome
	m := &keydv1.Void{Result: string(o.Result), Refusal: string(o.Refusal)}
	for _, n := range o.Next {
		m.Next = append(m.Next, string(n))
	}
	if v.State == "" {
		return m
	}
	f := &v.Fields
	m.VoidId, m.Merchant, m.Terminal, m.Reference, m.Amount, m.Currency = f.Void, f.Merchant, f.Terminal, f.Reference, f.Amount, int32(f.Currency)
	m.State, m.Version, m.TriesLeft, m.Fee = keydv1.Void_State(keydv1.Void_State_value[string(v.State)]), v.Version, uint32(v.Tries), v.Fee
	m.CreatedAt, m.ChangedAt, m.ExpiresAt = timestamppb.New(v.Created), timestamppb.New(v.Changed), timestamppb.New(time.Unix(v.ExpiresAt, 0))
	if v.ConfirmBy != 0 {
		m.ConfirmBy = timestamppb.New(time.Unix(v.ConfirmBy, 0))
	}
	if digest, err := f.Digest(); err == nil {
		m.Digest = digest[:]
	}
	for _, set := range v.Methods {
		one := new(keydv1.VoidMethods)
		for _, method := range set {
			one.Methods = append(one.Methods, methodOf(method))
		}
		m.Methods = append(m.Methods, one)
	}
	for _, a := range v.Authorizations {
		m.Authorizations = append(m.Authorizations, &keydv1.VoidAuthorization{Method: methodOf(a.Method), Subject: a.Subject})
	}
	return m
}

func methodOf(m voidtoken.Method) keydv1.VoidMethod {
	return keydv1.VoidMethod(keydv1.VoidMethod_value[string(m)])
}

// paymentOf converts what is known of a payment; what is not said stays so, which the domain refuses.
func paymentOf(p *keydv1.PaymentFacts) (voids.Payment, error) {
	if p == nil {
		return voids.Payment{}, keyuse.Invalid("payment is not set: say what the switch knows of it")
	}
	currency, err := currencyOf("payment.currency", p.GetCurrency())
	if err != nil {
		return voids.Payment{}, err
	}
	out := voids.Payment{Merchant: p.GetMerchant(), Amount: p.GetAmount(), Currency: currency, Settled: p.Settled, Voided: p.Voided, Category: p.GetFeeCategory()}
	if at := p.GetPaidAt(); at != nil {
		if at.CheckValid() != nil {
			return out, keyuse.Invalid("payment.paid_at is no time")
		}
		out.PaidAt = at.GetSeconds()
	}
	return out, nil
}

func currencyOf(field string, n int32) (voidtoken.Currency, error) {
	c := voidtoken.Currency(n & 0xffff)
	if int32(c) != n || !c.Valid() {
		return 0, keyuse.Invalid(field + " is the number of a currency in use (ISO 4217), such as 156")
	}
	return c, nil
}

// voidPIN converts a PIN. Its error goes on after the name of the field.
func voidPIN(p *keydv1.VoidPinEntry) (voids.PIN, error) {
	in, mac := p.GetIncoming(), p.GetMacKey()
	out := voids.PIN{
		KeyID: in.GetKeyId(), DUKPT: dukptOf(in.GetDukpt()), Format: int32(in.GetFormat()), Block: p.GetEncryptedPinBlock(),
		MAC: voids.MAC{
			KeyID: mac.GetKeyId(), DUKPT: dukptOf(mac.GetDukpt()), Algorithm: int32(mac.GetAlgorithm()), Direction: int32(mac.GetDirection()), Padding: mac.GetPaddingMethod(), MAC: p.GetMac(),
		},
	}
	switch whose := p.GetWhose().(type) {
	case *keydv1.VoidPinEntry_Supervisor:
		out.Subject = subjectOf(whose.Supervisor)
	case *keydv1.VoidPinEntry_Cardholder:
		h := whose.Cardholder
		out.Cardholder = &voids.Cardholder{KeyID: h.GetVerificationKeyId(), PAN: h.GetPrimaryAccountNumber()}
		m := pinMethod(h.GetExpected())
		if v := m.VisaPVV; v != nil {
			if v.KeyIndex < 0 || v.KeyIndex > 9 {
				return out, fmt.Errorf("has a cardholder.expected.visa_pvv.key_index (PVKI) that is not 0 to 9")
			}
			out.Cardholder.VisaPVV = &hsm.VisaPVV{KeyIndex: uint8(v.KeyIndex), PVV: v.PVV}
		}
		if i := m.IBM3624; i != nil {
			out.Cardholder.IBM3624 = &hsm.IBM3624{Offset: i.Offset}
		}
	}
	return out, nil
}
