package pinops

import (
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
)

// A refusal stands, whatever the token says when the lane's objects are given back: it
// must not become a second run, in which the try would not be counted.
func TestTheFirstFailureStands(t *testing.T) {
	stale := &token.Error{Call: "C_DestroyObject", Code: pkcs11.CKR_OBJECT_HANDLE_INVALID}
	if !working.Lost(stale) {
		t.Fatal("the error is not one after which operations are run again: the test shows nothing")
	}
	b, l := &batch{}, &lane{}
	b.fail(l, fault.New(fault.RateLimited, ""))
	b.fail(l, stale)
	if working.Lost(l.err) || fault.Of(l.err).Reason != fault.RateLimited {
		t.Errorf("the lane ends with %v", l.err)
	}
	if !errors.Is(b.failed, error(stale)) {
		t.Errorf("the session is not replaced: %v", b.failed)
	}
}
