package backup

import (
	"time"

	"keyd/store"
)

// What a backup has of PIN records, as documents. Times are microseconds from 1970, 0 is none. What
// is sealed stays so.

type pinRecordDocument struct {
	Subject       []byte         `json:"subject"`
	Kind          string         `json:"kind"`
	Merchant      string         `json:"merchant,omitempty"`
	Terminal      string         `json:"terminal,omitempty"`
	Name          string         `json:"name"`
	Version       uint32         `json:"version"`
	State         store.PINState `json:"state"`
	Tries         uint32         `json:"tries"`
	TriesLeft     uint32         `json:"tries_left,omitempty"`
	Series        uint64         `json:"series,omitempty"`
	Record        []byte         `json:"record,omitempty"`
	Approval      []byte         `json:"approval,omitempty"`
	Pending       []byte         `json:"pending,omitempty"`
	Code          []byte         `json:"code,omitempty"`
	CodeTriesLeft uint32         `json:"code_tries_left,omitempty"`
	CodeExpires   int64          `json:"code_expires,omitempty"`
	NotAfter      int64          `json:"not_after,omitempty"`
	Events        uint64         `json:"events"`
	Revision      uint64         `json:"revision"`
	CreatedAt     int64          `json:"created_at"`
	ChangedAt     int64          `json:"changed_at"`
}

type pinEventDocument struct {
	Subject []byte `json:"subject"`
	Number  uint64 `json:"number"`
	Kind    string `json:"kind"`
	Actor   string `json:"actor,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Request []byte `json:"request,omitempty"`
	At      int64  `json:"at"`
}

// encodePIN is encode of these.
func encodePIN(b []byte, i *store.Item) ([]byte, error) {
	if e := i.PINEvent; e != nil {
		return document(b, kindPINEvent, &pinEventDocument{e.Subject, e.Number, e.Kind, e.Actor, e.Detail, e.Request, e.At.UnixMicro()})
	}
	r := i.PINRecord
	return document(b, kindPINRecord, &pinRecordDocument{
		r.Subject, r.Kind, r.Merchant, r.Terminal, r.Name, r.Version, r.State, r.Tries, r.TriesLeft, r.Series, r.Record, r.Approval, r.Pending, r.Code, r.CodeTriesLeft,
		orZero(r.CodeExpires), orZero(r.NotAfter), r.Events, r.Revision, r.CreatedAt.UnixMicro(), r.ChangedAt.UnixMicro(),
	})
}

// decodePIN is decode of these.
func decodePIN(k kind, payload []byte, i *store.Item) error {
	if k == kindPINEvent {
		d, err := parse[pinEventDocument](payload)
		if err != nil {
			return err
		}
		i.PINEvent = &store.PINEvent{Subject: d.Subject, Number: d.Number, Kind: d.Kind, Actor: d.Actor, Detail: d.Detail, Request: d.Request, At: at(d.At)}
		return nil
	}
	d, err := parse[pinRecordDocument](payload)
	if err != nil {
		return err
	}
	i.PINRecord = &store.PINRecord{
		Subject: d.Subject, Kind: d.Kind, Merchant: d.Merchant, Terminal: d.Terminal, Name: d.Name, Version: d.Version, State: d.State, Tries: d.Tries, TriesLeft: d.TriesLeft,
		Series: d.Series, Record: d.Record, Approval: d.Approval, Pending: d.Pending, Code: d.Code, CodeTriesLeft: d.CodeTriesLeft, CodeExpires: orNone(d.CodeExpires),
		NotAfter: orNone(d.NotAfter), Events: d.Events, Revision: d.Revision, CreatedAt: at(d.CreatedAt), ChangedAt: at(d.ChangedAt),
	}
	return nil
}

func orNone(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return at(micros)
}
