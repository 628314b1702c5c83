package voids

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"keyd/fault"
	"keyd/policies"
	"keyd/store"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// Void is a void request as it is, with the outcome of a request or, where none has changed it, of
// the last event.
type Void struct {
	flow.Void
	Fee              int64 // minor units
	Created, Changed time.Time
	Outcome          flow.Outcome
}

// content is a void of package flow as it is kept: JSON, whose names are those of flow's fields. They
// are in databases. There is one encoding for each void.
func content(v *flow.Void) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("encode void: %w", err))
	}
	return b, nil
}

// decode reads a void, and refuses one whose content is not what stands beside it.
func decode(r *store.VoidRecord) (flow.Void, error) {
	var v flow.Void
	if err := json.Unmarshal(r.Content, &v); err != nil {
		return flow.Void{}, damaged(r.ID)
	}
	again, err := json.Marshal(&v)
	f := &v.Fields
	if err != nil || !bytes.Equal(again, r.Content) || f.Validate() != nil || len(v.Applied) == 0 ||
		f.Void != r.ID || f.Merchant != r.Merchant || f.Terminal != r.Terminal || f.Reference != r.Reference || f.Amount != r.Amount || uint16(f.Currency) != r.Currency ||
		string(v.State) != string(r.State) || v.Version != r.Version {
		return flow.Void{}, damaged(r.ID)
	}
	return v, nil
}

func damaged(id string) error {
	return fault.Wrap(fault.StoreUnavailable, fmt.Errorf("void %s: %w", id, store.ErrCorrupt))
}

// fill writes what a void has become into its record.
func fill(r *store.VoidRecord, v *flow.Void, now time.Time) error {
	b, err := content(v)
	if err != nil {
		return err
	}
	r.State, r.Version, r.Content, r.Changed = store.VoidState(v.State), v.Version, b, now
	if due := v.ExpiresAt; v.State.Live() {
		if v.State == flow.Authorized {
			due = v.ConfirmBy
		}
		r.Due = time.Unix(due, 0).UTC()
	}
	return nil
}

// view is a void as it is told.
func view(r *store.VoidRecord, v flow.Void, outcome *flow.Outcome) *Void {
	answer := &Void{Void: v, Fee: r.Fee, Created: r.Created, Changed: r.Changed, Outcome: v.Applied[len(v.Applied)-1].Outcome}
	if outcome != nil {
		answer.Outcome = *outcome
	}
	return answer
}

// seen is view of a record.
func seen(r *store.VoidRecord) (*Void, error) {
	v, err := decode(r)
	if err != nil {
		return nil, err
	}
	return view(r, v, nil), nil
}

// limitsOf returns the limits of a merchant, nil for none.
func limitsOf(settings *policies.Voids, merchant string) *flow.Limits {
	if settings == nil {
		return nil
	}
	if l, ok := settings.Rules.Merchants[merchant]; ok {
		return &l
	}
	return settings.Rules.Default
}

// rulesOf returns the rules, nil for none.
func rulesOf(settings *policies.Voids) *flow.Rules {
	if settings == nil {
		return nil
	}
	return settings.Rules
}

// today is when a merchant's business day has begun.
func today(settings *policies.Voids, merchant string, now time.Time) time.Time {
	const day = 24 * 3600
	ahead := int64(0)
	if l := limitsOf(settings, merchant); l != nil {
		ahead = l.DayBegins
	}
	at := now.Unix() + ahead
	return time.Unix(max(0, at-at%day-ahead), 0).UTC()
}

// Payment is what the caller knows of a payment. A fact that is not said is no permission.
type Payment struct {
	Merchant        string
	Amount          int64
	Currency        voidtoken.Currency
	PaidAt          int64 // Unix seconds; 0: not said
	Settled, Voided *bool
	Category        string // of the fee table; may be empty
}

func (p *Payment) facts(s store.Standing) flow.Facts {
	said := func(b *bool) flow.Answer {
		switch {
		case b == nil:
			return flow.Unknown
		case *b:
			return flow.Yes
		}
		return flow.No
	}
	return flow.Facts{
		Merchant: p.Merchant, Amount: p.Amount, Currency: p.Currency, PaidAt: p.PaidAt, Settled: said(p.Settled), Voided: said(p.Voided), Live: said(&s.Live), VoidsToday: &s.Today,
	}
}
