package server

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/terminals"
)

// listPart is the size of the largest part of a revocation list, in bytes.
const listPart = 32 << 10

// maxUploads is how many revocation lists are taken at once: each lies in memory meanwhile.
const maxUploads = 4

// SetRevocationList implements keyd.v1.TerminalService. It is a request like others, whose
// content comes in parts: none is read before the policy has allowed it, and all within the time
// of one request.
func (b terminalBinding) SetRevocationList(stream grpc.ClientStreamingServer[keydv1.SetRevocationListRequest, keydv1.RevocationList]) error {
	take := func(ctx context.Context, _ any) (any, error) { return b.setList(ctx, stream) }
	answer, err := chained(b.steps, &grpc.UnaryServerInfo{Server: b, FullMethod: keydv1.TerminalService_SetRevocationList_FullMethodName}, take)(stream.Context(), new(keydv1.SetRevocationListRequest))
	if err != nil {
		return translated{err}
	}
	return stream.SendAndClose(answer.(*keydv1.RevocationList))
}

// setList reads a list to its end. Nothing more is read of a caller whom the policy denies.
func (b terminalBinding) setList(ctx context.Context, stream grpc.ClientStreamingServer[keydv1.SetRevocationListRequest, keydv1.RevocationList]) (*keydv1.RevocationList, error) {
	if err := b.access.about(ctx, terminalService+"SetRevocationList", nil, nil); err != nil {
		return nil, err
	}
	select {
	case b.uploads <- struct{}{}:
		defer func() { <-b.uploads }()
	default:
		return nil, fault.New(fault.Conflict, "other revocation lists are being taken: send this one again")
	}
	list, issuers, err := readList(ctx, stream)
	if err != nil {
		return nil, err
	}
	l, err := b.distribution.SetList(ctx, list, issuers)
	if err != nil {
		return nil, err
	}
	b.access.Entry(ctx).Detail = fmt.Sprintf("revocation list of %s with %d entries", l.Issuer, l.Entries)
	return listMessage(l), nil
}

// readList puts the parts of a list together. A caller who falls silent is given up when the
// time of the request is over.
func readList(ctx context.Context, stream grpc.ClientStreamingServer[keydv1.SetRevocationListRequest, keydv1.RevocationList]) (list []byte, issuers [][]byte, err error) {
	type part struct {
		request *keydv1.SetRevocationListRequest
		err     error
	}
	parts := make(chan part)
	go func() { // it ends with the stream at the latest
		for {
			r, err := stream.Recv()
			select {
			case parts <- part{r, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for first := true; ; first = false {
		var p part
		select {
		case p = <-parts:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		data := p.request.GetData()
		switch {
		case errors.Is(p.err, io.EOF) && !first:
			return list, issuers, nil
		case errors.Is(p.err, io.EOF):
			return nil, nil, fault.New(fault.RequestInvalid, "nothing was sent")
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case status.Code(p.err) == codes.ResourceExhausted:
			return nil, nil, fault.New(fault.RequestInvalid, "a message is too large: data is sent in parts of at most 32 KiB")
		case p.err != nil:
			return nil, nil, context.Canceled // the caller has gone
		case hasUnknown(p.request.ProtoReflect()):
			return nil, nil, fault.New(fault.RequestInvalid, "a message does not follow the contract, or has a field that this keyd does not know")
		case len(data) == 0 || len(data) > listPart:
			return nil, nil, fault.New(fault.RequestInvalid, "data has a part of the revocation list in every message, of at most 32 KiB")
		case len(list)+len(data) > terminals.MaxRevocationList:
			return nil, nil, fault.New(fault.RequestInvalid, "a revocation list has at most 8 MiB")
		case !first && len(p.request.GetIssuers()) > 0:
			return nil, nil, fault.New(fault.RequestInvalid, "issuers come with the first message")
		case first:
			issuers = p.request.GetIssuers()
		}
		list = append(list, data...)
	}
}

// ListRevocationLists implements keyd.v1.TerminalService.
func (b terminalBinding) ListRevocationLists(ctx context.Context, _ *keydv1.ListRevocationListsRequest) (*keydv1.ListRevocationListsResponse, error) {
	if err := b.access.about(ctx, terminalService+"ListRevocationLists", nil, nil); err != nil {
		return nil, err
	}
	lists, err := b.distribution.Lists(ctx)
	if err != nil {
		return nil, err
	}
	answer := new(keydv1.ListRevocationListsResponse)
	for i := range lists {
		answer.RevocationLists = append(answer.RevocationLists, listMessage(&lists[i]))
	}
	return answer, nil
}

func listMessage(l *terminals.RevocationList) *keydv1.RevocationList {
	return &keydv1.RevocationList{
		Issuer: l.Issuer, IssuerKeySha256: l.IssuerKey, Number: l.Number, Entries: l.Entries,
		ThisUpdate: timestamppb.New(l.ThisUpdate), NextUpdate: timestamppb.New(l.NextUpdate), StoredAt: timestamppb.New(l.StoredAt),
	}
}
