package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	keydv1 "keyd/api/keyd/v1"
)

func voidStateNames() []string {
	return []string{"created", "scanned", "authorized", "confirmed", "declined", "expired", "cancelled"}
}

func voidList() *cobra.Command {
	var conn connection
	var out output
	var which string
	request := &keydv1.ListVoidsRequest{}
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the voids of a merchant, the newest first",
		Example: `  keyd void list --merchant m-17 --state authorized --dir ./dev`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "switch")
	out.flag(c)
	f := c.Flags()
	f.StringVar(&request.Merchant, "merchant", "", "the merchant")
	f.StringVar(&which, "state", "", strings.Join(voidStateNames(), ", ")+" only")
	completeFlag(c, "state", voidStateNames()...)
	if err := c.MarkFlagRequired("merchant"); err != nil {
		panic(err) // the flag is defined above
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		state, ok := keydv1.Void_State_value[strings.ToUpper(which)]
		if which != "" && (!ok || state == 0) {
			return fmt.Errorf("--state is one of %s", strings.Join(voidStateNames(), ", "))
		}
		request.State, request.PageSize = keydv1.Void_State(state), 1000
		calls, err := conn.open()
		if err != nil {
			return err
		}
		defer calls.Close() //nolint:errcheck // the answers are there
		client, all := keydv1.NewVoidServiceClient(calls), new(keydv1.ListVoidsResponse)
		for {
			page, err := client.ListVoids(cmd.Context(), request)
			if err != nil {
				return err
			}
			all.Voids = append(all.Voids, page.Voids...)
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "VOID", "STATE", "RESULT", "TERMINAL", "PAYMENT", "AMOUNT", "CREATED (UTC)")
			for _, v := range all.Voids {
				row(w, printable(v.VoidId), voidState(v), printable(v.Result), printable(v.Terminal), printable(v.Reference), amountOf(v), moment(v.CreatedAt))
			}
		})
	}
	return c
}

// watchPause is how long a watcher waits before it asks again a service that has gone away.
const watchPause = time.Second

func voidWatch() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:   "watch VOID",
		Short: "Follow a void until it is over",
		Long: `Prints the void as it is, and then at each change, until it is over. When the service goes away,
it goes on when that is back.`,
		Example: `  keyd void watch 0a1b… --dir ./dev`,
		Args:    oneVoid,
	}
	conn.flags(c, "switch")
	out.flag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := out.json()
		if err != nil {
			return err
		}
		connected, config, err := conn.dial()
		if err != nil {
			return err
		}
		defer connected.Close() //nolint:errcheck // what was sent is printed
		ctx, client := cmd.Context(), keydv1.NewVoidServiceClient(connected)
		var seen uint64
		for {
			err := watchOnce(ctx, client, args[0], &seen, asJSON)
			if err == nil || status.Code(err) != codes.Unavailable || ctx.Err() != nil {
				return conn.why(ctx, config, err)
			}
			fmt.Fprintln(os.Stderr, "keyd has gone away; asking again")
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(watchPause):
			}
		}
	}
	return c
}

// watchOnce follows a void over one stream. What was printed is not printed again.
func watchOnce(ctx context.Context, client keydv1.VoidServiceClient, id string, seen *uint64, asJSON bool) error {
	stream, err := client.WatchVoid(ctx, &keydv1.WatchVoidRequest{VoidId: id})
	if err != nil {
		return err
	}
	for {
		v, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if v.Version <= *seen {
			continue
		}
		*seen = v.Version
		if asJSON {
			b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(v)
			if err != nil {
				return err
			}
			fmt.Println(string(b))
			continue
		}
		fmt.Printf("%s  %s  %s\n", moment(v.ChangedAt), voidState(v), printable(v.Result+" → "+strings.Join(v.Next, ", ")))
	}
}
