package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	keydv1 "keyd/api/keyd/v1"
)

func keyAlias() *cobra.Command {
	c := &cobra.Command{
		Use:   "alias",
		Short: "Other names of keys",
		Long: `An alias is another name for a key, by which requests can name it. Moving one is atomic: a
request sees the key before or the key after.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(aliasSet(), aliasMove(), aliasDelete(), aliasList())
	return c
}

func twoArgs(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 2 {
			return fmt.Errorf("%s: %s", what, c.UseLine())
		}
		return nil
	}
}

func writeAlias(w io.Writer, a *keydv1.Alias) {
	row(w, "alias", printable(a.AliasName))
	row(w, "key", printable(a.KeyId))
}

func aliasSet() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "set ALIAS NAME",
		Short:   "Give a key an alias that does not exist yet",
		Example: `  keyd key alias set issuer zone-issuer --dir ./dev`,
		Args:    twoArgs("name an alias and a key"),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeKeys(&conn, 1)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.CreateAlias, &keydv1.CreateAliasRequest{AliasName: args[0], KeyId: args[1]})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { writeAlias(w, a) })
	}
	return c
}

// whereIs returns the key that an alias is expected to name: the one that was said, or the
// one that it names now, so that nobody else's move in between is undone.
func whereIs(cmd *cobra.Command, conn *connection, alias, from string) (string, error) {
	if from != "" {
		return from, nil
	}
	a, err := call(cmd, conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.GetAlias, &keydv1.GetAliasRequest{AliasName: alias})
	return a.GetKeyId(), err
}

func aliasMove() *cobra.Command {
	var conn connection
	var out output
	var from string
	c := &cobra.Command{
		Use:     "move ALIAS NAME",
		Short:   "Have an alias name another key, from one moment to the next",
		Example: `  keyd key alias move issuer zone-issuer-2 --from zone-issuer --dir ./dev`,
		Args:    twoArgs("name an alias and a key"),
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&from, "from", "", "key that the alias must name now (default: whichever it does)")
	c.ValidArgsFunction = completeAliases(&conn)
	completeKeyFlag(c, "from", &conn)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		expected, err := whereIs(cmd, &conn, args[0], from)
		if err != nil {
			return err
		}
		a, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.UpdateAlias, &keydv1.UpdateAliasRequest{AliasName: args[0], KeyId: args[1], ExpectedKeyId: expected})
		if err != nil {
			return err
		}
		return out.print(a, func(w io.Writer) { writeAlias(w, a) })
	}
	return c
}

func aliasDelete() *cobra.Command {
	var conn connection
	var out output
	var from string
	c := &cobra.Command{
		Use:     "delete ALIAS",
		Short:   "Remove an alias; the key stays",
		Example: `  keyd key alias delete issuer --dir ./dev`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one alias (keyd key alias list): %s", c.UseLine())
			}
			return nil
		},
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&from, "from", "", "key that the alias must name now (default: whichever it does)")
	completeKeyFlag(c, "from", &conn)
	c.ValidArgsFunction = completeAliases(&conn)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		expected, err := whereIs(cmd, &conn, args[0], from)
		if err != nil {
			return err
		}
		answer, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.DeleteAlias, &keydv1.DeleteAliasRequest{AliasName: args[0], ExpectedKeyId: expected})
		if err != nil {
			return err
		}
		return out.print(answer, func(w io.Writer) { row(w, "removed", printable(args[0])+", which named "+printable(expected)) })
	}
	return c
}

func aliasList() *cobra.Command {
	var conn connection
	var out output
	request := &keydv1.ListAliasesRequest{PageSize: 1000}
	c := &cobra.Command{
		Use:     "list",
		Short:   "List aliases and the keys that they name",
		Example: `  keyd key alias list --dir ./dev --of zone-issuer`,
		Args:    cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.Flags().StringVar(&request.AliasOf, "of", "", "aliases of this key only")
	completeKeyFlag(c, "of", &conn)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		all := new(keydv1.ListAliasesResponse)
		for {
			page, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.ListAliases, request)
			if err != nil {
				return err
			}
			all.Aliases = append(all.Aliases, page.Aliases...)
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) {
			row(w, "ALIAS", "KEY")
			for _, a := range all.Aliases {
				row(w, printable(a.AliasName), printable(a.KeyId))
			}
		})
	}
	return c
}

func keyTag() *cobra.Command {
	c := &cobra.Command{Use: "tag", Short: "Labels of keys", Args: cobra.NoArgs, RunE: needsSubcommand}
	c.AddCommand(tagSet(), tagRemove(), tagList())
	return c
}

// keyAndMore wants the name of a key and something after it.
func keyAndMore(c *cobra.Command, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("name a key and at least one tag: %s", c.UseLine())
	}
	return nil
}

// tagsOf shows a key's tags, after a change too.
func tagsOf(cmd *cobra.Command, conn *connection, out *output, key string) error {
	answer, err := call(cmd, conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.ListTagsForResource, &keydv1.ListTagsForResourceRequest{KeyId: key})
	if err != nil {
		return err
	}
	return out.print(answer, func(w io.Writer) {
		row(w, "TAG", "VALUE")
		for _, tag := range slices.Sorted(maps.Keys(answer.Tags)) {
			row(w, printable(tag), printable(answer.Tags[tag]))
		}
	})
}

func tagSet() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "set NAME TAG=VALUE...",
		Short:   "Add tags to a key, or change them",
		Example: `  keyd key tag set zone-issuer network=visa owner=acquiring --dir ./dev`,
		Args:    keyAndMore,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeKeys(&conn, 0)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		tags := map[string]string{}
		for _, text := range args[1:] {
			tag, value, ok := strings.Cut(text, "=")
			if _, twice := tags[tag]; !ok || twice {
				return fmt.Errorf("%q is no TAG=VALUE, or the tag comes twice", text)
			}
			tags[tag] = value
		}
		if _, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.TagResource, &keydv1.TagResourceRequest{KeyId: args[0], Tags: tags}); err != nil {
			return err
		}
		return tagsOf(cmd, &conn, &out, args[0])
	}
	return c
}

func tagRemove() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "remove NAME TAG...",
		Short:   "Remove tags from a key",
		Example: `  keyd key tag remove zone-issuer owner --dir ./dev`,
		Args:    keyAndMore,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeKeys(&conn, 0)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.UntagResource, &keydv1.UntagResourceRequest{KeyId: args[0], TagKeys: args[1:]}); err != nil {
			return err
		}
		return tagsOf(cmd, &conn, &out, args[0])
	}
	return c
}

func tagList() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "list NAME",
		Short:   "List a key's tags",
		Example: `  keyd key tag list zone-issuer --dir ./dev`,
		Args:    oneKey,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeKeys(&conn, 0)
	c.RunE = func(cmd *cobra.Command, args []string) error { return tagsOf(cmd, &conn, &out, args[0]) }
	return c
}
