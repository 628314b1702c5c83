package module

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/internal/wire"
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
	cache := sealing.NewCache(tok, masters, 16)
	s := newServer(newEngines(working.New(tok, cache, 16, time.Now), nil), tok.Sessions(),
		func() *wire.Description { return &wire.Description{Label: "test"} },
		slog.New(slog.NewTextHandler(io.Discard, nil)), func(err error) { dead <- err })
	return s, dead
}

func ask(t *testing.T, front net.Conn, in *bufio.Reader, id uint64, op wire.Op, m proto.Message) wire.Frame {
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
		"no PAN to verify":         {wire.OpVerifyPIN, &wire.VerifyPin{Incoming: pin(0, nil), Verification: key, Block: make([]byte, 8), Expected: pvv}, fault.RequestInvalid},
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
	if _, err := front.Write([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if err := front.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := front.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the channel is open: %v", err)
	}
}
