package simulator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/tr34"
)

// Step is a point at which a device can be stopped.
type Step string

// The steps.
const (
	BeforeSend  Step = "before-send"  // the request is in the file, and was not sent
	AfterAnswer Step = "after-answer" // the answer is there, and nothing of it is in the file
	AfterStore  Step = "after-store"  // the keys are in the file, and not confirmed
)

// Steps are all of them, in their order.
var Steps = []Step{BeforeSend, AfterAnswer, AfterStore}

// FetchOptions are what a device may choose when it gets its keys.
type FetchOptions struct {
	AskOptions
	At func(Step) error // is called at each step; an error ends it there

	later bool // it has waited for a later time stamp
}

// FetchKeys gets keys from keyd and confirms them, which a device does again and again until it
// has succeeded: keys that are there and not confirmed are confirmed first. A service that is away
// for a moment is asked again with the very same request, until ctx ends. In one-pass a token that
// is stale to the device is asked for anew, once.
//
// Errors are keyd's statuses, and the device's.
func (d *Device) FetchKeys(ctx context.Context, c keydv1.TerminalServiceClient, method keydv1.InjectionMethod, o FetchOptions) (*keydv1.Injection, error) {
	if o.At == nil {
		o.At = func(Step) error { return nil }
	}
	if there, err := d.Unconfirmed(); err != nil {
		return nil, err
	} else if there && !o.Fresh && !o.Anew {
		i, err := d.Confirm(ctx, c)
		if err == nil || !over(err) {
			return i, err
		}
		if err := d.DropUnconfirmed(); err != nil {
			return nil, err
		}
	}
	r, err := d.Ask(method, o.AskOptions)
	if err != nil {
		return nil, err
	}
	if err := o.At(BeforeSend); err != nil {
		return nil, err
	}
	answer, err := again(ctx, func() (*keydv1.InjectKeysResponse, error) { return c.InjectKeys(ctx, r.Message()) })
	if Reason(err) == "REQUEST_REPLAYED" && !o.Fresh && method == keydv1.InjectionMethod_TR34_TWO_PASS {
		// The request waited in the file for too long: its answer is over.
		o.Fresh = true
		return d.FetchKeys(ctx, c, method, o)
	}
	if err != nil {
		return nil, err
	}
	if err := o.At(AfterAnswer); err != nil {
		return nil, err
	}
	err = r.Take(answer)
	if errors.Is(err, tr34.ErrStale) && !o.later && method == keydv1.InjectionMethod_TR34_ONE_PASS {
		// The device took this time stamp and has no keys of it, or one of the same second: a
		// token names whole seconds, so the next one is made in another.
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
		o.Anew, o.later = true, true
		return d.FetchKeys(ctx, c, method, o)
	}
	if err != nil {
		return nil, err
	}
	if err := o.At(AfterStore); err != nil {
		return nil, err
	}
	return d.Confirm(ctx, c)
}

// over reports whether keys that were not confirmed can never be.
func over(err error) bool {
	return slices.Contains([]string{"INJECTION_NOT_FOUND", "INJECTION_STATE", "RECEIPT_INVALID"}, Reason(err))
}

// Confirm sends the receipt of the keys that were received last. The same may be sent again.
func (d *Device) Confirm(ctx context.Context, c keydv1.TerminalServiceClient) (*keydv1.Injection, error) {
	r, err := d.Receipt()
	if err != nil {
		return nil, err
	}
	i, err := again(ctx, func() (*keydv1.Injection, error) { return c.ConfirmKeys(ctx, r) })
	if err != nil {
		return nil, err
	}
	if i.State != keydv1.Injection_CONFIRMED || i.InjectionId != r.InjectionId {
		return nil, fmt.Errorf("keyd has not confirmed the keys: injection %q is %s", i.InjectionId, i.State)
	}
	return i, d.Confirmed(r.InjectionId)
}

// FetchHost has the device check the host that keys come from by a method; by TR-34 it is bound to
// that host then.
func (d *Device) FetchHost(ctx context.Context, c keydv1.TerminalServiceClient, method keydv1.InjectionMethod) (*keydv1.KeyHost, error) {
	i, err := d.Info()
	if err != nil {
		return nil, err
	}
	h, err := again(ctx, func() (*keydv1.KeyHost, error) {
		return c.GetKeyHost(ctx, &keydv1.GetKeyHostRequest{TerminalId: i.Terminal, Method: method})
	})
	if err != nil {
		return nil, err
	}
	token := h.CredentialToken
	if method == keydv1.InjectionMethod_KEY_AGREEMENT {
		token = nil
	} else if len(token) == 0 {
		return nil, errors.New("keyd has no credential token (CT_KDH) of this host: keyd terminal host set makes one")
	}
	return h, d.Bind(h.Certificates, h.RevocationList, token)
}

// FetchSession signs in and takes the session keys.
func (d *Device) FetchSession(ctx context.Context, c keydv1.TerminalServiceClient) (*keydv1.SignInResponse, error) {
	i, err := d.Info()
	if err != nil {
		return nil, err
	}
	if i.Current == nil {
		return nil, errNoKeys
	}
	answer, err := again(ctx, func() (*keydv1.SignInResponse, error) {
		return c.SignIn(ctx, &keydv1.SignInRequest{TerminalId: i.Terminal})
	})
	if err != nil {
		return nil, err
	}
	return answer, d.SignIn(answer)
}

// again calls until there is an answer or a refusal, or ctx ends: not more often than every tenth
// of a second, and ten times in all.
func again[A any](ctx context.Context, call func() (A, error)) (a A, err error) {
	for range 10 {
		if a, err = call(); status.Code(err) != codes.Unavailable {
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, err
		case <-time.After(100 * time.Millisecond):
		}
	}
	return a, err
}

// Reason returns keyd's reason in an error of a call, or nothing.
func Reason(err error) string {
	s, ok := status.FromError(err)
	if !ok {
		return ""
	}
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "keyd" {
			return info.Reason
		}
	}
	return ""
}
