package module

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/sealedtest"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
	"keyd/hsm/module/internal/working"
	"keyd/supervisor/child"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

func TestAFailedSelfTestEndsTheProcessForGood(t *testing.T) {
	tok := tokentest.SoftHSM(t).Open(t, 1)
	passed, err := powerOn(tok)
	if err != nil || len(passed) != len(selfTests)+len(token.Probes) {
		t.Fatalf("%d passed, %v", len(passed), err)
	}
	keep := selfTests[1].run
	defer func() { selfTests[1].run = keep }()
	wrong := errors.New("a wrong answer")
	selfTests[1].run = func() error { return wrong }
	passed, err = powerOn(tok)
	if passed != nil || !errors.Is(err, wrong) {
		t.Fatalf("%v, %v", passed, err)
	}
	if code := Exit(err); code != child.ExitPermanent {
		t.Errorf("exit status %d", code)
	}
}

// testServer is a module's server on a fresh token, with the front's end of a channel.
func testServer(t *testing.T) (front net.Conn, dead chan error) {
	t.Helper()
	s, dead := newTestServer(t)
	front, back := net.Pipe()
	s.attach(back)
	t.Cleanup(func() { _ = front.Close() })
	return front, dead
}

func newTestServer(t *testing.T) (*server, chan error) {
	t.Helper()
	tok := tokentest.SoftHSM(t).Open(t, 2)
	var masters *sealing.Masters
	err := tok.Do(func(s *token.Session) (err error) {
		if err = sealing.CreateMasters(s, 1); err == nil {
			masters, err = sealing.FindMasters(s, 1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	dead := make(chan error, 8)
	cache := sealing.NewCache(tok, sealing.NewSet(masters), 16)
	s := newServer(newEngines(working.New(tok, cache, 16, sealedtest.Unregistered(time.Now)), nil, nil, nil, nil, nil, nil), tok.Sessions(),
		func() *wire.Description { return &wire.Description{Label: "test"} },
		slog.New(slog.NewTextHandler(io.Discard, nil)), func(err error) { dead <- err })
	return s, dead
}

func ask(t testing.TB, front net.Conn, in *bufio.Reader, id uint64, op wire.Op, m proto.Message) wire.Frame {
	t.Helper()
	encoded, err := wire.Append(nil, id, op, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := front.Write(encoded); err != nil {
		t.Fatal(err)
	}
	f, err := wire.Read(in)
	if err != nil || f.ID != id {
		t.Fatalf("answer %d to %d: %v", f.ID, id, err)
	}
	return f
}

// TestAHostileFrontGetsRefusals sends what no front of keyd's would.
func TestAHostileFrontGetsRefusals(t *testing.T) {
	front, dead := testServer(t)
	in := bufio.NewReader(front)
	sealed := make([]byte, 300)
	key := &wire.SealedKey{Name: "k", Sealed: sealed}
	pin := func(format uint32, ksn []byte) *wire.PinKey { return &wire.PinKey{Key: key, Format: format, Ksn: ksn} }
	void := &wire.VoidFields{Void: strings.Repeat("0a", 16), Merchant: "m", Terminal: "t", Reference: "r", Amount: 1, Currency: 156}
	pvv := &wire.VerifyPin_VisaPvv{VisaPvv: &wire.VisaPvv{KeyIndex: 1, Pvv: "1234"}}
	for name, c := range map[string]struct {
		op   wire.Op
		m    proto.Message
		want fault.Reason
	}{
		"an unknown operation":     {77, &wire.Describe{}, fault.RequestInvalid},
		"an answer as a question":  {wire.OpAnswer, &wire.TranslatedPin{Block: make([]byte, 8)}, fault.RequestInvalid},
		"nothing":                  {wire.OpTranslatePIN, &wire.TranslatePin{}, fault.RequestInvalid},
		"no outgoing key":          {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(0, nil), Block: make([]byte, 8)}, fault.RequestInvalid},
		"a format beyond the last": {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(5, nil), Outgoing: pin(0, nil), Block: make([]byte, 8)}, fault.RequestInvalid},
		"a block of nine bytes":    {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(0, nil), Outgoing: pin(0, nil), Block: make([]byte, 9)}, fault.RequestInvalid},
		"a KSN of nine bytes":      {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(0, make([]byte, 9)), Outgoing: pin(0, nil), Block: make([]byte, 8)}, fault.KSNInvalid},
		"a PAN of letters":         {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(0, nil), Outgoing: pin(0, nil), Block: make([]byte, 8), Pan: "PAN"}, fault.RequestInvalid},
		"a key of zeros":           {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: pin(0, nil), Outgoing: pin(0, nil), Block: make([]byte, 8), Pan: "4012345678909"}, fault.KeySealInvalid},
		"a sealed key too large":   {wire.OpTranslatePIN, &wire.TranslatePin{Incoming: &wire.PinKey{Key: &wire.SealedKey{Name: "k", Sealed: make([]byte, hsm.MaxSealedSize+1)}}, Outgoing: pin(0, nil), Block: make([]byte, 8)}, fault.RequestInvalid},
		"nothing to verify with":   {wire.OpVerifyPIN, &wire.VerifyPin{Incoming: pin(0, nil), Verification: key, Block: make([]byte, 8), Pan: "4012345678909"}, fault.RequestInvalid},
		"a PVV of letters":         {wire.OpVerifyPIN, &wire.VerifyPin{Incoming: pin(0, nil), Verification: key, Block: make([]byte, 8), Expected: &wire.VerifyPin_VisaPvv{VisaPvv: &wire.VisaPvv{Pvv: "12x4"}}}, fault.RequestInvalid},
		"a PVV index of ten":       {wire.OpVerifyPIN, &wire.VerifyPin{Incoming: pin(0, nil), Verification: key, Block: make([]byte, 8), Expected: &wire.VerifyPin_VisaPvv{VisaPvv: &wire.VisaPvv{KeyIndex: 10, Pvv: "1234"}}}, fault.RequestInvalid},
		"a PIN of three digits":    {wire.OpGeneratePIN, &wire.GeneratePin{Outgoing: pin(0, nil), Generation: key, Pan: "4012345678909", Length: 3, Method: &wire.GeneratePin_VisaPvv{VisaPvv: &wire.VisaPvv{}}}, fault.RequestInvalid},
		"a PIN with its value":     {wire.OpGeneratePIN, &wire.GeneratePin{Outgoing: pin(0, nil), Generation: key, Pan: "4012345678909", Length: 4, Method: &wire.GeneratePin_Ibm3624{Ibm3624: &wire.Ibm3624{Offset: "1234"}}}, fault.RequestInvalid},
		"a PIN by no method":       {wire.OpGeneratePIN, &wire.GeneratePin{Outgoing: pin(0, nil), Generation: key, Pan: "4012345678909", Length: 4}, fault.RequestInvalid},
		"a change to no key":       {wire.OpChangePIN, &wire.ChangePin{Incoming: pin(0, nil), Verification: key, Pan: "4012345678909", Current: make([]byte, 8), New: make([]byte, 8)}, fault.RequestInvalid},
		"a change of formats":      {wire.OpChangePIN, &wire.ChangePin{Incoming: pin(0, nil), NewIncoming: pin(4, nil), Verification: key, Pan: "4012345678909", Current: make([]byte, 8), New: make([]byte, 8), Expected: &wire.ChangePin_VisaPvv{VisaPvv: &wire.VisaPvv{Pvv: "1234"}}}, fault.RequestInvalid},
		"a change of zeros":        {wire.OpChangePIN, &wire.ChangePin{Incoming: pin(0, nil), NewIncoming: pin(0, nil), Verification: key, Pan: "4012345678909", Current: make([]byte, 8), New: make([]byte, 8), Expected: &wire.ChangePin_VisaPvv{VisaPvv: &wire.VisaPvv{Pvv: "1234"}}}, fault.KeySealInvalid},
		"a MAC without a key":      {wire.OpGenerateMAC, &wire.GenerateMac{Message: make([]byte, 8)}, fault.RequestInvalid},
		"a MAC of algorithm 5":     {wire.OpGenerateMAC, &wire.GenerateMac{Key: &wire.MacKey{Key: key, Algorithm: 5, Padding: 1}}, fault.RequestInvalid},
		"a MAC of padding 3":       {wire.OpVerifyMAC, &wire.VerifyMac{Key: &wire.MacKey{Key: key, Algorithm: 1, Padding: 3}, Mac: make([]byte, 8)}, fault.RequestInvalid},
		"a MAC of 33 bytes":        {wire.OpVerifyMAC, &wire.VerifyMac{Key: &wire.MacKey{Key: key, Algorithm: 1, Padding: 1}, Mac: make([]byte, 33)}, fault.RequestInvalid},
		"a message too large":      {wire.OpGenerateMAC, &wire.GenerateMac{Key: &wire.MacKey{Key: key, Algorithm: 1, Padding: 1}, Message: make([]byte, hsm.MaxMessage+1)}, fault.RequestInvalid},
		"a MAC key of zeros":       {wire.OpGenerateMAC, &wire.GenerateMac{Key: &wire.MacKey{Key: key, Algorithm: 1, Padding: 1}}, fault.KeySealInvalid},
		"data of no mode":          {wire.OpEncryptData, &wire.EncryptData{Key: &wire.DataKey{Key: key}, Data: make([]byte, 8)}, fault.RequestInvalid},
		"a data key of zeros":      {wire.OpDecryptData, &wire.DecryptData{Key: &wire.DataKey{Key: key, Mode: 1}, Data: make([]byte, 8)}, fault.KeySealInvalid},
		"data to no key":           {wire.OpReEncrypt, &wire.ReEncryptData{Incoming: &wire.DataKey{Key: key, Mode: 1}}, fault.RequestInvalid},
		"a card of letters":        {wire.OpGenerateCVV, &wire.GenerateCvv{Key: key, Input: &wire.CvvInput{Pan: "4O12345678909", Expiry: "1228", ServiceCode: "000"}}, fault.RequestInvalid},
		"a card without expiry":    {wire.OpVerifyCVV, &wire.VerifyCvv{Key: key, Value: "123", Input: &wire.CvvInput{Pan: "4012345678909", ServiceCode: "000"}}, fault.RequestInvalid},
		"a value of 4 digits":      {wire.OpVerifyCVV, &wire.VerifyCvv{Key: key, Value: "1234", Input: &wire.CvvInput{Pan: "4012345678909", Expiry: "1228", ServiceCode: "000"}}, fault.RequestInvalid},
		"a CVK of zeros":           {wire.OpVerifyCVV, &wire.VerifyCvv{Key: key, Value: "123", Input: &wire.CvvInput{Pan: "4012345678909", Expiry: "1228", ServiceCode: "000"}}, fault.KeySealInvalid},
		"no PAN to verify":         {wire.OpVerifyPIN, &wire.VerifyPin{Incoming: pin(0, nil), Verification: key, Block: make([]byte, 8), Expected: pvv}, fault.RequestInvalid},
		"a statement unsigned":     {wire.OpBeginCeremony, &wire.BeginCeremony{Definition: []byte("{}")}, fault.RequestInvalid},
		"a statement too large":    {wire.OpAbortCeremony, &wire.AbortCeremony{Papers: []byte("{}"), Statement: &wire.Signed{Document: make([]byte, ceremony.MaxDocument+1), Signature: make([]byte, 64)}}, fault.RequestInvalid},
		"papers of no encoding":    {wire.OpCheckCeremony, &wire.CheckCeremony{Papers: []byte("papers")}, fault.RequestInvalid},
		"no approvals":             {wire.OpBeginPIN, &wire.BeginPin{DatumKey: key}, fault.RequestInvalid},
		"an empty approval":        {wire.OpBeginPIN, &wire.BeginPin{DatumKey: key, Approvals: []*wire.Approval{{}, {}}}, fault.RequestInvalid},
		"a code without a pending": {wire.OpSetPIN, &wire.SetPin{DatumKey: key, Code: &wire.RecordBlock{Key: pin(0, nil), Block: make([]byte, 8)}, Pin: &wire.RecordBlock{Key: pin(0, nil), Block: make([]byte, 8)}}, fault.RequestInvalid},
		"no block of a record":     {wire.OpVerifyRecord, &wire.VerifyRecord{Record: make([]byte, 300), DatumKey: key}, fault.RequestInvalid},
		"a record too large":       {wire.OpVerifyRecord, &wire.VerifyRecord{Record: make([]byte, 4096), DatumKey: key, Pin: &wire.RecordBlock{Key: pin(0, nil), Block: make([]byte, 8)}}, fault.RequestInvalid},
		"a record of no key":       {wire.OpChangeRecord, &wire.ChangeRecord{Record: make([]byte, 300), Current: &wire.RecordBlock{Key: pin(0, nil), Block: make([]byte, 8)}}, fault.RequestInvalid},
		"no record to revoke":      {wire.OpRevokeRecord, &wire.RevokeRecord{}, fault.RequestInvalid},
		"no record to seal":        {wire.OpResealRecord, &wire.ResealRecord{}, fault.RequestInvalid},
		"no approval to unblock":   {wire.OpUnblockRecord, &wire.UnblockRecord{Record: make([]byte, 300)}, fault.RequestInvalid},
		"a void of nothing":        {wire.OpAuthorizeVoid, &wire.AuthorizeVoid{}, fault.RequestInvalid},
		"a void by no PIN":         {wire.OpAuthorizeVoid, &wire.AuthorizeVoid{Fields: void, TokenKey: key}, fault.RequestInvalid},
		"a void by nobody's PIN":   {wire.OpAuthorizeVoid, &wire.AuthorizeVoid{Fields: void, TokenKey: key, Pins: []*wire.VoidPin{{Incoming: pin(0, nil), Block: make([]byte, 8), MacKey: &wire.MacKey{Key: key, Algorithm: 3, Padding: 1}, Mac: make([]byte, 8)}}}, fault.RequestInvalid},
		"a currency too large":     {wire.OpApproveVoid, &wire.ApproveVoid{Fields: &wire.VoidFields{Currency: 1 << 16}, TokenKey: key}, fault.RequestInvalid},
		"a void by no approval":    {wire.OpApproveVoid, &wire.ApproveVoid{Fields: void, TokenKey: key}, fault.RequestInvalid},
		"a code of 15 bytes":       {wire.OpSignCode, &wire.SignCode{Identifier: make([]byte, 15), Audience: make([]byte, 8), Key: key}, fault.RequestInvalid},
		"papers too large":         {wire.OpCarryOut, &wire.CarryOutCeremony{Papers: make([]byte, maxPapers+1)}, fault.RequestInvalid},
	} {
		f := ask(t, front, in, rand.Uint64(), c.op, c.m)
		var failure wire.Failure
		if f.Op != wire.OpFailure || f.Decode(&failure) != nil || fault.ParseReason(failure.Reason) != c.want {
			t.Errorf("%s: op %d, %v, want %v", name, f.Op, fault.ParseReason(failure.Reason), c.want)
		}
	}
	// It still serves.
	var d wire.Description
	if f := ask(t, front, in, 1, wire.OpDescribe, &wire.Describe{}); f.Op != wire.OpAnswer || f.Decode(&d) != nil || d.Label != "test" {
		t.Errorf("op %d, %v", f.Op, d.Label)
	}
	select {
	case err := <-dead:
		t.Errorf("a refusal ended the process: %v", err)
	default:
	}
}

