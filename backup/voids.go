package backup

import (
	"keyd/store"
)

// voidDocument is a void. Times are microseconds from 1970, 0 is none.
type voidDocument struct {
	ID          string          `json:"id"`
	Merchant    string          `json:"merchant"`
	Terminal    string          `json:"terminal"`
	Reference   string          `json:"reference"`
	Amount      int64           `json:"amount"`
	Currency    uint16          `json:"currency"`
	Fee         int64           `json:"fee,omitempty"`
	State       store.VoidState `json:"state"`
	Version     uint64          `json:"version"`
	Content     []byte          `json:"content"`
	Token       string          `json:"token,omitempty"`
	Code        []byte          `json:"code"`
	Payload     []byte          `json:"payload"`
	Slip        []byte          `json:"slip,omitempty"`
	CodeExpires int64           `json:"code_expires"`
	Burnt       int64           `json:"burnt,omitempty"`
	Request     []byte          `json:"request"`
	Due         int64           `json:"due"`
	Created     int64           `json:"created"`
	Changed     int64           `json:"changed"`
	PaidAt      int64           `json:"paid_at,omitempty"` // in backups from before there were phones: none
}

// encodeVoid is encode of a void.
func encodeVoid(b []byte, v *store.VoidRecord) ([]byte, error) {
	return document(b, kindVoid, &voidDocument{
		v.ID, v.Merchant, v.Terminal, v.Reference, v.Amount, v.Currency, v.Fee, v.State, v.Version, v.Content, v.Token, v.Code, v.Payload, v.Slip,
		v.CodeExpires.UnixMicro(), orZero(v.Burnt), v.Request, v.Due.UnixMicro(), v.Created.UnixMicro(), v.Changed.UnixMicro(), orZero(v.PaidAt),
	})
}

// decodeVoid is decode of one.
func decodeVoid(payload []byte) (*store.VoidRecord, error) {
	d, err := parse[voidDocument](payload)
	if err != nil {
		return nil, err
	}
	v := &store.VoidRecord{
		ID: d.ID, Merchant: d.Merchant, Terminal: d.Terminal, Reference: d.Reference, Amount: d.Amount, Currency: d.Currency, Fee: d.Fee, State: d.State, Version: d.Version,
		Content: d.Content, Token: d.Token, Code: d.Code, Payload: d.Payload, Slip: d.Slip, CodeExpires: at(d.CodeExpires), Request: d.Request, Due: at(d.Due), Created: at(d.Created), Changed: at(d.Changed),
	}
	if d.Burnt != 0 {
		v.Burnt = at(d.Burnt)
	}
	if d.PaidAt != 0 {
		v.PaidAt = at(d.PaidAt)
	}
	return v, nil
}
