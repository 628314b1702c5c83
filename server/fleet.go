package server

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keys"
	"keyd/store"
)

// What a policy allows for keyd.v1.FleetService.
const (
	actionListNodes  = "FleetService/ListNodes"
	actionForgetNode = "FleetService/ForgetNode"
)

// fleetBinding answers which keyds share the database.
type fleetBinding struct {
	keydv1.UnimplementedFleetServiceServer
	access   gate
	officers *keys.Ceremonies
}

// ListNodes implements keyd.v1.FleetService.
func (b fleetBinding) ListNodes(ctx context.Context, _ *keydv1.ListNodesRequest) (*keydv1.ListNodesResponse, error) {
	if err := b.access.Authorize(ctx, actionListNodes, nil); err != nil {
		return nil, err
	}
	nodes, err := b.officers.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	return &keydv1.ListNodesResponse{Nodes: nodeMessages(nodes, b.officers.Node)}, nil
}

// ForgetNode implements keyd.v1.FleetService.
func (b fleetBinding) ForgetNode(ctx context.Context, r *keydv1.ForgetNodeRequest) (*keydv1.ForgetNodeResponse, error) {
	if err := b.access.Authorize(ctx, actionForgetNode, nil); err != nil {
		return nil, err
	}
	if err := b.officers.ForgetNode(ctx, r.GetName()); err != nil {
		return nil, err
	}
	b.access.Entry(ctx).Detail = "node " + r.GetName() + " was forgotten"
	return &keydv1.ForgetNodeResponse{}, nil
}

func nodeMessages(nodes []store.Node, self string) []*keydv1.Node {
	list := make([]*keydv1.Node, len(nodes))
	for i, n := range nodes {
		list[i] = &keydv1.Node{
			Name: n.Name, Version: n.Version, Epoch: n.Epoch, Detail: n.Detail,
			LastSeen: timestamppb.New(n.LastSeen), Age: durationpb.New(n.Age), Self: n.Name == self,
		}
	}
	return list
}