// TestAFrontThatDoesNotReadBlocksNobody floods a channel without reading, and is
// replaced: its successor is served, and the old channel is closed.
func TestAFrontThatDoesNotReadBlocksNobody(t *testing.T) {
	s, _ := newTestServer(t)
	flooder, back := net.Pipe()
	s.attach(back)
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for i := uint64(1); ; i++ {
			frame, err := wire.Append(nil, i, wire.OpDescribe, &wire.Describe{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := flooder.Write(frame); err != nil {
				return // the module closed the channel
			}
		}
	}()
	<-flooded
	if s.stuck(time.Minute) {
		t.Error("a worker is stuck")
	}
	front, back := net.Pipe()
	s.attach(back)
	defer front.Close() //nolint:errcheck // the end of the test
	if f := ask(t, front, bufio.NewReader(front), 7, wire.OpDescribe, &wire.Describe{}); f.Op != wire.OpAnswer {
		t.Errorf("op %d", f.Op)
	}
	successor, back := net.Pipe()
	s.attach(back)
	defer successor.Close() //nolint:errcheck // the end of the test
	if _, err := front.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the channel of a front that was replaced is open: %v", err)
	}
}

// TestWhatIsNoFrameEndsTheChannel sends bytes that are no frame.
func TestWhatIsNoFrameEndsTheChannel(t *testing.T) {
	front, _ := testServer(t)
	if err := front.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// The channel can be closed before the write has returned.
	if _, err := front.Write([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 1}); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	if _, err := front.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the channel is open: %v", err)
	}
}

