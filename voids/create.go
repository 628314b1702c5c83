package voids

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/policies"
	"keyd/store"
	"keyd/voids/code"
	"keyd/voids/fees"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// Create is a request for a void.
type Create struct {
	Request   string
	Merchant  string
	Terminal  string
	Reference string
	Amount    int64
	Currency  voidtoken.Currency
	Payment   Payment
	Slip      bool
}

// Created is the answer to [Create]. Where the rules refuse the void there is none: its outcome says
// why, and it has neither identifier nor code.
type Created struct {
	Void        *Void
	Code        string // text
	URL         string // empty where the policy has no host
	Slip        string // empty where none was asked for, or the policy makes none
	CodeExpires time.Time
}

// errRefusedByRules ends a transaction in which the rules refuse a void.
var errRefusedByRules = errors.New("the rules refuse the void")

// Create makes a void request and its code, for actor. Refusals are [fault.RequestInvalid] for what
// is not well formed or not said, [fault.RequestReplayed] for an identifier that was used for another
// void, and those of the policy's key pairs, of which both are there before a void is, and of modules.
func (s *Service) Create(ctx context.Context, actor string, r Create) (*Created, error) {
	if err := checkRequest(r.Request); err != nil {
		return nil, err
	}
	fields := voidtoken.Fields{Void: newID(), Merchant: r.Merchant, Terminal: r.Terminal, Reference: r.Reference, Amount: r.Amount, Currency: r.Currency}
	if err := fields.Validate(); err != nil {
		return nil, keyuse.Invalid(strings.TrimPrefix(err.Error(), voidtoken.ErrFields.Error()+": "))
	}
	settings, digest := s.Settings(ctx), requestOf(actor, ActionCreate, r.Request, 0)
	event := hex.EncodeToString(digest[:])
	switch before, err := s.Store.VoidOfRequest(ctx, digest[:]); {
	case err == nil:
		return s.createdBefore(settings, &before, event, fields)
	case !errors.Is(err, store.ErrNotFound):
		return nil, refused(ctx, err)
	}
	now := s.now()
	// What can be refused without a look at other voids needs no signature.
	if _, outcome, err := flow.New(event, fields, rulesOf(settings), r.Payment.facts(store.Standing{}), now.Unix()); err != nil || outcome.Result == flow.ResultRefused {
		return notCreated(outcome, err)
	}
	record := store.VoidRecord{
		ID: fields.Void, Merchant: fields.Merchant, Terminal: fields.Terminal, Reference: fields.Reference, Amount: fields.Amount, Currency: uint16(fields.Currency),
		Request: digest[:], Created: now,
	}
	if r.Payment.PaidAt > 0 {
		record.PaidAt = time.Unix(r.Payment.PaidAt, 0).UTC()
	}
	var err error
	if record.Fee, err = fee(settings, &r, fields); err != nil {
		return nil, err
	}
	if err := s.code(ctx, settings, &record, r.Slip, now); err != nil {
		return nil, err
	}
	var outcome flow.Outcome
	q := store.VoidQuestion{Request: digest[:], Merchant: fields.Merchant, Reference: fields.Reference, Since: today(settings, fields.Merchant, now)}
	kept, added, err := s.Store.AddVoid(ctx, q, func(standing store.Standing) (store.VoidRecord, error) {
		var v flow.Void
		var err error
		if v, outcome, err = flow.New(event, fields, settings.Rules, r.Payment.facts(standing), now.Unix()); err != nil {
			return store.VoidRecord{}, err
		}
		if outcome.Result != flow.ResultCreated {
			return store.VoidRecord{}, errRefusedByRules
		}
		made := record
		return made, fill(&made, &v, now)
	})
	switch {
	case errors.Is(err, errRefusedByRules):
		return notCreated(outcome, nil)
	case err != nil:
		return nil, refused(ctx, flowRefusal(err))
	case !added:
		return s.createdBefore(settings, &kept, event, fields)
	}
	return created(settings, &kept)
}

// newID makes the identifier of a void.
func newID() string {
	var id [voidtoken.VoidSize]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}

// notCreated is the answer where there is no void.
func notCreated(outcome flow.Outcome, err error) (*Created, error) {
	if err != nil {
		return nil, flowRefusal(err)
	}
	return &Created{Void: &Void{Outcome: outcome}}, nil
}

// createdBefore answers a request that came before.
func (s *Service) createdBefore(settings *policies.Voids, r *store.VoidRecord, event string, fields voidtoken.Fields) (*Created, error) {
	v, err := decode(r)
	if err != nil {
		return nil, err
	}
	fields.Void = r.ID
	if _, err := v.CreatedBy(event, fields); err != nil {
		return nil, flowRefusal(err)
	}
	return created(settings, r)
}

