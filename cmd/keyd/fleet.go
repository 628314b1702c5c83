package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

func fleetCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "fleet",
		GroupID: "service",
		Short:   "See the keyds that share a database, and forget one that is gone",
		Long: `Several keyds whose tokens have the same master keys can work on one PostgreSQL database
(database.postgres and fleet in the configuration). Any of them answers these commands.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(fleetList(), fleetForget())
	return c
}

func fleetList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the nodes",
		Example: `  keyd fleet list --server keyd-a.example:7443 --ca ca.crt --cert monitor.crt --key monitor.key`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "auditor")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var r *keydv1.ListNodesResponse
		err := conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) (err error) {
			r, err = keydv1.NewFleetServiceClient(c).ListNodes(ctx, &keydv1.ListNodesRequest{})
			return err
		})
		if err != nil {
			return err
		}
		return out.print(r, func(w io.Writer) {
			if len(r.Nodes) == 0 {
				row(w, "this keyd has a database of its own")
				return
			}
			writeNodes(w, r.Nodes)
		})
	}
	return c
}

func writeNodes(w io.Writer, nodes []*keydv1.Node) {
	row(w, "NODE", "KEYD", "REGISTER", "LAST SEEN", "DETAIL")
	for _, n := range nodes {
		name, seen := n.Name, n.Age.AsDuration().Round(time.Second).String()+" ago"
		if n.Self {
			name += " (this one)"
		}
		row(w, name, n.Version, fmt.Sprintf("version %d", n.Epoch), seen, dash(printable(n.Detail)))
	}
}

func fleetForget() *cobra.Command {
	var conn connection
	c := &cobra.Command{
		Use:   "forget NODE",
		Short: "Forget a node that is gone for good",
		Long: `Forgets a node that has not shown itself for a minute, and withdraws what its officers had
decided there and its token may not know: ceremonies can then be carried out at other nodes.
Should that node come back with it, it is refused until its token is initialised anew and
joins again. It takes a certificate whose identity the policy lets call
FleetService/ForgetNode.`,
		Example: `  keyd fleet forget keyd-c --server keyd-a.example:7443 --ca ca.crt --cert operator.crt --key operator.key`,
		Args:    cobra.ExactArgs(1),
	}
	conn.flags(c, "officer-1")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		err := conn.call(cmd.Context(), func(ctx context.Context, c grpc.ClientConnInterface) error {
			_, err := keydv1.NewFleetServiceClient(c).ForgetNode(ctx, &keydv1.ForgetNodeRequest{Name: args[0]})
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("node %s is forgotten\n", args[0])
		return nil
	}
	return c
}
