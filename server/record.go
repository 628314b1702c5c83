package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"keyd/audit"
	"keyd/fault"
)

// recordLimit bounds the wait for the audit log. It is apart from the request's
// deadline: what was decided is recorded for a caller who has gone, too.
const recordLimit = 2 * time.Second

// recorder writes one audit entry for every request that reaches a service of keyd's,
// and lets the answer go only when the entry is durable. Of refusals beyond what the
// policy's limits leave to one identity it writes the number.
type recorder struct {
	log     *audit.Log
	clients *clients
	metrics Metrics // may be nil
}

func (r recorder) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	if c == nil || c.exempt {
		return next(ctx, request)
	}
	// Nothing is begun that cannot be recorded.
	if err := r.log.Err(); err != nil {
		return nil, fault.Wrap(fault.AuditUnavailable, err)
	}
	defer r.log.Begin()()
	answer, err := next(ctx, request)
	if bounded(err) || c.barred && err != nil {
		if instead := r.clients.recordable(c); instead != nil {
			return nil, instead
		}
	}
	if unwritten := r.record(c, err); unwritten != nil {
		return nil, unwritten
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// record writes the entry of a request that ended with err. Its error takes the place
// of the answer; what the answer would have been is its cause, for the log.
func (r recorder) record(c *call, err error) error {
	entry := c.entry
	entry.RequestID, entry.Identity, entry.Method = c.id, c.identity, c.method
	said := entry.Detail // by the binding, of what was done
	entry.Decision, entry.Reason, entry.Detail = decision(err)
	switch {
	case entry.Detail == "":
		entry.Detail = said
	case said != "":
		entry.Detail = said + ": " + entry.Detail
	}
	if entry.Decision != audit.Allowed {
		entry.Custody = ""
	}
	leftOut := c.client.takeLeftOut()
	if leftOut > 0 {
		entry.Detail = sayLeftOut(leftOut, entry.Detail)
	}
	started := time.Now()
	unwritten := r.log.AppendWithin(recordLimit, entry)
	if r.metrics != nil {
		r.metrics.Recorded(time.Since(started), unwritten)
	}
	if unwritten != nil {
		if leftOut > 0 {
			c.client.leftOut.Add(leftOut)
		}
		return fault.Wrap(fault.AuditUnavailable, errors.Join(unwritten, err))
	}
	return nil
}

// bounded reports whether an error is one that a client can cause without having been
// allowed anything: the number of entries about those is limited. So is that about a terminal
// that is barred, which its certificate still lets in.
func bounded(err error) bool {
	var much *tooManyError
	if err == nil || errors.As(err, &much) {
		return err != nil
	}
	if contextError(err) != nil {
		return false
	}
	reason := fault.Of(err).Reason
	return reason == fault.IdentityUnknown || reason == fault.PolicyDenied
}

// decision says what became of a request, in the words of the audit log.
func decision(err error) (_ audit.Decision, reason, detail string) {
	if err == nil {
		return audit.Allowed, "", ""
	}
	if ended := contextError(err); ended != nil {
		if errors.Is(ended, context.Canceled) {
			return audit.Failed, ReasonCancelled, "the caller gave up"
		}
		return audit.Failed, ReasonDeadline, "the caller's deadline passed"
	}
	f := fault.Of(err)
	switch f.Reason {
	case fault.IdentityUnknown, fault.PolicyDenied:
		detail := f.Detail()
		if cause := f.Unwrap(); cause != nil { // written by keyd, see identityOf and policies
			detail = cause.Error()
		}
		return audit.Denied, f.Reason.String(), detail
	}
	return audit.Failed, f.Reason.String(), f.Detail()
}
