package server

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/pinrecord"
	"keyd/pinsvc/records"
	"keyd/policies"
	"keyd/store"
)

// recordBinding binds keyd.v1.PinRecordService to package pinsvc/records.
type recordBinding struct {
	keydv1.UnimplementedPinRecordServiceServer
	access  gate
	records *records.Service
}

// about records whose PIN a request is about, and asks the policy by its merchant and terminal.
func (b recordBinding) about(ctx context.Context, action string, s *pinrecord.Subject) error {
	b.access.Entry(ctx).Detail = records.Summary(s)
	return b.access.about(ctx, action, nil, &policies.Terminal{ID: s.Terminal, Owner: s.Merchant})
}

// subject is whose PIN a request is about that names keys too: package records asks the policy about
// both.
func (b recordBinding) subject(ctx context.Context, m *keydv1.PinSubject) *pinrecord.Subject {
	s := subjectOf(m)
	callOf(ctx).whose = &policies.Terminal{ID: s.Terminal, Owner: s.Merchant}
	return s
}

// note adds what was done to the audit entry.
func (b recordBinding) note(ctx context.Context, what string) {
	b.access.Entry(ctx).Detail += ": " + what
}

// BeginPin implements keyd.v1.PinRecordService.
func (b recordBinding) BeginPin(ctx context.Context, r *keydv1.BeginPinRequest) (*keydv1.BeginPinResponse, error) {
	var signed []pinrecord.Signed
	for _, a := range r.GetApprovals() {
		signed = append(signed, pinrecord.Signed{Document: a.GetDocument(), Signature: a.GetSignature(), Certificates: a.GetCertificates()})
	}
	approval, unread := records.Approval(signed)
	subject := new(pinrecord.Subject)
	if unread == nil {
		subject = &approval.Subject
	}
	if err := b.about(ctx, records.ActionBegin, subject); err != nil {
		return nil, err
	}
	if unread != nil {
		return nil, unread
	}
	b.note(ctx, string(approval.Action)+" of version "+strconv.FormatUint(uint64(approval.Version), 10))
	var notAfter time.Time
	if t := r.GetNotAfter(); t != nil {
		if t.CheckValid() != nil {
			return nil, fault.New(fault.RequestInvalid, "not_after is no time")
		}
		notAfter = t.AsTime()
	}
	begun, err := b.records.Begin(ctx, callOf(ctx).identity, signed, notAfter)
	if err != nil {
		return nil, err
	}
	answer := &keydv1.BeginPinResponse{Record: recordMessage(begun.Record), SealedCode: begun.Code}
	if begun.Link != "" && settableOnPhone(ctx, begun.Record.Subject.Kind) {
		answer.Link = voidSettings(ctx).Origin() + "/p#" + begun.Link
	}
	return answer, nil
}

// SetPin implements keyd.v1.PinRecordService.
func (b recordBinding) SetPin(ctx context.Context, r *keydv1.SetPinRequest) (*keydv1.SetPinResponse, error) {
	verified, record, err := b.records.Set(ctx, callOf(ctx).identity, b.subject(ctx, r.GetSubject()), pinEntry(r.GetCode()), pinEntry(r.GetPin()))
	if err != nil {
		return nil, err
	}
	b.verdict(ctx, verified)
	return &keydv1.SetPinResponse{Verified: verified, Record: recordMessage(record)}, nil
}

// VerifyPin implements keyd.v1.PinRecordService.
func (b recordBinding) VerifyPin(ctx context.Context, r *keydv1.VerifyPinRequest) (*keydv1.VerifyPinResponse, error) {
	verified, err := b.records.Verify(ctx, callOf(ctx).identity, b.subject(ctx, r.GetSubject()), pinEntry(r.GetPin()))
	if err != nil {
		return nil, err
	}
	b.verdict(ctx, verified)
	return &keydv1.VerifyPinResponse{Verified: verified}, nil
}

// ChangePin implements keyd.v1.PinRecordService.
func (b recordBinding) ChangePin(ctx context.Context, r *keydv1.ChangePinRequest) (*keydv1.ChangePinResponse, error) {
	verified, err := b.records.Change(ctx, callOf(ctx).identity, b.subject(ctx, r.GetSubject()), pinEntry(r.GetCurrent()), pinEntry(r.GetPin()))
	if err != nil {
		return nil, err
	}
	b.verdict(ctx, verified)
	return &keydv1.ChangePinResponse{Verified: verified}, nil
}

// verdict writes into the audit entry what was answered. Why a PIN was not verified stays out.
func (b recordBinding) verdict(ctx context.Context, verified bool) {
	if verified {
		b.note(ctx, "verified")
		return
	}
	b.note(ctx, "not verified")
}

