package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"keyd/fault"
)

// strictRegistrar registers services whose requests are decoded strictly. gRPC decodes
// before any interceptor runs, and answers what it cannot decode by itself: without
// reason and audit entry, with the decoder's text. Here such a request goes the way of
// all others and is refused where its handler would begin.
type strictRegistrar struct{ to grpc.ServiceRegistrar }

// RegisterService implements [grpc.ServiceRegistrar].
func (r strictRegistrar) RegisterService(desc *grpc.ServiceDesc, service any) {
	strict := *desc
	strict.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		strict.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: strictHandler(m.Handler)}
	}
	r.to.RegisterService(&strict, service)
}

func strictHandler(handler grpc.MethodHandler) grpc.MethodHandler {
	return func(service any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		var malformed error
		lenient := func(request any) error {
			if err := decode(request); err != nil {
				malformed = fault.New(fault.RequestInvalid, "the message is not what its type says")
			} else if m, ok := request.(proto.Message); !ok || hasUnknown(m.ProtoReflect()) {
				malformed = fault.New(fault.RequestInvalid, "the message has a field that this keyd does not know")
			}
			return nil
		}
		refuse := func(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return interceptor(ctx, request, info, func(ctx context.Context, request any) (any, error) {
				if malformed != nil {
					return nil, malformed
				}
				return next(ctx, request)
			})
		}
		return handler(service, ctx, lenient, refuse)
	}
}

// hasUnknown reports whether a message or one in it has a field that its type lacks. A
// caller who sets one means something by it, a condition perhaps, that would not be
// honoured.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				found = found || hasUnknown(value.List().Get(i).Message())
			}
		case field.IsMap():
			found = true // see above: there is none, and what there is none of is refused
		default:
			found = hasUnknown(value.Message())
		}
		return !found
	})
	return found
}
