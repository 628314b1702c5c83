package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/keyblock"
)

// Shell completion asks the service, if the flags so far say which one, and says nothing
// where that fails.

// completionWait bounds how long a shell hangs at the Tab key.
const completionWait = 2 * time.Second

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// ask calls the service for a completion.
func askFor(conn *connection, do func(context.Context, grpc.ClientConnInterface) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	client, _, err := conn.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer client.Close() //nolint:errcheck // the answer is there
	ctx, cancel := context.WithTimeout(context.Background(), completionWait)
	defer cancel()
	names, err := do(ctx, client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeCeremonies completes the identifier of a ceremony in a state, of any if unspecified.
func completeCeremonies(d *desk, state keydv1.Ceremony_State) completion {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return askFor(&d.conn, func(ctx context.Context, c grpc.ClientConnInterface) ([]string, error) {
			list, err := keydv1.NewCeremonyServiceClient(c).ListCeremonies(ctx, &keydv1.ListCeremoniesRequest{State: state})
			var names []string
			for _, one := range list.GetCeremonies() {
				names = append(names, fmt.Sprintf("%s\t%s %s, %s", printable(one.CeremonyId), printable(one.Kind), printable(one.Subject), one.State))
			}
			return names, err
		})
	}
}

// completeKeys completes the name or an alias of a key, as the n-th argument.
func completeKeys(conn *connection, n int) completion {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) != n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return keyNames(conn, prefix)
	}
}

func keyNames(conn *connection, prefix string) ([]string, cobra.ShellCompDirective) {
	return askFor(conn, func(ctx context.Context, c grpc.ClientConnInterface) ([]string, error) {
		k := keydv1.NewKeyServiceClient(c)
		list, err := k.ListKeys(ctx, &keydv1.ListKeysRequest{NamePrefix: prefix})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, one := range list.Keys {
			names = append(names, fmt.Sprintf("%s\t%s version %d", printable(one.KeyId), printable(one.Usage), one.Version))
		}
		aliases, err := aliasNames(ctx, k)
		return append(names, aliases...), err
	})
}

// completeTerminals completes the identifiers of at most so many terminals in a state, of any if
// unspecified.
func completeTerminals(conn *connection, most int, state keydv1.Terminal_State) completion {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return askFor(conn, func(ctx context.Context, c grpc.ClientConnInterface) ([]string, error) {
			list, err := keydv1.NewTerminalServiceClient(c).ListTerminals(ctx, &keydv1.ListTerminalsRequest{State: state})
			var names []string
			for _, t := range list.GetTerminals() {
				names = append(names, fmt.Sprintf("%s\t%s %s", printable(t.TerminalId), printable(t.Owner), printable(t.Model)))
			}
			return names, err
		})
	}
}

func aliasNames(ctx context.Context, k keydv1.KeyServiceClient) ([]string, error) {
	list, err := k.ListAliases(ctx, &keydv1.ListAliasesRequest{})
	var names []string
	for _, one := range list.GetAliases() {
		names = append(names, fmt.Sprintf("%s\talias of %s", printable(one.AliasName), printable(one.KeyId)))
	}
	return names, err
}

// completeAliases completes an alias, and after it a key.
func completeAliases(conn *connection) completion {
	return func(_ *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return keyNames(conn, prefix)
		}
		if len(args) > 1 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return askFor(conn, func(ctx context.Context, c grpc.ClientConnInterface) ([]string, error) {
			return aliasNames(ctx, keydv1.NewKeyServiceClient(c))
		})
	}
}

// completeKeyFlag completes a flag that names a key.
func completeKeyFlag(c *cobra.Command, flag string, conn *connection) {
	register(c, flag, func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return keyNames(conn, prefix)
	})
}

// completeFlag completes a flag that has one of some values.
func completeFlag(c *cobra.Command, flag string, values ...string) {
	register(c, flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	})
}

func register(c *cobra.Command, flag string, f completion) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag is defined, and once only
	}
}

// usageValues are the usages that a key can have here, with their names.
func usageValues() []string {
	var values []string
	for _, u := range keyblock.Usages() {
		if strings.ContainsAny(u.Algorithms, "TAH") && u.Code != "I0" {
			values = append(values, u.Code+"\t"+u.Name)
		}
	}
	return values
}