// RevokePin implements keyd.v1.PinRecordService.
func (b recordBinding) RevokePin(ctx context.Context, r *keydv1.RevokePinRequest) (*keydv1.PinRecord, error) {
	subject := subjectOf(r.GetSubject())
	if err := b.about(ctx, records.ActionRevoke, subject); err != nil {
		return nil, err
	}
	record, err := b.records.Revoke(ctx, callOf(ctx).identity, subject, r.GetReason())
	if err != nil {
		return nil, err
	}
	return recordMessage(record), nil
}

// GetPinRecord implements keyd.v1.PinRecordService.
func (b recordBinding) GetPinRecord(ctx context.Context, r *keydv1.GetPinRecordRequest) (*keydv1.PinRecord, error) {
	subject := subjectOf(r.GetSubject())
	if err := b.about(ctx, records.ActionGet, subject); err != nil {
		return nil, err
	}
	record, err := b.records.Get(ctx, subject)
	if err != nil {
		return nil, err
	}
	return recordMessage(record), nil
}

// ListPinRecords implements keyd.v1.PinRecordService.
func (b recordBinding) ListPinRecords(ctx context.Context, r *keydv1.ListPinRecordsRequest) (*keydv1.ListPinRecordsResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	if err := b.access.about(ctx, records.ActionList, nil, &policies.Terminal{Owner: r.GetMerchant()}); err != nil {
		return nil, err
	}
	list, next, err := b.records.List(ctx, r.GetMerchant(), r.GetPageToken(), size)
	if err != nil {
		return nil, err
	}
	b.access.Entry(ctx).Detail = "PINs of merchant " + r.GetMerchant()
	answer := &keydv1.ListPinRecordsResponse{NextPageToken: next}
	for _, record := range list {
		answer.Records = append(answer.Records, recordMessage(record))
	}
	return answer, nil
}

// ListPinEvents implements keyd.v1.PinRecordService.
func (b recordBinding) ListPinEvents(ctx context.Context, r *keydv1.ListPinEventsRequest) (*keydv1.ListPinEventsResponse, error) {
	size, err := pageSize(r.GetPageSize(), store.MaxList)
	if err != nil {
		return nil, err
	}
	var after uint64
	if token := r.GetPageToken(); token != "" {
		if after, err = strconv.ParseUint(token, 10, 32); err != nil || after == 0 {
			return nil, fault.New(fault.RequestInvalid, badToken)
		}
	}
	subject := subjectOf(r.GetSubject())
	if err := b.about(ctx, records.ActionEvents, subject); err != nil {
		return nil, err
	}
	list, err := b.records.Events(ctx, subject, after, size)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListPinEventsResponse)
	for _, e := range list {
		answer.Events = append(answer.Events, &keydv1.PinEvent{Number: e.Number, Kind: e.Kind, Actor: e.Actor, Detail: e.Detail, At: timestamppb.New(e.At)})
	}
	if len(list) == size {
		answer.NextPageToken = strconv.FormatUint(list[size-1].Number, 10)
	}
	return answer, nil
}

// subjectOf converts a subject; a missing one is none, which the domain refuses.
func subjectOf(s *keydv1.PinSubject) *pinrecord.Subject {
	return &pinrecord.Subject{Kind: kindsOf[s.GetKind()], Merchant: s.GetMerchant(), Terminal: s.GetTerminal(), Name: s.GetName()}
}

var kindsOf = map[keydv1.PinSubject_Kind]pinrecord.Kind{
	keydv1.PinSubject_SUPERVISOR: pinrecord.Supervisor,
	keydv1.PinSubject_CARDHOLDER: pinrecord.Cardholder,
	keydv1.PinSubject_PASSKEY:    pinrecord.Passkey,
}

func pinEntry(e *keydv1.PinEntry) records.Entry {
	return records.Entry{Key: pinKey(e.GetIncoming()), Block: e.GetEncryptedPinBlock()}
}

// recordMessage is nil for none.
func recordMessage(r *records.Record) *keydv1.PinRecord {
	if r == nil {
		return nil
	}
	s := &r.Subject
	m := &keydv1.PinRecord{
		Subject: &keydv1.PinSubject{Kind: keydv1.PinSubject_Kind(keydv1.PinSubject_Kind_value[string(s.Kind)]), Merchant: s.Merchant, Terminal: s.Terminal, Name: s.Name},
		Number:  s.Number(), State: keydv1.PinRecord_State(keydv1.PinRecord_State_value[string(r.State)]), Version: r.Version, TriesLeft: r.TriesLeft,
		CreatedAt: timestamppb.New(r.Created), ChangedAt: timestamppb.New(r.Changed),
	}
	if !r.CodeExpires.IsZero() {
		m.CodeExpiresAt = timestamppb.New(r.CodeExpires)
	}
	if !r.NotAfter.IsZero() {
		m.NotAfter = timestamppb.New(r.NotAfter)
	}
	return m
}
