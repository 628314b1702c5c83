// Package wire is the protocol between front and module: length-prefixed frames
// over a stream socket pair, each with a protobuf message of the closed set in
// wire.proto. Both sides treat what they read as hostile.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"
)

// Op is an operation of the module, or the kind of its answer.
type Op uint8

// The operations and the two kinds of answer.
const (
	OpDescribe     Op = 1
	OpTranslatePIN Op = 2
	OpVerifyPIN    Op = 3
	OpResetTries   Op = 4
	OpGeneratePIN  Op = 5
	OpChangePIN    Op = 6
	OpGenerateMAC  Op = 7
	OpVerifyMAC    Op = 8
	OpEncryptData  Op = 9
	OpDecryptData  Op = 10
	OpReEncrypt    Op = 11
	OpGenerateCVV  Op = 12
	OpVerifyCVV    Op = 13

	OpLoadEpoch     Op = 32
	OpCommitEpoch   Op = 33
	OpFirstEpoch    Op = 34
	OpGetIdentity   Op = 35
	OpBeginCeremony Op = 36
	OpCheckCeremony Op = 37
	OpCarryOut      Op = 38
	OpAbortCeremony Op = 39
	OpReseal        Op = 40
	OpCertificate   Op = 41
	OpFollowEpoch   Op = 42
	OpSealBackup    Op = 50

	OpInjectByAgreement Op = 51
	OpInjectByToken     Op = 52
	OpConfirmInjection  Op = 53
	OpMakeSessionKeys   Op = 54
	OpMakeBindingToken  Op = 55

	OpBeginPIN      Op = 60
	OpSetPIN        Op = 61
	OpVerifyRecord  Op = 62
	OpChangeRecord  Op = 63
	OpRevokeRecord  Op = 64
	OpUnblockRecord Op = 65
	OpResealRecord  Op = 66
	OpAuthorizeVoid Op = 67
	OpApproveVoid   Op = 68
	OpSignCode      Op = 69

	OpSetPasskey         Op = 70
	OpAuthorizeByPasskey Op = 71
	OpSignPageKey        Op = 72

	OpLastCheckpoint Op = 43
	OpSignCheckpoint Op = 44

	OpAnswer  Op = 128 // the operation's own message
	OpFailure Op = 129 // a Failure message
)

// Bounds of the message in a frame, in bytes: of an operation on data, and of one on the
// epoch, of one with many keys, and of any answer.
const (
	MaxPayload      = 64 << 10
	MaxEpochPayload = 3 << 19
)

// maxPayload is the bound for an operation.
func (op Op) maxPayload() int {
	switch op {
	case OpLoadEpoch, OpCommitEpoch, OpFollowEpoch, OpBeginCeremony, OpCheckCeremony, OpCarryOut, OpAbortCeremony, OpAuthorizeVoid, OpAnswer:
		return MaxEpochPayload
	}
	return MaxPayload
}

// headerSize is: 4 bytes length of what follows, 8 bytes identifier, 1 byte Op.
const headerSize = 4 + 8 + 1

// ErrFrame is returned for bytes that are no frame.
var ErrFrame = errors.New("malformed frame")

// Frame is one message and the request it belongs to.
type Frame struct {
	ID      uint64
	Op      Op
	Payload []byte
}

// Append appends the encoded frame with message m to b.
func Append(b []byte, id uint64, op Op, m proto.Message) ([]byte, error) {
	start := len(b)
	b = slices.Grow(b, headerSize+proto.Size(m))[:start+headerSize]
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	payload := len(b) - start - headerSize
	if payload > op.maxPayload() {
		return nil, fmt.Errorf("frame has %d bytes; at most %d are allowed", payload, op.maxPayload())
	}
	binary.BigEndian.PutUint32(b[start:], uint32(payload+headerSize-4))
	binary.BigEndian.PutUint64(b[start+4:], id)
	b[start+12] = byte(op)
	return b, nil
}

// Read reads one frame. At the end of the stream between frames it returns io.EOF;
// for anything that is no frame, an error wrapping [ErrFrame].
func Read(r *bufio.Reader) (Frame, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return Frame{}, fmt.Errorf("%w: cut short", ErrFrame)
		}
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(header[:])
	if most := Op(header[12]).maxPayload(); n < headerSize-4 || n > uint32(most+headerSize-4) {
		return Frame{}, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	f := Frame{
		ID:      binary.BigEndian.Uint64(header[4:]),
		Op:      Op(header[12]),
		Payload: make([]byte, n-(headerSize-4)),
	}
	if _, err := io.ReadFull(r, f.Payload); err != nil {
		return Frame{}, fmt.Errorf("%w: cut short", ErrFrame)
	}
	return f, nil
}

// Decode parses the frame's message strictly: a field that the message does not
// have is an error.
func (f Frame) Decode(m proto.Message) error {
	if err := proto.Unmarshal(f.Payload, m); err != nil {
		return fmt.Errorf("%w: message", ErrFrame)
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("%w: unknown field", ErrFrame)
	}
	return nil
}
