package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// TestStream sends good and bad items on one stream: each gets its own answer, and an
// item's error does not end the stream.
func TestStream(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210")
	s := start(t, ring.keys...)
	good := func() *keydv1.TranslatePinDataRequest {
		return &keydv1.TranslatePinDataRequest{
			Incoming: &keydv1.PinKey{KeyId: bdk, Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
				Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}},
			Outgoing:             zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0),
			PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: unhex(t, "1B9C1845EB993A7A"),
		}
	}
	want := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", "4012345678909"))
	kinds := []struct {
		change func(*keydv1.TranslatePinDataRequest)
		reason string
	}{
		{func(*keydv1.TranslatePinDataRequest) {}, ""},
		{func(r *keydv1.TranslatePinDataRequest) { r.EncryptedPinBlock[0] ^= 1 }, "PIN_BLOCK_INVALID"},
		{func(r *keydv1.TranslatePinDataRequest) { r.Incoming.KeyId = "none" }, "KEY_NOT_FOUND"},
		{func(r *keydv1.TranslatePinDataRequest) { r.Outgoing.Format = keydv1.PinBlockFormat_ISO_FORMAT_1 }, "TRANSLATION_FORBIDDEN"},
		{func(r *keydv1.TranslatePinDataRequest) { r.Incoming.Dukpt.KeySerialNumber = make([]byte, 10) }, "KSN_INVALID"},
		{func(r *keydv1.TranslatePinDataRequest) { r.PrimaryAccountNumber = "" }, "REQUEST_INVALID"},
	}
	before := s.status().AuditEntries
	stream, err := s.pins().TranslatePinDataStream(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	const items = 3000
	sent := make(chan error, 1)
	go func() {
		for i := range items {
			r := good()
			kinds[i%len(kinds)].change(r)
			if err := stream.Send(&keydv1.TranslatePinDataStreamRequest{CorrelationId: uint64(i), Request: r}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	answered := map[uint64]bool{}
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if answered[answer.CorrelationId] {
			t.Fatalf("item %d was answered twice", answer.CorrelationId)
		}
		answered[answer.CorrelationId] = true
		kind := kinds[answer.CorrelationId%uint64(len(kinds))]
		if got := itemReason(answer.GetError()); got != kind.reason {
			t.Fatalf("item %d: %s, want %s", answer.CorrelationId, got, kind.reason)
		}
		if kind.reason == "" && !bytes.Equal(answer.GetResponse().GetEncryptedPinBlock(), want) {
			t.Fatalf("item %d: %X", answer.CorrelationId, answer.GetResponse().GetEncryptedPinBlock())
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if len(answered) != items {
		t.Errorf("%d answers to %d items", len(answered), items)
	}
	// Every item is a decision of its own; the two requests for the status are too.
	if got := s.status().AuditEntries - before; got != items+1 {
		t.Errorf("%d audit entries for %d items", got, items)
	}
}

// TestStreamOfSomebodyElse opens the stream with a certificate that may not translate.
func TestStreamOfSomebodyElse(t *testing.T) {
	s := start(t)
	stream, err := keydv1.NewPinServiceClient(s.connect(s.tls("auditor"))).TranslatePinDataStream(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	key := &keydv1.PinKey{KeyId: "zone-issuer", Format: keydv1.PinBlockFormat_ISO_FORMAT_0}
	for i := range 3 {
		if err := stream.Send(&keydv1.TranslatePinDataStreamRequest{CorrelationId: uint64(i), Request: &keydv1.TranslatePinDataRequest{
			Incoming: key, Outgoing: key, PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: make([]byte, 8)}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil || itemReason(answer.GetError()) != "POLICY_DENIED" {
			t.Errorf("%v, %v", answer, err)
		}
	}
}

// itemReason returns the reason of an item's error; "" for none.
func itemReason(s *rpcstatus.Status) string {
	if s == nil {
		return ""
	}
	for _, d := range status.FromProto(s).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Domain == "keyd" {
			return info.Reason
		}
	}
	return fmt.Sprint(s)
}