// created is a void as its creator gets it. Its code is the one that was made with it, whatever the
// void has become.
func created(settings *policies.Voids, r *store.VoidRecord) (*Created, error) {
	v, err := seen(r)
	if err != nil {
		return nil, err
	}
	answer := &Created{Void: v, CodeExpires: r.CodeExpires}
	p, err := code.FromBytes(r.Payload)
	if err != nil {
		return nil, damaged(r.ID)
	}
	answer.Code = p.Text()
	if settings != nil && settings.CodeHost != "" {
		if answer.URL, err = p.URL(settings.CodeHost); err != nil {
			return nil, fault.Wrap(fault.Internal, err) // the policy was checked
		}
	}
	if len(r.Slip) > 0 {
		slip, err := code.FromBytes(r.Slip)
		if err != nil {
			return nil, damaged(r.ID)
		}
		answer.Slip = slip.Text()
	}
	return answer, nil
}

// fee is what comes back with a void.
func fee(settings *policies.Voids, r *Create, fields voidtoken.Fields) (int64, error) {
	if settings.Fees == nil || r.Payment.Category == "" {
		return 0, nil
	}
	n, err := settings.Fees.Fee(fields.Merchant, fees.Category(r.Payment.Category), fields.Amount, fields.Currency)
	if err != nil {
		return 0, keyuse.Invalid("payment.fee_category: " + err.Error())
	}
	return n, nil
}

// code makes the codes of a void. That on paper has the void's own identifier, which is no secret: it
// names the void and gives nobody a right to it.
func (s *Service) code(ctx context.Context, settings *policies.Voids, r *store.VoidRecord, slip bool, now time.Time) error {
	audience, err := code.AudienceOf(r.Merchant)
	if err != nil {
		return keyuse.Invalid("merchant: " + err.Error())
	}
	pair, err := s.pair(ctx, settings.CodeKey, "codes")
	if err != nil {
		return err
	}
	public, err := publicOf(&pair)
	if err != nil {
		return err
	}
	if _, _, err := s.tokenPair(ctx, settings); err != nil { // rather now than at the counter, when a PIN was typed
		return err
	}
	c := code.Code{Identifier: code.NewIdentifier(), Expiry: now.Add(settings.CodeLife).Truncate(time.Second), Audience: audience}
	p, err := code.Sign(public, func([]byte) ([]byte, error) {
		return s.Modules.SignCode(ctx, hsm.SignCode{Identifier: c.Identifier, ExpiresAt: c.Expiry.Unix(), Audience: c.Audience, Key: hsm.Key{Name: pair.Name, Sealed: pair.Sealed}})
	}, c)
	if err != nil {
		return signing(ctx, err)
	}
	s.Keys.Used(pair)
	r.Code, r.Payload, r.CodeExpires = c.Identifier[:], p.Bytes(), c.Expiry
	if !slip || settings.SlipLife == 0 {
		return nil
	}
	id, err := hex.DecodeString(r.ID)
	if err != nil || len(id) != voidtoken.VoidSize {
		return fault.Wrap(fault.Internal, errors.New("a void without an identifier"))
	}
	paper, err := code.NewSlip(code.Code{Identifier: code.Identifier(id), Expiry: now.Add(settings.SlipLife), Audience: audience})
	if err != nil {
		return fault.Wrap(fault.Internal, err)
	}
	r.Slip = paper.Bytes()
	return nil
}

// signing is what went wrong with a signature of a module's.
func signing(ctx context.Context, err error) error {
	var f *fault.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &f):
		return f
	case errors.Is(err, code.ErrKey):
		return fault.New(fault.KeyUsageMismatch, "codes are signed with a key pair of usage S0 on P-256")
	}
	return fault.Wrap(fault.Internal, err)
}

// publicOf returns the public half of a key pair.
func publicOf(k *keys.Key) (*ecdsa.PublicKey, error) {
	if k.Header.Usage == "S0" {
		if parsed, err := x509.ParsePKIXPublicKey(k.Header.Public); err == nil {
			if public, ok := parsed.(*ecdsa.PublicKey); ok {
				return public, nil
			}
		}
	}
	return nil, fault.New(fault.KeyUsageMismatch, "the key "+k.Name+", which the policy names, is no ECDSA key pair of usage S0")
}

// flowRefusal turns an error of package flow into a refusal.
func flowRefusal(err error) error {
	switch {
	case errors.Is(err, flow.ErrFacts):
		return keyuse.Invalid("payment says the merchant, amount, currency, time of the payment (not in the future), and whether it was settled and voided")
	case errors.Is(err, flow.ErrEvent):
		return keyuse.Invalid("the request, its fields or the payment are outside their limits")
	case errors.Is(err, flow.ErrRequest):
		return fault.New(fault.RequestReplayed, "the identifier was used for another request about the void: take a new one")
	case errors.Is(err, flow.ErrVoid):
		return fault.Wrap(fault.StoreUnavailable, store.ErrCorrupt)
	}
	return err
}
