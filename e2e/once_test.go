package e2e

import (
	"bytes"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

// once makes a key's KSNs be accepted once.
func once(k *testKey) { k.KSN = "monotonic" }

// TestKeySerialNumbersAreAcceptedOnce goes through the rules of DESIGN §4, for both
// schemes: the counter only grows, an identical retry gets the stored answer, anything
// else with a KSN that was used is refused, a refused block moves nothing.
func TestKeySerialNumbersAreAcceptedOnce(t *testing.T) {
	ring := newKeyring()
	bdks := map[string]string{
		"TDES": ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once),
		"AES":  ring.add("B0", "A", "X", "FEDCBA9876543210F1F1F1F1F1F1F1F1", once),
	}
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	iso3, iso0Key := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_3), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	dir := filepath.Join(tempDir(t), "dev")
	s := startIn(t, dir, ring.keys...)
	pins := s.pins()
	issuer := tdes(t, unhex(t, zoneTDES))

	translate := func(r *keydv1.TranslatePinDataRequest, want string) *keydv1.TranslatePinDataResponse {
		t.Helper()
		answer, err := pins.TranslatePinData(s.ctx(), r)
		if got := reason(err); got != want {
			t.Fatalf("%s, want %s (%v)", got, want, err)
		}
		return answer
	}
	for scheme, bdk := range bdks {
		d := newTerminal(t, ring, bdk, 7)
		// Format 3 has a random fill: the same answer twice is a stored one.
		first := translate(d.translation(5, iso3), "OK")
		if !d.opens(issuer, first.EncryptedPinBlock) {
			t.Fatalf("%s: the block holds another PIN", scheme)
		}
		if again := translate(d.translation(5, iso3), "OK"); !proto.Equal(again, first) {
			t.Errorf("%s: a retry got another answer: %v, %v", scheme, again, first)
		}
		// The same KSN, and anything else.
		translate(d.translation(5, iso0Key), "KSN_REPLAYED")
		other := d.translation(5, iso3)
		other.PrimaryAccountNumber = "4012345678901" // another check digit: the block still deciphers
		translate(other, "KSN_REPLAYED")
		verify := &keydv1.VerifyPinDataRequest{Incoming: other.Incoming, VerificationKeyId: pvk, PrimaryAccountNumber: d.pan, EncryptedPinBlock: d.translation(5, iso3).EncryptedPinBlock,
			Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: "1234"}}}}
		if _, err := pins.VerifyPinData(s.ctx(), verify); reason(err) != "KSN_REPLAYED" {
			t.Errorf("%s: a translated KSN verifies: %v", scheme, err)
		}
		translate(d.translation(4, iso3), "KSN_REPLAYED") // an earlier one
		// Order: usage before the KSN, the KSN before the block.
		wrong := d.translation(5, &keydv1.PinKey{KeyId: pvk, Format: keydv1.PinBlockFormat_ISO_FORMAT_0})
		translate(wrong, "KEY_USAGE_MISMATCH")
		broken := d.translation(5, iso3)
		broken.EncryptedPinBlock[0] ^= 1
		translate(broken, "KSN_REPLAYED")
		// A refused block moves nothing.
		broken = d.translation(6, iso3)
		broken.EncryptedPinBlock[0] ^= 1
		translate(broken, "PIN_BLOCK_INVALID")
		translate(d.translation(6, iso3), "OK")
		// A jump is bounded.
		translate(d.translation(6+1<<16+1, iso3), "KSN_REPLAYED")
		translate(d.translation(6+1<<16, iso3), "OK")
		// Another terminal has a counter of its own.
		translate(newTerminal(t, ring, bdk, 8).translation(1, iso3), "OK")
		// A verification is an answer that is kept, too.
		d = newTerminal(t, ring, bdk, 9)
		in, block := d.block(1)
		verify = &keydv1.VerifyPinDataRequest{Incoming: in, VerificationKeyId: pvk, PrimaryAccountNumber: d.pan, EncryptedPinBlock: block, Expected: verify.Expected}
		for range 2 {
			if answer, err := pins.VerifyPinData(s.ctx(), verify); err != nil || answer.Verified || answer.Custody != keydv1.Custody_CUSTODY_MODULE {
				t.Errorf("%s: verification: %v, %v", scheme, answer, err)
			}
		}
		translate(d.translation(1, iso3), "KSN_REPLAYED")
	}

	// A stream's items are requests like others.
	d := newTerminal(t, ring, bdks["TDES"], 10)
	stream, err := pins.TranslatePinDataStream(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint64(2) {
		r := d.translation(1, iso3)
		if id == 1 {
			r.Outgoing = iso0Key
		}
		if err := stream.Send(&keydv1.TranslatePinDataStreamRequest{CorrelationId: id, Request: r}); err != nil {
			t.Fatal(err)
		}
	}
	accepted := 0
	for range 2 {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if answer.GetResponse() != nil {
			accepted++
		} else if got := itemReason(answer.GetError()); got != "KSN_REPLAYED" {
			t.Errorf("an item: %s", got)
		}
	}
	if accepted != 1 {
		t.Errorf("%d of 2 items with one KSN were accepted", accepted)
	}

	// What was accepted survives the front, and keyd.
	d = newTerminal(t, ring, bdks["TDES"], 11)
	first := translate(d.translation(3, iso3), "OK")
	kill(processes(s.status(), "front")[0])
	var again *keydv1.TranslatePinDataResponse
	waitUntil(t, "a retry after the front was killed", func() bool {
		again, err = pins.TranslatePinData(s.ctx(), d.translation(3, iso3))
		return status.Code(err) != codes.Unavailable
	})
	if err != nil || !proto.Equal(again, first) {
		t.Errorf("after kill -9 of the front a retry got %v, %v; want %v", again, err, first)
	}
	s.stop()
	s = startIn(t, dir)
	pins = s.pins()
	if again := translate(d.translation(3, iso3), "OK"); !proto.Equal(again, first) {
		t.Errorf("after a restart a retry got %v, want %v", again, first)
	}
	translate(d.translation(3, iso0Key), "KSN_REPLAYED")
	translate(d.translation(2, iso3), "KSN_REPLAYED")
	translate(d.translation(4, iso3), "OK")
}

// TestOneOfManyWins lets many requests race for one KSN.
func TestOneOfManyWins(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	iso0Key, iso3 := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_3)
	s := start(t, ring.keys...)
	pins := s.pins()
	d := newTerminal(t, ring, bdk, 1)
	for counter := uint32(1); counter <= 10; counter++ {
		var mu sync.Mutex
		answers := map[string][][]byte{} // by what was asked
		var all sync.WaitGroup
		for i := range 64 {
			r, kind := d.translation(counter, iso3), "3"
			if i%2 == 0 {
				r.Outgoing, kind = iso0Key, "0"
			}
			all.Go(func() {
				answer, err := pins.TranslatePinData(s.ctx(), r)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					answers[kind] = append(answers[kind], answer.EncryptedPinBlock)
				case reason(err) != "KSN_REPLAYED":
					t.Errorf("counter %d: %v", counter, err)
				}
			})
		}
		all.Wait()
		if len(answers) != 1 {
			t.Fatalf("counter %d: %d different requests were accepted, want 1", counter, len(answers))
		}
		for _, blocks := range answers {
			for _, b := range blocks {
				if !bytes.Equal(b, blocks[0]) {
					t.Errorf("counter %d: two answers to one request", counter)
				}
			}
		}
	}
}
