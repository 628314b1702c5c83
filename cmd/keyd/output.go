package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// output is how a command prints its answer: a table for people or JSON for scripts.
type output struct{ format string }

func (o *output) flag(c *cobra.Command) {
	c.Flags().StringVarP(&o.format, "output", "o", "table", "table or json")
}

// print writes a message: as JSON, or by table, which returns names and values.
func (o *output) print(m proto.Message, table func(io.Writer)) error {
	switch o.format {
	case "json":
		b, err := protojson.MarshalOptions{Multiline: true, UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
		if err != nil {
			return err
		}
		_, err = fmt.Println(string(b))
		return err
	case "table":
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		table(w)
		return w.Flush()
	}
	return fmt.Errorf("--output is table or json, not %q", o.format)
}

// row writes one line of a table.
func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) } //nolint:errcheck // the table's Flush reports it
