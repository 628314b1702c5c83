package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/hsm"
	"keyd/officer"
)

func keyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "key",
		GroupID: "officers",
		Short:   "Keys: what there are, how they come and go, names and labels",
		Long: `Shows the keys, and changes them together with other officers. A command that brings a key
in, takes it out or changes what it may be used for begins a ceremony, approves it for the
officer who runs it, and says who else has to (keyd ceremony).

What list, show and versions print is the service's inventory. It is not signed; the
module decides by its own register.`,
		Args: cobra.NoArgs,
		RunE: needsSubcommand,
	}
	c.AddCommand(
		keyList(), keyShow(), keyVersions(),
		keyCreate(), keyImport(), keyExport(), keyRotate(), keyAttach(),
		keyStop(), keyStart(), keyDelete(), keyRestore(), keyCSR(),
		keyAlias(), keyTag(),
	)
	return c
}

// oneKey wants the name of one key.
func oneKey(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one key (keyd key list): %s", c.UseLine())
	}
	return nil
}

func keyStates() []string {
	return []string{"enabled", "superseded", "stopped", "delete_pending", "deleted", "not_valid"}
}

func keyList() *cobra.Command {
	var conn connection
	var out output
	var which, tag string
	request := &keydv1.ListKeysRequest{}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the current version of every key",
		Long: `Lists the current version of every key, in the order of their names. KCV is the check value.
It is the service's inventory, which nobody has signed.`,
		Example: `  keyd key list --dir ./dev
  keyd key list --dir ./dev --usage P0 --tag network=visa -o json`,
		Args: cobra.NoArgs,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	f := c.Flags()
	f.StringVar(&request.NamePrefix, "prefix", "", "keys whose names begin with this only")
	f.StringVar(&request.Usage, "usage", "", "keys of this X9.143 usage only")
	f.StringVar(&which, "state", "", strings.Join(keyStates(), ", ")+" only")
	f.StringVar(&tag, "tag", "", "KEY=VALUE: keys with this tag only")
	completeFlag(c, "usage", usageValues()...)
	completeFlag(c, "state", keyStates()...)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		state, ok := keydv1.Key_State_value[strings.ToUpper(which)]
		if which != "" && (!ok || state == 0) {
			return fmt.Errorf("--state is one of %s", strings.Join(keyStates(), ", "))
		}
		request.State = keydv1.Key_State(state)
		if tag != "" {
			var ok bool
			if request.TagKey, request.TagValue, ok = strings.Cut(tag, "="); !ok {
				return errors.New("--tag is KEY=VALUE")
			}
		}
		request.PageSize = 1000
		all := new(keydv1.ListKeysResponse)
		for {
			page, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.ListKeys, request)
			if err != nil {
				return err
			}
			all.Keys = append(all.Keys, page.Keys...)
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				break
			}
		}
		return out.print(all, func(w io.Writer) { writeKeyList(w, all.Keys) })
	}
	return c
}

func writeKeyList(w io.Writer, list []*keydv1.Key) {
	row(w, "NAME", "VERSION", "USAGE", "ALGORITHM", "KCV", "STATE", "DIRECTION", "LAST USED (UTC)")
	for _, k := range list {
		row(w, printable(k.KeyId), fmt.Sprint(k.Version), printable(officer.UsageName(k.Usage)), algorithm(k), dash(printable(k.KeyCheckValue)), keyState(k), dash(printable(k.Direction)), moment(k.LastUsedAt))
	}
}

func algorithm(k *keydv1.Key) string {
	name := map[string]string{"T": "TDES", "A": "AES", "H": "HMAC"}[k.Algorithm]
	if name == "" {
		name = printable(k.Algorithm)
	}
	return fmt.Sprintf("%s-%d", name, 8*k.Length)
}

// keyState writes a state with the time that belongs to it.
func keyState(k *keydv1.Key) string {
	switch k.State {
	case keydv1.Key_ENABLED:
		return "enabled"
	case keydv1.Key_SUPERSEDED:
		return "superseded, used until " + moment(k.SupersededAt)
	case keydv1.Key_STOPPED:
		return "stopped"
	case keydv1.Key_DELETE_PENDING:
		return "stopped, deleted at " + moment(k.DeleteAt)
	case keydv1.Key_DELETED:
		return "deleted"
	case keydv1.Key_NOT_VALID:
		return "not valid now"
	}
	return k.State.String()
}

