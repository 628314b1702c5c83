package server

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/store"
)

// putVoid keeps a void of a merchant, of which nobody here reads more than whose it is.
func (f *front) putVoid(id, merchant string) {
	f.t.Helper()
	now, request := time.Now(), sha256.Sum256([]byte(id))
	_, _, err := f.store.AddVoid(f.t.Context(), store.VoidQuestion{Request: request[:], Merchant: merchant, Reference: id, Since: now.Add(-time.Hour)}, func(store.Standing) (store.VoidRecord, error) {
		return store.VoidRecord{
			ID: id, Merchant: merchant, Terminal: "t-1", Reference: id, Amount: 1, Currency: 156, State: store.VoidCreated, Version: 1, Content: []byte("{}"), Code: request[:16],
			Payload: make([]byte, 98), CodeExpires: now.Add(time.Minute), Request: request[:], Due: now.Add(time.Hour), Created: now, Changed: now,
		}, nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestPINsAndVoidsOfOneMerchant: whom a condition limits to a merchant gets to no PIN and no void of
// another, and does not learn of one: a guessed identifier is answered like another merchant's.
func TestPINsAndVoidsOfOneMerchant(t *testing.T) {
	f := newFront(t)
	f.put("may.pins", "B0")
	own, other, none := strings.Repeat("0a", 16), strings.Repeat("0b", 16), strings.Repeat("0c", 16)
	f.putVoid(own, "m-1")
	f.putVoid(other, "m-2")
	conn, ctx := f.start().as("m-1"), t.Context()
	pins, voids := keydv1.NewPinRecordServiceClient(conn), keydv1.NewVoidServiceClient(conn)
	denied := func(what string, want bool, err error) {
		t.Helper()
		if err == nil || (reason(err) == "POLICY_DENIED") != want {
			t.Errorf("%s: %v, denied by the policy: %t", what, err, want)
		}
	}
	entry := func() *keydv1.PinEntry {
		return &keydv1.PinEntry{
			Incoming:          &keydv1.PinKey{KeyId: "may.pins", Format: keydv1.PinBlockFormat_ISO_FORMAT_0, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: []byte("\xFF\xFF\x98\x76\x54\x32\x10\xE0\x00\x01")}},
			EncryptedPinBlock: make([]byte, 8),
		}
	}
	for merchant, want := range map[string]bool{"m-1": false, "m-2": true} {
		subject := &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: merchant, Name: "dora"}
		_, err := pins.VerifyPin(ctx, &keydv1.VerifyPinRequest{Subject: subject, Pin: entry()})
		denied("VerifyPin of "+merchant, want, err)
		_, err = pins.SetPin(ctx, &keydv1.SetPinRequest{Subject: subject, Code: entry(), Pin: entry()})
		denied("SetPin of "+merchant, want, err)
		_, err = pins.ChangePin(ctx, &keydv1.ChangePinRequest{Subject: subject, Current: entry(), Pin: entry()})
		denied("ChangePin of "+merchant, want, err)
		_, err = pins.RevokePin(ctx, &keydv1.RevokePinRequest{Subject: subject})
		denied("RevokePin of "+merchant, want, err)
		_, err = pins.GetPinRecord(ctx, &keydv1.GetPinRecordRequest{Subject: subject})
		denied("GetPinRecord of "+merchant, want, err)
		_, err = voids.CreateVoid(ctx, &keydv1.CreateVoidRequest{RequestId: "r", Merchant: merchant, Terminal: "t-1", Reference: "p", Amount: 1, Currency: 156})
		denied("CreateVoid for "+merchant, want, err)
		_, err = voids.ScanVoid(ctx, &keydv1.ScanVoidRequest{RequestId: "r", Code: "NOCODE", Merchant: merchant})
		denied("ScanVoid for "+merchant, want, err)
	}
	if _, err := voids.ListVoids(ctx, &keydv1.ListVoidsRequest{Merchant: "m-2"}); reason(err) != "POLICY_DENIED" {
		t.Errorf("ListVoids: %v", err)
	}
	for id, want := range map[string]bool{own: false, other: true, none: true} {
		_, err := voids.GetVoid(ctx, &keydv1.GetVoidRequest{VoidId: id})
		denied("GetVoid "+id, want, err)
		_, err = voids.CancelVoid(ctx, &keydv1.CancelVoidRequest{RequestId: "r", VoidId: id})
		denied("CancelVoid "+id, want, err)
		_, err = voids.ConfirmVoid(ctx, &keydv1.ConfirmVoidRequest{RequestId: "r", VoidId: id})
		denied("ConfirmVoid "+id, want, err)
		_, err = voids.ApproveVoid(ctx, &keydv1.ApproveVoidRequest{RequestId: "r", VoidId: id})
		denied("ApproveVoid "+id, want, err)
		_, err = voids.AuthorizeVoid(ctx, &keydv1.AuthorizeVoidRequest{RequestId: "r", VoidId: id, Payment: &keydv1.PaymentFacts{Merchant: "m-1", Amount: 1, Currency: 156}, Pins: []*keydv1.VoidPinEntry{{
			Incoming: entry().Incoming, EncryptedPinBlock: make([]byte, 8), Mac: make([]byte, 8),
			MacKey: &keydv1.MacKey{KeyId: "may.pins", Algorithm: keydv1.MacKey_CMAC, Dukpt: entry().Incoming.Dukpt, Direction: keydv1.MacKey_REQUEST},
			Whose:  &keydv1.VoidPinEntry_Supervisor{Supervisor: &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: "m-1", Name: "dora"}},
		}}})
		denied("AuthorizeVoid "+id, want, err)
		w, err := voids.WatchVoid(ctx, &keydv1.WatchVoidRequest{VoidId: id})
		if err == nil {
			_, err = w.Recv()
		}
		denied("WatchVoid "+id, want, err)
	}
}
