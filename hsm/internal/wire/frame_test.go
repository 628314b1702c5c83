package wire_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"keyd/hsm/internal/wire"
)

func encode(t testing.TB, id uint64, op wire.Op) []byte {
	t.Helper()
	b, err := wire.Append(nil, id, op, &wire.TranslatePin{Pan: "4012345678909", Block: make([]byte, 8)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFramesComeBackAsTheyWent(t *testing.T) {
	stream := append(encode(t, 1, wire.OpTranslatePIN), encode(t, 1<<63, wire.OpFailure)...)
	in := bufio.NewReader(bytes.NewReader(stream))
	for _, want := range []struct {
		id uint64
		op wire.Op
	}{{1, wire.OpTranslatePIN}, {1 << 63, wire.OpFailure}} {
		f, err := wire.Read(in)
		var m wire.TranslatePin
		if err != nil || f.ID != want.id || f.Op != want.op || f.Decode(&m) != nil || m.Pan != "4012345678909" {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	if _, err := wire.Read(in); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestWhatIsNoFrame(t *testing.T) {
	good := encode(t, 7, wire.OpVerifyPIN)
	for n := 1; n < len(good); n++ {
		if _, err := wire.Read(bufio.NewReader(bytes.NewReader(good[:n]))); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for _, length := range [][]byte{{0, 0, 0, 8}, {0, 1, 0, 10}, {0xFF, 0xFF, 0xFF, 0xFF}} {
		bad := append(length, good[4:]...)
		if _, err := wire.Read(bufio.NewReader(bytes.NewReader(bad))); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("length %x: %v", length, err)
		}
	}
	unknown, err := wire.Append(nil, 1, wire.OpVerifyPIN, &wire.Description{Label: "x", CachedKeys: 9})
	if err != nil {
		t.Fatal(err)
	}
	f, err := wire.Read(bufio.NewReader(bytes.NewReader(unknown)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Decode(&wire.Describe{}); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("a field that the message does not have: %v", err)
	}
	if _, err := wire.Append(nil, 1, wire.OpTranslatePIN, &wire.TranslatePin{Block: make([]byte, wire.MaxPayload)}); err == nil {
		t.Error("a frame over the limit is encoded")
	}
}

// TestBounds: an operation on data is small, and so is one that nobody knows; one with papers or
// with the register of officers and keys is not, nor is an answer.
func TestBounds(t *testing.T) {
	bounds := map[wire.Op]int{0: wire.MaxPayload, 31: wire.MaxPayload, wire.OpAnswer: wire.MaxEpochPayload, wire.OpFailure: wire.MaxPayload, 127: wire.MaxPayload, 255: wire.MaxPayload}
	for op := wire.OpDescribe; op <= wire.OpVerifyCVV; op++ {
		bounds[op] = wire.MaxPayload
	}
	for _, op := range []wire.Op{wire.OpFirstEpoch, wire.OpGetIdentity, wire.OpReseal, wire.OpCertificate, wire.OpSealBackup} {
		bounds[op] = wire.MaxPayload
	}
	for _, op := range []wire.Op{wire.OpLoadEpoch, wire.OpCommitEpoch, wire.OpFollowEpoch, wire.OpBeginCeremony, wire.OpCheckCeremony, wire.OpCarryOut, wire.OpAbortCeremony} {
		bounds[op] = wire.MaxEpochPayload
	}
	for op, most := range bounds {
		const overhead = 4 // of the one field: its number, and its length in three bytes
		b, err := wire.Append(nil, 1, op, &wire.LoadEpoch{Epoch: make([]byte, most-overhead)})
		if err != nil {
			t.Errorf("op %d: %d bytes: %v", op, most, err)
			continue
		}
		if f, err := wire.Read(bufio.NewReader(bytes.NewReader(b))); err != nil || len(f.Payload) != most {
			t.Errorf("op %d: %d of %d bytes came back: %v", op, len(f.Payload), most, err)
		}
		if _, err := wire.Append(nil, 1, op, &wire.LoadEpoch{Epoch: make([]byte, most-overhead+1)}); err == nil {
			t.Errorf("op %d: a frame over the limit is encoded", op)
		}
		binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)+1)
		if _, err := wire.Read(bufio.NewReader(bytes.NewReader(append(b, 0)))); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("op %d: a frame over the limit is read: %v", op, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(encode(f, 1, wire.OpTranslatePIN))
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := wire.Read(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			if frame.Payload != nil || frame.Op != 0 {
				t.Error("a partial frame beside an error")
			}
			return
		}
		var m wire.TranslatePin
		if frame.Decode(&m) != nil {
			return
		}
		again, err := wire.Append(nil, frame.ID, frame.Op, &m)
		if err != nil {
			t.Fatal(err)
		}
		second, err := wire.Read(bufio.NewReader(bytes.NewReader(again)))
		if err != nil || second.ID != frame.ID || second.Op != frame.Op {
			t.Errorf("not the same frame: %v", err)
		}
	})
}
