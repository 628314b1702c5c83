package server

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"

	"keyd/fault"
	"keyd/voids"
	"keyd/web"
)

// pageIdentity is who asks behind a page: nobody is known before a passkey or a PIN is verified.
const pageIdentity = "page"

// pageMethods are what phones ask for, as the audit log and metrics name it.
var pageMethods = []string{pageVoid, pagePasskey, pagePIN, pageEnrolment, pageSetPIN, pageSetPasskey}

const (
	pageVoid       = "Page/Void"
	pagePasskey    = voids.ActionByPasskey
	pagePIN        = voids.ActionByPIN
	pageEnrolment  = "Page/Enrolment"
	pageSetPIN     = "Page/SetPIN"
	pageSetPasskey = "Page/SetPasskey"
)

// PageMethods returns what phones ask for. No rule of a policy is about it: the section voids.phone is.
func PageMethods() []string { return append([]string(nil), pageMethods...) }

// phones is the way of a request from a phone. It has the steps of other requests, but that nobody has a
// certificate.
type phones struct {
	steps []grpc.UnaryServerInterceptor
	log   translator
}

func newPhones(c Config, policy *inForce, known *clients) phones {
	return phones{
		log: translator{c.Log},
		steps: []grpc.UnaryServerInterceptor{
			observer{c.Metrics, c.Tracer}.unary,
			recoverPanic,
			recorder{c.Audit, known, c.Metrics}.unary,
			recoverPanic,
			limitTime,
			policy.begin,
			asPage,
			known.admit,
			phonesAllowed,
		},
	}
}

// asPage names who asks.
func asPage(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if c := callOf(ctx); c != nil {
		c.identity = pageIdentity
	}
	return next(ctx, request)
}

// phonesAllowed denies everything unless the policy says something of phones. What may be done then is
// decided by the code or the link, and by the tiers.
func phonesAllowed(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	if c == nil {
		return nil, fault.Wrap(fault.Internal, errors.New("a page's request without its record"))
	}
	if v := c.policy.Voids(); v == nil || v.Phone == nil {
		return nil, fault.Wrap(fault.PolicyDenied, errors.New("the policy lets nothing be done on phones"))
	}
	c.entry.Rule, c.asked, c.allowed = "voids.phone", true, true
	return next(ctx, request)
}

// ask carries a phone's request out. Errors are refusals of package fault, or ctx's.
func ask[T any](ctx context.Context, p *phones, method string, do func(ctx context.Context) (T, error)) (answer T, err error) {
	c := newCall(contract + method)
	work := chained(p.steps, &grpc.UnaryServerInfo{Server: p, FullMethod: contract + method}, func(ctx context.Context, _ any) (any, error) {
		answer, err := do(ctx)
		from := "phone"
		if at := web.AddressOf(ctx); at.IsValid() {
			from += " at " + at.String()
		}
		if c.entry.Detail != "" {
			from += ": "
		}
		c.entry.Detail = from + c.entry.Detail
		if err != nil && contextError(err) == nil {
			switch fault.Of(err).Reason { // anybody can cause these: the number of their entries is bounded
			case fault.VoidCodeRefused, fault.PINRecordNotFound, fault.PINRecordState, fault.RequestInvalid:
				c.barred = true
			}
		}
		return answer, err
	})
	got, err := work(c.in(ctx), nil)
	if err != nil {
		if ended := contextError(err); ended != nil {
			p.log.report(ctx, c, slog.LevelDebug, "request ended by its caller", slog.String("cause", ended.Error()))
		} else if !c.unrecorded {
			p.log.logFault(ctx, c, fault.Of(err))
		}
		return answer, err
	}
	answer, ok := got.(T)
	if !ok {
		return answer, fault.Wrap(fault.Internal, errors.New("a page's answer is another's"))
	}
	return answer, nil
}
