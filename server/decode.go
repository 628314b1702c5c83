package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyd/fault"
)

// codec decodes requests. gRPC decodes before any interceptor runs, and answers what
// does not decode by itself: without a reason, without an audit entry, with the
// decoder's text. With this codec such a request becomes a message that
// [refuseUnknown] refuses, and goes the way of all others until then.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

// undecodable is a field that no message has: number 536870911, the highest, is kept
// free in the contract.
var undecodable = protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1)

// Unmarshal implements [encoding.CodecV2]. Nothing of what does not decode is kept.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	m, ok := v.(proto.Message)
	if !ok {
		return err
	}
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(undecodable)
	return nil
}

// refuseUnknown refuses a request that has a field that its type lacks. A caller who
// sets one means something by it, a condition perhaps, that would not be honoured.
func refuseUnknown(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if m, ok := request.(proto.Message); !ok || hasUnknown(m.ProtoReflect()) {
		return nil, fault.New(fault.RequestInvalid, "the message does not follow the contract, or has a field that this keyd does not know")
	}
	return next(ctx, request)
}

// hasUnknown reports whether a message, or one in it, has a field that its type lacks.
// It looks at the fields that hold messages only: every request comes through here.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || !m.Has(field) {
			continue
		}
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil { // the contract has none of messages, and what it does not have is refused
				return true
			}
		case field.IsList():
			list := m.Get(field).List()
			for j := range list.Len() {
				if hasUnknown(list.Get(j).Message()) {
					return true
				}
			}
		case hasUnknown(m.Get(field).Message()):
			return true
		}
	}
	return false
}