// TestTheLargestAnswerFits: a ceremony that is carried out answers with an epoch, a key or a key
// block, and a record, for which the front has as much room as for two sets of papers.
func TestTheLargestAnswerFits(t *testing.T) {
	b, err := wire.Append(nil, 1, wire.OpAnswer, &wire.CeremonyCarriedOut{
		Epoch: make([]byte, ceremony.MaxEpoch), Key: &wire.SealedKey{Name: strings.Repeat("k", 128), Sealed: make([]byte, hsm.MaxSealedSize)},
		Block: strings.Repeat("0", ceremony.MaxBlock), Record: &wire.Signed{Document: make([]byte, 2*maxPapers), Signature: make([]byte, 512)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Read(bufio.NewReader(bytes.NewReader(b))); err != nil {
		t.Error(err)
	}
}

// FuzzInterpret reads any bytes as any operation: it is refused, or becomes an operation of
// the sizes that the engines work with. Nothing panics.
func FuzzInterpret(f *testing.F) {
	s := &server{}
	key := &wire.SealedKey{Name: "k", Sealed: make([]byte, 40)}
	for op, m := range map[wire.Op]proto.Message{
		wire.OpTranslatePIN: &wire.TranslatePin{Incoming: &wire.PinKey{Key: key}, Outgoing: &wire.PinKey{Key: key, Format: 3}, Pan: "4012345678909", Block: make([]byte, 8)},
		wire.OpChangePIN: &wire.ChangePin{Incoming: &wire.PinKey{Key: key}, NewIncoming: &wire.PinKey{Key: key}, Verification: key, Current: make([]byte, 8), New: make([]byte, 8),
			Expected: &wire.ChangePin_Ibm3624{Ibm3624: &wire.Ibm3624{Offset: "1234"}}},
		wire.OpGenerateMAC:    &wire.GenerateMac{Key: &wire.MacKey{Key: key, Algorithm: 1, Padding: 1}, Message: make([]byte, 8), Length: 4},
		wire.OpReEncrypt:      &wire.ReEncryptData{Incoming: &wire.DataKey{Key: key, Mode: 1}, Outgoing: &wire.DataKey{Key: key, Mode: 2}, Data: make([]byte, 8)},
		wire.OpLastCheckpoint: &wire.LastCheckpoint{Origin: historyOrigin},
		wire.OpSignCheckpoint: newHistory("a", "b", "c").request(3, 2),
		wire.OpVerifyCVV:      &wire.VerifyCvv{Key: key, Value: "123", Input: &wire.CvvInput{Pan: "4012345678909", Expiry: "1228", ServiceCode: "000"}},
		wire.OpSetPasskey:     &wire.SetPasskey{Pending: make([]byte, 300), DatumKey: key, Code: &wire.RecordBlock{Key: &wire.PinKey{Key: key, Format: 4}, Block: make([]byte, 16)}, ClientData: []byte("{}"), AuthenticatorData: make([]byte, 37), Origin: phoneOrigin},
		wire.OpAuthorizeByPasskey: &wire.AuthorizeByPasskey{Fields: &wire.VoidFields{Void: strings.Repeat("0a", 16), Merchant: "m", Terminal: "t", Reference: "r", Amount: 1, Currency: 156}, Record: make([]byte, 300), Id: make([]byte, 16), ClientData: []byte("{}"),
			AuthenticatorData: make([]byte, 37), Signature: make([]byte, 70), TokenKey: key},
		wire.OpSignPageKey: &wire.SignPageKey{PageKey: key, Key: key},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(op), b)
	}
	others := injectionMessages(f)
	maps.Copy(others, recordMessages())
	for op, m := range others {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(op), b)
	}
	f.Fuzz(func(t *testing.T, op uint8, payload []byte) {
		o, err := s.interpret(wire.Frame{Op: wire.Op(op), Payload: payload})
		if err != nil {
			if reason := fault.Of(err).Reason; reason != fault.RequestInvalid && reason != fault.KSNInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		if (o.pin == nil) == (o.other == nil) {
			t.Fatal("neither a PIN operation nor another")
		}
		if o.pin != nil && o.pin.Translate != nil && len(o.pin.Translate.Block) != o.pin.Translate.Incoming.Format.BlockSize() {
			t.Errorf("%d bytes in %s", len(o.pin.Translate.Block), o.pin.Translate.Incoming.Format)
		}
	})
}
