package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"

	"keyd/fault"
)

// encoded is bytes as pages read them: base64url without padding.
type encoded []byte

// MarshalText returns the text.
func (b encoded) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// Answers are those of the backend, with their bytes as pages read them: the fields here stand before
// those of the same name in what is embedded.
type (
	pageKeyAnswer struct {
		*PageKey
		Point     encoded `json:"point"`
		Signature encoded `json:"signature"`
	}
	voidAnswer struct {
		*Void
		Digest    encoded        `json:"digest"`
		Challenge encoded        `json:"challenge"`
		Key       *pageKeyAnswer `json:"key,omitempty"`
		CodeKey   encoded        `json:"code_key,omitempty"`
	}
	enrolmentAnswer struct {
		*Enrolment
		Subject   encoded        `json:"subject"`
		Approval  encoded        `json:"approval"`
		Challenge encoded        `json:"challenge,omitempty"`
		Key       *pageKeyAnswer `json:"key"`
		CodeKey   encoded        `json:"code_key"`
	}
	setAnswer struct {
		Verified bool `json:"verified"`
	}
	refusalAnswer struct {
		Error string `json:"error"`
		Retry bool   `json:"retry"` // the same request may be sent again
	}
)

func answerKey(k *PageKey) *pageKeyAnswer {
	if k == nil {
		return nil
	}
	return &pageKeyAnswer{k, k.Point, k.Signature}
}

func answerVoid(v *Void) any {
	return voidAnswer{v, v.Digest, v.Challenge, answerKey(v.Key), v.CodeKey}
}

func answerEnrolment(e *Enrolment) any {
	return enrolmentAnswer{e, e.Subject, e.Approval, e.Challenge, answerKey(e.Key), e.CodeKey}
}

func answerOutcome(o *Outcome, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return o, nil
}

func answerSet(verified bool, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return setAnswer{verified}, nil
}

// row is how a refusal is told to a page.
type row struct {
	status int
	retry  bool
}

// told are the refusals that a page tells apart. Every other is an internal error to a stranger: what
// it means is in the log.
var told = map[fault.Reason]row{
	fault.RequestInvalid:    {http.StatusBadRequest, false},
	fault.PolicyDenied:      {http.StatusForbidden, false},
	fault.Conflict:          {http.StatusConflict, true},
	fault.PINRecordEnded:    {http.StatusGone, false},
	fault.PINWeak:           {http.StatusUnprocessableEntity, false},
	fault.PINRecordNotFound: {http.StatusNotFound, false},
	fault.PINRecordState:    {http.StatusGone, false},
	fault.VoidNotFound:      {http.StatusNotFound, false},
	fault.VoidCodeRefused:   {http.StatusGone, false},
	fault.PINBlockInvalid:   {http.StatusUnprocessableEntity, false},
	fault.RateLimited:       {http.StatusTooManyRequests, false},
	fault.EpochStale:        {http.StatusServiceUnavailable, true},
	fault.LedgerUnavailable: {http.StatusServiceUnavailable, true},
	fault.ModuleUnavailable: {http.StatusServiceUnavailable, true},
	fault.StoreUnavailable:  {http.StatusServiceUnavailable, true},
	fault.AuditUnavailable:  {http.StatusServiceUnavailable, true},
}

// refuseFor answers with a refusal of the backend's: its reason, and no word of its sentence.
func refuseFor(w http.ResponseWriter, err error) {
	reason := fault.Of(err).Reason
	if reason == fault.Internal && errors.Is(err, context.DeadlineExceeded) {
		reason = fault.ModuleUnavailable // something behind it was slow; nothing says that it was not done
	}
	known, ok := told[reason]
	if !ok {
		reason, known = fault.Internal, row{http.StatusInternalServerError, false}
	}
	if known.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	write(w, known.status, refusalAnswer{reason.String(), known.retry})
}

// refuse answers with a reason of this package's. Nothing was done, so who was early may ask again.
func refuse(w http.ResponseWriter, status int, reason string) {
	write(w, status, refusalAnswer{reason, status == http.StatusTooManyRequests || status == http.StatusRequestTimeout})
}

func write(w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil { // a time out of its range
		status, body = http.StatusInternalServerError, []byte(`{"error":"INTERNAL","retry":false}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who has gone away is told nothing
}
