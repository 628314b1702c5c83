package main

import (
	"errors"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
)

func TestRegisterVersion(t *testing.T) {
	for _, c := range []struct {
		loaded, pinned uint64
		want           string
	}{
		{7, 7, "version 7"},
		{0, 7, "none; version 7 is pinned"},
		{6, 7, "version 6, not the one that is pinned: 7"},
	} {
		if got := registerVersion(&keydv1.Token{EpochLoaded: c.loaded, EpochPinned: c.pinned}); got != c.want {
			t.Errorf("%d of %d: %q", c.loaded, c.pinned, got)
		}
	}
}

// TestStatusOfARefusal: a monitor has to tell a service that does nothing, because it cannot
// record it, from one that will not talk to the monitor.
func TestStatusOfARefusal(t *testing.T) {
	for reason, want := range map[fault.Reason]int{
		fault.AuditUnavailable: exitCritical,
		fault.PolicyDenied:     exitRefused,
		fault.IdentityUnknown:  exitRefused,
	} {
		s, err := status.New(reason.Code(), "a sentence").WithDetails(&errdetails.ErrorInfo{Reason: reason.String(), Domain: "keyd"})
		if err != nil {
			t.Fatal(err)
		}
		var exit exitError
		if err := noAnswer(explain(s.Err())); !errors.As(err, &exit) || exit.code != want {
			t.Errorf("%s: %v, status %d, want %d", reason, err, exit.code, want)
		}
	}
	var exit exitError
	if err := noAnswer(explain(status.Error(codes.Unavailable, "gone"))); !errors.As(err, &exit) || exit.code != exitAway {
		t.Errorf("no answer: %v, status %d", err, exit.code)
	}
	if err := noAnswer(errors.New("no such file")); errors.As(err, &exit) {
		t.Errorf("a file that is missing: %v", err)
	}
}