// moment writes a time for a column, whose heading or neighbour says that it is UTC.
func moment(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Format(time.DateTime)
}

func keyShow() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show all that the service knows of a key",
		Long: `Shows a version of a key: the current one, unless NAME is written NAME?version=N. An alias
will do. It is the service's inventory, which nobody has signed.`,
		Example: `  keyd key show zone-issuer --dir ./dev
  keyd key show 'zone-issuer?version=1' --dir ./dev`,
		Args: oneKey,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeKeys(&conn, 0)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		k, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.GetKey, &keydv1.GetKeyRequest{KeyId: args[0]})
		if err != nil {
			return err
		}
		return out.print(k, func(w io.Writer) { writeKey(w, k) })
	}
	return c
}

func writeKey(w io.Writer, k *keydv1.Key) {
	given := func(name, text string) {
		if text != "" {
			row(w, name, printable(text))
		}
	}
	list := func(name string, texts []string) { given(name, strings.Join(texts, ", ")) }
	date := func(name string, t *timestamppb.Timestamp) {
		if t != nil {
			row(w, name, at(t))
		}
	}
	given("key", fmt.Sprintf("%s?version=%d", k.KeyId, k.Version))
	given("state", keyState(k))
	if k.TestKey {
		row(w, "kind", "a known test key: no officer brought it in")
	}
	given("usage", officer.UsageName(k.Usage))
	given("algorithm", algorithm(k))
	given("mode of use", officer.ModeName(k.ModeOfUse))
	given("exportability", officer.ExportabilityName(k.Exportability))
	given("check value", k.KeyCheckValue)
	given("direction", k.Direction)
	list("peer groups", k.Peers)
	list("PIN-block formats", k.Formats)
	list("data modes", k.DataModes)
	if k.MacLength != 0 {
		row(w, "least MAC", fmt.Sprintf("%d bytes", k.MacLength))
	}
	given("key serial numbers", k.Ksn)
	if k.AllowChange {
		row(w, "allowed", "values for changed PINs, in ways that tell more than a try does")
	}
	if len(k.InjectionHosts) > 0 {
		row(w, "allowed", "its initial keys go to terminals over the network, each to one device, from the hosts "+strings.Join(k.InjectionHosts, ", "))
	}
	if k.PinKind == hsm.PINRecord {
		row(w, "PINs", "of PIN records, and no others")
	}
	switch k.KeyCustody {
	case "token":
		row(w, "custody", "token: no process ever reads it")
	case "module":
		row(w, "custody", "module: it can be exported")
	}
	given("sealed under", fmt.Sprintf("master keys of generation %d", k.Generation))
	for _, b := range k.OptionalBlocks {
		given("optional block "+printable(b.Id), b.Data)
	}
	date("valid from", k.NotBefore)
	date("valid until", k.NotAfter)
	date("created", k.CreatedAt)
	date("superseded", k.SupersededAt)
	date("deleted", k.DeleteAt)
	date("last used", k.LastUsedAt)
	given("uses", fmt.Sprint(k.UseCount))
	list("aliases", k.Aliases)
	for _, tag := range slices.Sorted(maps.Keys(k.Tags)) {
		given("tag "+printable(tag), k.Tags[tag])
	}
	list("components by", k.Custodians)
}

func keyVersions() *cobra.Command {
	var conn connection
	var out output
	c := &cobra.Command{
		Use:     "versions NAME",
		Short:   "List all versions of a key, the oldest first",
		Example: `  keyd key versions zone-issuer --dir ./dev`,
		Args:    oneKey,
	}
	conn.flags(c, "officer-1")
	out.flag(c)
	c.ValidArgsFunction = completeKeys(&conn, 0)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := call(cmd, &conn, keydv1.NewKeyServiceClient, keydv1.KeyServiceClient.ListKeyVersions, &keydv1.ListKeyVersionsRequest{KeyId: args[0]})
		if err != nil {
			return err
		}
		return out.print(list, func(w io.Writer) { writeKeyList(w, list.Keys) })
	}
	return c
}
